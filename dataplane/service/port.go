package service

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
)

// PortName identifies a service port of one IP family.
type PortName struct {
	types.NamespacedName        // of the Service
	Port                 string // its name in the Service, "" for an only port
	Protocol             Protocol
	Family               Family
}

// String returns the name as in default/web:http/TCP/IPv4.
func (n PortName) String() string {
	return fmt.Sprintf("%s:%s/%s/%s", n.NamespacedName, n.Port, n.Protocol, n.Family)
}

// Compare orders by namespace, name, port name, protocol and family.
func (n PortName) Compare(other PortName) int {
	return cmp.Or(
		compareNames(n.NamespacedName, other.NamespacedName),
		strings.Compare(n.Port, other.Port),
		cmp.Compare(n.Protocol, other.Protocol),
		cmp.Compare(n.Family, other.Family),
	)
}

func compareNames(a, b types.NamespacedName) int {
	return cmp.Or(strings.Compare(a.Namespace, b.Namespace), strings.Compare(a.Name, b.Name))
}

// Port is the desired state of a service port of one IP family. It is never
// changed once it is handed out, and shares its slices with other Ports: they
// are not to be changed either. All are sorted and without duplicates.
type Port struct {
	// Frontends are where the port is reached, by kind and address. There is
	// at least one.
	Frontends []Frontend

	// InternalPolicy is internalTrafficPolicy: it governs the cluster IP
	// (KEP-2086). ExternalPolicy is externalTrafficPolicy: it governs all
	// other frontends, for clients outside of the node.
	InternalPolicy, ExternalPolicy Policy

	// NeedsCluster tells whether traffic may go to Cluster: a frontend has
	// that policy, or has policy Local but is also used from within the node.
	// NeedsLocal tells whether a frontend has policy Local. A set that is not
	// needed is empty.
	NeedsCluster, NeedsLocal bool
	// Cluster are the endpoints of policy Cluster: the ready ones that
	// topology hints leave to this node (KEP-2433, KEP-3015), or while none is
	// ready those that terminate but serve (KEP-1669).
	Cluster []netip.AddrPort
	// Local are the endpoints of policy Local: the ready ones on this node, or
	// while it has none those on this node that terminate but serve. Topology
	// hints do not matter to it.
	Local []netip.AddrPort
	// Usable tells whether any endpoint, on whatever node, is ready, or
	// terminates but serves. Traffic is rejected while there is none.
	Usable bool
	// Serving are the endpoints, on whatever node and whatever the policy,
	// that flows may stay at: conntrack entries that lead elsewhere are stale.
	// It is for UDP alone and empty for other protocols.
	Serving []netip.AddrPort

	// Affinity is how long a client stays with its endpoint (sessionAffinity
	// ClientIP), in whole seconds from 1 to 86400; 0 is no affinity.
	Affinity time.Duration
	// SourceRanges are the clients that may use the load-balancer addresses;
	// none means all. No other frontend is restricted.
	SourceRanges []netip.Prefix

	// Scheduler is the IPVS scheduler that v1alpha2.AnnotationScheduler asks
	// for, "" for the backend's default.
	Scheduler string
	// Hash is what v1alpha2.AnnotationHash asks the endpoint to follow from.
	Hash Hash
	// Weights are those of v1alpha2.AnnotationWeights for endpoints in Cluster
	// or Local, by endpoint. One that is not here has weight 1: see Weight.
	// Only IPVS schedulers that know weights use them; rr, lc and dh know no
	// more than that 0 gets no new connections.
	Weights []Weight
}

// Weight is how many new connections an endpoint gets, compared to others.
type Weight struct {
	Endpoint netip.AddrPort
	Weight   int // 0 to 65535
}

// Frontend is one address and port that a service port is reached at.
type Frontend struct {
	Kind Kind
	// Address is where packets go to. That of a NodePort has the unspecified
	// address, for those of the node.
	Address netip.AddrPort
}

// Kind is where a frontend comes from.
type Kind uint8

// The kinds of frontends. An address that is of several is of the first.
const (
	ClusterIP    Kind = iota // spec.clusterIPs
	LoadBalancer             // status.loadBalancer.ingress, but ipMode Proxy (KEP-1860)
	ExternalIP               // spec.externalIPs
	NodePort
)

// String returns the kind as Kubernetes spells it.
func (k Kind) String() string {
	return [...]string{"ClusterIP", "LoadBalancer", "ExternalIP", "NodePort"}[k]
}

// Policy is a traffic policy.
type Policy uint8

// The traffic policies.
const (
	Cluster Policy = iota
	Local
)

// String returns the policy as Kubernetes spells it.
func (p Policy) String() string {
	if p == Local {
		return "Local"
	}
	return "Cluster"
}

// Hash is what the choice of an endpoint follows from.
type Hash uint8

// The values of v1alpha2.AnnotationHash.
const (
	HashNone       Hash = iota // chance
	HashSource                 // the client's address
	HashSourcePort             // the client's address and port
)

// String returns the value of v1alpha2.AnnotationHash.
func (h Hash) String() string {
	return [...]string{"", "source", "source-port"}[h]
}

// Protocol is an IP protocol number (RFC 5237), of TCP, UDP or SCTP.
type Protocol uint8

// The protocols that a service port may have.
const (
	TCP  Protocol = 6
	UDP  Protocol = 17
	SCTP Protocol = 132
)

// String returns the protocol as Kubernetes spells it.
func (p Protocol) String() string {
	switch p {
	case TCP:
		return "TCP"
	case UDP:
		return "UDP"
	case SCTP:
		return "SCTP"
	}
	return fmt.Sprintf("Protocol(%d)", uint8(p))
}

func readProtocol(p corev1.Protocol) (Protocol, bool) {
	switch p {
	case corev1.ProtocolTCP, "": // "" is the API's default
		return TCP, true
	case corev1.ProtocolUDP:
		return UDP, true
	case corev1.ProtocolSCTP:
		return SCTP, true
	}
	return 0, false
}

// Verdict is what happens to a new connection.
type Verdict uint8

// The verdicts.
const (
	Forward Verdict = iota // to one of the endpoints
	Drop                   // silently: there are endpoints, but not for this node
	Reject                 // as a port without a listener does
)

// String returns the verdict as part of a sentence.
func (v Verdict) String() string {
	return [...]string{"forward", "drop", "reject"}[v]
}

// Choose returns what a frontend of some kind does with a connection that
// comes from outside of the node, or for a ClusterIP from anywhere. Those from
// within the node go by policy Cluster to all other kinds.
func (p *Port) Choose(kind Kind) ([]netip.AddrPort, Verdict) {
	policy := p.ExternalPolicy
	if kind == ClusterIP {
		policy = p.InternalPolicy
	}
	endpoints := p.Cluster
	if policy == Local {
		endpoints = p.Local
	}
	switch {
	case len(endpoints) > 0:
		return endpoints, Forward
	case p.Usable:
		return nil, Drop
	}
	return nil, Reject
}

// Weight returns the weight of an endpoint in Cluster or Local.
func (p *Port) Weight(endpoint netip.AddrPort) int {
	i, found := slices.BinarySearchFunc(p.Weights, endpoint, func(w Weight, at netip.AddrPort) int { return w.Endpoint.Compare(at) })
	if !found {
		return defaultWeight
	}
	return p.Weights[i].Weight
}

// Equal tells whether two Ports are the same. nil equals nil only.
func (p *Port) Equal(other *Port) bool {
	if p == nil || other == nil {
		return p == other
	}
	return p.InternalPolicy == other.InternalPolicy &&
		p.ExternalPolicy == other.ExternalPolicy &&
		p.NeedsCluster == other.NeedsCluster &&
		p.NeedsLocal == other.NeedsLocal &&
		p.Usable == other.Usable &&
		p.Affinity == other.Affinity &&
		p.Scheduler == other.Scheduler &&
		p.Hash == other.Hash &&
		slices.Equal(p.Frontends, other.Frontends) &&
		slices.Equal(p.Cluster, other.Cluster) &&
		slices.Equal(p.Local, other.Local) &&
		slices.Equal(p.Serving, other.Serving) &&
		slices.Equal(p.SourceRanges, other.SourceRanges) &&
		slices.Equal(p.Weights, other.Weights)
}
