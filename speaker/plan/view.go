// Package plan decides what a node announces, and why not. It is pure: a
// snapshot of the cluster and of the live speakers goes in, decisions with
// their reasons come out, and every node comes to the same ones from the same
// snapshot.
package plan

import (
	"cmp"
	"net/netip"

	"github.com/fairway-lb/fairway/api/v1alpha2"
	"github.com/fairway-lb/fairway/speaker/rendezvous"
)

// Address is a load-balancer address in use, with all that decides who
// announces it.
type Address struct {
	Addr netip.Addr
	// Pool is the Eip that the address belongs to.
	Pool Pool
	// Scopes are what a speaker has to serve to announce the address by layer
	// 2: any one of them will do. A scope is a pool or a part of one.
	Scopes []string
	// Tenants are the Services that have the address.
	Tenants []Tenant
}

// Pool is what the plan needs to know of an Eip. The zero Pool is one that
// does not exist.
type Pool struct {
	Name string
	// Protocol is spec.protocol as it was written; see AnnouncedBy.
	Protocol string
}

// AnnouncedBy returns the protocol that announces the pool's addresses: bgp
// where the Eip says none.
func (p Pool) AnnouncedBy() string {
	return cmp.Or(p.Protocol, v1alpha2.ProtocolBGP)
}

// Node is what the plan needs to know of a Kubernetes Node.
type Node struct {
	// Excluded is true for a Node that carries the label
	// node.kubernetes.io/exclude-from-external-load-balancers.
	Excluded bool
	// Deleting is true for a Node that is being removed from the cluster.
	Deleting bool
	// NotReady is true for a Node whose condition Ready is False or Unknown. A
	// Node without the condition counts as ready: what says nothing about
	// itself is no reason to withdraw.
	NotReady bool
	// Rack is what the Node's rack label says, "" without one.
	Rack string
	// Addr4 and Addr6 are the Node's first InternalIP of each family, the zero
	// Addr for none.
	Addr4, Addr6 netip.Addr
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

// fit returns a node unless there is a reason for which it must announce
// nothing by any protocol.
func (v View) fit(name string) (Node, Reason) {
	node, known := v.Nodes[name]
	switch {
	case !known:
		return node, ReasonNodeUnknown
	case node.Deleting:
		return node, ReasonNodeDeleting
	case node.Excluded:
		return node, ReasonNodeExcluded
	}
	return node, ReasonNone
}
