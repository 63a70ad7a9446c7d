package dataplanetest

import (
	"errors"
	"net"
	"net/netip"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"github.com/fairway-lb/fairway/dataplane/service"
)

// What docs/dataplane.md says of backends that differ from each other, or from
// kube-proxy, is so.

// strangers are clients outside of the cluster, by other addresses than Client's.
const strangers = 300

// ofStrangers asks for each of them, in order, who answers.
func (c *Scene) ofStrangers(sources netip.Prefix, count int, to netip.AddrPort) []string {
	c.T.Helper()
	var all []string
	from := sources.Addr()
	for range count {
		from = from.Next()
		got := c.Client.DialFrom(service.TCP, netip.AddrPortFrom(from, 0), to)
		if got.Who != "pod1" && got.Who != "pod2" {
			c.T.Fatalf("%v -> %v: got %s, want an endpoint", from, to, got.Who)
		}
		all = append(all, got.Who)
	}
	return all
}

func (subject Subject) newStickyScene(t *testing.T) (c *Scene, sources [2]netip.Prefix) {
	c = subject.NewScene(t, WithPods, Sticky(time.Hour), OnPod1, OnPod2)
	sources = [2]netip.Prefix(Prefixes("192.168.64.0/23", "fd00:64::/64"))
	c.own(c.Client, sources)
	return c, sources
}

// A client stays with its endpoint whatever the address that it comes to.
func testAffinityOfFrontends(t *testing.T, subject Subject) {
	c, sources := subject.newStickyScene(t)
	for family := range 2 {
		const count = 40 // of which chance gives half another endpoint
		vip, nodePort := netip.AddrPortFrom(c.VIP()[family], 80), netip.AddrPortFrom(c.Node.Addrs[family], c.NodePort())
		first := c.ofStrangers(sources[family], count, vip)
		c.Client.Dial(service.TCP, nodePort) // who chooses by turns is out of step now
		second := c.ofStrangers(sources[family], count, nodePort)
		if n := differ(first, second); (n > 0) != subject.AffinityByFrontend {
			t.Errorf("%v: %d of %d clients have another endpoint at another frontend", service.Family(family), n, count)
		}
	}
}

// Many clients are remembered as well as few.
func testAffinityOfMany(t *testing.T, subject Subject) {
	c, sources := subject.newStickyScene(t)
	to := netip.AddrPortFrom(c.VIP()[service.IPv4], 80)
	first := c.ofStrangers(sources[service.IPv4], strangers, to)
	again := c.ofStrangers(sources[service.IPv4], strangers, to)
	if n := differ(first, again); (n > 0) != subject.AffinityForgets {
		t.Errorf("%d of %d clients have another endpoint when they come again", n, strangers)
	}
}

// A process of the node that sends UDP to what is refused hears so at once, and
// one whose connections are to be translated does not.
func testRefusedDatagram(t *testing.T, subject Subject) {
	c := subject.NewScene(t, WithPods, nil)
	ask := func() error {
		return onThread(c.Node.handle, func() error {
			conn, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(netip.AddrPortFrom(c.ClusterIP()[service.IPv4], 80)))
			if err != nil {
				return err
			}
			defer conn.Close()
			_, err = conn.Write([]byte("?"))
			return err
		})
	}
	if err := ask(); !errors.Is(err, syscall.EPERM) {
		t.Errorf("no endpoint: %v, want %v", err, syscall.EPERM)
	}
	c.Set(OnPod1(c.Lab))
	if err := ask(); err != nil {
		t.Errorf("an endpoint: %v", err)
	}
}

// What another firewall of the node drops stays dropped.
func testForwardPolicy(t *testing.T, subject Subject) {
	c := subject.NewScene(t, WithPods, nil, OnPod1)
	to := c.VIP()
	c.AskBy("before", service.TCP, c.Client, to, 80, Translated, "pod1")
	for _, program := range []string{"iptables-legacy", "ip6tables-legacy"} {
		policy := func(verdict string) {
			out, err := exec.Command(program, "-w", "-P", "FORWARD", verdict).CombinedOutput()
			if err != nil {
				t.Errorf("%s: %v: %s", program, err, out)
			}
		}
		policy("DROP")
		t.Cleanup(func() { policy("ACCEPT") })
	}
	c.AskBy("another firewall drops", service.TCP, c.Client, to, 80, "", Drop)
}

// A backend that cannot hash passes over the annotation.
func testNoHash(t *testing.T, subject Subject) {
	c := newHashLab(t, subject, service.HashSource, nil)
	to := netip.AddrPortFrom(c.VIP()[service.IPv4], 80)
	anyPort := func(int) uint16 { return 0 }
	if differ(c.choices(int(service.IPv4), to, anyPort), c.choices(int(service.IPv4), to, anyPort)) < hashFlows/2 {
		t.Errorf("the endpoint follows from the client")
	}
}
