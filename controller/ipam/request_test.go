package ipam

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
)

func TestReadAddresses(t *testing.T) {
	for text, want := range map[string]string{
		"":                              "",
		"10.0.0.1":                      "10.0.0.1",
		"2001:DB8:0::1":                 "2001:db8::1",
		"10.0.0.1,2001:db8::1":          "10.0.0.1 2001:db8::1",
		" 2001:db8::1 ,\t10.0.0.1\n":    "2001:db8::1 10.0.0.1",
		" ":                             "InvalidRequest",
		",":                             "InvalidRequest",
		"10.0.0.1,":                     "InvalidRequest",
		"10.0.0.1 2001:db8::1":          "InvalidRequest",
		"10.0.0.1,10.0.0.2":             "InvalidRequest",
		"10.0.0.1,10.0.0.1":             "InvalidRequest",
		"10.0.0.1,2001:db8::1,10.0.0.2": "InvalidRequest",
		"2001:db8::1,2001:db8::2":       "InvalidRequest",
		"10.0.0.1/32":                   "InvalidRequest",
		"10.0.0.1-10.0.0.1":             "InvalidRequest",
		"10.0.0.01":                     "InvalidRequest",
		"::ffff:10.0.0.1":               "InvalidRequest",
		"fe80::1%eth0":                  "InvalidRequest",
		"any":                           "InvalidRequest",
		"10.0.0.1;2001:db8::1":          "InvalidRequest",
	} {
		addrs, refusal := ReadAddresses("spec.loadBalancerIP", text)
		var got []string
		for _, addr := range addrs {
			got = append(got, addr.String())
		}
		if refusal != nil {
			got = append(got, string(refusal.Reason))
		}
		if strings.Join(got, " ") != want {
			t.Errorf("ReadAddresses(%q) = %q, want %q", text, got, want)
		}
	}
}

// Whatever is written where addresses are asked for is those addresses or
// refused, and never the wish for any.
func FuzzReadAddresses(f *testing.F) {
	for _, seed := range []string{"10.0.0.1", "2001:db8::1", "10.0.0.1, 2001:db8::1", "::ffff:1.2.3.4", "fe80::1%1", "1.2.3.4/24", "1.2.3.4-1.2.3.5", " ", ",", "-", "/", "01.2.3.4", "::", "0.0.0.0"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		addrs, refusal := ReadAddresses("spec.loadBalancerIP", text)
		switch {
		case refusal != nil && (len(addrs) > 0 || refusal.Reason != InvalidRequest || len(refusal.Message) > maxMessage):
			t.Errorf("%q is refused (%s) and yet %s", text, refusal, addrs)
		case refusal == nil && len(addrs) == 0 && text != "":
			t.Errorf("%q is taken for any address", text)
		case len(addrs) > 2 || len(addrs) == 2 && FamilyOf(addrs[0]) == FamilyOf(addrs[1]):
			t.Errorf("%q is taken for %s", text, addrs)
		}
		var want []netip.Addr
		for part := range strings.SplitSeq(text, ",") {
			if addr, err := netip.ParseAddr(strings.TrimSpace(part)); err == nil && addr.Zone() == "" {
				want = append(want, addr)
			}
		}
		if len(addrs) > 0 && !slices.Equal(addrs, want) {
			t.Errorf("%q is taken for %s, want %s", text, addrs, want)
		}
	})
}
