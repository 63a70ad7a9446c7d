package nftables

import (
	"net/netip"
	"testing"
	"time"

	"github.com/fairway-lb/fairway/dataplane/dataplanetest"
	"github.com/fairway-lb/fairway/dataplane/service"
)

func memoriesOf(t *testing.T, b *Backend, family service.Family) []memory {
	t.Helper()
	var all []memory
	for _, set := range []string{affinitySet, nodePortAffinitySet} {
		m, err := b.socket.memories(family, set)
		must(t, err)
		all = append(all, m...)
	}
	return all
}

func await(t *testing.T, what string, is func() bool) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	end := time.After(20 * time.Second)
	for !is() {
		select {
		case <-tick.C:
		case <-end:
			t.Fatal("not in 20 seconds: ", what)
		}
	}
}

// A new connection prolongs what is left; after that the client is forgotten,
// and so are all once affinity is switched off.
func TestMemories(t *testing.T) {
	const timeout = 4 * time.Second
	c := subject.NewScene(t, dataplanetest.WithPods, dataplanetest.Sticky(timeout), dataplanetest.OnPod1, dataplanetest.OnPod2)
	b := c.Backend.(*Backend)
	to := netip.AddrPortFrom(c.ClusterIP()[service.IPv6], 80)
	left := func() time.Duration {
		m := memoriesOf(t, b, service.IPv6)
		if len(m) == 0 {
			return 0
		}
		return time.Duration(m[0].left) * time.Millisecond
	}
	c.Pod3.Dial(service.TCP, to)
	var before time.Duration
	await(t, "half of the time is over", func() bool { before = left(); return before < timeout/2 })
	c.Pod3.Dial(service.TCP, to)
	if after := left(); before > 0 && after <= before {
		t.Errorf("%v were left before a new connection, %v after", before, after)
	}
	await(t, "the client is forgotten", func() bool { return left() == 0 })

	c.Pod3.Dial(service.TCP, to)
	c.State.SetService(dataplanetest.NewService(c.Frontends, nil))
	dataplanetest.Sync(t, b, c.State)
	if m := memoriesOf(t, b, service.IPv6); len(m) > 0 {
		t.Errorf("%d clients still stay after affinity was switched off", len(m))
	}
}
