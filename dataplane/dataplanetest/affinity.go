package dataplanetest

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/fairway-lb/fairway/dataplane/service"
)

// Sticky sets sessionAffinity: ClientIP.
func Sticky(timeout time.Duration) func(*corev1.ServiceSpec) {
	seconds := int32(timeout / time.Second)
	return func(s *corev1.ServiceSpec) {
		s.SessionAffinity = corev1.ServiceAffinityClientIP
		s.SessionAffinityConfig = &corev1.SessionAffinityConfig{ClientIP: &corev1.ClientIPConfig{TimeoutSeconds: &seconds}}
	}
}

func testAffinity(t *testing.T, subject Subject) {
	c := subject.NewScene(t, WithPods, Sticky(10*time.Minute), OnPod1, OnPod2, OnRemote)
	places := func(family int) []netip.AddrPort {
		return []netip.AddrPort{
			netip.AddrPortFrom(c.ClusterIP()[family], 80),
			netip.AddrPortFrom(c.VIP()[family], 80),
			netip.AddrPortFrom(c.Node.Addrs[family], c.NodePort()),
		}
	}
	type visit struct {
		from     *Host
		protocol service.Protocol
		to       netip.AddrPort
	}
	chosen := map[visit]string{}
	ask := func(what string) {
		t.Helper()
		for family := range 2 {
			for _, to := range places(family) {
				for _, from := range []*Host{c.Pod3, c.Node, c.Client} {
					for _, p := range []service.Protocol{service.TCP, service.UDP} {
						v := visit{from, p, to}
						got := from.Dial(p, to)
						if chosen[v] == "" {
							chosen[v] = got.Who
						}
						if got.Who != chosen[v] || got.Who == Drop || got.Who == Reject {
							t.Errorf("%s: %s -> %s %v: got %s, want %s", what, from.Name, p, to, got.Who, chosen[v])
						}
					}
				}
			}
		}
	}
	for range 6 {
		ask("again")
	}
	restarted := subject.Start(t, WithPods)
	must(t, restarted.Apply(everything(c.State)))
	c.Backend = restarted
	ask("after a restart")

	// An endpoint leaves: whoever stayed there chooses again, all others stay.
	for v, who := range chosen {
		if who == "pod1" {
			delete(chosen, v)
		}
	}
	c.Set(OnPod2(c.Lab), OnRemote(c.Lab))
	c.forgetFlows()
	for range 3 {
		ask("after pod1 left")
	}
	for v, who := range chosen {
		if who == "pod1" {
			t.Errorf("%s -> %s %v: pod1, which has left", v.from.Name, v.protocol, v.to)
		}
	}
	c.State.SetService(NewService(c.Frontends, nil))
	Sync(t, c.Backend, c.State)
	c.Ask("without affinity", c.Pod3, c.ClusterIP(), 80, Own, "pod2", "remote")
}

// A client that came again within the timeout stays, one that did not is free
// to go elsewhere.
func testAffinityTimeout(t *testing.T, subject Subject) {
	const timeout = 4 * time.Second
	c := subject.NewScene(t, WithPods, Sticky(timeout), OnPod1, OnPod2)
	to := netip.AddrPortFrom(c.ClusterIP()[service.IPv6], 80)
	first := c.Pod3.Dial(service.TCP, to)
	last := time.Now()
	for range 3 * 4 {
		<-time.After(time.Until(last.Add(timeout / 4)))
		got := c.Pod3.Dial(service.TCP, to)
		now := time.Now()
		if now.Sub(last) < timeout*9/10 && got.Who != first.Who {
			t.Fatalf("went to %s, then to %s after %v", first.Who, got.Who, now.Sub(last))
		} else if got.Who != first.Who {
			first = got // the machine was too busy to come in time
		}
		last = now
	}
	// Pauses of more than the timeout have chance decide again, each time.
	var seen []string
	for range 12 {
		<-time.After(timeout + timeout/4)
		if got := c.Pod3.Dial(service.TCP, to); !slices.Contains(seen, got.Who) {
			seen = append(seen, got.Who)
		}
		if len(seen) == 2 {
			return
		}
	}
	t.Errorf("after every pause the client went to %v", seen)
}
