package ipam

import (
	"cmp"
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
	segments     []segment // their members are those of byName
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
	x.segments = sweep(ranges)
	for _, s := range x.segments {
		for i, member := range s.members {
			s.members[i] = owners[member] // still ascending
		}
	}
	return x
}

// containing calls yield with the pools that contain an address, by name.
func (x *index) containing(addr netip.Addr) func(yield func(*pool) bool) {
	return func(yield func(*pool) bool) {
		i, _ := slices.BinarySearchFunc(x.segments, addr, func(s segment, addr netip.Addr) int { return s.To().Compare(addr) })
		if i == len(x.segments) || !x.segments[i].Contains(addr) {
			return
		}
		for _, member := range x.segments[i].members {
			if !yield(x.byName[member]) {
				return
			}
		}
	}
}

// overlapping returns the names of the pools that have addresses of a pool,
// by name.
func (x *index) overlapping(name string) []string {
	found := map[int]bool{}
	for _, s := range x.segments {
		if len(s.members) > 1 && slices.ContainsFunc(s.members, func(i int) bool { return x.byName[i].Name == name }) {
			for _, member := range s.members {
				found[member] = true
			}
		}
	}
	var names []string
	for i, p := range x.byName {
		if found[i] && p.Name != name {
			names = append(names, p.Name)
		}
	}
	return names
}
