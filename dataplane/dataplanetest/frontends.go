package dataplanetest

import (
	"net/netip"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/fairway-lb/fairway/dataplane"
	"github.com/fairway-lb/fairway/dataplane/service"
)

func testSourceRanges(t *testing.T, subject Subject) {
	config := WithPods
	config.NodeAddresses = []netip.Addr{netip.MustParseAddr("172.16.0.1"), netip.MustParseAddr("fd00:16::1")}
	// They overlap, which the kernel does not take.
	ranges := []string{"192.168.9.0/24", "192.168.0.0/16", "fd00:9::/64", "fd00:9::2/128"}
	c := subject.NewScene(t, config, func(s *corev1.ServiceSpec) { s.LoadBalancerSourceRanges = ranges }, OnPod1)
	f := c.Frontends
	c.Together(func() {
		c.Ask("in range", c.Client, f.VIP(), 80, Translated, "pod1")
		c.Ask("not in range", c.Pod3, f.VIP(), 80, "", Drop)
		c.Ask("not in range", c.Node, f.VIP(), 80, "", Drop)
		c.Ask("nodePort has no ranges", c.Pod3, c.Node.Addrs, f.NodePort(), Translated, "pod1")
		c.Ask("external IP has no ranges", c.Pod3, f.ExternalIP(), 80, Translated, "pod1")
		c.Ask("cluster IP has no ranges", c.Pod3, f.ClusterIP(), 80, Own, "pod1")
	})

	c.Set()
	c.Together(func() {
		c.Ask("in range without endpoints", c.Client, f.VIP(), 80, "", Reject)
		c.Ask("not in range without endpoints", c.Pod3, f.VIP(), 80, "", Drop)
	})

	c.State.SetService(NewService(f, func(s *corev1.ServiceSpec) {
		s.LoadBalancerSourceRanges = []string{"172.16.0.1/32", "fd00:16::1/128"}
	}))
	c.Set(OnPod1(c.Lab))
	c.Together(func() {
		c.Ask("no longer in range", c.Client, f.VIP(), 80, "", Drop)
		c.Ask("the node's address in range", c.Node, f.VIP(), 80, Translated, "pod1")
	})

	c.State.SetService(NewService(f, func(s *corev1.ServiceSpec) { s.LoadBalancerSourceRanges = []string{"0.0.0.0/0", "::/0"} }))
	c.Set(OnPod1(c.Lab))
	c.Ask("all in range", c.Pod3, f.VIP(), 80, Translated, "pod1")
}

func testHairpin(t *testing.T, subject Subject) {
	c := subject.NewScene(t, WithPods, PolicyLocal, OnPod1)
	c.Ask("hairpin", c.Pod1, c.ClusterIP(), 80, Translated, "pod1")
	c.Ask("hairpin", c.Pod1, c.VIP(), 80, Translated, "pod1")
	c.Ask("hairpin", c.Pod1, c.ExternalIP(), 80, Translated, "pod1")
	c.Ask("hairpin", c.Pod1, c.Node.Addrs, c.NodePort(), Translated, "pod1")
	c.Ask("no hairpin", c.Pod2, c.ClusterIP(), 80, Own, "pod1")
}

func testDetectors(t *testing.T, subject Subject) {
	for _, d := range []dataplane.Detector{{InterfacePrefix: "pod"}, {Bridge: "pod3"}} {
		t.Run(d.InterfacePrefix+d.Bridge, func(t *testing.T) {
			c := subject.NewScene(t, dataplane.Config{Pods: d}, PolicyLocal, OnRemote)
			c.Together(func() {
				c.Ask("pod", c.Pod3, c.ClusterIP(), 80, Own, "remote")
				c.Ask("node", c.Node, c.ClusterIP(), 80, Translated, "remote")
				c.Ask("client", c.Client, c.ClusterIP(), 80, Translated, "remote")
				c.Ask("pod", c.Pod3, c.VIP(), 80, Own, "remote")
				c.Ask("node", c.Node, c.VIP(), 80, Translated, "remote")
				c.Ask("client", c.Client, c.VIP(), 80, "", Drop)
			})
		})
	}
	t.Run("none", func(t *testing.T) {
		c := subject.NewScene(t, dataplane.Config{}, PolicyLocal, OnPod1)
		c.Ask("cluster IP", c.Client, c.ClusterIP(), 80, Own, "pod1")
		c.Ask("policy Local", c.Pod3, c.VIP(), 80, Own, "pod1")
		c.Set(OnRemote(c.Lab))
		c.Together(func() {
			c.Ask("policy Local, as from outside", c.Pod3, c.VIP(), 80, "", Drop)
			c.Ask("policy Local", c.Node, c.VIP(), 80, Translated, "remote")
		})
	})
	t.Run("one family", func(t *testing.T) {
		c := subject.NewScene(t, dataplane.Config{Pods: dataplane.Detector{CIDRs: PodCIDRs[:1]}, NodePortAddresses: Prefixes("192.168.9.0/24")}, nil, OnPod1)
		clusterIP, node := c.ClusterIP(), c.Node.Addrs
		c.Ask("IPv4", c.Client, [2]netip.Addr{clusterIP[0], clusterIP[0]}, 80, Translated, "pod1")
		c.Ask("IPv6", c.Client, [2]netip.Addr{clusterIP[1], clusterIP[1]}, 80, Own, "pod1")
		c.Ask("IPv4", c.Client, [2]netip.Addr{node[0], node[0]}, c.NodePort(), "", Reject)
		c.Ask("IPv6", c.Client, [2]netip.Addr{node[1], node[1]}, c.NodePort(), Translated, "pod1")
	})
	t.Run("the other family", func(t *testing.T) {
		c := subject.NewScene(t, dataplane.Config{Pods: dataplane.Detector{CIDRs: PodCIDRs[1:]}, NodePortAddresses: Prefixes("fd00:9::/64")}, PolicyLocal, OnRemote)
		clusterIP, vip, node := c.ClusterIP(), c.VIP(), c.Node.Addrs
		c.Together(func() {
			c.Ask("IPv4", c.Pod3, [2]netip.Addr{clusterIP[0], clusterIP[0]}, 80, Own, "remote")
			c.Ask("IPv6", c.Pod3, [2]netip.Addr{clusterIP[1], clusterIP[1]}, 80, Own, "remote")
			c.Ask("IPv6", c.Client, [2]netip.Addr{clusterIP[1], clusterIP[1]}, 80, Translated, "remote")
			c.Ask("IPv4, as from outside", c.Pod3, [2]netip.Addr{vip[0], vip[0]}, 80, "", Drop)
			c.Ask("IPv6, a pod", c.Pod3, [2]netip.Addr{vip[1], vip[1]}, 80, Own, "remote")
			c.Ask("IPv4", c.Pod3, [2]netip.Addr{node[0], node[0]}, c.NodePort(), "", Drop)
			c.Ask("IPv6", c.Client, [2]netip.Addr{node[1], node[1]}, c.NodePort(), "", Reject)
		})
	})
	t.Run("masquerade all", func(t *testing.T) {
		c := subject.NewScene(t, dataplane.Config{Pods: dataplane.Detector{CIDRs: PodCIDRs}, MasqueradeAll: true}, PolicyLocal, OnPod1)
		c.Ask("cluster IP", c.Pod3, c.ClusterIP(), 80, Translated, "pod1")
		c.Ask("others", c.Pod3, c.VIP(), 80, Own, "pod1")
	})
	t.Run("another mark", func(t *testing.T) {
		c := subject.NewScene(t, dataplane.Config{Pods: dataplane.Detector{CIDRs: PodCIDRs}, MasqueradeMark: 1 << 20}, nil, OnRemote)
		c.Ask("external", c.Client, c.VIP(), 80, Translated, "remote")
	})
}

func testNodePortAddresses(t *testing.T, subject Subject) {
	clientSide := [2]netip.Addr{netip.MustParseAddr("192.168.9.1"), netip.MustParseAddr("fd00:9::1")}
	loopback := [2]netip.Addr{netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("::1")}
	t.Run("all", func(t *testing.T) {
		c := subject.NewScene(t, WithPods, nil, OnPod1)
		c.Ask("node", c.Client, c.Node.Addrs, c.NodePort(), Translated, "pod1")
		c.Ask("client side", c.Client, clientSide, c.NodePort(), Translated, "pod1")
		c.Ask("loopback", c.Node, loopback, c.NodePort(), "", Reject)
	})
	t.Run("some", func(t *testing.T) {
		config := WithPods
		config.NodePortAddresses = Prefixes("192.168.9.0/24", "fd00:9::/64")
		c := subject.NewScene(t, config, nil, OnPod1)
		c.Ask("node", c.Client, c.Node.Addrs, c.NodePort(), "", Reject)
		c.Ask("client side", c.Client, clientSide, c.NodePort(), Translated, "pod1")
	})
}

func testWithoutService(t *testing.T, subject Subject) {
	config := WithPods
	config.ServiceCIDRs = Prefixes("10.96.0.0/16", "fd00:96::/112")
	c := subject.NewScene(t, config, nil, OnPod1)
	c.Together(func() {
		for _, from := range []*Host{c.Pod3, c.Node, c.Client} {
			c.Ask("undefined port", from, c.ClusterIP(), 81, "", Reject)
			c.Ask("unallocated address", from, Frontends{7}.ClusterIP(), 80, "", Drop)
		}
	})
	c.State.DeleteService(types.NamespacedName{Namespace: "default", Name: c.Name()})
	c.Set()
	c.Ask("deleted", c.Pod3, c.ClusterIP(), 80, "", Drop)
}

// An endpoint in the node's network gets its packets without postrouting.
func testHostNetworkEndpoint(t *testing.T, subject Subject) {
	allLocal := func(spec *corev1.ServiceSpec) {
		PolicyLocal(spec)
		spec.InternalTrafficPolicy = new(corev1.ServiceInternalTrafficPolicyLocal)
	}
	for what, edit := range map[string]func(*corev1.ServiceSpec){"Cluster": nil, "Local": allLocal} {
		t.Run(what, func(t *testing.T) {
			c := subject.NewScene(t, WithPods, edit, func(l *Lab) Endpoint { return Endpoint{l.Node, Ready} })
			// By TCP: a UDP server on all addresses answers from another one.
			for _, from := range []*Host{c.Client, c.Pod3, c.Node} {
				c.AskBy("host network", service.TCP, from, c.VIP(), 80, Own, "node")
				c.AskBy("host network", service.TCP, from, c.ExternalIP(), 80, Own, "node")
				c.AskBy("host network", service.TCP, from, c.ClusterIP(), 80, Own, "node")
				c.AskBy("host network", service.TCP, from, c.Node.Addrs, c.NodePort(), Own, "node")
			}
		})
	}
}
