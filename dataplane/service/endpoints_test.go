package service

import (
	"slices"
	"testing"

	discoveryv1 "k8s.io/api/discovery/v1"
)

// endpointOn is ready, serving, terminating as the letters r, s, t say; "-" is
// an endpoint without any of them, "" one without conditions.
func endpointOn(node, conditions string) discoveryv1.Endpoint {
	e := discoveryv1.Endpoint{Addresses: []string{"10.0.0.1"}}
	if node != "" {
		e.NodeName = &node
	}
	if conditions != "" {
		has := func(c byte) *bool { b := slices.Contains([]byte(conditions), c); return &b }
		e.Conditions = discoveryv1.EndpointConditions{Ready: has('r'), Serving: has('s'), Terminating: has('t')}
	}
	return e
}

func TestReadEndpoints(t *testing.T) {
	noAddress := endpointOn("a", "rs")
	noAddress.Addresses = nil
	for _, test := range []struct {
		name      string
		endpoints []discoveryv1.Endpoint
		any       bool
		nodes     []string
	}{
		{"none", nil, false, nil},
		{"ready ones, each node once and sorted", []discoveryv1.Endpoint{endpointOn("b", "rs"), endpointOn("a", "rs"), endpointOn("b", "rs")}, true, []string{"a", "b"}},
		{"no conditions mean ready", []discoveryv1.Endpoint{endpointOn("a", "")}, true, []string{"a"}},
		{"not ready ones do not count", []discoveryv1.Endpoint{endpointOn("a", "-"), endpointOn("b", "s")}, false, nil},
		{"terminating ones do not count beside a ready one", []discoveryv1.Endpoint{endpointOn("a", "st"), endpointOn("b", "rs")}, true, []string{"b"}},
		{"terminating ones that serve count when none is ready", []discoveryv1.Endpoint{endpointOn("a", "st"), endpointOn("b", "t")}, true, []string{"a"}},
		{"an endpoint without a node counts for no node", []discoveryv1.Endpoint{endpointOn("", "rs")}, true, nil},
		{"a ready endpoint without a node keeps terminating ones out", []discoveryv1.Endpoint{endpointOn("", "rs"), endpointOn("a", "st")}, true, nil},
		{"an endpoint without an address is none", []discoveryv1.Endpoint{noAddress}, false, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			e := ReadEndpoints([]*discoveryv1.EndpointSlice{
				{AddressType: discoveryv1.AddressTypeIPv4, Ports: slicePorts("http/TCP/8080"), Endpoints: test.endpoints},
				{AddressType: discoveryv1.AddressTypeIPv6, Ports: slicePorts("http/TCP/8080"), Endpoints: []discoveryv1.Endpoint{endpointOn("v6", "rs")}},
			}, discoveryv1.AddressTypeIPv4)
			if e.Any() != test.any || !slices.Equal(e.Nodes(), test.nodes) {
				t.Errorf("Any() = %v, Nodes() = %v, want %v, %v", e.Any(), e.Nodes(), test.any, test.nodes)
			}
			for _, node := range test.nodes {
				if !e.OnNode(node) {
					t.Errorf("OnNode(%q) = false", node)
				}
			}
			if e.OnNode("v6") {
				t.Error("OnNode is true for a node of the other family")
			}
		})
	}
}

func TestReadEndpointsJoinsSlices(t *testing.T) {
	e := ReadEndpoints([]*discoveryv1.EndpointSlice{
		{AddressType: discoveryv1.AddressTypeIPv4, Ports: slicePorts("http/TCP/8080"), Endpoints: []discoveryv1.Endpoint{endpointOn("a", "st")}},
		{AddressType: discoveryv1.AddressTypeIPv4, Ports: slicePorts("http/TCP/8080"), Endpoints: []discoveryv1.Endpoint{endpointOn("b", "rs")}},
	}, discoveryv1.AddressTypeIPv4)
	if want := []string{"b"}; !slices.Equal(e.Nodes(), want) {
		t.Errorf("Nodes() = %v, want %v", e.Nodes(), want)
	}
}
