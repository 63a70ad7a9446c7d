package service

import (
	"slices"

	discoveryv1 "k8s.io/api/discovery/v1"
)

// Endpoints says on which nodes a Service has endpoints of one address
// family. The zero value has none.
//
// An endpoint counts while it is ready. While no endpoint is ready, those
// that are terminating but still serve take their place (KEP-1669).
type Endpoints struct {
	ready       nodeSet
	terminating nodeSet
}

// nodeSet is where endpoints of one kind are.
type nodeSet struct {
	any   bool     // also true for endpoints that name no node
	nodes []string // sorted, without duplicates
}

// ReadEndpoints reads the EndpointSlices of one Service. Slices of another
// address type are passed over, and what no dataplane forwards to: a slice
// without ports, which pods have that do not name the target port, and an
// address that is none of an endpoint. A node with those alone would attract
// traffic that goes nowhere.
func ReadEndpoints(slicesOfService []*discoveryv1.EndpointSlice, family discoveryv1.AddressType) Endpoints {
	var e Endpoints
	for _, slice := range slicesOfService {
		f, ip := readAddressType(slice.AddressType)
		if slice.AddressType != family || !ip || !HasPorts(slice.Ports) {
			continue
		}
		for i := range slice.Endpoints {
			endpoint := &slice.Endpoints[i]
			conditions := readConditions(&endpoint.Conditions)
			switch {
			case !isEndpoint(endpoint, f):
			case conditions.ready():
				e.ready.add(endpoint.NodeName)
			case conditions.fallback():
				e.terminating.add(endpoint.NodeName)
			}
		}
	}
	e.ready.sort()
	e.terminating.sort()
	return e
}

// Any tells whether traffic for the Service can be delivered at all.
func (e Endpoints) Any() bool {
	return e.ready.any || e.terminating.any
}

// Nodes returns the nodes that should attract traffic under
// externalTrafficPolicy: Local, sorted: those with a ready endpoint or, if
// there is no ready endpoint anywhere, those with one that still serves while
// it terminates. The caller must not change the slice.
func (e Endpoints) Nodes() []string {
	if e.ready.any {
		return e.ready.nodes
	}
	return e.terminating.nodes
}

// OnNode tells whether Nodes contains the node.
func (e Endpoints) OnNode(node string) bool {
	_, found := slices.BinarySearch(e.Nodes(), node)
	return found
}

func (s *nodeSet) add(node *string) {
	s.any = true
	if node != nil && *node != "" {
		s.nodes = append(s.nodes, *node)
	}
}

func (s *nodeSet) sort() {
	slices.Sort(s.nodes)
	s.nodes = slices.Compact(s.nodes)
}
