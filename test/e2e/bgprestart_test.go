package e2e

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/osrg/gobgp/v3/pkg/packet/bgp"

	"github.com/fairway-lb/fairway/test/lab"
)

// newRestartable is a cluster whose one session of each node carries the routes
// of web and web6 to every router; more are further lines of the BgpPeers' spec.
func newRestartable(t *testing.T, nodes int, more []string, routers ...lab.RouterOptions) *cluster {
	t.Helper()
	c := newUnpeered(t, nodes, routers...)
	c.serveWeb()
	c.apply(bgpConf("listenPort: 17900"))
	for _, r := range c.Routers() {
		if r.Options().Kind != lab.NoDaemon {
			c.apply(bgpPeer(r.Name(), r.Addr4().String(), routersAS, slices.Concat(twoFamilies(), more)...))
			c.hasRoute(r, web4, c.nodeNames()...)
			c.hasRoute(r, web6, c.nodeNames()...)
		}
	}
	return c
}

// restart ends a node's speaker, by SIGTERM as a roll-out does or by SIGKILL, and
// starts it again. It returns when the routers have its new session and nothing
// of the old one.
func (c *cluster) restart(node string, kill bool) {
	c.t.Helper()
	before := map[*lab.Router][]string{}
	for _, r := range c.Routers() {
		before[r] = c.connections(r)
	}
	c.end(node, kill)
	c.startSpeaker(node)
	for r, connections := range before {
		c.replaces(r, connections)
		for _, prefix := range []string{web4, web6} {
			c.paths(r, prefix, "has fresh paths", c.nodeNames(), func(p lab.BGPPath) bool { return !p.Stale })
		}
	}
}

func (c *cluster) end(node string, kill bool) {
	c.t.Helper()
	end := c.speakers[node].Kill
	if !kill {
		end = func() error { return c.speakers[node].Stop(c.t.Context()) }
	}
	if err := end(); err != nil {
		c.t.Fatalf("ending the speaker of %s: %v", node, err)
	}
}

// keeps fails the test if a route was ever without one of the next hops since
// the watch began.
func (c *cluster) keeps(w *lab.RouteWatch, prefix string) {
	c.t.Helper()
	c.noGaps(w, prefix)
	want := c.hops(netip.MustParsePrefix(prefix), c.nodeNames())
	for _, change := range w.Changes(netip.MustParsePrefix(prefix)) {
		var via []netip.Addr
		for _, hop := range change.NextHops {
			via = append(via, hop.Via)
		}
		if !slices.Equal(via, want) {
			c.t.Errorf("the route to %s was %s via %v, want %v", prefix, change.Kind, via, want)
		}
	}
}

// TestBGPRestart kills and replaces speakers, ten times one after the other. No
// router loses a route or a next hop meanwhile, and a client behind each, that
// asks 100 times a second, no answer.
func TestBGPRestart(t *testing.T) {
	c := newRestartable(t, 3, nil, frrRouter(), birdRouter())
	watches := map[*lab.Router]*lab.RouteWatch{}
	var clients []*traffic
	for _, r := range c.Routers() {
		watches[r] = c.watch(r, web4, web6)
		clients = append(clients, c.ask(r.Client(), 100, "http://172.22.0.2/", "http://[2001:db8:22::2]/"))
	}
	for round := range 10 {
		node := c.nodeNames()[round%3]
		c.restart(node, round%2 == 0)
	}
	for _, client := range clients {
		client.stop(c)
	}
	for _, w := range watches {
		c.keeps(w, web4)
		c.keeps(w, web6)
	}
}

// TestBGPRestartManyRoutes restarts the speaker of the only node, which announces
// 200 addresses, while a Service is deleted and another one made. Its peers get
// all that is left, the new one among it, before End-of-RIB; nothing else changes.
func TestBGPRestartManyRoutes(t *testing.T) {
	const services = 200
	c := newRestartable(t, 1, nil, frrRouter(), birdRouter(), lab.RouterOptions{Kind: lab.NoDaemon})
	var documents strings.Builder
	for i := 1; i < services; i++ { // web is one too
		documents.WriteString(bgpService(fmt.Sprintf("many-%d", i), "nginx", "bgp-eip"))
	}
	c.apply(documents.String())
	deleted, made := "many-7", "late"
	gone := c.hasSomeIP("dev", deleted)
	pool := netip.MustParsePrefix("172.22.0.0/24")
	ctx, cancel := contextWithTimeout(t)
	defer cancel()
	watches := map[*lab.Router]*lab.RouteWatch{}
	for _, r := range c.Routers()[:2] {
		watches[r] = c.watch(r)
		if _, err := watches[r].WaitCount(ctx, pool, services); err != nil {
			t.Fatal(err)
		}
	}

	// The third router tells what is on the wire.
	third := c.Routers()[2]
	listener, err := third.ListenBGP(179)
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	c.apply(bgpPeer(third.Name(), third.Addr4().String(), routersAS))
	first := c.accept(listener)
	first.awaitEndOfRIB(c, services)
	begin := time.Now()

	c.end("n1", true)
	c.kubectl("delete", "service", deleted, "-n", "dev", "--wait=false")
	c.apply(bgpService(made, "nginx", "bgp-eip"))
	came := c.hasSomeIP("dev", made)
	c.kubectl("wait", "--for=delete", "-n", "dev", "service/"+deleted, "--timeout=60s")
	c.startSpeaker("n1")
	second := c.accept(listener)
	second.preservesForwarding(c)
	second.awaitEndOfRIB(c, services)
	if announced := second.announced(); announced[gone+"/32"] && came != gone || !announced[came+"/32"] {
		t.Errorf("%s, which is gone, or not %s, which is new, is among %v", gone, came, announced)
	}
	for r, w := range watches {
		c.hasRoute(r, came+"/32", "n1")
		if came != gone {
			c.noRoute(r, gone+"/32")
		}
		for _, change := range w.Changes(netip.Prefix{}) {
			addr := change.Prefix.Addr().String()
			if change.Time.After(begin) && addr != gone && addr != came {
				t.Errorf("%s: the route to %s was %s", r.Name(), change.Prefix, change.Kind)
			}
		}
		if err := w.Err(); err != nil {
			t.Error(err)
		}
	}
}

// heard is a session of a test that the node opened.
type heard struct {
	*lab.BGPConn
	open *bgp.BGPOpen
}

// accept waits until a node opens a session.
func (c *cluster) accept(listener *lab.BGPListener) heard {
	c.t.Helper()
	ctx, cancel := contextWithTimeout(c.t)
	defer cancel()
	conn, err := listener.Accept(ctx)
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() {
		if err := conn.Close(); err != nil {
			c.t.Error(err)
		}
	})
	restart := bgp.NewCapGracefulRestart(false, false, 120, []*bgp.CapGracefulRestartTuple{bgp.NewCapGracefulRestartTuple(bgp.RF_IPv4_UC, true)})
	open, err := conn.Establish(ctx, lab.BGPOpen{AS: routersAS, Hold: 90 * time.Second, Capabilities: []bgp.ParameterCapabilityInterface{restart}})
	if err != nil {
		c.t.Fatal(err)
	}
	// The other side waits for the routes of this one, of which there are none.
	if err := conn.Send(bgp.NewEndOfRib(bgp.RF_IPv4_UC)); err != nil {
		c.t.Fatal(err)
	}
	return heard{conn, open}
}

// announced are the prefixes that were announced and not withdrawn until now.
func (h heard) announced() map[string]bool {
	prefixes := map[string]bool{}
	for _, m := range h.Received() {
		update, ok := m.Body.(*bgp.BGPUpdate)
		if !ok {
			continue
		}
		for _, p := range update.NLRI {
			prefixes[p.String()] = true
		}
		for _, p := range update.WithdrawnRoutes {
			delete(prefixes, p.String())
		}
	}
	return prefixes
}

// awaitEndOfRIB waits for the marker (RFC 4724, 2). Before it so many prefixes
// must have been announced.
func (h heard) awaitEndOfRIB(c *cluster, prefixes int) {
	c.t.Helper()
	c.eventually("End-of-RIB", func() string {
		before := 0
		for _, m := range h.Received() {
			update, ok := m.Body.(*bgp.BGPUpdate)
			if !ok {
				continue
			}
			if end, _ := update.IsEndOfRib(); end {
				if before != prefixes {
					c.t.Errorf("%d prefixes were announced before End-of-RIB, want %d", before, prefixes)
				}
				return ""
			}
			before += len(update.NLRI)
		}
		return fmt.Sprintf("%d prefixes so far", before)
	})
}

// preservesForwarding fails the test unless the node said that it restarts, and
// forwarded all the time.
func (h heard) preservesForwarding(c *cluster) {
	c.t.Helper()
	for _, option := range h.open.OptParams {
		capabilities, ok := option.(*bgp.OptionParameterCapability)
		if !ok {
			continue
		}
		for _, capability := range capabilities.Capability {
			restart, ok := capability.(*bgp.CapGracefulRestart)
			if !ok {
				continue
			}
			const restartState, forwarding = 0x08, 0x80 // RFC 4724, 3
			if restart.Flags&restartState == 0 || len(restart.Tuples) != 1 || restart.Tuples[0].Flags&forwarding == 0 {
				c.t.Errorf("the capability for graceful restart is %+v of %+v", restart, restart.Tuples)
			}
			return
		}
	}
	c.t.Error("there is no capability for graceful restart")
}

// TestBGPSpeakerStaysAway: routers keep the routes of a speaker that does not
// come back for the restart time, and not at all where it is off.
func TestBGPSpeakerStaysAway(t *testing.T) {
	const restartTime = 4 * time.Second
	bothRouters(t, func(t *testing.T, opts lab.RouterOptions) {
		c := newRestartable(t, 1, []string{"gracefulRestart: {enabled: true, restartTime: 4}"}, opts)
		r := c.Router("r1")
		if took := c.gone(r, true); took < restartTime-time.Second {
			t.Errorf("the routes were kept for %v, want %v", took, restartTime)
		}
		c.startSpeaker("n1")
		c.hasRoute(r, web4, "n1")
		c.hasRoute(r, web6, "n1")

		before := c.connections(r)
		c.apply(bgpPeer(r.Name(), r.Addr4().String(), routersAS, append(twoFamilies(), "gracefulRestart: {enabled: false}")...))
		c.replaces(r, before) // the OPEN says whether there is graceful restart
		c.hasRoute(r, web4, "n1")
		c.hasRoute(r, web6, "n1")
		for _, kill := range []bool{true, false} {
			if took := c.gone(r, kill); took > restartTime {
				t.Errorf("the routes were kept for %v, want none", took)
			}
			c.startSpeaker("n1")
			c.hasRoute(r, web4, "n1")
			c.hasRoute(r, web6, "n1")
		}
	})
}

// gone ends the speaker of n1 and returns how long the router kept its routes.
func (c *cluster) gone(r *lab.Router, kill bool) time.Duration {
	c.t.Helper()
	ctx, cancel := contextWithTimeout(c.t)
	defer cancel()
	w := c.watch(r, web4, web6)
	defer w.Close()
	begin := time.Now()
	c.end("n1", kill)
	first := time.Duration(-1)
	for _, prefix := range []string{web4, web6} {
		at, err := w.Wait(ctx, netip.MustParsePrefix(prefix))
		if err != nil {
			c.t.Fatal(err)
		}
		if took := at.Sub(begin); first < 0 || took < first {
			first = took
		}
	}
	c.t.Logf("%s: the routes were kept for %v (killed: %t)", r.Options().Kind, first, kill)
	return first
}

// TestBGPRestartBesideDeadPeer: a neighbor that does not answer delays no route
// to the others, not when a speaker starts and not when it comes back.
func TestBGPRestartBesideDeadPeer(t *testing.T) {
	const moment = 20 * time.Second // of a restart that takes 2 s on an idle machine
	c := newRestartable(t, 1, nil, frrRouter(), birdRouter())
	c.apply(bgpPeer("dead", "192.168.93.77", routersAS))
	c.end("n1", true)
	c.apply(bgpService("late", "nginx", "bgp-eip"))
	late := c.hasSomeIP("dev", "late")
	begin := time.Now()
	c.startSpeaker("n1")
	for _, r := range c.Routers() {
		c.hasRoute(r, late+"/32", "n1")
	}
	if took := time.Since(begin); took > moment {
		t.Errorf("the new route was announced after %v", took)
	} else {
		t.Logf("the new route was announced after %v", took)
	}
}
