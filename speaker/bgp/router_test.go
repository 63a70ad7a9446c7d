package bgp

import (
	"errors"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fairway-lb/fairway/api/v1alpha2"
)

// The node of the tests, with an address of each family.
func node1() Node {
	return Node{Name: "node1", Addr4: netip.MustParseAddr("192.168.0.2"), Addr6: netip.MustParseAddr("2001:db8::2")}
}

func conf(spec v1alpha2.BgpConfSpec) *v1alpha2.BgpConf {
	return &v1alpha2.BgpConf{ObjectMeta: metav1.ObjectMeta{Name: "default"}, Spec: spec}
}

// wantFinding fails unless the finding has the reason, and its message each of
// the texts.
func wantFinding(t *testing.T, got Finding, ok bool, reason Reason, texts ...string) {
	t.Helper()
	if got.OK != ok || got.Reason != reason {
		t.Errorf("got %v %s (%s), want %v %s", got.OK, got.Reason, got.Message, ok, reason)
	}
	for _, text := range texts {
		if !strings.Contains(got.Message, text) {
			t.Errorf("message %q does not say %q", got.Message, text)
		}
	}
}

func TestRouter(t *testing.T) {
	type spec = v1alpha2.BgpConfSpec
	router := func(change func(*Router)) *Router {
		r := &Router{AS: 50000, ID: netip.MustParseAddr("192.168.0.2"), ListenPort: 179}
		change(r)
		return r
	}
	same := func(*Router) {}
	with := func(change func(*v1alpha2.BgpConf)) *v1alpha2.BgpConf {
		c := conf(spec{AS: 50000})
		change(c)
		return c
	}
	v6only := Node{Name: "node6", Addr6: netip.MustParseAddr("2001:db8::6")}
	racked := node1()
	racked.Labels = map[string]string{v1alpha2.LabelRack: "leaf1"}
	for _, test := range []struct {
		name   string
		conf   *v1alpha2.BgpConf
		node   Node
		want   *Router
		reason Reason
		says   []string
	}{
		{"none", nil, node1(), nil, ReasonBgpConfMissing, []string{"BgpConf default", "create it"}},
		{"another name", with(func(c *v1alpha2.BgpConf) { c.Name = "other" }), node1(), nil, ReasonBgpConfMissing, nil},
		{"being deleted", with(func(c *v1alpha2.BgpConf) { c.DeletionTimestamp = &metav1.Time{} }), node1(), nil, ReasonBgpConfMissing, nil},
		{"the CNI's", with(func(c *v1alpha2.BgpConf) { c.Labels = map[string]string{v1alpha2.LabelCNI: "calico"} }), node1(), nil, ReasonAnnouncedByCNI, []string{v1alpha2.LabelCNI}},
		{"no AS", conf(spec{}), node1(), nil, ReasonASMissing, []string{"spec.as"}},
		{"the least", conf(spec{AS: 50000}), node1(), router(same), ReasonReady, nil},
		{"the walkthrough", conf(spec{AS: 50000, ListenPort: 17900, RouterID: "192.168.0.9"}), node1(), router(func(r *Router) {
			r.ListenPort, r.ID = 17900, netip.MustParseAddr("192.168.0.9")
		}), ReasonReady, nil},
		{"4-byte AS", conf(spec{AS: 4200000000, UseMultiplePaths: true}), node1(), router(func(r *Router) {
			r.AS, r.UseMultiplePaths = 4200000000, true
		}), ReasonReady, nil},

		{"bad router ID", conf(spec{AS: 50000, RouterID: "2001:db8::1"}), node1(), router(same), ReasonRouterIDInvalid, []string{"spec.routerId", "192.168.0.2 is used"}},
		{"router ID 0", conf(spec{AS: 50000, RouterID: "0.0.0.0"}), node1(), router(same), ReasonRouterIDInvalid, nil},
		{"IPv6 only", conf(spec{AS: 50000}), v6only, router(func(r *Router) { r.ID = derivedID("node6") }), ReasonSettingsWithoutEffect, []string{"Node node6 has no IPv4 InternalIP", "hash of its name"}},
		{"IPv6 only with router ID", conf(spec{AS: 50000, RouterID: "192.168.0.2"}), v6only, router(same), ReasonReady, nil},
		{"no address", conf(spec{AS: 50000}), Node{Name: "bare"}, nil, ReasonNodeAddressMissing, []string{"Node bare", "InternalIP"}},
		{"no address with router ID", conf(spec{AS: 50000, RouterID: "192.168.0.2"}), Node{Name: "bare"}, router(same), ReasonReady, nil},

		{"in its rack", conf(spec{AS: 50000, RouterID: "192.168.0.9", AsPerRack: map[string]v1alpha2.Uint32{"leaf1": 50001}}), racked, router(func(r *Router) { r.AS = 50001 }), ReasonReady, nil},
		{"rack without AS", conf(spec{AS: 50000, RouterID: "192.168.0.9", AsPerRack: map[string]v1alpha2.Uint32{"leaf2": 50002}}), racked, router(same), ReasonReady, nil},
		{"AS by rack only", conf(spec{AsPerRack: map[string]v1alpha2.Uint32{"leaf1": 50001}}), racked, router(func(r *Router) { r.AS = 50001 }), ReasonReady, nil},
		{"AS by rack only, no rack", conf(spec{AsPerRack: map[string]v1alpha2.Uint32{"leaf1": 50001}}), node1(), nil, ReasonASMissing, nil},
		{"rack without asPerRack", conf(spec{AS: 50000, RouterID: "192.168.0.9"}), racked, router(func(r *Router) { r.ID = netip.MustParseAddr("192.168.0.9") }), ReasonReady, nil},

		{"no listener", conf(spec{AS: 50000, ListenPort: -1}), node1(), router(func(r *Router) { r.ListenPort = -1 }), ReasonReady, nil},
		{"no port", conf(spec{AS: 50000, ListenPort: 70000}), node1(), router(func(r *Router) { r.ListenPort = -1 }), ReasonListenInvalid, []string{"spec.listenPort 70000", "none are accepted"}},
		{"addresses", conf(spec{AS: 50000, ListenAddresses: []string{"192.168.0.2", "::ffff:10.0.0.1", "192.168.0.2"}}), node1(), router(func(r *Router) {
			r.ListenAddresses = []netip.Addr{netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("192.168.0.2")}
		}), ReasonReady, nil},
		{"one bad address", conf(spec{AS: 50000, ListenAddresses: []string{"192.168.0.2", "eth0"}}), node1(), router(func(r *Router) {
			r.ListenAddresses = []netip.Addr{netip.MustParseAddr("192.168.0.2")}
		}), ReasonListenInvalid, []string{`spec.listenAddresses: "eth0"`}},
		{"bad addresses only", conf(spec{AS: 50000, ListenAddresses: []string{"192.168.0.0/24"}}), node1(), router(func(r *Router) { r.ListenPort = -1 }), ReasonListenInvalid, nil},
		{"families", conf(spec{AS: 50000, Families: []v1alpha2.Uint32{131073, 65537, 65537, 65538}}), node1(), router(func(r *Router) { r.Families = []uint32{65537, 131073} }), ReasonSettingsWithoutEffect, []string{"65538 is not served"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			config, findings := Configure(Input{Node: test.node, Conf: test.conf})
			if !reflect.DeepEqual(config.Router, test.want) {
				t.Errorf("got %+v, want %+v", config.Router, test.want)
			}
			ok := slices.Contains([]Reason{ReasonReady, ReasonSettingsWithoutEffect}, test.reason)
			wantFinding(t, findings.Router, ok, test.reason, test.says...)
		})
	}
}

// A router ID must not be one that other routers refuse, and nodes need
// different ones.
func TestDerivedID(t *testing.T) {
	seen := make(map[netip.Addr]string)
	for i := range 1000 {
		name := "node" + string(rune('a'+i%26)) + strings.Repeat("x", i/26)
		id := derivedID(name)
		if first := id.As4()[0]; first == 0 || first > 127 {
			t.Fatalf("%s: %s", name, id)
		}
		if id != derivedID(name) {
			t.Fatalf("%s: not the same twice", name)
		}
		if other, ok := seen[id]; ok {
			t.Fatalf("%s and %s both have %s", name, other, id)
		}
		seen[id] = name
	}
}

func TestRouterWithoutPeers(t *testing.T) {
	peer := &v1alpha2.BgpPeer{ObjectMeta: metav1.ObjectMeta{Name: "p"}, Spec: v1alpha2.BgpPeerSpec{Conf: &v1alpha2.PeerConf{NeighborAddress: "192.168.0.5"}}}
	config, findings := Configure(Input{Node: node1(), Peers: []*v1alpha2.BgpPeer{peer}})
	if len(config.Peers) > 0 {
		t.Errorf("sessions without a router: %v", config.Peers)
	}
	wantFinding(t, findings.Peers["p"], false, ReasonRouterMissing, "BgpPeer p", "BgpConf default")
}

// A rack label that changes moves the node to another AS.
func TestRackChanges(t *testing.T) {
	in := Input{Node: node1(), Conf: conf(v1alpha2.BgpConfSpec{AS: 50000, AsPerRack: map[string]v1alpha2.Uint32{"leaf1": 50001, "leaf2": 50002}})}
	in.Peers = []*v1alpha2.BgpPeer{{
		ObjectMeta: metav1.ObjectMeta{Name: "leaf1"},
		Spec: v1alpha2.BgpPeerSpec{
			Conf:         &v1alpha2.PeerConf{NeighborAddress: "192.168.0.5"},
			NodeSelector: &metav1.LabelSelector{MatchLabels: map[string]string{v1alpha2.LabelRack: "leaf1"}},
		},
	}}
	for _, step := range []struct {
		rack  string
		as    uint32
		peers int
	}{{"", 50000, 0}, {"leaf1", 50001, 1}, {"leaf2", 50002, 0}, {"leaf3", 50000, 0}, {"leaf1", 50001, 1}} {
		in.Node.Labels = map[string]string{v1alpha2.LabelRack: step.rack}
		config, findings := Configure(in)
		if config.Router.AS != step.as || len(config.Peers) != step.peers || len(findings.Peers) != step.peers {
			t.Errorf("rack %q: got AS %d and %d sessions, want %d and %d", step.rack, config.Router.AS, len(config.Peers), step.as, step.peers)
		}
		in.Previous = &config
	}
}

// A policy that breaks leaves the last good one in force, and one that was
// never good leaves none.
func TestPolicyBreaksAndHeals(t *testing.T) {
	const good = "[global.apply-policy.config]\ndefault-export-policy = \"reject-route\"\n"
	in := Input{Node: node1(), Conf: conf(v1alpha2.BgpConfSpec{AS: 50000, Policy: "bgp-policy"})}
	for _, step := range []struct {
		name, text string
		err        error
		rejects    bool // what the policy in force does
		reason     Reason
		says       string
	}{
		{"missing", "", errors.New("not found"), false, ReasonPolicyInvalid, "ConfigMap bgp-policy: not found; no policy is in force"},
		{"broken", "[", nil, false, ReasonPolicyInvalid, "key gobgp.conf: line 1"},
		{"good", good, nil, true, ReasonReady, ""},
		{"broken again", "[", nil, true, ReasonPolicyInvalid, "the last good policy stays in force"},
		{"still broken", "[[", nil, true, ReasonPolicyInvalid, ""},
		{"missing again", "", errors.New("not found"), true, ReasonPolicyInvalid, "not found; the last good policy stays in force"},
		{"healed", good, nil, true, ReasonReady, ""},
		{"another", "", nil, false, ReasonReady, ""},
	} {
		in.PolicyText = func(name string) (string, error) { return step.text, step.err }
		config, findings := Configure(in)
		if got := config.Policy.Export().Reject; got != step.rejects {
			t.Errorf("%s: the policy in force rejects: got %v, want %v", step.name, got, step.rejects)
		}
		if config.Router == nil {
			t.Errorf("%s: a policy took the router away", step.name)
		}
		wantFinding(t, findings.Router, step.reason == ReasonReady, step.reason, step.says)
		in.Previous = &config
	}
	in.Conf.Spec.Policy = ""
	if config, _ := Configure(in); config.Policy != nil {
		t.Error("a policy that is not asked for any more stays")
	}
}
