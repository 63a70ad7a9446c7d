package ipvs

import (
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// anyIPProtocol is in routes of ours, and in nobody else's: no number that
// rtnetlink.h gives away.
const anyIPProtocol netlink.RouteProtocol = 0xfa

// anyIP has packets to addresses be the node's by routes, so that the link can go
// that has the addresses. Of a process that connects to an address of its node,
// that address is the source, and its connection would end with it; by these
// routes it has another one.
func anyIP(addrs []netip.Addr, sources map[netip.Addr]struct{}) error {
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return fmt.Errorf("find the loopback link: %w", err)
	}
	var source netip.Addr // that endpoints cannot reach is no harm: it is masqueraded
	for a := range sources {
		if a.Is4() && !a.IsLoopback() && !a.IsLinkLocalUnicast() && (!source.IsValid() || a.Less(source)) {
			source = a
		}
	}
	for _, a := range addrs {
		route := &netlink.Route{
			Table: unix.RT_TABLE_LOCAL, Type: unix.RTN_LOCAL, Scope: netlink.SCOPE_HOST, Protocol: anyIPProtocol, LinkIndex: lo.Attrs().Index,
			Dst: &net.IPNet{IP: a.AsSlice(), Mask: net.CIDRMask(a.BitLen(), a.BitLen())},
		}
		if a.Is4() && source.IsValid() { // with IPv6 it is chosen among the addresses of links
			route.Src = source.AsSlice()
		}
		if err := netlink.RouteReplace(route); err != nil {
			return fmt.Errorf("have the node take in packets to %s: %w", a, err)
		}
	}
	return nil
}

// removeAnyIP takes the routes away.
func removeAnyIP() error {
	var errs []error
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		ours := &netlink.Route{Table: unix.RT_TABLE_LOCAL, Type: unix.RTN_LOCAL, Protocol: anyIPProtocol}
		routes, err := whole(func() ([]netlink.Route, error) {
			return netlink.RouteListFiltered(family, ours, netlink.RT_FILTER_TABLE|netlink.RT_FILTER_TYPE|netlink.RT_FILTER_PROTOCOL)
		})
		if err != nil && !errors.Is(err, unix.EAFNOSUPPORT) && !errors.Is(err, unix.EOPNOTSUPP) {
			errs = append(errs, fmt.Errorf("list the local routes: %w", err))
		}
		for _, route := range routes {
			if err := netlink.RouteDel(&route); err != nil && !errors.Is(err, unix.ESRCH) {
				errs = append(errs, fmt.Errorf("remove the local route of %s: %w", route.Dst, err))
			}
		}
	}
	return errors.Join(errs...)
}
