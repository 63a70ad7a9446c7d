package bgp

import (
	"fmt"
	"net/netip"
	"slices"

	api "github.com/osrg/gobgp/v3/api"
)

// The policies that come before the operator's, whose names cannot begin like
// that.
const (
	guardImport = ReservedPrefix + "import"
	guardExport = ReservedPrefix + "export"
)

// guardInput is all that the guard depends on.
type guardInput struct {
	classes   []*class
	prepends  []uint32 // sorted
	neighbors []guardNeighbor
}

// guardNeighbor is a neighbor as the guard knows it.
type guardNeighbor struct {
	name               string
	address            netip.Addr
	nextHop4, nextHop6 netip.Addr
}

// guard builds the policies that hold whatever the operator's say: nothing but
// the node's own routes enters or leaves, each goes only to the neighbors of its
// class, with the next hop and the AS_PATH that it is to have there. A statement
// without a route action leaves the route to what follows.
type guard struct {
	sets []*api.DefinedSet
	pol  *api.Policy
}

// newGuard returns the policies for import and export and the sets they refer to.
func newGuard(in guardInput) (sets []*api.DefinedSet, imports, exports *api.Policy) {
	g := &guard{pol: &api.Policy{Name: guardImport}}
	g.rejectForeign()
	imports = g.pol

	g.pol = &api.Policy{Name: guardExport}
	g.rejectForeign()
	anyClass := g.tagSet("class", tagClass, "[0-9]+")
	g.add("unclassed", &api.Conditions{LargeCommunitySet: &api.MatchSet{Type: api.MatchSet_INVERT, Name: anyClass}},
		&api.Actions{RouteAction: api.RouteAction_REJECT})
	for _, c := range in.classes {
		g.class(c, in.neighbors)
	}
	g.add("of-others", &api.Conditions{LargeCommunitySet: &api.MatchSet{Name: anyClass}},
		&api.Actions{RouteAction: api.RouteAction_REJECT})
	self := g.tagSet("self", tagSelf, "0")
	for _, n := range in.neighbors {
		g.nextHop(n, self)
	}
	for _, times := range in.prepends {
		name := fmt.Sprintf("prepend-%d", times)
		// The leftmost AS is the session's own; a path to an internal neighbor has none,
		// and gets none.
		g.add(name, &api.Conditions{LargeCommunitySet: &api.MatchSet{Name: g.tagSet(name, tagPrepend, fmt.Sprint(times))}},
			&api.Actions{AsPrepend: &api.AsPrependAction{UseLeftMost: true, Repeat: times}})
	}
	g.add("untag", nil, &api.Actions{LargeCommunity: remove(tagPattern("[0-9]+", "[0-9]+"))})
	return g.sets, imports, g.pol
}

// rejectForeign rejects what a neighbor has sent.
func (g *guard) rejectForeign() {
	reject := &api.Actions{RouteAction: api.RouteAction_REJECT}
	g.add("internal", &api.Conditions{RouteType: api.Conditions_ROUTE_TYPE_INTERNAL}, reject)
	g.add("external", &api.Conditions{RouteType: api.Conditions_ROUTE_TYPE_EXTERNAL}, reject)
}

// class lets the routes of a class pass to its neighbors: it takes their mark
// off, and what has one after all classes is rejected. A retired class has no
// routes to announce; its statement only tells GoBGP that they were, so that it
// withdraws them where their successors are rejected.
func (g *guard) class(c *class, neighbors []guardNeighbor) {
	name := fmt.Sprintf("class-%d", c.number)
	conditions := &api.Conditions{LargeCommunitySet: &api.MatchSet{Name: g.tagSet(name, tagClass, fmt.Sprint(c.number))}}
	if !c.all {
		var of []guardNeighbor
		for _, n := range neighbors {
			if slices.Contains(c.peers, n.name) {
				of = append(of, n)
			}
		}
		if len(of) == 0 {
			return // GoBGP takes an empty set for everyone
		}
		conditions.NeighborSet = &api.MatchSet{Name: g.neighborSet(name, of...)}
	}
	if c.retired {
		g.add(name, conditions, &api.Actions{RouteAction: api.RouteAction_ACCEPT})
		return
	}
	g.add(name, conditions, &api.Actions{LargeCommunity: remove(tagPattern(fmt.Sprint(tagClass), "[0-9]+"))})
}

// nextHop replaces the session's own address as next hop where another is to be
// used, and rejects IPv6 routes that would get an IPv4 one.
func (g *guard) nextHop(n guardNeighbor, self string) {
	for _, f := range []struct {
		ipv6 bool
		addr netip.Addr
	}{{false, n.nextHop4}, {true, n.nextHop6}} {
		actions := &api.Actions{Nexthop: &api.NexthopAction{Address: f.addr.String()}}
		if !f.addr.IsValid() {
			if !f.ipv6 || !n.address.Is4() {
				continue
			}
			actions = &api.Actions{RouteAction: api.RouteAction_REJECT}
		}
		name := fmt.Sprintf("nexthop-%v-%s", f.ipv6, n.name)
		g.add(name, &api.Conditions{
			LargeCommunitySet: &api.MatchSet{Name: self},
			NeighborSet:       &api.MatchSet{Name: g.neighborSet(name, n)},
			AfiSafiIn:         []*api.Family{unicast(f.ipv6)},
		}, actions)
	}
}

func (g *guard) add(name string, conditions *api.Conditions, actions *api.Actions) {
	if conditions == nil {
		conditions = &api.Conditions{}
	}
	g.pol.Statements = append(g.pol.Statements, &api.Statement{
		Name: g.pol.Name + "-" + name, Conditions: conditions, Actions: actions})
}

// tagSet makes a set of the tags of a kind whose value matches, and returns its
// name.
func (g *guard) tagSet(name string, kind uint32, value string) string {
	set := &api.DefinedSet{DefinedType: api.DefinedType_LARGE_COMMUNITY, Name: ReservedPrefix + name,
		List: []string{tagPattern(fmt.Sprint(kind), value)}}
	g.sets = append(g.sets, set)
	return set.Name
}

func (g *guard) neighborSet(name string, neighbors ...guardNeighbor) string {
	set := &api.DefinedSet{DefinedType: api.DefinedType_NEIGHBOR, Name: ReservedPrefix + name}
	for _, n := range neighbors {
		addr := n.address.WithZone("")
		set.List = append(set.List, netip.PrefixFrom(addr, addr.BitLen()).String())
	}
	g.sets = append(g.sets, set)
	return set.Name
}

// tagPattern is the regular expression for tags.
func tagPattern(kind, value string) string {
	return fmt.Sprintf("^%d:%s:%s$", uint32(tagAdmin), kind, value)
}

func remove(pattern string) *api.CommunityAction {
	return &api.CommunityAction{Type: api.CommunityAction_REMOVE, Communities: []string{pattern}}
}
