package e2e

import (
	"net/netip"
	"testing"
	"time"

	"github.com/fairway-lb/fairway/test/lab"
)

const (
	// failoverBound is the longest silence after the death of an owner: three
	// times the detection time that the speakers' defaults give, for machines
	// that are busy with something else.
	failoverBound = 2 * time.Second
	// probeInterval is how often the client asks who has an address.
	probeInterval = 5 * time.Millisecond
	// conflictWindow is how soon after another host's answer an old owner's answer
	// counts as two owners at a time: many probes, and less than a failover.
	conflictWindow = 100 * time.Millisecond
)

// TestOwnerKilled kills the owner of an address 20 times, of an IPv4 and an
// IPv6 one in turn, and watches the wire all the time: each time exactly one
// other node answers within the failover time, and at no time do two.
func TestOwnerKilled(t *testing.T) {
	c := newServed(t)
	c.serveIPv6()

	var longest time.Duration
	for _, family := range []string{"192.168.93.231", "fd93::231"} {
		addr := netip.MustParseAddr(family)
		c.ownerOf(family)
		prober, err := c.Probe(addr, probeInterval)
		if err != nil {
			t.Fatalf("watching the wire: %v", err)
		}
		for round := range 10 {
			owner := c.ownerOf(family)
			if err := c.speakers[owner].Kill(); err != nil {
				t.Fatal(err)
			}
			killed := time.Now()
			c.answersFrom(prober, killed, "another node than "+owner, func(host string) bool { return host != owner })
			// It comes back and, being first by rendezvous hash, takes the
			// address back, from a holder that is alive.
			c.startSpeaker(owner)
			c.answersFrom(prober, time.Now(), owner+" again", func(host string) bool { return host == owner })
			if t.Failed() {
				t.Fatalf("round %d: stopping", round)
			}
		}
		seen, err := prober.Stop()
		if err != nil {
			t.Fatalf("watching the wire: %v", err)
		}
		c.oneOwnerAtATime(seen)
		handovers := seen.Handovers()
		if len(handovers) != 20 {
			t.Errorf("%s: %d changes of the owner on the wire, want 20 (10 deaths, 10 returns): %v", family, len(handovers), handovers)
		}
		if silence := seen.LongestSilence(); silence > failoverBound {
			t.Errorf("%s: nobody answered for %v", family, silence)
		} else {
			longest = max(longest, silence)
		}
	}
	t.Logf("longest time without an answer: %v", longest)
}

// TestOwnerStopped stops the owner with SIGTERM: the address is handed over,
// without two owners, and without a pause that a client would see.
func TestOwnerStopped(t *testing.T) {
	c := newServed(t)
	addr := netip.MustParseAddr("192.168.93.231")
	owner := c.ownerOf("192.168.93.231")
	prober, err := c.Probe(addr, probeInterval)
	if err != nil {
		t.Fatalf("watching the wire: %v", err)
	}
	c.answersFrom(prober, time.Time{}, owner, func(host string) bool { return host == owner })
	stopped := time.Now()
	if err := c.speakers[owner].Stop(t.Context()); err != nil {
		t.Fatalf("stopping the speaker of %s: %v", owner, err)
	}
	c.answersFrom(prober, stopped, "another node than "+owner, func(host string) bool { return host != owner })
	seen, err := prober.Stop()
	if err != nil {
		t.Fatalf("watching the wire: %v", err)
	}
	c.oneOwnerAtATime(seen)
	if handovers := seen.Handovers(); len(handovers) != 1 {
		t.Errorf("changes of the owner: %v, want one", handovers)
	} else {
		t.Logf("handed over: %v", handovers[0])
	}
	c.reaches("http://192.168.93.231/", "nginx-n1", "nginx-n2", "nginx-n3")
}

// answersFrom waits until a host of the given kind answers a probe that was
// sent after a point in time.
func (c *cluster) answersFrom(prober *lab.Prober, after time.Time, what string, is func(host string) bool) {
	c.t.Helper()
	ctx, cancel := contextWithTimeout(c.t)
	defer cancel()
	if _, err := prober.Wait(ctx, func(seen lab.Observations) bool {
		for i := len(seen) - 1; i >= 0 && seen[i].Time.After(after); i-- {
			if seen[i].Kind == lab.Reply && is(seen[i].Host) {
				return true
			}
		}
		return false
	}); err != nil {
		c.t.Fatalf("waiting for an answer of %s: %v", what, err)
	}
}

// oneOwnerAtATime fails the test if two hosts answered for an address in turn.
func (c *cluster) oneOwnerAtATime(seen lab.Observations) {
	c.t.Helper()
	if conflicts := seen.Conflicts(conflictWindow); len(conflicts) > 0 {
		c.t.Errorf("two nodes answered at a time: %v", conflicts)
	}
	for _, o := range seen.Replies() {
		if o.Host == "" {
			c.t.Errorf("a stranger answered: %v", o)
		}
	}
}
