package dataplanetest

import (
	"fmt"
	"net/netip"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/fairway-lb/fairway/dataplane/service"
	"github.com/fairway-lb/fairway/internal/uml"
)

// forgetFlows removes what the kernel remembers of connections: a client that
// uses a port again would go where it went before. It is not a backend's task.
func (l *Lab) forgetFlows() {
	l.T.Helper()
	must(l.T, netlink.ConntrackTableFlush(netlink.ConntrackTable))
}

// prober connects again and again until it is stopped, and fails the test for
// whatever is not one of the hosts.
func (c *Scene) prober(from *Host, protocol service.Protocol, to netip.AddrPort, total *atomic.Int64, want ...string) (stop func()) {
	done, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		for {
			select {
			case <-done:
				return
			default:
			}
			begin := time.Now()
			if got := from.Dial(protocol, to); !slices.Contains(want, got.Who) {
				c.T.Errorf("%s -> %s %v: got %s after %v, want %v", from.Name, protocol, to, got.Who, time.Since(begin), want)
			}
			total.Add(1)
		}
	}()
	return func() { close(done); <-ended }
}

// Probers connect to all kinds of frontends, by all protocols and families,
// until they are stopped. Whoever else but those wanted answers, and nobody,
// fails the test.
func (c *Scene) Probers(want ...string) (stop func()) {
	var stops []func()
	var total atomic.Int64
	for family := range 2 {
		for _, p := range []service.Protocol{service.TCP, service.UDP} {
			for _, way := range c.ways(family) {
				stops = append(stops, c.prober(way.from, p, way.to, &total, want...))
			}
		}
	}
	end := sync.OnceFunc(func() {
		for _, stop := range stops {
			stop()
		}
	})
	c.T.Cleanup(end) // also of a test that fails
	return func() {
		end()
		c.T.Logf("%d connections", total.Load())
		if total.Load() < 100 {
			c.T.Error("too few connections to prove anything")
		}
	}
}

// ChurnVariable is the environment's, and how long everything changes, as in
// 10m. Without it, it is a few bursts.
const ChurnVariable = "FAIRWAY_CHURN"

// churnBursts are a few. A guest takes long for each.
var churnBursts = func() int {
	if uml.Inside() {
		return 1
	}
	return 3
}()

// Endpoints come, go and change place under traffic; so do policies and
// affinity, and Services beside. Whenever there is a pause, what is in the kernel
// is as after a fresh start, which follows under traffic too.
func testChurn(t *testing.T, subject Subject) {
	end := func(burst int, _ time.Time) bool { return burst == churnBursts }
	if text := os.Getenv(ChurnVariable); text != "" {
		long, err := time.ParseDuration(text)
		must(t, err)
		begun := time.Now()
		end = func(_ int, now time.Time) bool { return now.Sub(begun) > long }
	}
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	c := subject.NewScene(t, WithPods, nil, OnPod1)
	chaos := subject.newChaos(c.Lab, c.State, seed)
	stop := c.Probers("pod1", "pod2", "remote")
	const first, others = 2, 6 // beside the one that is probed
	for burst := 0; !end(burst, time.Now()) && !t.Failed(); burst++ {
		for range 60 {
			chaos.strikeProbed(c.Frontends)
			for range chaos.random.IntN(3) {
				chaos.strike(first, others)
			}
			Sync(t, c.Backend, c.State)
			if chaos.random.IntN(3) == 0 {
				c.Pod3.Dial(service.TCP, netip.AddrPortFrom(c.ClusterIP()[0], 80)) // let others have a turn
			}
		}
		got := subject.content(t)
		must(t, c.Backend.Close())
		b, err := subject.New(WithPods)
		must(t, err)
		*c.backend = b
		c.Backend = b
		must(t, b.Apply(everything(c.State)))
		EqualContent(t, fmt.Sprintf("after burst %d", burst), got, subject.content(t))
	}
	stop()
	c.State.SetService(NewService(c.Frontends, nil))
	c.Set(OnPod2(c.Lab))
	c.forgetFlows()
	c.Ask("in the end", c.Client, c.VIP(), 80, Translated, "pod2")
}

// Another process takes over under traffic.
func testRestart(t *testing.T, subject Subject) {
	c := subject.NewScene(t, WithPods, nil, OnPod1, OnPod2)
	want := subject.content(t)
	stop := c.Probers("pod1", "pod2")
	restarts := 20
	if uml.Inside() {
		restarts = 6
	}
	for i := range restarts {
		b, err := subject.New(WithPods)
		must(t, err)
		must(t, b.Apply(everything(c.State)))
		must(t, b.Close())
		c.Pod3.Dial(service.TCP, netip.AddrPortFrom(c.ClusterIP()[i%2], 80))
	}
	stop()
	EqualContent(t, "after restarts", subject.content(t), want)
}

// What someone else spoils is noticed and made good.
func testSelfHeal(t *testing.T, subject Subject) {
	c := subject.NewScene(t, WithPods, nil, OnPod1, OnRemote)
	want := subject.content(t)
	for _, damage := range subject.Damage {
		must(t, damage.Do())
		AwaitChange(t, c.Backend)
		must(t, c.Backend.Apply(nil))
		EqualContent(t, damage.Name, subject.content(t), want)
		c.Ask(damage.Name, c.Client, c.VIP(), 80, Translated, "pod1", "remote")
	}
}

func testCleanup(t *testing.T, subject Subject) {
	subject.Lab(t)
	before := subject.content(t)
	b, err := subject.New(WithPods)
	must(t, err)
	must(t, b.Apply(nil))
	must(t, b.Close())
	if stays := subject.content(t); slices.Equal(stays, before) {
		t.Error("what a process leaves behind is gone with it")
	}
	for range 2 {
		must(t, subject.Cleanup())
		EqualContent(t, "after Cleanup", subject.content(t), before)
	}
}

// Load makes that many Services with an endpoint on the node and one on
// another.
func Load(s *service.State, l *Lab, count int) {
	for i := range count {
		f := Frontends{i}
		s.SetService(NewService(f, nil))
		SetEndpoints(s, f, OnPod1(l), OnRemote(l))
	}
}

// Whatever the way, what is in the kernel in the end is as after a fresh
// start.
func testIdempotence(t *testing.T, subject Subject) {
	l := subject.Lab(t)
	config := WithPods
	config.NodeAddresses = []netip.Addr{l.Node.Addrs[0], l.Node.Addrs[1]}
	b := subject.Start(t, config)
	s := service.NewState(ThisNode)
	chaos := subject.newChaos(l, s, 1)
	steps := 600
	if uml.Inside() {
		steps = 300
	}
	for step := range steps {
		chaos.strike(0, 8)
		if chaos.coin() {
			Sync(t, b, s)
		}
		if step%150 != 149 {
			continue
		}
		Sync(t, b, s)
		got := subject.content(t)
		must(t, subject.Cleanup())
		fresh := subject.Start(t, config)
		must(t, fresh.Apply(everything(s)))
		EqualContent(t, fmt.Sprintf("after %d steps", step+1), got, subject.content(t))
		AwaitChange(t, b)
		must(t, b.Apply(nil))
		EqualContent(t, "made anew", subject.content(t), got)
	}
}
