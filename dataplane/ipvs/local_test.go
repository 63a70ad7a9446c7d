package ipvs

import (
	"net/netip"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/fairway-lb/fairway/internal/netnstest"
)

// Addresses are the node's own when they have been added: one after another,
// many at once, and such as another link has.
func TestAddressesAreLocal(t *testing.T) {
	netnstest.Need(t)
	handle, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	must(t, err)
	defer handle.Close()
	attrs := netlink.NewLinkAttrs()
	attrs.Name = linkName
	must(t, handle.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: "peer"})) // not every machine has dummy
	l := &link{handle: handle}
	defer func() { must(t, l.remove()) }()
	must(t, l.ensure())
	next := netip.MustParseAddr("fd00:96::1")
	fresh := func(count int) (addrs []netip.Addr) {
		for range count {
			next = next.Next()
			addrs = append(addrs, next)
		}
		return addrs
	}
	add := func(what string, addrs []netip.Addr) {
		t.Helper()
		must(t, l.add(addrs))
		late := 0
		for _, addr := range addrs {
			if routes, err := handle.RouteGet(addr.AsSlice()); err != nil || routes[0].Type != unix.RTN_LOCAL {
				late++
			}
		}
		if late > 0 {
			t.Errorf("%s: %d of %d addresses were not yet the node's", what, late, len(addrs))
		}
	}
	for range 100 {
		add("one", fresh(1))
	}
	add("many", append([]netip.Addr{netip.MustParseAddr("10.96.0.1")}, fresh(500)...))
	add("there already", []netip.Addr{next})

	peer, err := handle.LinkByName("peer")
	must(t, err)
	elsewhere := fresh(1)
	must(t, (&link{handle: handle, link: peer}).add(elsewhere))
	add("of another link", elsewhere)
	routes, err := handle.RouteListFiltered(unix.AF_INET6, &netlink.Route{LinkIndex: l.link.Attrs().Index, Table: unix.RT_TABLE_LOCAL, Dst: l.address(elsewhere[0]).IPNet}, netlink.RT_FILTER_TABLE|netlink.RT_FILTER_DST|netlink.RT_FILTER_OIF)
	must(t, err)
	if len(routes) != 1 {
		t.Errorf("an address of another link has the routes %v to ours", routes)
	}
}
