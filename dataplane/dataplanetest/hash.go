package dataplanetest

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fairway-lb/fairway/api/v1alpha2"
	"github.com/fairway-lb/fairway/dataplane/service"
	"github.com/fairway-lb/fairway/internal/uml"
)

// hashPort is where addresses of Pod1 answer that are one endpoint each.
const hashPort = 8081

const hashEndpoints = 20

// hashFlows are enough to tell 2/N of them from 1/2, as little as a wrong table
// would have moved. A guest takes long for each.
var hashFlows = func() int {
	if uml.Inside() {
		return 100
	}
	return 300
}()

// hashLab is a Service with many endpoints, and a client with many addresses.
type hashLab struct {
	*Scene
	sources   [2]netip.Prefix
	endpoints [2][]netip.Addr
}

func newHashLab(t *testing.T, subject Subject, by service.Hash, edit func(*corev1.ServiceSpec)) *hashLab {
	c := &hashLab{Scene: subject.NewScene(t, WithPods, nil)}
	c.sources = [2]netip.Prefix(Prefixes("192.168.64.0/23", "fd00:64::/64"))
	c.own(c.Client, c.sources)
	places := [2]netip.Prefix(Prefixes("10.244.0.128/25", "fd00:244::1:0/112"))
	c.own(c.Pod1, places)
	for i, p := range places {
		addr := p.Addr()
		for range hashEndpoints {
			addr = addr.Next()
			c.endpoints[i] = append(c.endpoints[i], addr)
		}
	}
	c.listenByAddress(c.Pod1)
	c.State.SetService(Annotate(NewService(c.Frontends, edit), v1alpha2.AnnotationHash, by.String()))
	c.set(c.endpoints)
	return c
}

// own gives a host all addresses of prefixes, and the node ways to there.
func (l *Lab) own(h *Host, prefixes [2]netip.Prefix) {
	l.T.Helper()
	near, err := netlink.LinkByName(h.Name)
	must(l.T, err)
	for i, p := range prefixes {
		way := &netlink.Route{LinkIndex: near.Attrs().Index, Dst: ipNet(p), Gw: h.Addrs[i].AsSlice(), Flags: int(netlink.FLAG_ONLINK)}
		must(l.T, netlink.RouteAdd(way))
		l.T.Cleanup(func() { must(l.T, netlink.RouteDel(way)) })
	}
	inside := func(change func(*netlink.Route) error, nonlocal string) {
		must(l.T, onThread(h.handle, func() error {
			lo, err := netlink.LinkByName("lo")
			if err != nil {
				return err
			}
			for _, p := range prefixes {
				err := change(&netlink.Route{LinkIndex: lo.Attrs().Index, Dst: ipNet(p), Table: unix.RT_TABLE_LOCAL, Type: unix.RTN_LOCAL, Scope: netlink.SCOPE_HOST})
				if err != nil {
					return err
				}
			}
			// A socket of IPv6 asks for an address, not for a route.
			return os.WriteFile("/proc/sys/net/ipv6/ip_nonlocal_bind", []byte(nonlocal), 0o644)
		}))
	}
	inside(netlink.RouteAdd, "1")
	l.T.Cleanup(func() { inside(netlink.RouteDel, "0") })
}

// listenByAddress answers connections with the address that they came to.
func (l *Lab) listenByAddress(h *Host) {
	l.T.Helper()
	var listener net.Listener
	must(l.T, onThread(h.handle, func() (err error) {
		listener, err = net.Listen("tcp", fmt.Sprintf("[::]:%d", hashPort))
		return err
	}))
	l.T.Cleanup(func() { listener.Close() })
	go func() {
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			go tell(c, hostOf(c.LocalAddr()))
		}
	}()
}

// set makes ready endpoints of addresses of Pod1.
func (c *hashLab) set(endpoints [2][]netip.Addr) {
	c.T.Helper()
	for i, addressType := range []discoveryv1.AddressType{discoveryv1.AddressTypeIPv4, discoveryv1.AddressTypeIPv6} {
		slice := &discoveryv1.EndpointSlice{
			ObjectMeta: metav1.ObjectMeta{
				Namespace: "default", Name: c.Name() + "-" + string(addressType),
				Labels: map[string]string{discoveryv1.LabelServiceName: c.Name()},
			},
			AddressType: addressType,
			Ports:       []discoveryv1.EndpointPort{{Name: new("TCP"), Protocol: new(corev1.ProtocolTCP), Port: new(int32(hashPort))}},
		}
		for _, addr := range endpoints[i] {
			slice.Endpoints = append(slice.Endpoints, discoveryv1.Endpoint{Addresses: []string{addr.String()}, NodeName: new(ThisNode)})
		}
		c.State.SetEndpointSlice(slice)
	}
	Sync(c.T, c.Backend, c.State)
}

// choices asks from many addresses and ports who answers each. Port 0 is any.
func (c *hashLab) choices(family int, to netip.AddrPort, port func(flow int) uint16) []string {
	c.T.Helper()
	c.forgetFlows()
	var all []string
	from := c.sources[family].Addr()
	for flow := range hashFlows {
		from = from.Next()
		got := c.Client.DialFrom(service.TCP, netip.AddrPortFrom(from, port(flow)), to)
		if _, err := netip.ParseAddr(got.Who); err != nil {
			c.T.Fatalf("%v -> %v: got %s, want an endpoint", from, to, got.Who)
		}
		all = append(all, got.Who)
	}
	return all
}

func differ(a, b []string) (n int) {
	for i := range a {
		if a[i] != b[i] {
			n++
		}
	}
	return n
}

// The endpoint follows from the client, by whatever backend and after whatever
// came before; and when one endpoint leaves, the flows of others stay.
func testHash(t *testing.T, subject Subject) {
	if subject.NoHash {
		testNoHash(t, subject)
		return
	}
	anyPort := func(int) uint16 { return 0 }
	// Not in step with the addresses: IPVS adds the two, and then hashes.
	fixedPort := func(flow int) uint16 { return uint16(20000 + 37*flow) }
	vip := func(c *hashLab, family int) netip.AddrPort { return netip.AddrPortFrom(c.VIP()[family], 80) }
	nodePort := func(c *hashLab, family int) netip.AddrPort {
		return netip.AddrPortFrom(c.Node.Addrs[family], c.NodePort())
	}
	clusterIP := func(c *hashLab, family int) netip.AddrPort { return netip.AddrPortFrom(c.ClusterIP()[family], 80) }
	for _, test := range []struct {
		what string
		by   service.Hash
		edit func(*corev1.ServiceSpec)
		to   func(*hashLab, int) netip.AddrPort
		port func(flow int) uint16
		// free has the other ports of a client choose again.
		free bool
	}{
		{"source", service.HashSource, nil, vip, anyPort, false},
		{"source-port", service.HashSourcePort, nil, nodePort, fixedPort, true},
		{"source, Local", service.HashSource, PolicyLocal, nodePort, anyPort, false},
		{"source-port, Local", service.HashSourcePort, PolicyLocal, vip, fixedPort, true},
		{"source-port, affinity", service.HashSourcePort, Sticky(time.Hour), clusterIP, fixedPort, false},
	} {
		t.Run(test.what, func(t *testing.T) {
			c := newHashLab(t, subject, test.by, test.edit)
			var before, after [2][]string
			fewer := c.endpoints
			const gone = hashEndpoints / 3
			for family := range 2 {
				before[family] = c.spread(family, test.to(c, family), test.port, test.free)
				fewer[family] = slices.Delete(slices.Clone(fewer[family]), gone, gone+1)
			}
			c.set(fewer)
			for family := range 2 {
				after[family] = c.without(family, test.to(c, family), test.port, before[family], c.endpoints[family][gone])
			}

			// Another node knows nothing of what was here.
			must(t, subject.Cleanup())
			b := subject.Start(t, WithPods)
			must(t, b.Apply(everything(c.State)))
			allowed := 0
			if subject.HashLags {
				allowed = 3 * hashFlows / hashEndpoints
			}
			for family := range 2 {
				to := test.to(c, family)
				if n := differ(after[family], c.choices(family, to, test.port)); n > allowed {
					t.Errorf("%v: by a backend that knew nothing else %d of %d flows went elsewhere", to, n, hashFlows)
				}
			}
		})
	}
}

// spread checks what endpoints get, and what other ports of clients do.
func (c *hashLab) spread(family int, to netip.AddrPort, port func(int) uint16, free bool) (before []string) {
	t := c.T
	t.Helper()
	before = c.choices(family, to, port)
	counts := map[string]int{}
	for _, who := range before {
		counts[who]++
	}
	for who, n := range counts {
		if n > 3*hashFlows/hashEndpoints {
			t.Errorf("%v: %d of %d flows went to %s, one of %d endpoints", to, n, hashFlows, who, hashEndpoints)
		}
	}
	again := differ(before, c.choices(family, to, func(flow int) uint16 { return uint16(30000 + 37*flow) }))
	if free && again < hashFlows/2 || !free && again > 0 {
		t.Errorf("%v: from other ports %d of %d flows went elsewhere", to, again, hashFlows)
	}
	return before
}

// without checks who moves when an endpoint has gone.
func (c *hashLab) without(family int, to netip.AddrPort, port func(int) uint16, before []string, gone netip.Addr) (after []string) {
	t := c.T
	t.Helper()
	after = c.choices(family, to, port)
	others, moved := 0, 0
	for i := range before {
		switch {
		case after[i] == gone.String():
			t.Fatalf("%v: a flow went to %v, which is gone", to, gone)
		case before[i] != gone.String():
			others++
			if before[i] != after[i] {
				moved++
			}
		}
	}
	t.Logf("%v: without one of %d endpoints %d of %d other flows moved", to, hashEndpoints, moved, others)
	if moved*hashEndpoints >= 2*others {
		t.Errorf("%v: that is 2/N or more", to)
	}
	return after
}

// A Service begins to hash and ceases to, loses its endpoints and gets others,
// beside another that hashes.
func testHashTables(t *testing.T, subject Subject) {
	if subject.NoHash {
		return
	}
	c := subject.NewScene(t, WithPods, nil, OnPod1, OnPod2)
	other := Frontends{2}
	hash := func(f Frontends, by service.Hash, edit func(*corev1.ServiceSpec)) {
		c.State.SetService(Annotate(NewService(f, edit), v1alpha2.AnnotationHash, by.String()))
		Sync(t, c.Backend, c.State)
	}
	hash(other, service.HashSource, nil)
	SetEndpoints(c.State, other, OnRemote(c.Lab))
	Sync(t, c.Backend, c.State)
	ask := func(what string, want ...string) {
		t.Helper()
		c.forgetFlows()
		for _, from := range []*Host{c.Pod3, c.Node, c.Client} {
			c.Ask(what, from, c.VIP(), 80, Translated, want...)
			c.Ask(what, from, c.Node.Addrs, c.NodePort(), Translated, want...)
		}
		c.Ask("the other, "+what, c.Client, other.VIP(), 80, Translated, "remote")
	}
	ask("by chance", "pod1", "pod2")
	hash(c.Frontends, service.HashSourcePort, nil)
	ask("by the port", "pod1", "pod2")
	c.Set()
	ask("without endpoints", Reject)
	c.Set(OnRemote(c.Lab))
	ask("with another", "remote")
	hash(c.Frontends, service.HashSource, PolicyLocal)
	c.forgetFlows()
	c.Together(func() {
		c.Ask("Local, but remote", c.Client, c.VIP(), 80, "", Drop)
		c.Ask("Local, but remote, from the node", c.Node, c.VIP(), 80, Translated, "remote")
	})
	c.Set(OnPod2(c.Lab), OnRemote(c.Lab))
	c.forgetFlows()
	c.Ask("Local", c.Client, c.VIP(), 80, Own, "pod2")
	hash(c.Frontends, service.HashNone, nil)
	ask("by chance again", "pod2", "remote")
	got := subject.content(t)
	b := subject.Start(t, WithPods)
	must(t, b.Apply(everything(c.State)))
	EqualContent(t, "after all", got, subject.content(t))
}
