package lab

import (
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// KernelRoutes returns the next hops of a prefix in the kernel's main table,
// sorted by address: one for a single route, several for a multipath route,
// none if there is no route. Of routes with different metrics it is the best.
func (n *Namespace) KernelRoutes(prefix netip.Prefix) ([]NextHop, error) {
	names := linkNames{}
	table := routeTable{}
	err := n.Do(func() (err error) {
		if names, err = readLinkNames(); err != nil {
			return err
		}
		return eachRoute(familyOf(prefix), func(r netlink.Route) {
			if destination(r) == prefix {
				table.add(r)
			}
		})
	})
	if err != nil {
		return nil, fmt.Errorf("read the routes to %s of %s: %w", prefix, n.name, err)
	}
	return table.best(prefix, names), nil
}

// CountRoutes counts the prefixes inside of within that have a route in the
// kernel's main table.
func (n *Namespace) CountRoutes(within netip.Prefix) (int, error) {
	found := map[netip.Prefix]bool{}
	err := n.Do(func() error {
		return eachRoute(familyOf(within), func(r netlink.Route) {
			if prefix := destination(r); contains(within, prefix) {
				found[prefix] = true
			}
		})
	})
	if err != nil {
		return 0, fmt.Errorf("count the routes in %s of %s: %w", within, n.name, err)
	}
	return len(found), nil
}

// eachRoute calls f with every route that [counts], in the thread's namespace.
func eachRoute(family int, f func(netlink.Route)) error {
	for {
		routes, err := netlink.RouteListFiltered(family, &netlink.Route{}, 0)
		if errors.Is(err, netlink.ErrDumpInterrupted) {
			continue // something changed meanwhile, so some may be missing
		}
		if err != nil {
			return err
		}
		for _, r := range routes {
			if counts(r) {
				f(r)
			}
		}
		return nil
	}
}

// counts tells whether a route is one of the main table that leads to hosts. A
// blackhole is what a router announces without having it.
func counts(r netlink.Route) bool {
	return r.Table == unix.RT_TABLE_MAIN && r.Type == unix.RTN_UNICAST && r.Flags&unix.RTM_F_CLONED == 0
}

// destination is a route's prefix; that of a default route has no bytes.
func destination(r netlink.Route) netip.Prefix {
	if r.Dst == nil {
		if r.Family == unix.AF_INET {
			return netip.PrefixFrom(netip.IPv4Unspecified(), 0)
		}
		return netip.PrefixFrom(netip.IPv6Unspecified(), 0)
	}
	bits, _ := r.Dst.Mask.Size()
	return netip.PrefixFrom(toAddr(r.Dst.IP), bits)
}

func familyOf(p netip.Prefix) int {
	if p.Addr().Is4() {
		return unix.AF_INET
	}
	return unix.AF_INET6
}

func contains(outer, inner netip.Prefix) bool {
	return inner.Bits() >= outer.Bits() && outer.Contains(inner.Addr())
}

// toAddr is the zero Addr for none.
func toAddr(ip net.IP) netip.Addr {
	addr, _ := netip.AddrFromSlice(ip)
	return addr.Unmap()
}

// linkNames are a namespace's links by index.
type linkNames map[int]string

func readLinkNames() (linkNames, error) {
	links, err := netlink.LinkList()
	if err != nil {
		return nil, fmt.Errorf("list the links: %w", err)
	}
	names := linkNames{}
	for _, link := range links {
		names[link.Attrs().Index] = link.Attrs().Name
	}
	return names, nil
}
