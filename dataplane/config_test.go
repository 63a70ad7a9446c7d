package dataplane

import (
	"net/netip"
	"strings"
	"testing"
)

func TestConfig(t *testing.T) {
	for _, test := range []struct {
		what   string
		config Config
		want   string
	}{
		{"two detectors", Config{Pods: Detector{CIDRs: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/24")}, Bridge: "cni0"}}, "not by several"},
		{"a long name", Config{Pods: Detector{InterfacePrefix: "0123456789abcdef"}}, "longer than 15 characters"},
		{"two bits", Config{MasqueradeMark: 3}, "not a single bit"},
		{"a mapped prefix", Config{ServiceCIDRs: []netip.Prefix{netip.MustParsePrefix("::ffff:10.0.0.0/104")}}, "not a prefix"},
	} {
		if err := test.config.Check(); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: got %v, want %q", test.what, err, test.want)
		}
	}
	c := Config{}
	if err := c.Check(); err != nil || c.MasqueradeMark != 0x4000 {
		t.Errorf("no configuration: %v, mark %#x", err, c.MasqueradeMark)
	}
}
