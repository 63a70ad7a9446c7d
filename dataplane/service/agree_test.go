package service

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
)

// TestEndpointsAgree: a node that is to attract traffic by policy Local is one
// whose kernel forwards it. A node that was chosen and has nothing to forward
// to would keep the address from those that have.
func TestEndpointsAgree(t *testing.T) {
	without := func(ports []discoveryv1.EndpointPort) func(*discoveryv1.EndpointSlice) {
		return func(s *discoveryv1.EndpointSlice) { s.Ports = ports }
	}
	other := "10.0.0.2 there rs"
	for _, test := range []struct {
		name   string
		slices []*discoveryv1.EndpointSlice
		here   bool
	}{
		{"an endpoint", []*discoveryv1.EndpointSlice{epSlice("a", "web", ready, other)}, true},
		{"a loopback address", []*discoveryv1.EndpointSlice{epSlice("a", "web", "127.0.0.5 here rs", other)}, false},
		{"a link-local address", []*discoveryv1.EndpointSlice{epSlice("a", "web", "169.254.0.5 here rs", other)}, false},
		{"no address", []*discoveryv1.EndpointSlice{epSlice("a", "web", "10.0. here rs", other)}, false},
		{"no ports, of a pod that does not name the target port", []*discoveryv1.EndpointSlice{with(epSlice("a", "web", ready), without(nil)), epSlice("b", "web", other)}, false},
		{"a port without a number", []*discoveryv1.EndpointSlice{with(epSlice("a", "web", ready), without([]discoveryv1.EndpointPort{{Name: new("http")}})), epSlice("b", "web", other)}, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := feed(newState(), svc("web", ingress("192.0.2.1"), func(s *corev1.Service) { s.Spec.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyLocal }))
			for _, slice := range test.slices {
				s.SetEndpointSlice(slice)
			}
			if forwards := len(portsOf(s)[web(IPv4)].Local) > 0; forwards != test.here {
				t.Errorf("forwards: %v", forwards)
			}
			e := ReadEndpoints(test.slices, discoveryv1.AddressTypeIPv4)
			if e.OnNode(thisNode) != test.here || !e.OnNode("there") {
				t.Errorf("attracts: %v, the other node %v", e.OnNode(thisNode), e.OnNode("there"))
			}
		})
	}
}
