package lab

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// NextHop is one way of a route in a kernel's table.
type NextHop struct {
	Via    netip.Addr // without zone; the zero Addr for a route on the link
	Link   string     // "" if there is no link of that index any more
	Weight int        // 1 is the kernel's default
}

// routeTable is a kernel's table as its messages tell it: for each prefix the
// ways by metric, because routes of different metrics stand beside each other.
type routeTable map[netip.Prefix]map[int][]way

type way struct {
	via    netip.Addr
	link   int
	weight int
}

// add takes a message about a new route. It carries all ways of the route, also
// when it is about one more.
func (t routeTable) add(r netlink.Route) {
	prefix := destination(r)
	if t[prefix] == nil {
		t[prefix] = map[int][]way{}
	}
	t[prefix][r.Priority] = ways(r)
}

// remove takes a message about a deleted route. That of an IPv6 route may be
// about some ways of it only.
func (t routeTable) remove(r netlink.Route) {
	prefix := destination(r)
	var left []way
	if r.Family == unix.AF_INET6 {
		gone := ways(r)
		left = slices.DeleteFunc(t[prefix][r.Priority], func(w way) bool { return slices.Contains(gone, w) })
	}
	if len(left) > 0 {
		t[prefix][r.Priority] = left
		return
	}
	delete(t[prefix], r.Priority)
	if len(t[prefix]) == 0 {
		delete(t, prefix)
	}
}

// best are the next hops of the route of the lowest metric, sorted.
func (t routeTable) best(prefix netip.Prefix, names linkNames) []NextHop {
	metrics := slices.Sorted(maps.Keys(t[prefix]))
	if len(metrics) == 0 {
		return nil
	}
	var hops []NextHop
	for _, w := range t[prefix][metrics[0]] {
		hops = append(hops, NextHop{Via: w.via, Link: names[w.link], Weight: w.weight})
	}
	slices.SortFunc(hops, func(a, b NextHop) int {
		return cmp.Or(a.Via.Compare(b.Via), cmp.Compare(a.Link, b.Link))
	})
	return hops
}

func ways(r netlink.Route) []way {
	if len(r.MultiPath) == 0 {
		return []way{{via: gateway(r.Gw, r.Via), link: r.LinkIndex, weight: 1}}
	}
	var ws []way
	for _, hop := range r.MultiPath {
		// The kernel counts from zero here.
		ws = append(ws, way{via: gateway(hop.Gw, hop.Via), link: hop.LinkIndex, weight: hop.Hops + 1})
	}
	return ws
}

// gateway is of the route's own family, or of the other one (RTA_VIA).
func gateway(gw []byte, via netlink.Destination) netip.Addr {
	if other, ok := via.(*netlink.Via); ok && other != nil {
		return toAddr(other.Addr)
	}
	return toAddr(gw)
}
