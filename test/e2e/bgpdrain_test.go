package e2e

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/fairway-lb/fairway/test/lab"
)

const (
	// drainTime is what the tests' speakers are given: long enough for a busy
	// machine to see the routes meanwhile.
	drainTime = 3 * time.Second
	// gracefulShutdown is the community of RFC 8326 as routers write it.
	gracefulShutdown = "65535:0"
)

// TestBGPDrain takes node n2 out of service in each of the ways that there are.
// Its route first asks for less preference, then goes, and a client that keeps
// asking through the router does not notice.
func TestBGPDrain(t *testing.T) {
	for _, kind := range []lab.RouterKind{lab.FRR, lab.BIRD} {
		t.Run(kind.String(), func(t *testing.T) { drainBGP(t, eachNode(kind, 3)) })
	}
}

func drainBGP(t *testing.T, opts lab.RouterOptions) {
	const prefix = "172.22.0.2/32"
	args := []string{"--drain-time=" + drainTime.String()}
	c := newBGPServedWith(t, 3, args, opts)
	r := c.Router("r1")
	all := []string{"n1", "n2", "n3"}
	asking := func(f func()) {
		c.t.Helper()
		c.hasRoute(r, prefix, all...)
		watch := c.watch(r, prefix)
		client := c.ask(r.Client(), 50, "http://172.22.0.2/")
		f()
		client.stopUnlessMoved(c, watch)
		c.noGaps(watch, prefix)
	}
	// drains waits until n2 has drained, and checks how long it took since the
	// node was told to.
	drains := func(begin time.Time) {
		c.t.Helper()
		c.asksForLess(r, prefix, "n2")
		c.paths(r, prefix, "has no path of n2", []string{"n1", "n3"}, func(path lab.BGPPath) bool {
			return !slices.Contains(path.Communities, gracefulShutdown)
		})
		if took := time.Since(begin); took < drainTime {
			c.t.Errorf("the route was withdrawn %v after the node was to drain, want %v at least", took, drainTime)
		}
		c.hasRoute(r, prefix, "n1", "n3")
	}
	returns := func() {
		c.t.Helper()
		c.paths(r, prefix, "is without "+gracefulShutdown, all, func(path lab.BGPPath) bool {
			return !slices.Contains(path.Communities, gracefulShutdown)
		})
		c.hasRoute(r, prefix, all...)
	}

	c.run("the node is excluded", func(t *testing.T) {
		sessions := c.connections(r)
		asking(func() {
			begin := time.Now()
			c.exclude("n2")
			drains(begin)
			c.include("n2")
			returns()
		})
		c.sameConnections(r, sessions)
	})
	c.run("and included again before it is over", func(t *testing.T) {
		asking(func() {
			c.exclude("n2")
			c.asksForLess(r, prefix, "n2")
			c.include("n2")
			returns()
		})
	})
	c.run("a Service that comes while the node drains is not announced from it after", func(t *testing.T) {
		c.exclude("n2")
		c.asksForLess(r, prefix, "n2")
		c.apply(bgpService("coming", "nginx", "bgp-eip"))
		c.hasIP("dev", "coming", "172.22.0.3")
		c.hasRoute(r, "172.22.0.3/32", "n1", "n3")
		c.paths(r, prefix, "has no path of n2", []string{"n1", "n3"}, func(lab.BGPPath) bool { return true })
		c.include("n2")
		returns()
		c.hasRoute(r, "172.22.0.3/32", all...)
	})
	c.run("its Node is deleted", func(t *testing.T) {
		sessions := c.connections(r)
		node := c.node("n2")
		asking(func() {
			begin := time.Now()
			c.kubectl("delete", "node", "n2")
			drains(begin)
			c.recreate(node)
			returns()
		})
		c.sameConnections(r, sessions)
	})
	c.run("its speaker is stopped without --drain: the router keeps the route", func(t *testing.T) {
		asking(func() {
			if err := c.speakers["n2"].Stop(t.Context()); err != nil {
				t.Fatal(err)
			}
			c.noSession(r, "n2")
			c.paths(r, prefix, "is kept", all, func(path lab.BGPPath) bool {
				return !slices.Contains(path.Communities, gracefulShutdown) && path.Stale == (path.Neighbor == c.Node("n2").Addr4())
			})
			c.hasRoute(r, prefix, all...)
			c.startSpeaker("n2", append(args, "--drain")...)
			c.established(r, "n2")
			returns()
		})
	})
	c.run("its speaker is stopped with --drain: the session is closed after the route", func(t *testing.T) {
		asking(func() {
			begin := time.Now()
			stopped := make(chan error, 1)
			go func() { stopped <- c.speakers["n2"].Stop(t.Context()) }()
			drains(begin)
			if err := <-stopped; err != nil {
				t.Error(err)
			}
			ctx, cancel := contextWithTimeout(t)
			defer cancel()
			// Cease with the subcode Peer De-configured (RFC 4486), in the words of
			// FRR or of BIRD.
			err := r.AwaitSession(ctx, c.Node("n2").Addr4(), "was closed by the node", func(s lab.BGPSession) bool {
				return s.State != lab.Established && strings.Contains(strings.ToLower(s.LastError), "peer de-configured")
			})
			if err != nil {
				t.Error(err)
			}
		})
	})
}

// asksForLess waits until the path of one node, and no other, has the community
// GRACEFUL_SHUTDOWN.
func (c *cluster) asksForLess(r *lab.Router, prefix, node string) {
	c.t.Helper()
	ctx, cancel := contextWithTimeout(c.t)
	defer cancel()
	what := fmt.Sprintf("has %s from %s alone", gracefulShutdown, node)
	_, err := r.AwaitBGPRoute(ctx, netip.MustParsePrefix(prefix), what, func(route lab.BGPRoute) bool {
		found := false
		for _, path := range route.Paths {
			ours := path.Neighbor == c.Node(node).Addr4()
			if slices.Contains(path.Communities, gracefulShutdown) != ours {
				return false
			}
			found = found || ours
		}
		return found
	})
	if err != nil {
		c.t.Fatal(err)
	}
}
