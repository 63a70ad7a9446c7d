package ipam

import (
	"net/netip"
	"testing"
)

// Whatever is written where an address is asked for is that address or
// refused, and never the wish for any.
func FuzzReadAddress(f *testing.F) {
	for _, seed := range []string{"10.0.0.1", "2001:db8::1", "::ffff:1.2.3.4", "fe80::1%1", "1.2.3.4/24", "1.2.3.4-1.2.3.5", " ", "-", "/", "01.2.3.4", "::", "0.0.0.0"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		addr, refusal := ReadAddress("spec.loadBalancerIP", text)
		switch {
		case refusal != nil && (addr.IsValid() || refusal.Reason != InvalidRequest):
			t.Errorf("%q is refused (%s) and yet %s", text, refusal.Reason, addr)
		case refusal == nil && !addr.IsValid() && text != "":
			t.Errorf("%q is taken for any address", text)
		case addr.IsValid():
			if want, err := netip.ParseAddr(text); err != nil || want != addr || want.Zone() != "" {
				t.Errorf("%q is taken for %s", text, addr)
			}
		}
	})
}
