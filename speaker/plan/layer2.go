// Package plan decides what a node announces, and why not. It is pure: a
// snapshot of the cluster and of the live speakers goes in, decisions with
// their reasons come out, and every node comes to the same ones from the same
// snapshot.
package plan

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/fairway-lb/fairway/api/v1alpha2"
	"github.com/fairway-lb/fairway/dataplane/service"
	"github.com/fairway-lb/fairway/speaker/rendezvous"
)

// Address is a load-balancer address of a Service, with all that decides who
// announces it.
type Address struct {
	Addr netip.Addr
	// Pool is the Eip that the address came from.
	Pool Pool
	// LocalPolicy is true for externalTrafficPolicy: Local.
	LocalPolicy bool
	// Endpoints of the Service in the family of Addr.
	Endpoints service.Endpoints
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
	// Serves tells whether the speaker says that it can serve a pool's
	// addresses by layer 2: its interface is there, up and in their subnet.
	Serves func(pool string) bool
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
}

// Refusal is a live speaker that cannot announce an address.
type Refusal struct {
	Node   string
	Reason Reason
}

// Layer2 chooses the one node that announces an address by ARP or NDP: the
// first by rendezvous hash among the live speakers that are eligible.
func (v View) Layer2(a Address) Decision {
	if reason := announceable(a); reason != ReasonNone {
		return Decision{Reason: reason}
	}
	var d Decision
	candidates := make([]string, 0, len(v.Members))
	for _, member := range v.Members {
		if ok, reason := v.Eligible(member, a); ok {
			candidates = append(candidates, member.Name)
		} else {
			d.Refusals = append(d.Refusals, Refusal{member.Name, reason})
		}
	}
	slices.SortFunc(d.Refusals, func(a, b Refusal) int { return strings.Compare(a.Node, b.Node) })
	if d.Owner = rendezvous.First(a.Addr, candidates); d.Owner == "" {
		d.Reason = ReasonNoCandidate
	}
	return d
}

// Reporter returns the node that speaks for an address which has no owner, so
// that one node reports it and not each. It is "" without live speakers.
func (v View) Reporter(addr netip.Addr) string {
	names := make([]string, len(v.Members))
	for i, member := range v.Members {
		names[i] = member.Name
	}
	return rendezvous.First(addr, names)
}

// Eligible tells whether a live speaker can announce an address by layer 2,
// and if not, why.
func (v View) Eligible(member Member, a Address) (bool, Reason) {
	node, known := v.Nodes[member.Name]
	switch {
	case !known:
		return false, ReasonNodeUnknown
	case node.Deleting:
		return false, ReasonNodeDeleting
	case node.Excluded:
		return false, ReasonNodeExcluded
	case !member.Serves(a.Pool.Name):
		return false, ReasonPoolNotServed
	case a.LocalPolicy && !a.Endpoints.OnNode(member.Name):
		return false, ReasonNoLocalEndpoint
	}
	return true, ReasonNone
}

// announceable says what keeps an address from being announced anywhere.
func announceable(a Address) Reason {
	switch {
	case a.Pool.Name == "":
		return ReasonPoolMissing
	case a.Pool.Protocol != v1alpha2.ProtocolLayer2:
		return ReasonNotLayer2
	case !a.Endpoints.Any():
		return ReasonNoEndpoint
	}
	return ReasonNone
}
