package speaker

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fairway-lb/fairway/api/v1alpha2"
	"github.com/fairway-lb/fairway/speaker/plan"
)

// An address that several Services have is claimed without a pause for as long
// as one of them is there to be reached, whatever happens to the others.
func TestSharedAddressIsNeverLetGo(t *testing.T) {
	const shared = "192.168.93.1"
	b := newBench(t)
	web, dns, old := request{service: b.add("web", shared)}, request{service: b.add("dns", shared)}, request{service: b.add("old", shared)}
	b.objects.services[old.service].CreationTimestamp = metav1.Unix(1, 0)
	for _, r := range []request{web, dns, old} {
		b.reconcile(r)
	}
	b.wanted("three Services", shared, "eth33")
	start := len(b.wants)
	gone := b.objects.services[old.service]
	for _, step := range []struct {
		name    string
		change  func()
		request request
		reached int // Services
	}{
		{"the oldest has no endpoint", func() { b.objects.idle["old"] = true }, old, 2},
		{"it is going", func() { gone.DeletionTimestamp = &metav1.Time{Time: time.Unix(2, 0)} }, old, 2},
		{"it is gone", func() { delete(b.objects.services, old.service) }, old, 2},
		{"it comes again, younger", func() {
			b.objects.idle["old"] = false
			b.objects.services[old.service] = assigned(shared)
			b.objects.services[old.service].Namespace, b.objects.services[old.service].Name = "dev", "old"
			b.objects.services[old.service].UID = "uid-2"
		}, old, 3},
		{"one is of another type", func() { b.objects.services[web.service].Spec.Type = corev1.ServiceTypeClusterIP }, web, 2},
		{"one has another address", func() { b.objects.services[dns.service].Status.LoadBalancer.Ingress[0].IP = "192.168.93.2" }, dns, 1},
		{"everything is looked at", func() {}, request{kind: everything}, 1},
		{"one comes back", func() { b.objects.services[dns.service].Status.LoadBalancer.Ingress[0].IP = shared }, dns, 2},
		{"the last change's policy is Local", func() {
			b.objects.services[dns.service].Spec.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyLocal
		}, dns, 2},
	} {
		step.change()
		b.reconcile(step.request)
		if reached := b.speaker.owned[netip.MustParseAddr(shared)]; len(reached) != step.reached {
			t.Errorf("%s: the address is for %v, want %d Services", step.name, reached, step.reached)
		}
	}
	for _, want := range b.wants[start:] {
		if want[netip.MustParseAddr(shared)] != "eth33" {
			t.Errorf("the address was let go: %v", want)
		}
	}
	for _, r := range []request{dns, old} {
		delete(b.objects.services, r.service)
		b.reconcile(r)
	}
	b.wanted("the last Service went")
}

// The first decision for an address knows all Services that have it.
func TestFirstLookSeesAllServices(t *testing.T) {
	b := newBench(t)
	web := request{service: b.add("web", "192.168.93.1")}
	b.add("dns", "192.168.93.1")
	b.speaker = New(b.speaker.Config)
	b.speaker.chooseLink = onLAN
	b.reconcile(web)
	if n := len(b.speaker.book.tenants[netip.MustParseAddr("192.168.93.1")]); n != 2 {
		t.Errorf("%d Services have the address, want 2", n)
	}
}

// Each address of a Service is claimed by itself, on the link of its own Eip.
func TestDualStack(t *testing.T) {
	b := newBench(t)
	b.eip("six", "fd93::/120")
	b.objects.eips["six"].Spec.Interface = "eth1"
	b.reconcile(request{kind: everything})
	web := request{service: b.add("web", "192.168.93.1", "fd93::1")}
	b.reconcile(web)
	b.wanted("an address of each of two Eips", "192.168.93.1", "eth33", "fd93::1", "eth1")
	web6 := request{service: b.add("web6", "fd93::1")}
	b.objects.services[web6.service].Labels[v1alpha2.LabelPool] = "six"
	b.reconcile(web6)
	b.objects.services[web.service].Status.LoadBalancer.Ingress = b.objects.services[web.service].Status.LoadBalancer.Ingress[:1]
	b.reconcile(web)
	b.wanted("one is given up, the other shared", "192.168.93.1", "eth33", "fd93::1", "eth1")
}

// An Eip of which this node can announce a part is announced in part.
func TestBlocks(t *testing.T) {
	b := newBench(t)
	b.eip("mixed", "192.168.93.128-192.168.93.135", "10.0.0.0/28", "fd93::/120")
	if want := []string{"eip-pool", "mixed 192.168.93.128-192.168.93.135", "mixed fd93::-fd93::ff"}; !slices.Equal(b.served, want) {
		t.Errorf("serves %q, want %q", b.served, want)
	}
	expectEvent(t, b.recorder, "Eip mixed: Warning ConfigSpeakerFailed node n1 cannot announce 10.0.0.0/28: in no subnet of interface eth33, which has 192.168.93.0/24: "+
		"give the interface an address there, or set spec.allowOffSubnet if the network delivers these addresses on that link; it can announce the Eip's other addresses")
	web := request{service: b.add("web", "192.168.93.128", "fd93::1", "10.0.0.1")}
	b.objects.services[web.service].Labels[v1alpha2.LabelPool] = "mixed"
	b.reconcile(web)
	b.wanted("three blocks", "192.168.93.128", "eth33", "fd93::1", "eth33")

	b.eip("mixed", "192.168.93.128-192.168.93.135", "fd93::/120")
	if want := []string{"eip-pool", "mixed"}; !slices.Equal(b.served, want) {
		t.Errorf("serves %q, want the whole pool as one: %q", b.served, want)
	}
	expectEvent(t, b.recorder, "Eip mixed: Normal ConfigSpeaker node n1 can announce the Eip's addresses again")
	b.wanted("without the bad one", "192.168.93.128", "eth33", "fd93::1", "eth33")

	b.objects.eips["mixed"].Spec.AllowOffSubnet = true
	b.reconcile(request{kind: everything})
	b.settle()
	if want := []string{"eip-pool", "mixed", "mixed 0.0.0.0/0"}; !slices.Equal(b.served, want) {
		t.Errorf("serves %q, want %q, one of them for the address that was cut", b.served, want)
	}
	b.wanted("off the subnet, which is allowed", "192.168.93.128", "eth33", "10.0.0.1", "eth33", "fd93::1", "eth33")
}

// An address that was cut from its Eip is judged by itself, and still announced.
func TestAddressesThatWereCut(t *testing.T) {
	b := newBench(t)
	web, other := request{service: b.add("web", "192.168.93.1")}, request{service: b.add("other", "10.0.0.1")}
	b.eip("eip-pool", "192.168.93.0/24", "10.0.0.0/24")
	b.reconcile(web)
	b.reconcile(other)
	b.wanted("one of them out of the subnet", "192.168.93.1", "eth33")

	b.objects.eips["eip-pool"].Spec.Exclude = []v1alpha2.PoolAddress{"192.168.93.0/28"}
	b.objects.eips["eip-pool"].Spec.Addresses = nil
	b.objects.eips["eip-pool"].Generation++
	b.reconcile(request{kind: everything})
	b.settle()
	b.wanted("both are cut", "192.168.93.1", "eth33")
	if want := []string{"eip-pool", "eip-pool 192.168.93.0/24"}; !slices.Equal(b.served, want) {
		t.Errorf("serves %q, want %q", b.served, want)
	}
	b.objects.services[other.service].Status.LoadBalancer.Ingress[0].IP = "192.168.93.2"
	b.reconcile(other)
	b.wanted("another of the same subnet", "192.168.93.1", "eth33", "192.168.93.2", "eth33")

	for _, r := range []request{web, other} {
		delete(b.objects.services, r.service)
		b.reconcile(r)
	}
	if want := []string{"eip-pool"}; !slices.Equal(b.served, want) || len(b.speaker.strays) > 0 {
		t.Errorf("serves %q and remembers %v, want %q", b.served, b.speaker.strays, want)
	}
}

// Each Service of a shared address has the event once, and one that is not
// reached is told so.
func TestEventsOfASharedAddress(t *testing.T) {
	b := newBench(t)
	const shared = "192.168.93.1"
	web, dns := request{service: b.add("web", shared)}, request{service: b.add("dns", shared)}
	b.objects.idle["dns"] = true
	held := map[netip.Addr]string{netip.MustParseAddr(shared): "eth33"}
	b.speaker.Held.addresses.Store(&held)
	b.reconcile(web)
	expectEvent(t, b.recorder, "Service web: Normal SetBalancer node n1 announces 192.168.93.1 on eth33")
	b.reconcile(dns)
	expectEvent(t, b.recorder, "")
	b.speaker.reports.write(b.speaker.view, time.Now().Add(time.Minute))
	expectEvent(t, b.recorder, "Service dns: Warning SetBalancer 192.168.93.1 is announced for Service dev/web, but Service dev/dns is not reached at it: the Service has no ready endpoint")
	b.objects.idle["dns"] = false
	b.reconcile(dns)
	expectEvent(t, b.recorder, "Service dns: Normal SetBalancer node n1 announces")
	b.reconcile(request{kind: everything})
	b.reconcile(web)
	expectEvent(t, b.recorder, "")
}

// BenchmarkEverything looks at 10,000 Services, 5,000 of them with addresses
// of two Eips, among 100 Eips and 50 nodes: what a change of a Node costs.
func BenchmarkEverything(bm *testing.B) {
	b := newBench(bm)
	for i := range 100 {
		eip := &v1alpha2.Eip{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("pool-%02d", i)}}
		eip.Spec = v1alpha2.EipSpec{Address: fmt.Sprintf("10.%d.0.0/16", i), AllowOffSubnet: true, Protocol: v1alpha2.ProtocolLayer2, Interface: "eth33"}
		if i >= 50 {
			eip.Spec.Address = fmt.Sprintf("fd00:%d::/64", i)
		}
		b.objects.eips[eip.Name] = eip
	}
	for i := range 10_000 {
		ips := []string{fmt.Sprintf("10.%d.%d.%d", i%50, i/50/250, i/50%250)}
		if i%2 == 0 {
			ips = append(ips, fmt.Sprintf("fd00:%d::%x", 50+i%50, i))
		}
		name := b.add(fmt.Sprintf("svc-%d", i), ips...)
		b.objects.services[name].Labels[v1alpha2.LabelPool] = fmt.Sprintf("pool-%02d", i%50)
	}
	b.speaker = New(b.speaker.Config)
	b.speaker.chooseLink = onLAN
	b.reconcile(request{kind: everything})
	b.settle()
	self := b.speaker.view.Members[0]
	for i := range 49 {
		name := fmt.Sprintf("n%d", i+2)
		b.speaker.view.Members = append(b.speaker.view.Members, plan.Member{Name: name, Serves: self.Serves})
		b.speaker.view.Nodes[name] = plan.Node{}
	}
	all := slices.Collect(maps.Keys(b.speaker.book.tenants))
	if len(all) != 15_000 || len(b.speaker.strays) > 0 || !strings.HasPrefix(b.served[1], "pool-") {
		bm.Fatalf("%d addresses, %d strays, serves %q", len(all), len(b.speaker.strays), b.served)
	}
	for bm.Loop() {
		b.speaker.decideAll(all, true, false)
	}
}
