package ipam

import (
	"math"
	"testing"

	"go4.org/netipx"

	"github.com/fairway-lb/fairway/api/v1alpha2"
)

func TestSize(t *testing.T) {
	for text, want := range map[string]struct {
		exact string
		small int
	}{
		"192.168.0.1":                         {"1", 1},
		"192.168.0.1/24":                      {"256", 256},
		"192.168.0.1-192.168.0.100":           {"100", 100},
		"0.0.0.0/0":                           {"4294967296", 4294967296},
		"2001:db8::/120":                      {"256", 256},
		"2001:db8::/65":                       {"9223372036854775808", math.MaxInt},
		"2001:db8::/64":                       {"18446744073709551616", math.MaxInt},
		"2001:db8::1-2001:db9::1":             {"79228162514264337593543950337", math.MaxInt},
		"::/0":                                {"340282366920938463463374607431768211456", math.MaxInt},
		"2001:db8::-2001:db8::7fff:ffff:ffff": {"140737488355328", 140737488355328},
	} {
		r, err := v1alpha2.ParseAddress(text)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		size := Size([]netipx.IPRange{r})
		if size.String() != want.exact || SaturatingInt(size) != want.small {
			t.Errorf("Size(%s) = %s, as int %d, want %s, %d", text, size, SaturatingInt(size), want.exact, want.small)
		}
	}
}
