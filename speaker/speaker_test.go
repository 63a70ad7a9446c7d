package speaker

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-logr/logr/testr"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fairway-lb/fairway/api/v1alpha2"
	"github.com/fairway-lb/fairway/speaker/bgp"
	"github.com/fairway-lb/fairway/speaker/layer2"
	"github.com/fairway-lb/fairway/speaker/membership"
	"github.com/fairway-lb/fairway/speaker/plan"
)

// objects are what a cache holds, with one endpoint of each family on n1 for
// every Service that is not idle.
type objects struct {
	nodes    map[string]*corev1.Node
	eips     map[string]*v1alpha2.Eip
	services map[types.NamespacedName]*corev1.Service
	idle     map[string]bool // by name
	broken   map[types.NamespacedName]error
	reads    int // of Services

	conf    *v1alpha2.BgpConf
	peers   []v1alpha2.BgpPeer
	secrets map[string]*corev1.Secret
	configs map[string]*corev1.ConfigMap
}

func (o *objects) Get(_ context.Context, key client.ObjectKey, object client.Object, _ ...client.GetOption) error {
	found := false
	switch object := object.(type) {
	case *corev1.Service:
		o.reads++
		if err := o.broken[key]; err != nil {
			return err
		}
		found = copyInto(o.services[key], object)
	case *corev1.Node:
		found = copyInto(o.nodes[key.Name], object)
	case *v1alpha2.BgpConf:
		found = copyInto(o.conf, object)
	case *corev1.Secret:
		found = copyInto(o.secrets[key.Name], object)
	case *corev1.ConfigMap:
		found = copyInto(o.configs[key.Name], object)
	}
	if !found {
		return apierrors.NewNotFound(schema.GroupResource{Resource: fmt.Sprintf("%T", object)}, key.Name)
	}
	return nil
}

// copyInto copies an object that is there.
func copyInto[T any, P interface {
	*T
	DeepCopyInto(P)
}](from, to P) bool {
	if from != nil {
		from.DeepCopyInto(to)
	}
	return from != nil
}

func (o *objects) List(_ context.Context, list client.ObjectList, options ...client.ListOption) error {
	switch list := list.(type) {
	case *corev1.NodeList:
		for _, node := range o.nodes {
			list.Items = append(list.Items, *node)
		}
	case *v1alpha2.EipList:
		for _, eip := range o.eips {
			list.Items = append(list.Items, *eip)
		}
	case *v1alpha2.BgpPeerList:
		list.Items = slices.Clone(o.peers)
	case *corev1.ServiceList:
		o.reads++
		for _, svc := range o.services {
			list.Items = append(list.Items, *svc)
		}
	case *discoveryv1.EndpointSliceList:
		node := "n1"
		var query client.ListOptions
		query.ApplyOptions(options)
		if name, _ := query.FieldSelector.RequiresExactMatch(sliceIndex); o.idle[name] {
			return nil
		}
		for family, addr := range map[discoveryv1.AddressType]string{discoveryv1.AddressTypeIPv4: "10.0.0.1", discoveryv1.AddressTypeIPv6: "fd00::1"} {
			list.Items = append(list.Items, discoveryv1.EndpointSlice{
				AddressType: family,
				Ports:       []discoveryv1.EndpointPort{{Name: new(""), Port: new(int32(8080))}},
				Endpoints:   []discoveryv1.Endpoint{{Addresses: []string{addr}, NodeName: &node}},
			})
		}
	}
	return nil
}

// bench is a Speaker of n1, alone in its cluster, which records its claims.
type bench struct {
	*membership.Cluster
	t        testing.TB
	objects  *objects
	speaker  *Speaker
	recorder *recorder
	refusal  string // of every interface
	wants    []map[netip.Addr]string
	served   []string
	router   *router
}

func (b *bench) Want(want map[netip.Addr]string) { b.wants = append(b.wants, want) }

func (b *bench) SetServed(scopes []string) {
	b.served = scopes
	b.Cluster.SetServed(scopes)
}

func newBench(t testing.TB) *bench {
	t.Helper()
	cluster, err := membership.Start(membership.Config{
		NodeName: "n1",
		BindAddr: netip.MustParseAddr("127.0.0.1"),
		Key:      make([]byte, 32),
		Apply:    func(map[netip.Addr]string) error { return nil },
		Log:      testr.NewWithInterface(t, testr.Options{}),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := cluster.Leave(context.Background()); err != nil {
			t.Error(err)
		}
	})
	b := &bench{
		Cluster: cluster, t: t, recorder: &recorder{},
		objects: &objects{
			nodes:    map[string]*corev1.Node{"n1": {ObjectMeta: metav1.ObjectMeta{Name: "n1"}}},
			eips:     map[string]*v1alpha2.Eip{},
			services: map[types.NamespacedName]*corev1.Service{},
			idle:     map[string]bool{},
			broken:   map[types.NamespacedName]error{},
		},
	}
	b.router = &router{routes: map[netip.Prefix]*plan.Route{}}
	b.speaker = New(Config{NodeName: "n1", Reader: b.objects, Members: b, Held: NewHeld(nil), Events: b.recorder, BGP: BGP{
		Router:    b.router,
		Publish:   func(_ bgp.Config, findings bgp.Findings, _ error) { b.router.findings = findings },
		Namespace: "fairway-system",
		DrainTime: time.Minute,
		Converged: func(time.Duration) { b.router.converged++ },
	}})
	b.speaker.chooseLink = func(spec string) (layer2.Link, error) {
		if b.refusal != "" {
			return layer2.Link{}, errors.New(b.refusal)
		}
		return onLAN(spec)
	}
	b.eip("eip-pool", "192.168.93.0/24")
	return b
}

// onLAN is a link of any name that is up and in the test's subnets.
func onLAN(name string) (layer2.Link, error) {
	return layer2.Link{Name: name, Up: true, HardwareAddr: net.HardwareAddr{2, 0, 0, 0, 0, 1}, Prefixes: []netip.Prefix{
		netip.MustParsePrefix("192.168.93.0/24"), netip.MustParsePrefix("fd93::/64"), netip.MustParsePrefix("fe80::/64"),
	}}, nil
}

// eip makes or changes an Eip on eth33, and waits until the members know what
// this node can serve now.
func (b *bench) eip(name, address string, more ...v1alpha2.PoolAddress) {
	b.t.Helper()
	eip := &v1alpha2.Eip{ObjectMeta: metav1.ObjectMeta{Name: name, Generation: 1}}
	if old := b.objects.eips[name]; old != nil {
		eip.Generation = old.Generation + 1
	}
	eip.Spec = v1alpha2.EipSpec{Address: address, Addresses: more, Protocol: v1alpha2.ProtocolLayer2, Interface: "eth33"}
	b.objects.eips[name] = eip
	b.reconcile(request{kind: everything})
	b.settle()
}

// settle waits until the members have heard what this node serves.
func (b *bench) settle() {
	b.t.Helper()
	deadline := time.After(10 * time.Second)
	for slices.ContainsFunc(b.served, func(scope string) bool { return !b.Members()[0].Serves(scope) }) {
		select {
		case <-b.Changed():
		case <-deadline:
			b.t.Fatalf("the member does not serve %q", b.served)
		}
	}
	b.reconcile(request{kind: everything})
}

func (b *bench) reconcile(r request) {
	b.t.Helper()
	if _, err := b.speaker.Reconcile(b.t.Context(), r); err != nil {
		b.t.Errorf("Reconcile: %v", err)
	}
}

// add makes a Service that holds addresses.
func (b *bench) add(name string, ips ...string) types.NamespacedName {
	key := types.NamespacedName{Namespace: "dev", Name: name}
	b.objects.services[key] = assigned(ips...)
	b.objects.services[key].Namespace, b.objects.services[key].Name = key.Namespace, key.Name
	return key
}

// wanted fails the test unless the last claims are these addresses, each
// followed by its link.
func (b *bench) wanted(step string, pairs ...string) {
	b.t.Helper()
	want := map[netip.Addr]string{}
	for i := 0; i < len(pairs); i += 2 {
		want[netip.MustParseAddr(pairs[i])] = pairs[i+1]
	}
	var got map[netip.Addr]string
	if len(b.wants) > 0 {
		got = b.wants[len(b.wants)-1]
	}
	if !maps.Equal(got, want) {
		b.t.Errorf("%s: claims %v, want %v", step, got, want)
	}
}

// What a Speaker claims while the cluster around it changes.
func TestClaims(t *testing.T) {
	b := newBench(t)
	web := request{service: b.add("web", "192.168.93.1")}
	b.reconcile(web)
	b.wanted("a Service", "192.168.93.1", "eth33")

	n := len(b.wants)
	b.reconcile(web)
	b.reconcile(request{kind: everything})
	if len(b.wants) > n {
		t.Errorf("claims %v although nothing changed", b.wants[n:])
	}

	dns := request{service: b.add("dns", "192.168.93.2", "192.168.93.3")}
	b.reconcile(dns)
	b.wanted("another", "192.168.93.1", "eth33", "192.168.93.2", "eth33", "192.168.93.3", "eth33")

	b.objects.eips["eip-pool"].Spec.Interface = "eth1"
	b.reconcile(request{kind: everything})
	b.wanted("the Eip names another interface", "192.168.93.1", "eth1", "192.168.93.2", "eth1", "192.168.93.3", "eth1")

	b.objects.services[dns.service].Spec.Type = corev1.ServiceTypeClusterIP
	b.reconcile(dns)
	b.wanted("of another type", "192.168.93.1", "eth1")

	proxy := corev1.LoadBalancerIPModeProxy
	b.objects.services[web.service].Status.LoadBalancer.Ingress[0].IPMode = &proxy
	b.reconcile(web)
	b.wanted("a proxy answers")
	b.objects.services[web.service].Status.LoadBalancer.Ingress[0].IPMode = nil
	b.reconcile(web)
	b.wanted("it does not", "192.168.93.1", "eth1")

	b.objects.services[web.service].UID = "another"
	b.reconcile(web)
	b.wanted("deleted and made again, seen as one change", "192.168.93.1", "eth1")

	shared := request{service: b.add("shared", "192.168.93.1")}
	b.reconcile(shared)
	delete(b.objects.services, web.service)
	b.reconcile(web)
	b.wanted("one of two Services with an address went", "192.168.93.1", "eth1")
	b.reconcile(request{kind: everything})
	b.wanted("and stays away", "192.168.93.1", "eth1")

	node := b.objects.nodes["n1"]
	delete(b.objects.nodes, "n1")
	b.reconcile(request{kind: everything})
	b.wanted("the Node is gone")
	b.objects.nodes["n1"] = node
	b.reconcile(request{kind: everything})
	b.wanted("it is back", "192.168.93.1", "eth1")

	delete(b.objects.services, shared.service)
	b.reconcile(shared)
	b.wanted("the last Service went")
	if len(b.speaker.book.addresses)+len(b.speaker.book.tenants)+len(b.speaker.owned) > 0 {
		t.Errorf("remembers %v, %v", b.speaker.book, b.speaker.owned)
	}
}

// What one Service needs is claimed although another cannot be read, and what
// is known of that one stays.
func TestUnreadableService(t *testing.T) {
	b := newBench(t)
	bad, good := request{service: b.add("bad", "192.168.93.1")}, request{service: b.add("good", "192.168.93.2")}
	b.reconcile(bad)
	b.objects.broken[bad.service] = errors.New("cache is away")
	if _, err := b.speaker.Reconcile(t.Context(), bad); !errors.Is(err, b.objects.broken[bad.service]) {
		t.Errorf("Reconcile: %v, want the reason to try again", err)
	}
	b.reconcile(good)
	b.wanted("one cannot be read", "192.168.93.1", "eth33", "192.168.93.2", "eth33")
	b.objects.eips["eip-pool"].Spec.Interface = "eth1"
	b.reconcile(request{kind: nodeLinks})
	b.wanted("the link is another", "192.168.93.1", "eth1", "192.168.93.2", "eth1")
	delete(b.objects.broken, bad.service)
	delete(b.objects.services, bad.service)
	b.reconcile(bad)
	b.wanted("it can be read", "192.168.93.2", "eth1")
}

// Most changes of links mean nothing to the pools and are to cost nothing.
func TestNodeLinks(t *testing.T) {
	b := newBench(t)
	b.reconcile(request{service: b.add("web", "192.168.93.1")})
	reads := b.objects.reads
	b.reconcile(request{kind: nodeLinks})
	if b.objects.reads > reads {
		t.Error("looked at Services although this node's links serve the same pools")
	}
	// The members hear later that this node does not serve the pool.
	b.refusal = "eth33 is down"
	b.reconcile(request{kind: nodeLinks})
	b.wanted("the link is down")
	expectEvent(t, b.recorder, "eth33 is down")
}

// Signals that come all the time cause a request in each pause, and the last
// one is not lost.
func TestSignalsAreThinnedOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		signals := make(chan struct{}, 1)
		requests := 0
		go forward(t.Context(), signals, 100*time.Millisecond, func() { requests++ })
		start := time.Now()
		for ; time.Since(start) < time.Second; <-time.After(time.Millisecond) {
			select {
			case signals <- struct{}{}:
			default:
			}
		}
		<-time.After(time.Second)
		synctest.Wait()
		if requests < 10 || requests > 12 {
			t.Errorf("%d requests from signals for a second, want one in each 100 ms", requests)
		}
		if len(signals) > 0 {
			t.Error("the last signal was lost")
		}
	})
}
