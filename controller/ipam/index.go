package ipam

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"go4.org/netipx"
)

// index finds the pools that contain an address, and has the orders in which
// pools are tried. It is made anew after each change of the pools, when it is
// needed.
type index struct {
	byName       []*pool
	byPreference []*pool
	segments     []netipx.IPRange // ascending, disjoint
	pools        [][]*pool        // that contain a segment, by name
}

func newIndex(pools map[string]*pool) *index {
	x := &index{}
	for _, p := range pools {
		x.byName = append(x.byName, p)
	}
	slices.SortFunc(x.byName, func(a, b *pool) int { return strings.Compare(a.Name, b.Name) })
	x.byPreference = slices.Clone(x.byName)
	slices.SortStableFunc(x.byPreference, func(a, b *pool) int { return cmp.Compare(a.Priority, b.Priority) })

	var ranges []netipx.IPRange
	var owners []int
	for i, p := range x.byName {
		for _, r := range p.Space.ranges {
			ranges, owners = append(ranges, r), append(owners, i)
		}
	}
	for _, s := range sweep(ranges) {
		var pools []*pool
		for _, member := range s.members {
			pools = append(pools, x.byName[owners[member]]) // still in order
		}
		x.segments, x.pools = append(x.segments, s.IPRange), append(x.pools, pools)
	}
	return x
}

// containing returns the pools that contain an address, by name.
func (x *index) containing(addr netip.Addr) []*pool {
	i, _ := slices.BinarySearchFunc(x.segments, addr, func(s netipx.IPRange, addr netip.Addr) int { return s.To().Compare(addr) })
	if i == len(x.segments) || addr.Less(x.segments[i].From()) {
		return nil
	}
	return x.pools[i]
}

// overlapping returns the names of the pools that have addresses of a pool,
// by name.
func (x *index) overlapping(name string) []string {
	found := map[string]struct{}{}
	for _, pools := range x.pools {
		if len(pools) > 1 && slices.ContainsFunc(pools, func(p *pool) bool { return p.Name == name }) {
			for _, p := range pools {
				found[p.Name] = struct{}{}
			}
		}
	}
	delete(found, name)
	return slices.Sorted(maps.Keys(found))
}
