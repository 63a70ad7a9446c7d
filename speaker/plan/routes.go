package plan

import (
	"maps"
	"net/netip"
	"slices"

	"go4.org/netipx"
)

// Announcement is how one address is announced.
type Announcement struct {
	// Eip is the name of the pool that the address belongs to.
	Eip string
	// Advertisement is the Eip's; it is required.
	Advertisement *Advertisement
	// Addresses are all of the Eip's: an aggregate is made only of a prefix
	// that lies wholly within them. nil is none.
	Addresses *netipx.IPSet
	// NextHops are third-party next hops, sorted; none means the node itself.
	// It must not be changed afterwards.
	NextHops []netip.Addr
}

// Routes is the table of what this node announces by BGP: each address on its
// own or, as its Eip asks, in an aggregate, which is announced while it has a
// member. It keeps account of what changed, so that work is proportional to
// that. It is for one goroutine.
type Routes struct {
	entries   map[netip.Addr]entry
	groups    map[netip.Prefix]*group
	touched   []*group // since the last Changes
	conflicts map[netip.Prefix]Conflict
	// disputed is set when conflicts have changed since the last Conflicts.
	disputed bool
	draining bool
}

// entry is an announced address with the prefix that it is announced in.
type entry struct {
	Announcement
	prefix netip.Prefix
}

// NewRoutes returns an empty table.
func NewRoutes() *Routes {
	return &Routes{
		entries:   map[netip.Addr]entry{},
		groups:    map[netip.Prefix]*group{},
		conflicts: map[netip.Prefix]Conflict{},
	}
}

// Set announces an address, or no longer if a is nil. What follows from it is
// in the next Changes.
func (r *Routes) Set(addr netip.Addr, a *Announcement) {
	old, known := r.entries[addr]
	if a == nil || !addr.IsValid() {
		if known {
			delete(r.entries, addr)
			r.leave(old)
		}
		return
	}
	e := entry{*a, a.prefix(addr)}
	r.entries[addr] = e
	r.join(e)
	if known {
		r.leave(old)
	}
}

// prefix returns the prefix that an address is announced in, if the Eip has
// all of it: otherwise the address alone.
func (a *Announcement) prefix(addr netip.Addr) netip.Prefix {
	length := a.Advertisement.Length6
	if addr.Is4() {
		length = a.Advertisement.Length4
	}
	if length < addr.BitLen() && a.Addresses != nil {
		if p, err := addr.Prefix(length); err == nil && a.Addresses.ContainsPrefix(p) {
			return p
		}
	}
	return netip.PrefixFrom(addr.WithZone(""), addr.BitLen())
}

// Drain announces all routes with the community GRACEFUL_SHUTDOWN and local
// preference 0, so that the neighbors move traffic away before the routes are
// withdrawn (RFC 8326), or as usual again.
func (r *Routes) Drain(on bool) {
	if r.draining == on {
		return
	}
	r.draining = on
	for _, g := range r.groups {
		r.touch(g)
	}
}

// Changes returns the routes that have changed since the last call, nil for a
// prefix that is to be withdrawn.
func (r *Routes) Changes() map[netip.Prefix]*Route {
	changes := make(map[netip.Prefix]*Route, len(r.touched))
	for i, g := range r.touched {
		r.touched[i], g.touched = nil, false
		route, conflict := g.merge(r.draining)
		if route == nil {
			delete(r.groups, g.prefix)
		}
		if before, known := r.conflicts[g.prefix]; len(conflict.Fields) > 0 {
			r.disputed = r.disputed || !known || !before.alike(conflict)
			r.conflicts[g.prefix] = conflict
		} else if known {
			r.disputed = true
			delete(r.conflicts, g.prefix)
		}
		if !route.Equal(g.route) {
			changes[g.prefix] = route
			g.route = route
		}
	}
	r.touched = r.touched[:0]
	return changes
}

// Has tells whether an address is announced.
func (r *Routes) Has(addr netip.Addr) bool {
	_, has := r.entries[addr]
	return has
}

// Len returns how many addresses are announced.
func (r *Routes) Len() int { return len(r.entries) }

// Conflicts returns in what Eips that share routes disagree, as of the last
// Changes: for each set of Eips and of fields the first route. It tells whether
// that has changed since the last call.
func (r *Routes) Conflicts() (conflicts []Conflict, changed bool) {
	if !r.disputed {
		return nil, false
	}
	r.disputed = false
	for _, c := range slices.SortedFunc(maps.Values(r.conflicts), func(a, b Conflict) int { return a.Prefix.Compare(b.Prefix) }) {
		if !slices.ContainsFunc(conflicts, c.alike) {
			conflicts = append(conflicts, c)
		}
	}
	return conflicts, true
}

func (r *Routes) join(e entry) {
	g := r.groups[e.prefix]
	if g == nil {
		g = &group{prefix: e.prefix}
		r.groups[e.prefix] = g
	}
	if g.join(e) {
		r.touch(g)
	}
}

func (r *Routes) leave(e entry) {
	if g := r.groups[e.prefix]; g.leave(e) {
		r.touch(g)
	}
}

func (r *Routes) touch(g *group) {
	if !g.touched {
		g.touched = true
		r.touched = append(r.touched, g)
	}
}
