package dataplanetest

import (
	"net/netip"
	"sync"
	"syscall"
	"testing"

	"github.com/vishvananda/netlink"
	corev1 "k8s.io/api/core/v1"

	"github.com/fairway-lb/fairway/dataplane"
	"github.com/fairway-lb/fairway/dataplane/service"
)

// assign gives the node addresses. Their scope keeps the kernel from choosing
// them as the source of anything else.
func (l *Lab) assign(addrs [2]netip.Addr) {
	l.T.Helper()
	lo, err := netlink.LinkByName("lo")
	must(l.T, err)
	for _, addr := range addrs {
		must(l.T, addAddr(l.Node.handle, lo, addr, syscall.RT_SCOPE_LINK))
		l.T.Cleanup(func() { must(l.T, netlink.AddrDel(lo, &netlink.Addr{IPNet: single(addr)})) })
	}
}

// onNode is a Service whose load-balancer addresses the node has already.
func (subject Subject) onNode(t *testing.T, config dataplane.Config) *Scene {
	l := subject.Lab(t)
	l.assign(Frontends{1}.VIP())
	return subject.newScene(t, l, config, nil, OnPod1)
}

// A load-balancer address that is the node's own too is an address of the
// node for all that the Service does not have.
func testVIPOnNode(t *testing.T, subject Subject) {
	c := subject.onNode(t, WithPods)
	for _, from := range []*Host{c.Client, c.Pod3} {
		c.Ask("the Service", from, c.VIP(), 80, Translated, "pod1")
		c.Ask("NodePort", from, c.VIP(), c.NodePort(), Translated, "pod1")
		c.Ask("nobody's port", from, c.VIP(), 81, "", Reject)
		// By TCP: a UDP server on all addresses answers from another one.
		c.AskBy("the node's port", service.TCP, from, c.VIP(), ServerPort, Own, "node")
	}
	c.AskBy("the node itself", service.TCP, c.Node, c.VIP(), 80, Translated, "pod1")
}

// The node's own address as the source may be the load-balancer address.
func testSourceRangeOfNode(t *testing.T, subject Subject) {
	config := WithPods
	config.NodeAddresses = []netip.Addr{netip.MustParseAddr("172.16.0.1"), netip.MustParseAddr("fd00:16::1")}
	ranges := func(ranges ...string) *corev1.Service {
		return NewService(Frontends{1}, func(s *corev1.ServiceSpec) { s.LoadBalancerSourceRanges = ranges })
	}
	c := subject.onNode(t, config)
	ask := func(what, want string) {
		t.Helper()
		var both sync.WaitGroup
		for _, vip := range c.VIP() {
			both.Go(func() {
				wait := patience
				if want == Drop {
					wait = silence
				}
				got := c.Node.dial(service.TCP, netip.AddrPortFrom(vip, 0), netip.AddrPortFrom(vip, 80), wait)
				if got.Who != want {
					t.Errorf("%s: %v -> %v:80: got %s, want %s", what, vip, vip, got.Who, want)
				}
			})
		}
		both.Wait()
	}
	c.State.SetService(ranges("172.16.0.0/24", "fd00:16::/64"))
	Sync(t, c.Backend, c.State)
	ask("the node is in range", "pod1")
	c.State.SetService(ranges("192.168.9.0/24", "fd00:9::/64"))
	Sync(t, c.Backend, c.State)
	ask("the node is not in range", Drop)
}

// What someone else balances before it comes here is not for the node to take.
func testProxyMode(t *testing.T, subject Subject) {
	c := subject.onNode(t, WithPods)
	svc := NewService(c.Frontends, nil)
	for i := range svc.Status.LoadBalancer.Ingress {
		svc.Status.LoadBalancer.Ingress[i].IPMode = new(corev1.LoadBalancerIPModeProxy)
	}
	c.State.SetService(svc)
	Sync(t, c.Backend, c.State)
	c.Ask("ipMode Proxy", c.Client, c.VIP(), 80, "", Reject)
	c.Ask("NodePort", c.Client, c.Node.Addrs, c.NodePort(), Translated, "pod1")
}
