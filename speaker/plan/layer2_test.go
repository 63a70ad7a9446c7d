package plan

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	discoveryv1 "k8s.io/api/discovery/v1"

	"github.com/fairway-lb/fairway/dataplane/service"
	"github.com/fairway-lb/fairway/speaker/rendezvous"
)

var vip = netip.MustParseAddr("192.168.93.231")

// member is a live speaker that serves the pools named.
func member(name string, pools ...string) Member {
	return Member{Name: name, Serves: func(pool string) bool { return slices.Contains(pools, pool) }}
}

// endpointsOn has a ready IPv4 endpoint on each of the nodes.
func endpointsOn(nodes ...string) service.Endpoints {
	slice := &discoveryv1.EndpointSlice{AddressType: discoveryv1.AddressTypeIPv4}
	for _, node := range nodes {
		slice.Endpoints = append(slice.Endpoints, discoveryv1.Endpoint{Addresses: []string{"10.0.0.1"}, NodeName: &node})
	}
	return service.ReadEndpoints([]*discoveryv1.EndpointSlice{slice}, discoveryv1.AddressTypeIPv4)
}

// TestLayer2 changes one thing at a time in a cluster in which n1, n2 and n3
// can all announce the address.
func TestLayer2(t *testing.T) {
	type state struct {
		view    View
		address Address
	}
	for _, test := range []struct {
		name       string
		change     func(*state)
		candidates []string
		explain    string // parts of the explanation, separated by "|"
	}{
		{"nothing", func(*state) {}, []string{"n1", "n2", "n3"}, ""},
		{"a member is gone", func(s *state) { s.view.Members = s.view.Members[1:] }, []string{"n2", "n3"}, ""},
		{"a member has no usable interface", func(s *state) { s.view.Members[1] = member("n2", "other") }, []string{"n1", "n3"}, ""},
		{"a node is excluded", func(s *state) { s.view.Nodes["n3"] = Node{Excluded: true} }, []string{"n1", "n2"}, ""},
		{"a node is being deleted", func(s *state) { s.view.Nodes["n3"] = Node{Deleting: true} }, []string{"n1", "n2"}, ""},
		{"a Node object is gone", func(s *state) { delete(s.view.Nodes, "n1") }, []string{"n2", "n3"}, ""},
		{"Cluster policy, endpoints on one node", func(s *state) { s.address.Endpoints = endpointsOn("n2") }, []string{"n1", "n2", "n3"}, ""},
		{"Local policy, endpoints on one node", func(s *state) { s.address.LocalPolicy = true; s.address.Endpoints = endpointsOn("n2") }, []string{"n2"}, ""},
		{"Local policy, endpoints on a node without a speaker", func(s *state) { s.address.LocalPolicy = true; s.address.Endpoints = endpointsOn("n9") }, nil,
			"no node can announce it|node n1 has no ready endpoint|node n3 has no ready endpoint"},
		{"no endpoint", func(s *state) { s.address.Endpoints = service.Endpoints{} }, nil, "no ready endpoint"},
		{"the Eip is gone", func(s *state) { s.address.Pool = Pool{} }, nil, "Eip it came from does not exist"},
		{"the Eip is for BGP", func(s *state) { s.address.Pool.Protocol = "bgp" }, nil, "protocol is not layer2"},
		{"no speaker", func(s *state) { s.view.Members = nil }, nil, "no node can announce it"},
		{"every node has another reason", func(s *state) {
			s.view.Nodes["n1"] = Node{Excluded: true}
			s.view.Members[1] = member("n2")
			delete(s.view.Nodes, "n3")
		}, nil, "node n1 is labelled|node n2 has no usable interface|node n3 has no Node object"},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := state{
				view: View{
					Nodes:   map[string]Node{"n1": {}, "n2": {}, "n3": {}},
					Members: []Member{member("n1", "pool"), member("n2", "pool"), member("n3", "pool")},
				},
				address: Address{Addr: vip, Pool: Pool{Name: "pool", Protocol: "layer2"}, Endpoints: endpointsOn("n1", "n2")},
			}
			test.change(&s)
			got := s.view.Layer2(s.address)
			if want := rendezvous.First(vip, test.candidates); got.Owner != want {
				t.Errorf("owner %q, want %q", got.Owner, want)
			}
			for _, part := range strings.Split(test.explain, "|") {
				if !strings.Contains(got.Explain(), part) {
					t.Errorf("explanation %q lacks %q", got.Explain(), part)
				}
			}
			if got.Owner != "" && got.Explain() != "" {
				t.Errorf("an owner, yet an explanation: %q", got.Explain())
			}
			slices.Reverse(s.view.Members)
			if again := s.view.Layer2(s.address); again.Owner != got.Owner || again.Explain() != got.Explain() {
				t.Error("the decision depends on the order of the members")
			}
		})
	}
}

func TestExplainIsBounded(t *testing.T) {
	view := View{}
	for i := range 500 {
		view.Members = append(view.Members, member(fmt.Sprintf("worker-with-a-long-name-%d", i)))
	}
	text := view.Layer2(Address{Addr: vip, Pool: Pool{Name: "pool", Protocol: "layer2"}, Endpoints: endpointsOn("n1")}).Explain()
	if !strings.HasSuffix(text, "and 495 more") || len(text) > 800 {
		t.Errorf("explanation of %d characters: %q", len(text), text)
	}
}

func TestOneNodeReports(t *testing.T) {
	view := View{Members: []Member{member("n1"), member("n2"), member("n3")}}
	reporter := view.Reporter(vip)
	slices.Reverse(view.Members)
	if reporter == "" || view.Reporter(vip) != reporter {
		t.Errorf("reporters %q and %q", reporter, view.Reporter(vip))
	}
}
