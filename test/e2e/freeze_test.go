package e2e

import (
	"net/netip"
	"syscall"
	"testing"
	"time"

	"github.com/fairway-lb/fairway/test/lab"
)

// heldProbes is for how many probes another node is to hold the address of one
// that is frozen: a second's worth, which pile up in the frozen node's socket.
const heldProbes = 200

// TestOwnerFrozen stops the owner's process, as a paused machine does, until
// another node answers, and lets it go on. It finds the requests of all the
// time in between in its socket, and answers none before the address is its own
// again.
func TestOwnerFrozen(t *testing.T) {
	c := newServed(t)
	c.serveIPv6()

	for _, family := range []string{"192.168.93.231", "fd93::231"} {
		owner := c.ownerOf(family)
		prober, err := c.Probe(netip.MustParseAddr(family), probeInterval)
		if err != nil {
			t.Fatalf("watching the wire: %v", err)
		}
		c.answersFrom(prober, time.Time{}, owner, func(host string) bool { return host == owner })

		c.signal(owner, syscall.SIGSTOP)
		frozen := time.Now()
		c.answersOften(prober, frozen, heldProbes, "another node than "+owner, func(host string) bool { return host != owner })
		c.signal(owner, syscall.SIGCONT)
		c.answersOften(prober, time.Now(), heldProbes, owner+" again", func(host string) bool { return host == owner })

		seen, err := prober.Stop()
		if err != nil {
			t.Fatalf("watching the wire: %v", err)
		}
		c.oneOwnerAtATime(seen)
		if handovers := seen.Handovers(); len(handovers) != 2 {
			t.Errorf("%s: changes of the owner: %v, want two, there and back", family, handovers)
		} else {
			t.Logf("%s: handed over: %v", family, handovers)
		}
	}
}

func (c *cluster) signal(node string, sig syscall.Signal) {
	c.t.Helper()
	if err := c.speakers[node].Signal(sig); err != nil {
		c.t.Fatalf("sending %v to the speaker of %s: %v", sig, node, err)
	}
}

// answersOften waits until a host of the given kind answered this many probes
// after a point in time.
func (c *cluster) answersOften(prober *lab.Prober, after time.Time, times int, what string, is func(host string) bool) {
	c.t.Helper()
	ctx, cancel := contextWithTimeout(c.t)
	defer cancel()
	if _, err := prober.Wait(ctx, func(seen lab.Observations) bool {
		n := 0
		for i := len(seen) - 1; i >= 0 && seen[i].Time.After(after); i-- {
			if seen[i].Kind == lab.Reply && is(seen[i].Host) {
				n++
			}
		}
		return n >= times
	}); err != nil {
		c.t.Fatalf("waiting for %d answers of %s: %v", times, what, err)
	}
}
