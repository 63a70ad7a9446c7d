package dataplanetest

import (
	"fmt"
	"net/netip"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/fairway-lb/fairway/dataplane/service"
)

// manyPorts is more than the ports of all Services that anyone has seen, and
// what a media gateway asks for.
const manyPorts = 1000

// testThousandPorts has a Service with many ports, some of which the slices do
// not have: these are refused, all others answered.
func testThousandPorts(t *testing.T, subject Subject) {
	c := subject.NewScene(t, WithPods, nil, OnPod1)
	name := func(i int) string { return fmt.Sprintf("p%d", i) }
	const first = 1000 // the port of number 0
	c.State.SetService(NewService(c.Frontends, func(spec *corev1.ServiceSpec) {
		spec.Ports, spec.ExternalIPs = nil, nil
		for i := range manyPorts {
			spec.Ports = append(spec.Ports, corev1.ServicePort{Name: name(i), Protocol: corev1.ProtocolTCP, Port: int32(first + i)})
		}
	}))
	set := func(endpoint Endpoint, count int) {
		t.Helper()
		for i, addressType := range []discoveryv1.AddressType{discoveryv1.AddressTypeIPv4, discoveryv1.AddressTypeIPv6} {
			slice := &discoveryv1.EndpointSlice{
				ObjectMeta: metav1.ObjectMeta{
					Namespace: "default", Name: c.Name() + "-" + string(addressType),
					Labels: map[string]string{discoveryv1.LabelServiceName: c.Name()},
				},
				AddressType: addressType,
				Endpoints:   []discoveryv1.Endpoint{{Addresses: []string{endpoint.Host.Addrs[i].String()}, NodeName: new(ThisNode)}},
			}
			for i := range count {
				slice.Ports = append(slice.Ports, discoveryv1.EndpointPort{Name: new(name(i)), Port: new(int32(ServerPort))})
			}
			c.State.SetEndpointSlice(slice)
		}
		Sync(t, c.Backend, c.State)
	}
	ask := func(what string, number int, want string) {
		t.Helper()
		for family := range 2 {
			for _, to := range []netip.Addr{c.VIP()[family], c.ClusterIP()[family]} {
				c.Check([]Cell{{what, c.Client, service.TCP, netip.AddrPortFrom(to, uint16(first+number)), []string{want}, Translated}})
			}
		}
	}
	set(OnPod1(c.Lab), manyPorts)
	for _, number := range []int{0, 1, manyPorts / 2, manyPorts - 1} {
		ask("a thousand ports", number, "pod1")
	}
	set(OnPod2(c.Lab), manyPorts-1)
	ask("another endpoint", manyPorts-2, "pod2")
	ask("a port that the slices do not have", manyPorts-1, Reject)
	fresh := subject.Start(t, WithPods)
	must(t, fresh.Apply(everything(c.State)))
	c.Backend = fresh
	ask("a fresh start", manyPorts-2, "pod2")
	c.State.DeleteService(types.NamespacedName{Namespace: "default", Name: c.Name()})
	Sync(t, c.Backend, c.State)
}

// testShares has chance give every endpoint its part of the connections.
func testShares(t *testing.T, subject Subject) {
	c := subject.NewScene(t, WithPods, nil, OnPod1, OnPod2, OnRemote)
	const draws, endpoints = 600, 3
	// Six standard deviations of a part of 1/3: beyond it once in 10^8 times.
	const most = 70
	for family, to := range c.VIP() {
		counts := map[string]int{}
		for range draws {
			counts[c.Client.Dial(service.TCP, netip.AddrPortFrom(to, 80)).Who]++
		}
		for _, who := range []string{"pod1", "pod2", "remote"} {
			if n := counts[who]; n < draws/endpoints-most || n > draws/endpoints+most {
				t.Errorf("family %d: of %d connections, %v", family, draws, counts)
			}
		}
	}
}
