package e2e

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/fairway-lb/fairway/test/lab"
)

const (
	// drainTime is what the tests' speakers are given: long enough for a busy
	// machine to see the routes meanwhile.
	drainTime = 3 * time.Second
	// gracefulShutdown is the community of RFC 8326 as routers write it.
	gracefulShutdown = "65535:0"
)

// eachNode has a router's daemon know the nodes by their addresses, so that it
// tells why it lost the session of one. It leaves it to them to connect.
func eachNode(kind lab.RouterKind, nodes ...string) lab.RouterOptions {
	opts := lab.RouterOptions{Kind: kind, AS: routersAS}
	for _, node := range nodes {
		opts.Neighbors = append(opts.Neighbors, lab.Neighbor{Address: netip.MustParseAddr(node), AS: nodesAS, Passive: true})
	}
	return opts
}

// TestBGPDrain takes node n2 out of service in each of the ways that there are.
// Its route first asks for less preference, then goes, and a client that keeps
// asking through the router does not notice.
func TestBGPDrain(t *testing.T) {
	for _, kind := range []lab.RouterKind{lab.FRR, lab.BIRD} {
		t.Run(kind.String(), func(t *testing.T) { drainBGP(t, eachNode(kind, "192.168.93.11", "192.168.93.12", "192.168.93.13")) })
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
		requests := startRequests(c, r.Client(), "http://172.22.0.2/")
		f()
		requests.stop(c, watch)
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
			c.kubectl("label", "node", "n2", corev1.LabelNodeExcludeBalancers+"=")
			drains(begin)
			c.kubectl("label", "node", "n2", corev1.LabelNodeExcludeBalancers+"-")
			returns()
		})
		c.sameConnections(r, sessions)
	})
	c.run("and included again before it is over", func(t *testing.T) {
		asking(func() {
			c.kubectl("label", "node", "n2", corev1.LabelNodeExcludeBalancers+"=")
			c.asksForLess(r, prefix, "n2")
			c.kubectl("label", "node", "n2", corev1.LabelNodeExcludeBalancers+"-")
			returns()
		})
	})
	c.run("a Service that comes while the node drains is not announced from it after", func(t *testing.T) {
		c.kubectl("label", "node", "n2", corev1.LabelNodeExcludeBalancers+"=")
		c.asksForLess(r, prefix, "n2")
		c.apply(bgpService("coming", "nginx", "bgp-eip"))
		c.hasIP("dev", "coming", "172.22.0.3")
		c.hasRoute(r, "172.22.0.3/32", "n1", "n3")
		c.paths(r, prefix, "has no path of n2", []string{"n1", "n3"}, func(lab.BGPPath) bool { return true })
		c.kubectl("label", "node", "n2", corev1.LabelNodeExcludeBalancers+"-")
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

// recreate makes a Node that was deleted again, with its status.
func (c *cluster) recreate(node *corev1.Node) {
	c.t.Helper()
	node.ResourceVersion, node.UID = "", ""
	created := node.DeepCopy()
	if err := c.api.Create(c.t.Context(), created); err != nil {
		c.t.Fatalf("making Node %s again: %v", node.Name, err)
	}
	created.Status = node.Status
	if err := c.api.Status().Update(c.t.Context(), created); err != nil {
		c.t.Fatalf("writing the status of Node %s: %v", node.Name, err)
	}
}

// requests are one request after the other, each on a connection of its own.
type requests struct {
	quit    chan struct{}
	done    sync.WaitGroup
	count   int
	failed  []failure
	longest time.Duration
}

type failure struct {
	begin time.Time
	err   error
}

// pause between requests makes it rare that one is under way when the router's
// route changes.
const requestPause = 20 * time.Millisecond

func startRequests(c *cluster, from *lab.Namespace, url string) *requests {
	r := &requests{quit: make(chan struct{})}
	ctx := c.t.Context()
	r.done.Go(func() {
		ticker := time.NewTicker(requestPause)
		defer ticker.Stop()
		for {
			select {
			case <-r.quit:
				return
			case <-ctx.Done():
				return
			case <-ticker.C:
			}
			begin := time.Now()
			_, err := from.Get(ctx, url)
			r.count++
			r.longest = max(r.longest, time.Since(begin))
			if err != nil {
				r.failed = append(r.failed, failure{begin, err})
			}
		}
	})
	return r
}

// stop ends the requests and fails the test if one has failed. A connection
// that is under way when the router's route changes may be sent to another node
// by the router, which no announcement can help.
func (r *requests) stop(c *cluster, watch *lab.RouteWatch) {
	c.t.Helper()
	close(r.quit)
	r.done.Wait()
	moved := 0
	for _, f := range r.failed {
		if slices.ContainsFunc(watch.Changes(netip.Prefix{}), func(change lab.RouteChange) bool {
			since := change.Time.Sub(f.begin)
			return since > 0 && since < 5*requestPause
		}) {
			moved++
			continue
		}
		c.t.Errorf("a request at %s failed: %v", f.begin.Format(time.TimeOnly), f.err)
	}
	if r.count == 0 {
		c.t.Error("no request was made")
	}
	c.t.Logf("%d requests, the slowest %v, %d were under way when the router's route changed and failed", r.count, r.longest, moved)
}
