package plan

import (
	"net/netip"
	"slices"
)

// group is the addresses that are announced in one prefix. It counts in which
// ways they are, so that an address that comes or goes is not compared with
// all others.
type group struct {
	prefix  netip.Prefix
	ways    tally[way]        // few: usually the one of an Eip
	hops    tally[netip.Addr] // sorted
	route   *Route            // as of the last Changes
	touched bool              // since then
}

// way is how the addresses of an Eip are announced.
type way struct {
	eip string
	*Advertisement
}

// join counts an entry in. It tells whether the route may be another now.
func (g *group) join(e entry) (changed bool) {
	i, known := g.findWay(e)
	changed = g.ways.add(i, known, way{e.Eip, e.Advertisement})
	for _, hop := range e.NextHops {
		i, known := g.findHop(hop)
		first := g.hops.add(i, known, hop)
		changed = changed || first
	}
	return changed
}

// leave counts an entry out that has joined. It tells whether the route may
// be another now.
func (g *group) leave(e entry) (changed bool) {
	i, _ := g.findWay(e)
	changed = g.ways.remove(i)
	for _, hop := range e.NextHops {
		i, _ := g.findHop(hop)
		last := g.hops.remove(i)
		changed = changed || last
	}
	return changed
}

func (g *group) findWay(e entry) (i int, known bool) {
	i = slices.IndexFunc(g.ways, func(c counted[way]) bool { return c.value == way{e.Eip, e.Advertisement} })
	if i < 0 {
		return len(g.ways), false
	}
	return i, true
}

func (g *group) findHop(hop netip.Addr) (i int, known bool) {
	return slices.BinarySearchFunc(g.hops, hop, func(c counted[netip.Addr], hop netip.Addr) int { return c.value.Compare(hop) })
}

// merge returns the route of the group, nil without members, and in what its
// Eips disagree.
func (g *group) merge(draining bool) (*Route, Conflict) {
	if len(g.ways) == 0 {
		return nil, Conflict{}
	}
	route, conflict := g.ways[0].value.route(g.prefix), Conflict{Prefix: g.prefix}
	for _, other := range g.ways[1:] {
		for _, field := range route.restrict(other.value.Advertisement) {
			conflict.add(field)
		}
	}
	if len(conflict.Fields) > 0 {
		for _, w := range g.ways {
			conflict.Eips = append(conflict.Eips, w.value.eip)
		}
		slices.Sort(conflict.Eips)
		conflict.Eips = slices.Compact(conflict.Eips)
	}
	if len(g.hops) > 0 {
		route.NextHops = make([]netip.Addr, len(g.hops))
		for i, hop := range g.hops {
			route.NextHops[i] = hop.value
		}
	}
	if draining {
		route.drain()
	}
	return route, conflict
}

// tally is values with how many have each.
type tally[T any] []counted[T]

type counted[T any] struct {
	value T
	n     int
}

// add counts a value that is known at i, or is to be there. It tells whether
// it is the first.
func (t *tally[T]) add(i int, known bool, value T) (first bool) {
	if !known {
		*t = slices.Insert(*t, i, counted[T]{value: value})
	}
	(*t)[i].n++
	return !known
}

// remove takes back one add of the value at i. It tells whether it was the
// last.
func (t *tally[T]) remove(i int) (last bool) {
	if (*t)[i].n--; (*t)[i].n > 0 {
		return false
	}
	*t = slices.Delete(*t, i, i+1)
	return true
}
