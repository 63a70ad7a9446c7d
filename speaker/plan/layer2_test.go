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

// member is a live speaker that serves the scopes named.
func member(name string, scopes ...string) Member {
	return Member{Name: name, Serves: func(scope string) bool { return slices.Contains(scopes, scope) }}
}

// endpointsOn has a ready IPv4 endpoint on each of the nodes.
func endpointsOn(nodes ...string) service.Endpoints { return endpoints(nodes, nil) }

// endpoints are ready on some nodes, and still serve while they terminate on
// others.
func endpoints(ready, terminating []string) service.Endpoints {
	yes, no := true, false
	slice := &discoveryv1.EndpointSlice{
		AddressType: discoveryv1.AddressTypeIPv4,
		Ports:       []discoveryv1.EndpointPort{{Name: new(""), Port: new(int32(80))}},
	}
	add := func(nodes []string, conditions discoveryv1.EndpointConditions) {
		for _, node := range nodes {
			slice.Endpoints = append(slice.Endpoints, discoveryv1.Endpoint{
				Addresses: []string{"10.0.0.1"}, NodeName: &node, Conditions: conditions,
			})
		}
	}
	add(ready, discoveryv1.EndpointConditions{})
	add(terminating, discoveryv1.EndpointConditions{Ready: &no, Serving: &yes, Terminating: &yes})
	return service.ReadEndpoints([]*discoveryv1.EndpointSlice{slice}, discoveryv1.AddressTypeIPv4)
}

// state is a cluster in which n1, n2 and n3 can all announce vip, which is in
// the second block of its pool, for web with endpoints on n1 and n2.
type state struct {
	view    View
	address Address
}

func newState() *state {
	return &state{
		view: View{
			Nodes:   map[string]Node{"n1": {}, "n2": {}, "n3": {}},
			Members: []Member{member("n1", "pool"), member("n2", "pool"), member("n3", "pool")},
		},
		address: Address{
			Addr:    vip,
			Pool:    Pool{Name: "pool", Protocol: "layer2"},
			Scopes:  []string{"pool", "pool block-2"},
			Tenants: []Tenant{cluster("web", 1, "n1", "n2")},
		},
	}
}

// expect fails the test unless the owner is the first of the candidates by
// rendezvous hash, whatever the order of members and tenants.
func (s *state) expect(t *testing.T, candidates ...string) Layer2Decision {
	t.Helper()
	d := s.view.Layer2(s.address)
	if want := rendezvous.First(vip, candidates); d.Owner != want {
		t.Errorf("owner %q, want %q", d.Owner, want)
	}
	explain := func(d Layer2Decision) (all []string) {
		for _, tenant := range s.address.Tenants {
			all = append(all, d.Explain(tenant.Service))
		}
		return all
	}
	texts := explain(d)
	slices.Reverse(s.view.Members)
	again := s.view.Layer2(s.address)
	if again.Owner != d.Owner || !slices.Equal(explain(again), texts) {
		t.Error("the decision depends on the order of the members")
	}
	tenants := s.address.Tenants
	s.address.Tenants = slices.Clone(tenants)
	slices.Reverse(s.address.Tenants)
	again = s.view.Layer2(s.address)
	s.address.Tenants = tenants
	if again.Owner != d.Owner || !slices.Equal(explain(again), texts) {
		t.Error("the decision depends on the order of the tenants")
	}
	return d
}

// TestLayer2 changes one thing at a time.
func TestLayer2(t *testing.T) {
	for _, test := range []struct {
		name       string
		change     func(*state)
		candidates []string
		explain    string // parts of the explanation, separated by "|"
	}{
		{"nothing", func(*state) {}, []string{"n1", "n2", "n3"}, ""},
		{"a member is gone", func(s *state) { s.view.Members = s.view.Members[1:] }, []string{"n2", "n3"}, ""},
		{"a member has no usable interface", func(s *state) { s.view.Members[1] = member("n2", "other") }, []string{"n1", "n3"}, ""},
		{"members serve parts of the pool", func(s *state) {
			s.view.Members[0] = member("n1", "pool block-1")
			s.view.Members[1] = member("n2", "pool block-2", "pool block-3")
		}, []string{"n2", "n3"}, ""},
		{"a node is excluded", func(s *state) { s.view.Nodes["n3"] = Node{Excluded: true} }, []string{"n1", "n2"}, ""},
		{"a node is being deleted", func(s *state) { s.view.Nodes["n3"] = Node{Deleting: true} }, []string{"n1", "n2"}, ""},
		{"a Node object is gone", func(s *state) { delete(s.view.Nodes, "n1") }, []string{"n2", "n3"}, ""},
		{"Cluster policy, endpoints on one node", func(s *state) { s.address.Tenants[0] = cluster("web", 1, "n2") }, []string{"n1", "n2", "n3"}, ""},
		{"Local policy, endpoints on one node", func(s *state) { s.address.Tenants[0] = local("web", 1, "n2") }, []string{"n2"}, ""},
		{"Local policy, endpoints on a node without a speaker", func(s *state) { s.address.Tenants[0] = local("web", 1, "n9") }, nil,
			"is not announced: no node can announce it|node n1 has no ready endpoint|node n3 has no ready endpoint"},
		{"no endpoint", func(s *state) { s.address.Tenants[0] = cluster("web", 1) }, nil, "is not announced: the Service has no ready endpoint"},
		{"the Eip is gone", func(s *state) { s.address.Pool = Pool{} }, nil, "Eip it came from does not exist"},
		{"the Eip is for BGP", func(s *state) { s.address.Pool.Protocol = "bgp" }, nil, "announced by another protocol"},
		{"the Eip has no protocol, which is BGP", func(s *state) { s.address.Pool.Protocol = "" }, nil, "announced by another protocol"},
		{"the Eip is for VRRP", func(s *state) { s.address.Pool.Protocol = "vip" }, nil, "protocol vip is not announced by Fairway, use layer2 or bgp"},
		{"no speaker", func(s *state) { s.view.Members = nil }, nil, "no node can announce it"},
		{"no scope", func(s *state) { s.address.Scopes = nil }, nil, "node n1 has no usable interface"},
		{"every node has another reason", func(s *state) {
			s.view.Nodes["n1"] = Node{Excluded: true}
			s.view.Members[1] = member("n2")
			delete(s.view.Nodes, "n3")
		}, nil, "node n1 is labelled|node n2 has no usable interface|node n3 has no Node object"},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := newState()
			test.change(s)
			text := s.expect(t, test.candidates...).Explain(key("web"))
			for _, part := range strings.Split(test.explain, "|") {
				if !strings.Contains(text, part) {
					t.Errorf("explanation %q lacks %q", text, part)
				}
			}
			if len(test.candidates) > 0 && text != "" {
				t.Errorf("an owner, yet an explanation: %q", text)
			}
		})
	}
}

func TestExplainIsBounded(t *testing.T) {
	s := newState()
	s.view = View{}
	for i := range 500 {
		s.view.Members = append(s.view.Members, member(fmt.Sprintf("worker-with-a-long-name-%d", i)))
	}
	text := s.view.Layer2(s.address).Explain(key("web"))
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
