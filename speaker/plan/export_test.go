package plan

import (
	"maps"
	"net/netip"
	"slices"
)

// All returns every route, and with that the changes that are pending.
func (r *Routes) All() map[netip.Prefix]*Route {
	r.Changes()
	all := make(map[netip.Prefix]*Route, len(r.groups))
	for prefix, g := range r.groups {
		all[prefix] = g.route
	}
	return all
}

// everyConflict returns those of all routes, sorted.
func (r *Routes) everyConflict() []Conflict {
	return slices.SortedFunc(maps.Values(r.conflicts), func(a, b Conflict) int { return a.Prefix.Compare(b.Prefix) })
}
