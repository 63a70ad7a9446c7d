package plan

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
)

// newBGPState is newState with an Eip for BGP, which needs no interface.
func newBGPState() *state {
	s := newState()
	s.address.Pool.Protocol = "bgp"
	s.address.Scopes = nil
	return s
}

// expectBGP fails the test unless self finds that the nodes announce the
// address, and knows whether it is one of them, whatever the order of members
// and tenants.
func (s *state) expectBGP(t *testing.T, self string, nodes ...string) BGPDecision {
	t.Helper()
	d := s.view.BGP(s.address, self)
	if !slices.Equal(d.Nodes, nodes) || d.Announce != slices.Contains(nodes, self) || d.Announced() != (len(nodes) > 0) {
		t.Errorf("%s finds %v, announces %v, want %v", self, d.Nodes, d.Announce, nodes)
	}
	text := d.Explain(key("web"))
	slices.Reverse(s.view.Members)
	slices.Reverse(s.address.Tenants)
	again := s.view.BGP(s.address, self)
	if !slices.Equal(again.Nodes, d.Nodes) || again.Explain(key("web")) != text {
		t.Errorf("the decision depends on the order: %v and %v", d, again)
	}
	return d
}

// TestBGP changes one thing at a time.
func TestBGP(t *testing.T) {
	for _, test := range []struct {
		name    string
		change  func(*state)
		nodes   []string
		explain string // parts of the explanation, separated by "|"
	}{
		{"nothing", func(*state) {}, []string{"n1", "n2", "n3"}, ""},
		{"no protocol", func(s *state) { s.address.Pool.Protocol = "" }, []string{"n1", "n2", "n3"}, ""},
		{"a node without the speaker", func(s *state) { s.view.Nodes["n4"] = Node{} }, []string{"n1", "n2", "n3"}, ""},
		{"the speaker of another node is gone", func(s *state) { s.view.Members = s.view.Members[:2] }, []string{"n1", "n2"}, ""},
		{"this speaker is no member yet", func(s *state) { s.view.Members = s.view.Members[1:] }, []string{"n1", "n2", "n3"}, ""},
		{"no member at all", func(s *state) { s.view.Members = nil }, []string{"n1"}, ""},
		{"this node is excluded", func(s *state) { s.view.Nodes["n1"] = Node{Excluded: true} }, []string{"n2", "n3"}, ""},
		{"this node is being deleted", func(s *state) { s.view.Nodes["n1"] = Node{Deleting: true} }, []string{"n2", "n3"}, ""},
		{"this node is not ready", func(s *state) { s.view.Nodes["n1"] = Node{NotReady: true} }, []string{"n2", "n3"}, ""},
		{"this Node object is gone", func(s *state) { delete(s.view.Nodes, "n1") }, []string{"n2", "n3"}, ""},
		{"another node is not ready", func(s *state) { s.view.Nodes["n3"] = Node{NotReady: true} }, []string{"n1", "n2"}, ""},
		{"Cluster policy, endpoints on a node without the speaker", func(s *state) { s.address.Tenants[0] = cluster("web", 1, "n9") }, []string{"n1", "n2", "n3"}, ""},
		{"Cluster policy, endpoints on a node that is not ready", func(s *state) {
			s.address.Tenants[0] = cluster("web", 1, "n2")
			s.view.Nodes["n2"] = Node{NotReady: true}
		}, []string{"n1", "n3"}, ""},
		{"Local policy", func(s *state) { s.address.Tenants[0] = local("web", 1, "n1", "n3") }, []string{"n1", "n3"}, ""},
		{"Local policy, endpoints elsewhere", func(s *state) { s.address.Tenants[0] = local("web", 1, "n2") }, []string{"n2"}, ""},
		{"Local policy, terminating endpoints beside a ready one", func(s *state) {
			s.address.Tenants[0] = local("web", 1, "n1")
			s.address.Tenants[0].Endpoints = endpoints([]string{"n2"}, []string{"n1"})
		}, []string{"n2"}, ""},
		{"Local policy, only terminating endpoints that serve", func(s *state) {
			s.address.Tenants[0] = local("web", 1, "n1")
			s.address.Tenants[0].Endpoints = endpoints(nil, []string{"n1", "n3"})
		}, []string{"n1", "n3"}, ""},
		{"shared, both Local: where both are", func(s *state) {
			s.address.Tenants = []Tenant{local("web", 1, "n1", "n2"), local("mail", 2, "n2", "n3")}
		}, []string{"n2"}, ""},
		{"shared, one Local: the stricter", func(s *state) {
			s.address.Tenants = []Tenant{cluster("web", 1, "n1"), local("mail", 2, "n3")}
		}, []string{"n3"}, ""},
		{"shared, without agreement: the senior", func(s *state) {
			s.address.Tenants = []Tenant{local("web", 2, "n2"), local("mail", 1, "n1")}
		}, []string{"n1"}, "is announced for Service dev/mail, but Service dev/web is not reached at it: externalTrafficPolicy is Local and no node has"},
		{"Local policy, endpoints on a node that is not ready", func(s *state) {
			s.address.Tenants[0] = local("web", 1, "n3")
			s.view.Nodes["n3"] = Node{NotReady: true}
		}, nil, "is not announced: no node can announce it|node n1 has no ready endpoint and externalTrafficPolicy is Local|node n3 is not ready"},
		{"no endpoint", func(s *state) { s.address.Tenants[0] = cluster("web", 1) }, nil, "is not announced: the Service has no ready endpoint"},
		{"the Eip is gone", func(s *state) { s.address.Pool = Pool{} }, nil, "is not announced: the Eip it came from does not exist"},
		{"the Eip is for layer 2", func(s *state) { s.address.Pool.Protocol = "layer2" }, nil, "another protocol"},
		{"the Eip is for VRRP", func(s *state) { s.address.Pool.Protocol = "vip" }, nil, "protocol vip is not announced by Fairway, use layer2 or bgp"},
		{"every node has another reason", func(s *state) {
			s.view.Nodes["n1"] = Node{Excluded: true}
			s.view.Nodes["n2"] = Node{NotReady: true}
			delete(s.view.Nodes, "n3")
		}, nil, "node n1 is labelled|node n2 is not ready|node n3 has no Node object"},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := newBGPState()
			test.change(s)
			text := s.expectBGP(t, "n1", test.nodes...).Explain(key("web"))
			for _, part := range strings.Split(test.explain, "|") {
				if !strings.Contains(text, part) {
					t.Errorf("explanation %q lacks %q", text, part)
				}
			}
			if test.explain == "" && text != "" {
				t.Errorf("announced, yet an explanation: %q", text)
			}
		})
	}
}

// Every node comes to the same nodes, and exactly those announce.
func TestNodesAgreeOnWhoAnnounces(t *testing.T) {
	s := newBGPState()
	s.address.Tenants[0] = local("web", 1, "n1", "n3")
	for _, self := range []string{"n1", "n2", "n3"} {
		s.expectBGP(t, self, "n1", "n3")
	}
}

// A Service's endpoints move; the speaker's own Node comes and goes.
func TestBGPFollowsTheCluster(t *testing.T) {
	s := newBGPState()
	for _, step := range []struct {
		name   string
		change func(*state)
		nodes  []string
	}{
		{"no pod yet", func(s *state) { s.address.Tenants[0] = local("web", 1) }, nil},
		{"the first pod is ready", func(s *state) { s.address.Tenants[0] = local("web", 1, "n2") }, []string{"n2"}},
		{"scaled up", func(s *state) { s.address.Tenants[0] = local("web", 1, "n1", "n2") }, []string{"n1", "n2"}},
		{"the policy becomes Cluster", func(s *state) { s.address.Tenants[0] = cluster("web", 1, "n1", "n2") }, []string{"n1", "n2", "n3"}},
		{"n1 gets the exclude label", func(s *state) { s.view.Nodes["n1"] = Node{Excluded: true} }, []string{"n2", "n3"}},
		{"n2 is not ready", func(s *state) { s.view.Nodes["n2"] = Node{NotReady: true} }, []string{"n3"}},
		{"n1 loses the label", func(s *state) { s.view.Nodes["n1"] = Node{} }, []string{"n1", "n3"}},
		{"n2 is back", func(s *state) { s.view.Nodes["n2"] = Node{} }, []string{"n1", "n2", "n3"}},
		{"all pods are gone", func(s *state) { s.address.Tenants[0] = cluster("web", 1) }, nil},
	} {
		step.change(s)
		t.Run(step.name, func(t *testing.T) { s.expectBGP(t, "n1", step.nodes...) })
	}
}

// That a Node is not ready changes nothing for layer 2.
func TestNotReadyNodesMayAnnounceByLayer2(t *testing.T) {
	s := newState()
	s.view.Nodes["n1"] = Node{NotReady: true}
	s.expect(t, "n1", "n2", "n3")
}

func TestNextHops(t *testing.T) {
	v4, v6 := netip.MustParseAddr("192.168.93.231"), netip.MustParseAddr("2001:db8::231")
	view := View{Nodes: map[string]Node{
		"n1": {Rack: "a", Addr4: netip.MustParseAddr("10.0.0.3"), Addr6: netip.MustParseAddr("fd00::3")},
		"n2": {Rack: "b", Addr4: netip.MustParseAddr("10.0.0.2")},
		"n3": {Rack: "a", Addr4: netip.MustParseAddr("10.0.0.1"), Addr6: netip.MustParseAddr("fd00::1")},
		"n4": {Addr4: netip.MustParseAddr("10.0.0.1")}, // as n3's: an address is a next hop once
	}}
	for _, test := range []struct {
		name    string
		nodes   []string
		addr    netip.Addr
		self    string
		perRack bool
		hops    string
		refused string
	}{
		{"all", []string{"n1", "n2", "n3"}, v4, "n1", false, "[10.0.0.1 10.0.0.2 10.0.0.3]", "[]"},
		{"those that announce, without self", []string{"n2"}, v4, "n1", false, "[10.0.0.2]", "[]"},
		{"of the other family", []string{"n1", "n2", "n3"}, v6, "n1", false, "[fd00::1 fd00::3]", "[{n2 has no InternalIP of its family to be a next hop}]"},
		{"two nodes with one address", []string{"n3", "n4"}, v4, "n1", false, "[10.0.0.1]", "[]"},
		{"of this rack", []string{"n1", "n2", "n3", "n4"}, v4, "n1", true, "[10.0.0.1 10.0.0.3]", "[]"},
		{"of another rack", []string{"n1", "n2", "n3"}, v4, "n2", true, "[10.0.0.2]", "[]"},
		{"of no rack", []string{"n1", "n4"}, v4, "n4", true, "[10.0.0.1]", "[]"},
		{"of this rack only are refused", []string{"n1", "n2", "n3"}, v6, "n3", true, "[fd00::1 fd00::3]", "[]"},
		{"none in this rack", []string{"n1"}, v4, "n2", true, "[]", "[]"},
		{"none at all", nil, v4, "n1", false, "[]", "[]"},
	} {
		t.Run(test.name, func(t *testing.T) {
			hops, refused := view.NextHops(BGPDecision{Nodes: test.nodes}, test.addr, test.self, test.perRack)
			if fmt.Sprint(hops) != test.hops || fmt.Sprint(refused) != test.refused {
				t.Errorf("%v and %v, want %s and %s", hops, refused, test.hops, test.refused)
			}
		})
	}
}

// BenchmarkBGP is the decision for one address in a cluster of 100 nodes.
func BenchmarkBGP(b *testing.B) {
	s := newBGPState()
	s.view = View{Nodes: map[string]Node{}}
	for i := range 100 {
		name := fmt.Sprintf("worker-%d", i)
		s.view.Nodes[name] = Node{}
		s.view.Members = append(s.view.Members, member(name))
	}
	for name, tenant := range map[string]Tenant{"Cluster": cluster("web", 1, "worker-7"), "Local": local("web", 1, "worker-7", "worker-8")} {
		b.Run(name, func(b *testing.B) {
			s.address.Tenants = []Tenant{tenant}
			b.ReportAllocs()
			for b.Loop() {
				if d := s.view.BGP(s.address, "worker-7"); !d.Announce {
					b.Fatal("worker-7 does not announce")
				}
			}
		})
	}
}
