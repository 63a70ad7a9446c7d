package plan

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/fairway-lb/fairway/api/v1alpha2"
)

// BGPDecision says who announces an address by BGP.
type BGPDecision struct {
	Decision
	// Announce is true if the node that asked announces the address with
	// itself as the next hop.
	Announce bool
	// Nodes are all that can deliver the address's traffic, sorted.
	Nodes []string
}

// BGP finds the nodes that announce an address by BGP: all live speakers whose
// Node is ready and from which traffic can be delivered. self is the node that
// asks; it need not be among the members, since its own speaker runs.
func (v View) BGP(a Address, self string) BGPDecision {
	members := v.Members
	if !slices.ContainsFunc(members, func(m Member) bool { return m.Name == self }) {
		members = append(slices.Clip(members), Member{Name: self})
	}
	d, nodes := decide(a, v1alpha2.ProtocolBGP, members, func(member Member) Reason {
		node, reason := v.fit(member.Name)
		if reason == ReasonNone && node.NotReady {
			reason = ReasonNodeNotReady
		}
		return reason
	})
	slices.Sort(nodes)
	_, announce := slices.BinarySearch(nodes, self)
	return BGPDecision{d, announce, nodes}
}

// Without is the decision if none of the nodes that can serve the address can be
// a next hop, for the reasons given.
func (d BGPDecision) Without(refused []Refusal) BGPDecision {
	if d.Reason == ReasonNone {
		d.Reason = ReasonNoCandidate
	}
	d.Nodes, d.Announce = nil, false
	d.Refusals = slices.Concat(d.Refusals, refused)
	slices.SortFunc(d.Refusals, func(a, b Refusal) int { return strings.Compare(a.Node, b.Node) })
	return d
}

// NextHops returns the addresses of the nodes that can deliver an address's
// traffic, of the address's family and sorted, for BgpConf's nextHops: nodes.
// With perRack they are those of self's rack only, as BgpConf's asPerRack
// asks. A node then announces the address whether or not it is among them, and
// not at all if there are none. Nodes that are left out for want of an address
// are refused.
func (v View) NextHops(d BGPDecision, addr netip.Addr, self string, perRack bool) (hops []netip.Addr, refused []Refusal) {
	hops = make([]netip.Addr, 0, len(d.Nodes))
	for _, name := range d.Nodes {
		node := v.Nodes[name]
		if perRack && node.Rack != v.Nodes[self].Rack {
			continue
		}
		hop := node.Addr6
		if addr.Is4() {
			hop = node.Addr4
		}
		if hop.IsValid() {
			hops = append(hops, hop)
		} else {
			refused = append(refused, Refusal{name, ReasonNoNextHop})
		}
	}
	slices.SortFunc(hops, netip.Addr.Compare)
	return slices.Compact(hops), refused
}
