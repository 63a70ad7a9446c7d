package ipvs

import (
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"

	"github.com/fairway-lb/fairway/dataplane"
	"github.com/fairway-lb/fairway/internal/netnstest"
)

// Other links may have IPv6 while ours would not.
func TestNoIPv6(t *testing.T) {
	netnstest.Need(t)
	add := func(name string) {
		attrs := netlink.NewLinkAttrs()
		attrs.Name = name
		link := &netlink.Veth{LinkAttrs: attrs, PeerName: "p-" + name}
		must(t, netlink.LinkAdd(link))
		t.Cleanup(func() { must(t, netlink.LinkDel(link)) })
	}
	disable := func(what, value string) {
		must(t, os.WriteFile("/proc/sys/net/ipv6/conf/"+what+"/disable_ipv6", []byte(value), 0o644))
	}
	t.Cleanup(func() { disable("all", "0") })
	expect := func(what, want string) {
		t.Helper()
		err := noIPv6()
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: got %v, want %q", what, err, want)
		}
	}
	add("uplink")
	expect("as usual", "")
	disable("default", "1")
	expect("for new links", "net.ipv6.conf.default.disable_ipv6 is 1; set it to 0 and start the speaker again, or use --dataplane=nftables")
	add(linkName)
	expect("on ours", "net.ipv6.conf.fairway-ipvs.disable_ipv6 is 1")
	disable(linkName, "0")
	expect("on all links but ours", "")
	disable("all", "1")
	if err := noIPv6(); !errors.Is(err, dataplane.ErrNoIPv6) {
		t.Errorf("on all links: %v", err)
	}
	disable("uplink", "0")
	expect("on one link", "fairway-ipvs.disable_ipv6 is 1")
}
