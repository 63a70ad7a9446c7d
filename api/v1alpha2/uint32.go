package v1alpha2

import (
	"encoding/json"
	"fmt"
	"math"
)

// Uint32 is a uint32 whose schema admits its whole range and nothing else. A
// plain uint32 would be published as int32, which ends at half of the 4-octet
// AS numbers (RFC 6793) and begins below 0.
//
// +kubebuilder:validation:Format=int64
// +kubebuilder:validation:Minimum=0
// +kubebuilder:validation:Maximum=4294967295
type Uint32 uint32

// UnmarshalJSON reads a number. One that is no uint32 becomes 0: OpenELB's
// schema admitted such numbers, and a single stored object with one would keep
// all others from being read.
func (u *Uint32) UnmarshalJSON(data []byte) error {
	var number float64 // holds every uint32
	if err := json.Unmarshal(data, &number); err != nil {
		return fmt.Errorf("reading a number: %w", err)
	}
	*u = 0
	if number >= 0 && number <= math.MaxUint32 {
		*u = Uint32(number)
	}
	return nil
}
