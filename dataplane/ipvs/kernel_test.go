package ipvs

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/moby/ipvs"
	"golang.org/x/sys/unix"

	"github.com/fairway-lb/fairway/api/v1alpha2"
	"github.com/fairway-lb/fairway/dataplane/dataplanetest"
	"github.com/fairway-lb/fairway/dataplane/service"
)

// lines returns those of the listing that begin so, without rules: programs take
// long in a guest.
func lines(t testing.TB, prefix string) []string {
	t.Helper()
	k, err := openNetlink()
	must(t, err)
	all, err := list(k)
	must(t, err)
	return slices.DeleteFunc(all, func(line string) bool { return !strings.HasPrefix(line, prefix) })
}

// await waits until something is so.
func await(t testing.TB, what string, is func() bool) {
	t.Helper()
	deadline := time.Now().Add(time.Minute)
	for !is() {
		if time.Now().After(deadline) {
			t.Fatalf("in a minute there was no %s", what)
		}
		lookNow()
		<-time.After(100 * time.Millisecond)
	}
}

func annotated(c *dataplanetest.Scene, annotations map[string]string) {
	svc := dataplanetest.NewService(c.Frontends, nil)
	svc.Annotations = annotations
	c.State.SetService(svc)
}

// Every scheduler forwards, as the default and of a Service.
func testSchedulers(t *testing.T) {
	l := subject.Lab(t)
	for _, name := range Schedulers() {
		if name == "twos" {
			continue // it is not in this kernel
		}
		b, err := open(dataplanetest.WithPods, Options{Scheduler: name})
		must(t, err)
		other := "wrr"
		if name == "wrr" {
			other = "mh"
		}
		s := service.NewState(dataplanetest.ThisNode)
		f := dataplanetest.Frontends{Number: 2}
		s.SetService(dataplanetest.NewService(dataplanetest.Frontends{Number: 1}, nil))
		svc := dataplanetest.NewService(f, nil)
		svc.Annotations = map[string]string{v1alpha2.AnnotationScheduler: other}
		s.SetService(svc)
		for i := range 2 {
			dataplanetest.SetEndpoints(s, dataplanetest.Frontends{Number: 1 + i}, dataplanetest.OnPod1(l))
		}
		dataplanetest.Sync(t, b, s)
		all := lines(t, "virtual ")
		for number, want := range map[int]string{1: name, 2: other} {
			vip := dataplanetest.Frontends{Number: number}.VIP()
			for family := range 2 {
				to := netip.AddrPortFrom(vip[family], 80)
				if !slices.ContainsFunc(all, func(line string) bool {
					return strings.HasPrefix(line, fmt.Sprintf("virtual %s/TCP {{%s ", to, want))
				}) {
					t.Errorf("scheduler %s of %s: %v", want, to, all)
				}
				if got := l.Client.Dial(service.TCP, to); got.Who != "pod1" {
					t.Errorf("%s leads to %s", want, got.Who)
				}
			}
		}
		must(t, b.Close())
	}
	must(t, Cleanup())
}

// The first packet to a new frontend is answered as soon as Apply has returned.
func testFirstPacket(t *testing.T) {
	c := subject.NewScene(t, dataplanetest.WithPods, nil, dataplanetest.OnPod1)
	for i := range 20 {
		f := dataplanetest.Frontends{Number: 2 + i}
		c.State.SetService(dataplanetest.NewService(f, nil))
		dataplanetest.SetEndpoints(c.State, f, dataplanetest.OnPod1(c.Lab))
		dataplanetest.Sync(t, c.Backend, c.State)
		to := netip.AddrPortFrom(f.ClusterIP()[1], 80) // the last that the link gets
		if got := c.Pod3.Dial(service.UDP, to); got.Who != "pod1" {
			t.Errorf("the first packet to %s got %s", to, got.Who)
		}
	}
}

// A scheduler that the kernel lacks is said once, and the default used.
func testLackingScheduler(t *testing.T) {
	if _, err := open(dataplanetest.WithPods, Options{Scheduler: "twos"}); !errors.Is(err, errMissing) || !strings.Contains(err.Error(), "lacks the scheduler twos") {
		t.Errorf("a default that the kernel lacks: %v", err)
	}
	c := subject.NewScene(t, dataplanetest.WithPods, nil, dataplanetest.OnPod1)
	annotated(c, map[string]string{v1alpha2.AnnotationScheduler: "twos"})
	h, err := ipvs.New("")
	must(t, err)
	defer h.Close()
	must(t, h.Flush()) // it takes two attempts
	err = c.Backend.Apply(c.State.Changes().Ports)
	// Of which of its ports it is said is by chance.
	if !errors.Is(err, errScheduler) || !strings.Contains(err.Error(), "default/s1:") || !strings.Contains(err.Error(), ": the kernel lacks the scheduler twos") {
		t.Errorf("a Service's that the kernel lacks: %v", err)
	}
	must(t, c.Backend.Apply(nil))
	c.Ask("by default", c.Client, c.VIP(), 80, dataplanetest.Translated, "pod1")

	other := dataplanetest.NewService(dataplanetest.Frontends{Number: 2}, nil)
	c.State.SetService(other)
	dataplanetest.SetEndpoints(c.State, dataplanetest.Frontends{Number: 2}, dataplanetest.OnPod1(c.Lab))
	dataplanetest.Sync(t, c.Backend, c.State)
	other = other.DeepCopy()
	other.Annotations = map[string]string{v1alpha2.AnnotationScheduler: "twos"}
	c.State.SetService(other)
	if err := c.Backend.Apply(c.State.Changes().Ports); !errors.Is(err, errScheduler) || strings.Contains(err.Error(), "default/s1:") {
		t.Errorf("another Service's, which has the default already: %v", err)
	}
}

// Weights of endpoints are those of connections.
func testWeights(t *testing.T) {
	c := subject.NewScene(t, dataplanetest.WithPods, nil, dataplanetest.OnPod1, dataplanetest.OnPod2)
	annotated(c, map[string]string{v1alpha2.AnnotationWeights: c.Pod1.Addrs[0].String() + "=3"})
	dataplanetest.Sync(t, c.Backend, c.State)
	count := func() map[string]int {
		answers := map[string]int{}
		for range 8 {
			answers[c.Client.Dial(service.TCP, netip.AddrPortFrom(c.VIP()[0], 80)).Who]++
		}
		return answers
	}
	if got := count(); got["pod1"] != 6 || got["pod2"] != 2 {
		t.Errorf("3 to 1 is %v", got)
	}
	annotated(c, map[string]string{v1alpha2.AnnotationWeights: c.Pod1.Addrs[0].String() + "=0"})
	dataplanetest.Sync(t, c.Backend, c.State)
	if got := count(); got["pod2"] != 8 {
		t.Errorf("weight 0 gets %v", got)
	}
	annotated(c, nil)
	dataplanetest.Sync(t, c.Backend, c.State)
	if got := count(); got["pod1"] != 4 || got["pod2"] != 4 {
		t.Errorf("without weights: %v", got)
	}
}

// The hash of a client is its endpoint, whatever becomes of others.
func testHash(t *testing.T) {
	c := subject.NewScene(t, dataplanetest.WithPods, nil, dataplanetest.OnPod1, dataplanetest.OnPod2, dataplanetest.OnRemote)
	annotated(c, map[string]string{v1alpha2.AnnotationHash: "source"})
	dataplanetest.Sync(t, c.Backend, c.State)
	first := c.Client.Dial(service.TCP, netip.AddrPortFrom(c.VIP()[1], 80)).Who
	c.Ask("hash", c.Client, [2]netip.Addr{c.VIP()[1], c.VIP()[1]}, 80, dataplanetest.Translated, first)
	annotated(c, map[string]string{v1alpha2.AnnotationHash: "source-port"})
	dataplanetest.Sync(t, c.Backend, c.State)
	c.Ask("hash with ports", c.Client, c.VIP(), 80, dataplanetest.Translated, "pod1", "pod2", "remote")
}

// A TCP connection outlasts its endpoint, and its Service; the endpoint stays as
// long as it does, and no longer.
func testGracefulRemoval(t *testing.T) {
	c := subject.NewScene(t, dataplanetest.WithPods, nil, dataplanetest.OnPod2)
	vip := netip.MustParseAddrPort("198.18.77.1:80")
	echo, pod := serveEcho(t, netip.AddrPortFrom(c.Node.Addrs[0], 9000)), netip.AddrPortFrom(c.Pod1.Addrs[0], dataplanetest.ServerPort)
	name := service.PortName{Protocol: service.TCP}
	name.Name = "held"
	var before *service.Port
	apply := func(endpoints ...netip.AddrPort) {
		t.Helper()
		change := service.PortChange{Name: name, Before: before}
		if endpoints != nil {
			change.After = &service.Port{Frontends: []service.Frontend{{Kind: service.LoadBalancer, Address: vip}}, Cluster: endpoints, Usable: len(endpoints) > 0}
		}
		before = change.After
		must(t, c.Backend.Apply([]service.PortChange{change}))
	}
	has := func(what string) bool { return len(lines(t, fmt.Sprintf("virtual %s/TCP endpoint %s", vip, what))) > 0 }
	refused := func(what string) {
		t.Helper()
		for _, from := range []*dataplanetest.Host{c.Node, c.Client} {
			if got := from.Dial(service.TCP, vip); got.Who != dataplanetest.Reject {
				t.Errorf("%s: a new connection from %s got %s", what, from.Name, got.Who)
			}
		}
	}

	apply(echo)
	h := hold(t, vip)
	h.echoes("at first")
	apply(pod)
	h.echoes("removed")
	if !has(echo.String() + " weight 0") {
		t.Errorf("an endpoint with a connection has gone: %v", lines(t, "virtual "+vip.String()))
	}
	for range 3 {
		other := hold(t, vip)
		if got, err := bufio.NewReader(other.conn).ReadString('\n'); err != nil || !strings.HasPrefix(got, "pod1 ") {
			t.Errorf("a new connection went to %q, %v", got, err)
		}
		other.reset()
	}
	apply(echo)
	h.echoes("there again")
	if !has(echo.String() + " weight 1") {
		t.Errorf("an endpoint that is there again: %v", lines(t, "virtual "+vip.String()))
	}
	apply([]netip.AddrPort{}...)
	before = nil
	must(t, c.Backend.Apply([]service.PortChange{{Name: name, After: &service.Port{Frontends: []service.Frontend{{Kind: service.LoadBalancer, Address: vip}}}}}))
	h.echoes("without any endpoint")
	refused("without any endpoint")
	must(t, c.Backend.Apply([]service.PortChange{{Name: name}}))
	h.echoes("without the Service")
	refused("without the Service")

	// Another process knows nothing of them but what the kernel has.
	must(t, c.Backend.Close())
	backend, err := subject.New(dataplanetest.WithPods)
	must(t, err)
	c.Backend = backend
	var all []service.PortChange
	for name, p := range c.State.Ports() {
		all = append(all, service.PortChange{Name: name, After: p})
	}
	must(t, c.Backend.Apply(all))
	h.echoes("after a restart")
	h.reset()
	await(t, "end of what had no flows", func() bool {
		return len(lines(t, "virtual "+vip.String())) == 0 && len(lines(t, "address "+vip.Addr().String())) == 0
	})
	c.Ask("others", c.Client, c.VIP(), 80, dataplanetest.Translated, "pod2")
	must(t, c.Backend.Close())
}

// What comes from within the node by policy Local outlasts its Service, too, and
// ends as it would elsewhere, also where the Service went while nobody was there.
func testWithinRemoval(t *testing.T) {
	c := subject.NewScene(t, dataplanetest.WithPods, nil, dataplanetest.OnPod2)
	vip := netip.MustParseAddrPort("198.18.77.1:80")
	echo, pod := serveEcho(t, netip.AddrPortFrom(c.Node.Addrs[0], 9000)), netip.AddrPortFrom(c.Pod1.Addrs[0], dataplanetest.ServerPort)
	change := func(protocol service.Protocol, endpoints ...netip.AddrPort) service.PortChange {
		name := service.PortName{Protocol: protocol}
		name.Name = "within"
		p := &service.Port{Frontends: []service.Frontend{{Kind: service.LoadBalancer, Address: vip}}, Cluster: endpoints, ExternalPolicy: service.Local, Usable: true}
		return service.PortChange{Name: name, After: p}
	}
	tcp, udp := change(service.TCP, echo), change(service.UDP, pod)
	without := func(c service.PortChange) service.PortChange {
		return service.PortChange{Name: c.Name, Before: c.After}
	}
	none := func(prefix string) func() bool { return func() bool { return len(lines(t, prefix)) == 0 } }
	address := "address " + vip.Addr().String()

	must(t, c.Backend.Apply([]service.PortChange{tcp}))
	h := hold(t, vip)
	h.echoes("at first")
	must(t, c.Backend.Apply([]service.PortChange{without(tcp)}))
	h.echoes("without the Service")
	if got := c.Node.Dial(service.TCP, vip); got.Who != dataplanetest.Reject {
		t.Errorf("without the Service: a new connection got %s", got.Who)
	}
	h.reset()
	await(t, "end of what had no flows", func() bool { return none("virtual within")() && none(address)() })

	must(t, c.Backend.Apply([]service.PortChange{udp}))
	if got := c.Pod3.Dial(service.UDP, vip); got.Who != "pod1" {
		t.Errorf("by UDP: got %s", got.Who)
	}
	must(t, c.Backend.Close())
	backend, err := subject.New(dataplanetest.WithPods)
	must(t, err)
	c.Backend = backend
	must(t, c.Backend.Apply(nil))
	await(t, "end of a virtual service of UDP whose Service has gone", none("virtual within"))
	must(t, c.Backend.Close())
}

// An endpoint of UDP has two seconds for its answers.
func testUDPRemoval(t *testing.T) {
	c := subject.NewScene(t, dataplanetest.WithPods, nil, dataplanetest.OnPod1)
	to := netip.AddrPortFrom(c.VIP()[0], 80)
	if got := c.Client.Dial(service.UDP, to); got.Who != "pod1" {
		t.Fatalf("got %s", got.Who)
	}
	c.Set(dataplanetest.OnPod2(c.Lab))
	old := fmt.Sprintf("virtual %s/UDP endpoint %s:", to, c.Pod1.Addrs[0])
	await(t, "end of an endpoint of UDP", func() bool { return len(lines(t, old)) == 0 })
	if got := c.Client.Dial(service.UDP, to); got.Who != "pod2" {
		t.Errorf("got %s", got.Who)
	}
}

// A client is free again some time after its last flow is forgotten.
func testAffinityTimeout(t *testing.T) {
	const timeout = 3 * time.Second
	c := subject.NewScene(t, dataplanetest.WithPods, dataplanetest.Sticky(timeout), dataplanetest.OnPod1, dataplanetest.OnPod2)
	h, err := ipvs.New("")
	must(t, err)
	defer h.Close()
	before, err := h.GetConfig()
	must(t, err)
	must(t, h.SetConfig(&ipvs.Config{TimeoutUDP: time.Second}))
	defer func() { must(t, h.SetConfig(&ipvs.Config{TimeoutUDP: before.TimeoutUDP})) }()
	to := netip.AddrPortFrom(c.ClusterIP()[1], 80)
	first := c.Pod3.Dial(service.UDP, to)
	await(t, "other endpoint after the timeout", func() bool {
		<-time.After(2 * timeout)
		return c.Pod3.Dial(service.UDP, to).Who != first.Who
	})
}

// What others have in IPVS is none of our business, and what we had is.
func testOthers(t *testing.T) {
	c := subject.NewScene(t, dataplanetest.WithPods, dataplanetest.PolicyLocal, dataplanetest.OnPod1, dataplanetest.OnRemote)
	h, err := ipvs.New("")
	must(t, err)
	defer h.Close()
	theirs := []*ipvs.Service{
		{AddressFamily: unix.AF_INET, Protocol: unix.IPPROTO_TCP, Address: net.IPv4(203, 0, 113, 1).To4(), Port: 80, SchedName: "rr", Netmask: 0xffffffff},
		{AddressFamily: unix.AF_INET, FWMark: 7, SchedName: "wlc", Netmask: 0xffffffff},
		{AddressFamily: unix.AF_INET, Protocol: unix.IPPROTO_TCP, Address: c.Node.Addrs[0].AsSlice(), Port: 31999, SchedName: "rr", Netmask: 0xffffffff},
	}
	for _, v := range theirs {
		must(t, h.NewService(v))
		t.Cleanup(func() {
			h, err := ipvs.New("")
			must(t, err)
			defer h.Close()
			must(t, h.DelService(v)) // an error if it has gone
		})
	}
	must(t, c.Backend.Apply(nil))
	want, err := listing()
	must(t, err)
	marks := func() string {
		out, err := exec.Command("ipset", "save", setName(withinSet, service.IPv4), "-sorted").Output()
		must(t, err)
		return string(out)
	}
	before := marks()
	if !strings.Contains(before, "skbmark 0xfa1") {
		t.Errorf("no marks: %s", before)
	}
	must(t, c.Backend.Close())
	c.Backend, err = subject.New(dataplanetest.WithPods)
	must(t, err)
	var all []service.PortChange
	for name, p := range c.State.Ports() {
		all = append(all, service.PortChange{Name: name, After: p})
	}
	must(t, c.Backend.Apply(all))
	got, err := listing()
	must(t, err)
	dataplanetest.EqualContent(t, "after a restart", got, want)
	if after := marks(); after != before {
		t.Errorf("other marks after a restart:\n%s\n%s", before, after)
	}
	must(t, c.Backend.Close())

	// A process that knows of no Service removes them all.
	c.Backend, err = subject.New(dataplanetest.WithPods)
	must(t, err)
	must(t, c.Backend.Apply(nil))
	if left := slices.DeleteFunc(lines(t, "virtual "), func(line string) bool {
		return strings.Contains(line, "203.0.113.1") || strings.Contains(line, "31999")
	}); len(left) > 0 || len(lines(t, "address ")) > 0 {
		t.Errorf("left behind: %v %v", left, lines(t, "address "))
	}
	must(t, c.Backend.Close())
}

// NodePorts follow the node's addresses; an address of a Service that is the
// node's stays where it is, with what else answers there.
func testAddresses(t *testing.T) {
	c := subject.NewScene(t, dataplanetest.WithPods, nil, dataplanetest.OnPod1)
	added := [2]netip.Addr{netip.MustParseAddr("172.16.5.5"), netip.MustParseAddr("fd00:16::55")}
	change := func(verb string, addr netip.Addr) {
		t.Helper()
		must(t, command("ip", "address", verb, fmt.Sprintf("%s/%d", addr, addr.BitLen()), "dev", "lo"))
	}
	for _, addr := range added {
		change("add", addr)
	}
	dataplanetest.AwaitChange(t, c.Backend)
	must(t, c.Backend.Apply(nil))
	c.Ask("a new address", c.Client, added, c.NodePort(), dataplanetest.Translated, "pod1")
	hold(t, netip.AddrPortFrom(added[0], c.NodePort()))
	for _, addr := range added {
		change("delete", addr)
	}
	dataplanetest.AwaitChange(t, c.Backend)
	must(t, c.Backend.Apply(nil))
	for _, line := range append(lines(t, "virtual 172.16.5.5"), lines(t, "virtual [fd00:16::55]")...) {
		if strings.HasSuffix(line, "weight 1") { // flows of before are remembered
			t.Errorf("NodePorts where the node has no address: %v", line)
		}
	}
	// Another node may have it now. That of UDP ends before that of the connection.
	udp := fmt.Sprintf("virtual %s/UDP", netip.AddrPortFrom(added[0], c.NodePort()))
	await(t, "end of the NodePort of UDP", func() bool { return len(lines(t, udp)) == 0 })
	for _, addr := range added {
		if on := lines(t, "address "+addr.String()); len(on) > 0 {
			t.Errorf("an address that the node has lost is back: %v", on)
		}
	}
	vip := c.VIP()[0]
	change("add", vip)
	dataplanetest.AwaitChange(t, c.Backend)
	must(t, c.Backend.Apply(nil))
	if on := lines(t, "address "+vip.String()); len(on) > 0 {
		t.Errorf("%s is on two links", vip)
	}
	c.Ask("an address of the node", c.Client, [2]netip.Addr{vip, vip}, 80, dataplanetest.Translated, "pod1")
	c.Check([]dataplanetest.Cell{{What: "an address of the node, as ever", From: c.Client, Protocol: service.TCP, To: netip.AddrPortFrom(vip, dataplanetest.ServerPort), Want: []string{"node"}, Source: dataplanetest.Own}})
	change("delete", vip)
	dataplanetest.AwaitChange(t, c.Backend)
	must(t, c.Backend.Apply(nil))
	c.Ask("an address of ours", c.Client, c.VIP(), 80, dataplanetest.Translated, "pod1")
	c.Ask("nothing of the node answers there", c.Client, c.VIP(), dataplanetest.ServerPort, "", dataplanetest.Reject)
	c.Ask("nothing of the node answers there", c.Node, c.VIP(), dataplanetest.ServerPort, "", dataplanetest.Reject)
	c.Ask("nor NodePorts", c.Client, c.VIP(), c.NodePort(), "", dataplanetest.Reject)
}

// Time and packets, for the record.
func testColdStart(t *testing.T) {
	l := subject.Lab(t)
	b := subject.Start(t, dataplanetest.WithPods)
	s := service.NewState(dataplanetest.ThisNode)
	dataplanetest.Load(s, l, 100)
	changes := s.Changes().Ports
	begin := time.Now()
	must(t, b.Apply(changes))
	t.Logf("cold start: %d ports in %v", len(changes), time.Since(begin))
	f := dataplanetest.Frontends{Number: 50}
	dataplanetest.SetEndpoints(s, f, dataplanetest.OnPod2(l), dataplanetest.OnRemote(l))
	changes = s.Changes().Ports
	begin = time.Now()
	must(t, b.Apply(changes))
	t.Logf("another endpoint: %d ports in %v", len(changes), time.Since(begin))
	begin = time.Now()
	must(t, b.Apply(nil))
	t.Logf("a look at everything: %v", time.Since(begin))
	l.Check([]dataplanetest.Cell{{What: "cold start", From: l.Client, Protocol: service.TCP, To: netip.AddrPortFrom(f.VIP()[1], 80), Want: []string{"pod2", "remote"}, Source: dataplanetest.Translated}})
}
