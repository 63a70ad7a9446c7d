package layer2

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"go4.org/netipx"
)

func TestCanServe(t *testing.T) {
	const remedy = ": give the interface an address there, or set spec.allowOffSubnet if the network delivers these addresses on that link"
	eth := Link{Name: "eth33", Index: 3, HardwareAddr: nodeMAC(), Up: true, Prefixes: []netip.Prefix{
		netip.MustParsePrefix("192.168.93.0/24"), netip.MustParsePrefix("fd00::/64"), netip.MustParsePrefix("fe80::/64"),
	}}
	with := func(change func(*Link)) Link { l := eth; change(&l); return l }
	for _, tc := range []struct {
		name, pool string
		link       Link
		offSubnet  bool
		want       string // the reason; empty: it can
	}{
		{"in the subnet", "192.168.93.231-192.168.93.238", eth, false, ""},
		{"the whole subnet", "192.168.93.0-192.168.93.255", eth, false, ""},
		{"IPv6", "fd00::10-fd00::20", eth, false, ""},
		{"begins before", "192.168.92.255-192.168.93.1", eth, false, "in no subnet of interface eth33, which has 192.168.93.0/24" + remedy},
		{"ends behind", "192.168.93.250-192.168.94.1", eth, false, "in no subnet of interface eth33, which has 192.168.93.0/24" + remedy},
		{"elsewhere", "10.0.0.1-10.0.0.2", eth, false, "in no subnet of interface eth33, which has 192.168.93.0/24" + remedy},
		{"one address elsewhere", "fd01::1-fd01::1", eth, false, "in no subnet of interface eth33, which has fd00::/64, fe80::/64" + remedy},
		{"elsewhere, allowed", "10.0.0.1-10.0.0.2", eth, true, ""},
		{"no addresses", "10.0.0.1-10.0.0.2", with(func(l *Link) { l.Prefixes = nil }), false, "in no subnet of interface eth33, which has none of that family" + remedy},
		{"no addresses, allowed", "10.0.0.1-10.0.0.2", with(func(l *Link) { l.Prefixes = nil }), true, ""},
		{"IPv6 without link-local", "fd00::10-fd00::20", with(func(l *Link) { l.Prefixes = l.Prefixes[:2] }), true, "interface eth33 has no IPv6 link-local address"},
		{"down", "192.168.93.231-192.168.93.238", with(func(l *Link) { l.Up = false }), true, "interface eth33 is down"},
		{"tunnel", "192.168.93.231-192.168.93.238", with(func(l *Link) { l.HardwareAddr = nil }), true, "interface eth33 has no Ethernet address"},
		{"no pool", "", eth, true, "no valid addresses"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var pool netipx.IPRange
			if tc.pool != "" {
				pool = netipx.MustParseIPRange(tc.pool)
			}
			ok, reason := tc.link.CanServe(pool, tc.offSubnet)
			if ok != (tc.want == "") || reason != tc.want {
				t.Errorf("got %v %q, want %q", ok, reason, tc.want)
			}
		})
	}
}

func TestChoose(t *testing.T) {
	l := newLAN(t, "eth33")
	lo, err := netlink.LinkByName("lo")
	must(t, err)
	must(t, netlink.LinkSetUp(lo))
	for _, a := range []string{"192.168.93.5/24", "fd00::5/64"} {
		addr, err := netlink.ParseAddr(a)
		must(t, err)
		must(t, netlink.AddrAdd(l.node(), addr))
	}
	_, routed, err := net.ParseCIDR("10.8.0.0/24")
	must(t, err)
	must(t, netlink.RouteAdd(&netlink.Route{LinkIndex: l.node().Attrs().Index, Dst: routed, Scope: netlink.SCOPE_LINK}))
	must(t, netlink.RouteAdd(&netlink.Route{Dst: &net.IPNet{IP: net.IPv4(10, 9, 0, 0), Mask: net.CIDRMask(24, 32)}, Gw: net.ParseIP("192.168.93.1")}))

	const only = "invalid interface string, now only support can_reach: write the name of an interface, as eth0, or can_reach:<IP address>"
	for spec, want := range map[string]string{
		"eth33":                   "",
		"can_reach:192.168.93.1":  "",
		"can_reach:fd00::1":       "",
		"can_reach:10.9.0.7":      "",
		"":                        only,
		"interface:eth33":         only,
		"regex:eth.*":             only,
		"nosuch0":                 "no such interface on this node: if the name differs between nodes, write can_reach:<IP address>",
		"can_reach:junk":          "invalid can_reach address junk: write one",
		"can_reach:":              "invalid can_reach address : write one",
		"can_reach:0.0.0.0":       "invalid can_reach address 0.0.0.0: write one",
		"can_reach:fe80::1%eth33": "invalid can_reach address fe80::1%eth33: write one",
		"can_reach:224.0.0.1":     "invalid can_reach address 224.0.0.1: write one",
		"can_reach:127.0.0.1":     "invalid interface lo: it reaches no other host",
		"can_reach:192.168.93.5":  "invalid interface lo: it reaches no other host",
		"lo":                      "invalid interface lo: it reaches no other host",
		"can_reach:203.0.113.1":   "no route to can_reach address 203.0.113.1 on this node: ",
	} {
		link, err := Choose(spec)
		if want != "" {
			if err == nil || !strings.HasPrefix(err.Error(), fmt.Sprintf("spec.interface %q: %s", spec, want)) {
				t.Errorf("%q: error %v, want %q", spec, err, want)
			}
			continue
		}
		if err != nil {
			t.Errorf("%q: %v", spec, err)
			continue
		}
		got := fmt.Sprintf("%s %v %v %v %v", link.Name, link.Index == l.node().Attrs().Index, link.HardwareAddr, link.Up, link.Prefixes)
		if want := "eth33 true 02:00:00:00:00:01 true [10.8.0.0/24 192.168.93.0/24 fd00::/64 fe80::/64]"; got != want {
			t.Errorf("%q: got %s, want %s", spec, got, want)
		}
	}

	l.down()
	if link, err := Choose("eth33"); err != nil || link.Up {
		t.Errorf("after down: %+v %v", link, err)
	}
}

// Each kind of change is signalled, and the end of the context closes the channel.
func TestWatch(t *testing.T) {
	l := newLAN(t, "eth33")
	addr4, err := netlink.ParseAddr("192.168.93.5/24")
	must(t, err)
	addr6, err := netlink.ParseAddr("fd00::5/64")
	must(t, err)
	_, routed, err := net.ParseCIDR("10.8.0.0/24")
	must(t, err)
	route := &netlink.Route{LinkIndex: l.node().Attrs().Index, Dst: routed, Scope: netlink.SCOPE_LINK}
	for _, step := range []struct {
		name string
		do   func() error
	}{
		{"IPv4 address added", func() error { return netlink.AddrAdd(l.node(), addr4) }},
		{"IPv6 address added", func() error { return netlink.AddrAdd(l.node(), addr6) }},
		{"route added", func() error { return netlink.RouteAdd(route) }},
		{"route removed", func() error { return netlink.RouteDel(route) }},
		{"link down", func() error { return netlink.LinkSetDown(l.node()) }},
	} {
		ctx, cancel := context.WithCancel(t.Context())
		changed, err := Watch(ctx) // a new one, which has not seen the step before
		must(t, err)
		must(t, step.do())
		deadline := time.After(patience)
		select {
		case <-changed:
		case <-deadline:
			t.Fatalf("no signal: %s", step.name)
		}
		cancel()
		for open := true; open; {
			select {
			case _, open = <-changed:
			case <-deadline:
				t.Fatal("the channel is not closed")
			}
		}
	}
}
