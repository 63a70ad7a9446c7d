package v1alpha2

// Uint32 is a uint32 whose schema admits its whole range and nothing else. A
// plain uint32 would be published as int32, which ends at half of the 4-octet
// AS numbers (RFC 6793) and begins below 0.
//
// +kubebuilder:validation:Format=int64
// +kubebuilder:validation:Minimum=0
// +kubebuilder:validation:Maximum=4294967295
type Uint32 uint32
