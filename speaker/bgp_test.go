package speaker

import (
	"context"
	"errors"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fairway-lb/fairway/api/v1alpha2"
	"github.com/fairway-lb/fairway/speaker/bgp"
	"github.com/fairway-lb/fairway/speaker/plan"
)

// router keeps what it is told, as bgp.Server does.
type router struct {
	routes    map[netip.Prefix]*plan.Route
	config    bgp.Config
	findings  bgp.Findings
	failure   error    // of Configure
	refusal   error    // of Announce
	steps     []string // in order: what was announced before the sessions were made
	converged int
}

func (r *router) Announce(changes map[netip.Prefix]*plan.Route) error {
	if r.refusal != nil {
		return r.refusal
	}
	for prefix, route := range changes {
		if route == nil {
			delete(r.routes, prefix)
		} else {
			r.routes[prefix] = route
		}
	}
	r.steps = append(r.steps, "announce")
	return nil
}

func (r *router) Configure(_ context.Context, config bgp.Config) error {
	r.config = config
	r.steps = append(r.steps, "configure")
	return r.failure
}

// newBGPBench is a node with a router, one neighbor and a pool for BGP.
func newBGPBench(t testing.TB) *bench {
	b := newBench(t)
	b.objects.nodes["n1"].Status.Addresses = []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: "192.168.93.11"}}
	b.objects.conf = &v1alpha2.BgpConf{ObjectMeta: metav1.ObjectMeta{Name: "default"}, Spec: v1alpha2.BgpConfSpec{AS: 50000}}
	b.objects.peers = []v1alpha2.BgpPeer{{
		ObjectMeta: metav1.ObjectMeta{Name: "tor", Labels: map[string]string{"rack": "a"}},
		Spec:       v1alpha2.BgpPeerSpec{Conf: &v1alpha2.PeerConf{PeerAS: 50001, NeighborAddress: "192.168.93.1"}},
	}}
	b.bgpEip("bgp-pool", "172.22.0.0/24", nil)
	return b
}

// bgpEip makes or changes an Eip that names no protocol.
func (b *bench) bgpEip(name, address string, how *v1alpha2.BgpAdvertisement) {
	generation := int64(1)
	if old := b.objects.eips[name]; old != nil {
		generation = old.Generation + 1
	}
	b.objects.eips[name] = &v1alpha2.Eip{
		ObjectMeta: metav1.ObjectMeta{Name: name, Generation: generation},
		Spec:       v1alpha2.EipSpec{Address: address, BGP: how},
	}
	b.reconcile(request{kind: everything})
}

// announces fails the test unless these prefixes and no others are announced.
func (b *bench) announces(step string, prefixes ...string) {
	b.t.Helper()
	var got []string
	for prefix := range b.router.routes {
		got = append(got, prefix.String())
	}
	slices.Sort(got)
	if !slices.Equal(got, prefixes) {
		b.t.Errorf("%s: announces %v, want %v", step, got, prefixes)
	}
}

// What a node announces by BGP while the cluster around it changes.
func TestBGPRoutes(t *testing.T) {
	b := newBGPBench(t)
	web := request{service: b.add("web", "172.22.0.1")}
	b.reconcile(web)
	b.announces("a Service", "172.22.0.1/32")
	b.wanted("layer 2 has nothing to do with it")
	if b.router.converged != 0 {
		t.Error("a convergence time of a request that did not arrive")
	}
	b.speaker.arrivals.note(web)
	b.objects.idle["web"] = true
	b.reconcile(web)
	b.announces("no endpoint is left")
	if b.router.converged != 1 {
		t.Error("no convergence time")
	}
	delete(b.objects.idle, "web")
	b.reconcile(web)
	b.announces("there is one again", "172.22.0.1/32")

	steps := len(b.router.steps)
	b.reconcile(web)
	if len(b.router.steps) > steps {
		t.Errorf("%v although nothing changed", b.router.steps[steps:])
	}

	notReady := []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionUnknown}}
	b.objects.nodes["n1"].Status.Conditions = notReady
	b.reconcile(request{kind: everything})
	b.announces("the Node is not ready")
	notReady[0].Status = corev1.ConditionTrue
	b.reconcile(request{kind: everything})
	b.announces("it is", "172.22.0.1/32")

	b.objects.eips["bgp-pool"].Spec.Protocol = v1alpha2.ProtocolLayer2
	b.objects.eips["bgp-pool"].Spec.Interface = "eth33"
	b.objects.eips["bgp-pool"].Spec.AllowOffSubnet = true
	b.objects.eips["bgp-pool"].Generation++
	b.reconcile(request{kind: everything})
	b.settle()
	b.announces("the Eip is for layer 2 now")
	b.wanted("which claims it", "172.22.0.1", "eth33")
	b.bgpEip("bgp-pool", "172.22.0.0/24", nil)
	b.announces("and back", "172.22.0.1/32")
	b.wanted("no claim is left")

	b.objects.services[web.service].Spec.Type = corev1.ServiceTypeClusterIP
	b.reconcile(web)
	b.announces("of another type")
}

// A process that begins announces first and then makes the sessions: a
// neighbor that kept the routes of the one before it must not see them go.
func TestRoutesComeBeforeSessions(t *testing.T) {
	b := newBench(t)
	fresh := New(b.speaker.Config)
	fresh.chooseLink = onLAN
	b.objects.conf = &v1alpha2.BgpConf{ObjectMeta: metav1.ObjectMeta{Name: "default"}, Spec: v1alpha2.BgpConfSpec{AS: 50000, RouterID: "10.0.0.1"}}
	b.objects.eips["bgp-pool"] = &v1alpha2.Eip{ObjectMeta: metav1.ObjectMeta{Name: "bgp-pool"}, Spec: v1alpha2.EipSpec{Address: "172.22.0.0/24"}}
	web := request{service: b.add("web", "172.22.0.1")}
	b.router.steps = nil
	if _, err := fresh.Reconcile(t.Context(), web); err != nil {
		t.Fatal(err)
	}
	if want := []string{"announce", "configure"}; !slices.Equal(b.router.steps, want) {
		t.Errorf("the router was asked to %v, want %v", b.router.steps, want)
	}
}

// What the router did not take is given to it again.
func TestAnnouncementIsRetried(t *testing.T) {
	b := newBGPBench(t)
	web := request{service: b.add("web", "172.22.0.1")}
	b.router.refusal = errors.New("away")
	if _, err := b.speaker.Reconcile(t.Context(), web); err == nil {
		t.Error("no reason to try again")
	}
	b.router.refusal = nil
	b.reconcile(web)
	b.announces("the second time", "172.22.0.1/32")
}

// unreadable fails to list EndpointSlices of a Service, or all Services.
type unreadable struct {
	*objects
	service string
}

func (o unreadable) List(ctx context.Context, list client.ObjectList, options ...client.ListOption) error {
	var query client.ListOptions
	query.ApplyOptions(options)
	switch list.(type) {
	case *discoveryv1.EndpointSliceList:
		if name, _ := query.FieldSelector.RequiresExactMatch(sliceIndex); name == o.service {
			return errors.New("the cache is away")
		}
	case *corev1.ServiceList:
		if o.service == "" {
			return errors.New("the cache is away")
		}
	}
	return o.objects.List(ctx, list, options...)
}

// No session is made while only some of the routes are known: a neighbor that
// kept the others would lose them.
func TestNoSessionBeforeAllRoutes(t *testing.T) {
	for _, service := range []string{"web", ""} {
		b := newBGPBench(t)
		b.add("web", "172.22.0.1")
		b.add("dns", "172.22.0.2")
		config := b.speaker.Config
		config.Reader = unreadable{b.objects, service}
		fresh := New(config)
		fresh.chooseLink = onLAN
		b.router.steps = nil
		for _, r := range []request{{kind: everything}, {kind: routerConfig}} {
			if _, err := fresh.Reconcile(t.Context(), r); err == nil && r.kind == everything {
				t.Error("no reason to try again")
			}
		}
		if len(b.router.steps) > 0 {
			t.Errorf("the router was asked to %v", b.router.steps)
		}
		fresh.Reader = b.objects
		if _, err := fresh.Reconcile(t.Context(), request{kind: everything}); err != nil {
			t.Error(err)
		}
		b.announces("all can be read", "172.22.0.1/32", "172.22.0.2/32")
	}
}

// A next hop that cannot be and peers that are not there are said.
func TestAnnouncedToNobody(t *testing.T) {
	b := newBGPBench(t)
	b.objects.conf.Spec.NextHops = v1alpha2.NextHopNodes
	b.bgpEip("bgp6", "fd22::/64", nil)
	web := b.add("web", "fd22::1")
	b.objects.services[web].Labels[v1alpha2.LabelPool] = "bgp6"
	b.reconcile(request{service: web})
	b.announces("a next hop of the other family")
	b.speaker.reports.write(b.speaker.view, time.Now().Add(time.Hour))
	expectEvent(t, b.recorder, "node n1 has no InternalIP of its family to be a next hop")

	b.bgpEip("bgp-pool", "172.22.0.0/24", &v1alpha2.BgpAdvertisement{Peers: []string{"tro"}})
	expectEvent(t, b.recorder, "BgpPeer tro of spec.bgp.peers, which does not exist")
}

// How an Eip's addresses are announced follows the Eip and the labels of the
// BgpPeers.
func TestAdvertisementFollows(t *testing.T) {
	b := newBGPBench(t)
	b.reconcile(request{service: b.add("web", "172.22.0.1")})
	route := func() *plan.Route { return b.router.routes[netip.MustParsePrefix("172.22.0.1/32")] }
	if !route().AllPeers {
		t.Errorf("announced to %v, want all", route().Peers)
	}
	b.bgpEip("bgp-pool", "172.22.0.0/24", &v1alpha2.BgpAdvertisement{
		Communities:  []string{"65000:100"},
		PeerSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"rack": "a"}},
	})
	if r := route(); r.AllPeers || !slices.Equal(r.Peers, []string{"tor"}) || !slices.Equal(r.Communities, []uint32{65000<<16 | 100}) {
		t.Errorf("announced as %+v", r)
	}
	b.objects.peers[0].Labels = map[string]string{"rack": "b"}
	b.reconcile(request{kind: everything})
	if r := route(); r.AllPeers || len(r.Peers) > 0 {
		t.Errorf("announced to %v, want nobody: no BgpPeer has the label", r.Peers)
	}
	b.bgpEip("bgp-pool", "172.22.0.0/24", &v1alpha2.BgpAdvertisement{AggregationLength: new(int32(24))})
	b.announces("in an aggregate", "172.22.0.0/24")
}

// With nextHops: nodes a node announces all that can serve, itself or not.
func TestThirdPartyNextHops(t *testing.T) {
	b := newBGPBench(t)
	b.objects.conf.Spec.NextHops = v1alpha2.NextHopNodes
	b.reconcile(request{service: b.add("web", "172.22.0.1")})
	b.reconcile(request{kind: everything})
	route := b.router.routes[netip.MustParsePrefix("172.22.0.1/32")]
	if route == nil || !slices.Equal(route.NextHops, []netip.Addr{netip.MustParseAddr("192.168.93.11")}) {
		t.Errorf("announced as %+v", route)
	}
}

// A node that is to announce nothing any more asks the neighbors to prefer
// others, and withdraws a moment later; one that is to again does so at once.
func TestDrain(t *testing.T) {
	b := newBGPBench(t)
	b.reconcile(request{service: b.add("web", "172.22.0.1")})
	const gracefulShutdown = 65535 << 16
	prefix := netip.MustParsePrefix("172.22.0.1/32")
	marked := func() bool {
		route := b.router.routes[prefix]
		return route != nil && slices.Contains(route.Communities, gracefulShutdown)
	}
	elapse := func() { b.speaker.announcer.drain.end = time.Now().Add(-time.Second) }
	node := b.objects.nodes["n1"]
	for _, step := range []struct {
		name       string
		away, back func()
	}{
		{"excluded", func() { node.Labels = map[string]string{corev1.LabelNodeExcludeBalancers: ""} }, func() { node.Labels = nil }},
		{"being deleted", func() { node.DeletionTimestamp = new(metav1.Now()) }, func() { node.DeletionTimestamp = nil }},
		{"gone", func() { delete(b.objects.nodes, "n1") }, func() { b.objects.nodes["n1"] = node }},
	} {
		step.away()
		b.reconcile(request{kind: everything})
		if !marked() {
			t.Errorf("%s: announces %+v, want it marked", step.name, b.router.routes[prefix])
		}
		b.reconcile(request{service: b.add("during", "172.22.0.9")})
		elapse()
		b.reconcile(request{kind: everything})
		b.announces(step.name + ", a moment later")
		b.reconcile(request{kind: everything})
		b.announces(step.name + ", and then")
		step.back()
		b.reconcile(request{kind: everything})
		b.announces(step.name+": no more", "172.22.0.1/32", "172.22.0.9/32")
		if marked() {
			t.Errorf("%s: still marked when the node is back", step.name)
		}
	}

	b.reconcile(request{kind: shutdown})
	if !marked() {
		t.Error("the process is to end: not marked")
	}
	select {
	case <-b.speaker.drained:
		t.Error("drained before the moment was over")
	default:
	}
	elapse()
	b.reconcile(request{kind: everything})
	b.announces("the process is to end")
	select {
	case <-b.speaker.drained:
	default:
		t.Error("not drained when all is withdrawn")
	}
	b.reconcile(request{kind: everything})
}

// A node that is not ready has nothing to drain when it is excluded, and does
// not announce for a moment what it did not.
func TestDrainOfANodeThatIsNotReady(t *testing.T) {
	b := newBGPBench(t)
	b.objects.nodes["n1"].Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionFalse}}
	b.reconcile(request{service: b.add("web", "172.22.0.1")})
	b.reconcile(request{kind: everything})
	b.objects.nodes["n1"].Labels = map[string]string{corev1.LabelNodeExcludeBalancers: ""}
	b.reconcile(request{kind: everything})
	b.announces("not ready and excluded")
}

// Passwords and the policy are read from Fairway's own namespace, and what is
// missing is said.
func TestSecretsAndPolicy(t *testing.T) {
	b := newBGPBench(t)
	b.objects.peers[0].Spec.Conf.PasswordSecretRef = &v1alpha2.SecretKeyRef{Name: "tor"}
	b.objects.conf.Spec.Policy = "bgp-policy"
	b.reconcile(request{kind: everything})
	if f := b.router.findings.Peers["tor"]; f.OK || !strings.Contains(f.Message, "Secret fairway-system/tor does not exist") {
		t.Errorf("finding %+v", f)
	}
	if f := b.router.findings.Router; f.OK || !strings.Contains(f.Message, "ConfigMap fairway-system/bgp-policy does not exist") {
		t.Errorf("finding %+v", f)
	}
	b.objects.secrets = map[string]*corev1.Secret{"tor": {Data: map[string][]byte{"password": []byte("s3cret")}}}
	b.objects.configs = map[string]*corev1.ConfigMap{"bgp-policy": {Data: map[string]string{"gobgp.conf": "[global]\n"}}}
	b.reconcile(request{kind: everything})
	if !b.router.findings.Peers["tor"].OK || !b.router.findings.Router.OK || b.router.config.Peers[0].Password != "s3cret" {
		t.Errorf("findings %+v, config %+v", b.router.findings, b.router.config)
	}
}

// What the router cannot do yet does not keep the worker from its work.
func TestRouterFails(t *testing.T) {
	b := newBGPBench(t)
	b.router.failure = errors.New("port 179 is taken")
	b.reconcile(request{service: b.add("web", "172.22.0.1")})
	b.reconcile(request{kind: everything})
	b.reconcile(request{kind: routerConfig})
	b.announces("all the same", "172.22.0.1/32")
}

// Eips that overlap and are not announced alike: the stricter wins, and both
// say so, once.
func TestReportsDisagreement(t *testing.T) {
	b := newBGPBench(t)
	b.bgpEip("other", "172.22.0.0/24", &v1alpha2.BgpAdvertisement{MED: new(v1alpha2.Uint32(50)), AggregationLength: new(int32(24))})
	b.bgpEip("bgp-pool", "172.22.0.0/24", &v1alpha2.BgpAdvertisement{AggregationLength: new(int32(24))})
	b.reconcile(request{service: b.add("web", "172.22.0.1")})
	other := b.add("dns", "172.22.0.2")
	b.objects.services[other].Labels[v1alpha2.LabelPool] = "other"
	web := b.objects.services[types.NamespacedName{Namespace: "dev", Name: "web"}]
	web.Labels[v1alpha2.LabelPool] = "bgp-pool"
	b.reconcile(request{service: types.NamespacedName{Namespace: "dev", Name: "web"}})
	b.recorder.events = nil
	b.reconcile(request{service: other})
	if r := b.router.routes[netip.MustParsePrefix("172.22.0.0/24")]; r == nil || r.MED == nil || *r.MED != 50 {
		t.Errorf("announced as %+v", r)
	}
	var told int
	for _, event := range b.recorder.events {
		if strings.Contains(event, "Eips bgp-pool, other announce 172.22.0.0/24 together and disagree in spec.bgp.med") {
			told++
		}
	}
	b.recorder.events = nil
	b.reconcile(request{kind: everything})
	if told != 2 || len(b.recorder.events) > 0 {
		t.Errorf("%d events, want one for each Eip; and again %q", told, b.recorder.events)
	}
}

// One Service says from where it is announced, in one event of one node.
func TestReportsRoutes(t *testing.T) {
	b := newBGPBench(t)
	web := request{service: b.add("web", "172.22.0.1")}
	b.reconcile(web)
	expectEvent(t, b.recorder, "172.22.0.1 is announced by BGP from every node that can serve it")
	b.reconcile(web)
	expectEvent(t, b.recorder, "")
	b.objects.services[web.service].Spec.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyLocal
	b.reconcile(web)
	expectEvent(t, b.recorder, "172.22.0.1 is announced by BGP from node n1")
	conf := b.objects.conf
	b.objects.conf = nil
	b.reconcile(request{kind: everything})
	later := time.Now().Add(time.Hour)
	b.speaker.reports.write(b.speaker.view, later)
	expectEvent(t, b.recorder, `172.22.0.1 is not announced: there is no BgpConf "default"`)
	b.objects.conf = conf
	peers := b.objects.peers
	b.objects.peers = nil
	b.reconcile(request{kind: everything})
	b.speaker.reports.write(b.speaker.view, later.Add(time.Hour))
	expectEvent(t, b.recorder, "172.22.0.1 is not announced: there is no BgpPeer")
	b.objects.peers = peers
	b.reconcile(request{kind: everything})
	expectEvent(t, b.recorder, "172.22.0.1 is announced by BGP from node n1")

	if got := maps.Clone(b.router.routes); len(got) != 1 {
		t.Errorf("announces %v", got)
	}
}
