// Package plan decides what a node announces, and why not. It is pure: a
// snapshot of the cluster and of the live speakers goes in, decisions with
// their reasons come out, and every node comes to the same ones from the same
// snapshot.
package plan

import (
	"net/netip"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/types"

	"github.com/fairway-lb/fairway/api/v1alpha2"
	"github.com/fairway-lb/fairway/speaker/rendezvous"
)

// Address is a load-balancer address in use, with all that decides who
// announces it.
type Address struct {
	Addr netip.Addr
	// Pool is the Eip that the address belongs to.
	Pool Pool
	// Scopes are what a speaker has to serve to announce the address: any one
	// of them will do. A scope is a pool or a part of one.
	Scopes []string
	// Tenants are the Services that have the address.
	Tenants []Tenant
}

// Pool is what the plan needs to know of an Eip. The zero Pool is one that
// does not exist.
type Pool struct {
	Name     string
	Protocol string
}

// Node is what the plan needs to know of a Kubernetes Node.
type Node struct {
	// Excluded is true for a Node that carries the label
	// node.kubernetes.io/exclude-from-external-load-balancers.
	Excluded bool
	// Deleting is true for a Node that is being removed from the cluster.
	Deleting bool
}

// Member is a live speaker.
type Member struct {
	Name string
	// Serves tells whether the speaker says that it can serve the addresses
	// of a scope by layer 2: its interface is there, up and in their subnet.
	Serves func(scope string) bool
}

// View is the cluster as one node sees it.
type View struct {
	Nodes   map[string]Node
	Members []Member
}

// Decision says who announces an address.
type Decision struct {
	// Owner is the node that should announce the address by layer 2, "" if
	// none can.
	Owner string
	// Reason is why there is no owner; ReasonNone if there is one.
	Reason Reason
	// Refusals say for each live speaker that is no candidate why not, sorted
	// by node.
	Refusals []Refusal
	// For is the oldest Service that is reached at the address, the zero value
	// without an owner.
	For types.NamespacedName
	// Unreached are the Services that are not reached at the address for
	// another reason than Reason.
	Unreached []Unreached
}

// Refusal is a live speaker that cannot announce an address.
type Refusal struct {
	Node   string
	Reason Reason
}

// Unreached is a Service that cannot be reached at its address.
type Unreached struct {
	Service types.NamespacedName
	Reason  Reason
}

// Layer2 chooses the one node that announces an address by ARP or NDP: the
// first by rendezvous hash among the live speakers that are eligible. A
// speaker is eligible if it can announce the address at all and traffic can
// be delivered from there to the Services that have it; see agree.
func (v View) Layer2(a Address) Decision {
	if reason := announceable(a.Pool); reason != ReasonNone {
		return Decision{Reason: reason}
	}
	tenants, idle := ready(a.Tenants)
	if len(tenants) == 0 {
		return Decision{Reason: ReasonNoEndpoint}
	}
	var d Decision
	able := make([]string, 0, len(v.Members))
	for _, member := range v.Members {
		if ok, reason := v.Eligible(member, a); ok {
			able = append(able, member.Name)
		} else {
			d.Refusals = append(d.Refusals, Refusal{member.Name, reason})
		}
	}
	candidates, reached, unreached := agree(able, tenants)
	rest := candidates // in the order of able
	for _, node := range able {
		if len(rest) > 0 && rest[0] == node {
			rest = rest[1:]
		} else {
			d.Refusals = append(d.Refusals, Refusal{node, ReasonNoLocalEndpoint})
		}
	}
	slices.SortFunc(d.Refusals, func(a, b Refusal) int { return strings.Compare(a.Node, b.Node) })
	d.Unreached = append(idle, unreached...)
	if d.Owner = rendezvous.First(a.Addr, candidates); d.Owner == "" {
		d.Reason = ReasonNoCandidate
		return d
	}
	d.For = reached[0].Service
	return d
}

// Reporter returns the node that speaks for an address that does not serve a
// Service, so that one node reports it and not each. It is "" without live
// speakers.
func (v View) Reporter(addr netip.Addr) string {
	names := make([]string, len(v.Members))
	for i, member := range v.Members {
		names[i] = member.Name
	}
	return rendezvous.First(addr, names)
}

// Eligible tells whether a live speaker can announce an address by layer 2,
// wherever the endpoints are, and if not, why.
func (v View) Eligible(member Member, a Address) (bool, Reason) {
	node, known := v.Nodes[member.Name]
	switch {
	case !known:
		return false, ReasonNodeUnknown
	case node.Deleting:
		return false, ReasonNodeDeleting
	case node.Excluded:
		return false, ReasonNodeExcluded
	case !slices.ContainsFunc(a.Scopes, member.Serves):
		return false, ReasonNotServed
	}
	return true, ReasonNone
}

// announceable says what keeps the addresses of a pool from being announced
// anywhere.
func announceable(pool Pool) Reason {
	switch {
	case pool.Name == "":
		return ReasonPoolMissing
	case pool.Protocol != v1alpha2.ProtocolLayer2:
		return ReasonNotLayer2
	}
	return ReasonNone
}
