package e2e

import (
	"fmt"
	"net/netip"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fairway-lb/fairway/api/v1alpha2"
	"github.com/fairway-lb/fairway/test/lab"
)

const (
	// fastBFD is the line of a BgpPeer for a path that counts as lost after 300 ms.
	fastBFD = "bfd: {minTx: 100, minRx: 100, detectMultiplier: 3}"
	// lossBound is the longest time that a lost path may stay in use: more than
	// three times the detection time, for machines that are busy with something
	// else.
	lossBound = time.Second
)

// watched makes a router's neighbors use BFD as fastBFD has it.
func watched(n *lab.Neighbor) {
	n.BFD = &lab.BFDProfile{MinTx: 100 * time.Millisecond, MinRx: 100 * time.Millisecond, Multiplier: 3}
}

// bfdIs waits until a BgpPeer's BFD sessions of some nodes have a state.
func (c *cluster) bfdIs(peer, state string, nodes ...string) {
	c.t.Helper()
	c.eventually(fmt.Sprintf("BFD of BgpPeer %s is %s", peer, state), func() string {
		for _, node := range nodes {
			if is := c.bgpPeer(peer).Status.NodesPeerStatus[node].BFDState; is == nil || is.SessionState != state {
				return fmt.Sprintf("on %s it is %+v", node, is)
			}
		}
		return ""
	})
}

// flops is how often a node's session was lost, as its status says.
func (c *cluster) flops(peer, node string) v1alpha2.Uint32 {
	c.t.Helper()
	return c.bgpPeer(peer).Status.NodesPeerStatus[node].PeerState.Flops
}

// TestBGPBFD cuts the path between a node and a router that use BFD over IPv4 and
// over IPv6: the node is out of both routes' next hops within the detection
// time, and the node closes the sessions too. Then the path is healed.
func TestBGPBFD(t *testing.T) {
	for _, opts := range []lab.RouterOptions{frrRouter(watched), birdRouter(watched)} {
		t.Run(opts.Kind.String(), func(t *testing.T) {
			c := newUnpeered(t, 2, opts)
			c.serveWeb()
			r, lost := c.Router("r1"), c.Node("n1")
			c.apply(bgpConf("listenPort: 17900") +
				bgpPeer("tor4", r.Addr4().String(), routersAS, fastBFD) +
				bgpPeer("tor6", r.Addr6().String(), routersAS, fastBFD))
			whole := func() {
				c.t.Helper()
				c.hasRoute(r, web4, "n1", "n2")
				c.hasRoute(r, web6, "n1", "n2")
				for _, peer := range []string{"tor4", "tor6"} {
					c.bfdIs(peer, "Up", "n1", "n2")
					for _, node := range []string{"n1", "n2"} {
						c.sessionIs(peer, node, v1alpha2.ConditionEstablished, metav1.ConditionTrue)
					}
				}
			}
			whole()
			for round := range 2 {
				w := c.watch(r, web4, web6)
				cut := time.Now()
				if err := c.Partition(r.Host, lost); err != nil {
					t.Fatal(err)
				}
				ctx, cancel := contextWithTimeout(t)
				defer cancel()
				for _, prefix := range []string{web4, web6} {
					p := netip.MustParsePrefix(prefix)
					at, err := w.Wait(ctx, p, c.hops(p, []string{"n2"})...)
					if err != nil {
						t.Fatal(err)
					}
					t.Logf("round %d: %s is without the lost next hop after %v", round, prefix, at.Sub(cut))
					if took := at.Sub(cut); took > lossBound {
						t.Errorf("round %d: %s lost the next hop after %v, want %v", round, prefix, took, lossBound)
					}
				}
				for _, peer := range []string{"tor4", "tor6"} {
					c.sessionIs(peer, "n1", v1alpha2.ConditionEstablished, metav1.ConditionFalse, "BFD")
					c.eventually("BgpPeer "+peer+" says why BFD is down", func() string {
						if is := c.bgpPeer(peer).Status.NodesPeerStatus["n1"].BFDState; is == nil || is.Diagnostic == "" {
							return fmt.Sprintf("its state is %+v", is)
						}
						return ""
					})
					c.hasEvent("BgpPeer", "", peer, "Warning SessionDown", "node n1", "BFD")
				}
				c.hasMetric("n1", fmt.Sprintf("fairway_bgp_session_up{neighbor=%q,peer=\"tor4\"}", r.Addr4()), "0")
				for _, peer := range []string{"tor4", "tor6"} {
					if flops := c.flops(peer, "n2"); flops != 0 {
						t.Errorf("the session of n2 with %s was lost %d times", peer, flops)
					}
				}
				if err := c.Heal(r.Host, lost); err != nil {
					t.Fatal(err)
				}
				whole()
				w.Close()
			}
		})
	}
}

// TestBGPBFDMultihop is the same with a router two hops away.
func TestBGPBFDMultihop(t *testing.T) {
	c := newUnpeered(t, 1, lab.RouterOptions{Kind: lab.NoDaemon})
	c.serveWeb()
	c.apply(bgpConf())
	node := c.Node("n1")
	for kind, arrivesWith := range map[lab.RouterKind]int{
		lab.FRR:  254,
		lab.BIRD: 63, // it sends multihop packets with the kernel's usual TTL
	} {
		c.run(kind.String(), func(t *testing.T) {
			r := c.addRouter(lab.RouterOptions{Kind: kind, AS: routersAS})
			defer twoHops(c, r, node)()
			c.reconfigure(r, func(o *lab.RouterOptions) {
				far := lab.Neighbor{Address: node.Addr4(), AS: nodesAS, MultihopTTL: 2, UpdateSource: farAddress(r)}
				watched(&far)
				o.Neighbors = []lab.Neighbor{far}
			})
			c.apply(bgpPeer(r.Name(), farAddress(r).String(), routersAS, "ebgpMultihop: {enabled: true, multihopTtl: 2}",
				fmt.Sprintf("bfd: {minTx: 100, minRx: 100, detectMultiplier: 3, multihop: true, minimumTTL: %d}", arrivesWith)))
			ctx, cancel := contextWithTimeout(t)
			defer cancel()
			p := netip.MustParsePrefix(web4)
			w := c.watch(r, web4)
			defer w.Close()
			c.bfdIs(r.Name(), "Up", "n1")
			if err := r.WaitBFD(ctx, node.Addr4(), "Up"); err != nil {
				t.Fatal(err)
			}
			if s, err := r.BFD(ctx, node.Addr4()); err != nil || !s.Multihop {
				t.Errorf("the router's BFD session is %+v: %v", s, err)
			}
			if _, err := w.WaitCount(ctx, p, 1); err != nil {
				t.Fatal(err)
			}
			cut := time.Now()
			if err := c.Partition(c.Router("r1").Host, node); err != nil {
				t.Fatal(err)
			}
			at, err := w.Wait(ctx, p)
			if err != nil {
				t.Fatal(err)
			}
			t.Logf("the route is gone after %v", at.Sub(cut))
			if took := at.Sub(cut); took > lossBound {
				t.Errorf("the route is gone after %v, want %v", took, lossBound)
			}
			c.sessionIs(r.Name(), "n1", v1alpha2.ConditionEstablished, metav1.ConditionFalse, "BFD")
			if err := c.Heal(c.Router("r1").Host, node); err != nil {
				t.Fatal(err)
			}
			c.bfdIs(r.Name(), "Up", "n1")
			if _, err := w.WaitCount(ctx, p, 1); err != nil {
				t.Fatal(err)
			}
			c.kubectl("delete", "bgppeer", r.Name())
		})
	}
}

// TestBGPBFDSparesBGP: as long as no path is lost, nothing that BFD does ends a
// BGP session.
func TestBGPBFDSparesBGP(t *testing.T) {
	bothRouters(t, func(t *testing.T, opts lab.RouterOptions) {
		c := newUnpeered(t, 1, opts)
		c.serveWeb()
		r := c.Router("r1")
		node := c.Node("n1")
		own := func(change func(*lab.Neighbor)) {
			c.reconfigure(r, func(o *lab.RouterOptions) {
				o.Neighbors = []lab.Neighbor{{Address: node.Addr4(), AS: nodesAS}}
				if change != nil {
					change(&o.Neighbors[0])
				}
			})
		}
		own(nil)
		// The node does not listen, so the session that comes up first stays.
		c.apply(bgpConf("listenPort: -1") + bgpPeer("r1", r.Addr4().String(), routersAS, fastBFD))
		c.hasRoute(r, web4, "n1")
		w := c.watch(r, web4)
		before := c.connections(r)
		spared := func() {
			c.t.Helper()
			c.sameConnections(r, before)
			c.unchanged(w, web4)
		}
		c.run("BFD comes up late", func(t *testing.T) {
			c.bfdIs("r1", "Down", "n1")
			own(watched)
			c.bfdIs("r1", "Up", "n1")
			spared()
		})
		if opts.Kind == lab.FRR {
			return // it closes the session itself when it makes its BFD session anew, see docs/bgp.md
		}
		c.run("the neighbor is restarted", func(t *testing.T) {
			flaps := func() int { return c.flaps("n1", "r1", r.Addr4().String()) }
			for round := range 3 {
				before := flaps()
				if err := r.Restart(t.Context()); err != nil {
					t.Fatal(err)
				}
				c.eventually("the session was lost", func() string {
					if flaps() == before {
						return "it was not"
					}
					return ""
				})
				c.hasRoute(r, web4, "n1")
				ctx, cancel := contextWithTimeout(t)
				defer cancel()
				if err := r.WaitBFD(ctx, node.Addr4(), "Up"); err != nil {
					t.Fatal(err)
				}
				c.hasRoute(r, web4, "n1")
				if now := flaps(); now != before+1 {
					t.Errorf("round %d: the session was lost %d times, want once", round, now-before)
				}
			}
		})
	})
}

// flaps is how often a node's session with a router was lost, as its metric says:
// a status may have to wait to be written.
func (c *cluster) flaps(node, peer, neighbor string) int {
	c.t.Helper()
	return c.counter(node, fmt.Sprintf("fairway_bgp_session_flaps_total{neighbor=%q,peer=%q}", neighbor, peer))
}

// TestBGPBFDAndRestart: what a router does when a speaker that it watches by BFD
// is killed, or is replaced by a roll-out, while graceful restart asks it to keep
// the routes. BFD of the speaker ends with it, as the C bit of its packets says.
// BIRD takes that for a lost path, and AdminDown too, unless it is told that BFD
// is to begin a graceful restart.
func TestBGPBFDAndRestart(t *testing.T) {
	graceful := func(n *lab.Neighbor) { n.Extra = "bfd graceful;" }
	for name, test := range map[string]struct {
		opts  lab.RouterOptions
		stays bool
	}{
		"FRR":                {frrRouter(watched), true},
		"BIRD":               {birdRouter(watched), false},
		"BIRD, bfd graceful": {birdRouter(watched, graceful), true},
	} {
		t.Run(name, func(t *testing.T) {
			c := newRestartable(t, 1, []string{fastBFD}, test.opts)
			r := c.Router("r1")
			for _, kill := range []bool{true, false} {
				c.bfdIs("r1", "Up", "n1")
				w := c.watch(r, web4, web6)
				c.restart("n1", kill)
				if err := w.Err(); err != nil {
					t.Error(err)
				}
				for _, prefix := range []string{web4, web6} {
					gaps := w.Gaps(netip.MustParsePrefix(prefix))
					t.Logf("killed %t: %s had gaps %v", kill, prefix, gaps)
					if stayed := len(gaps) == 0; stayed != test.stays {
						t.Errorf("killed %t: the route to %s stayed: %t, want %t", kill, prefix, stayed, test.stays)
					}
				}
				w.Close()
			}
		})
	}
}

// TestBGPBFDTellsTheTruth reads the BFD packets of a speaker: the C bit (RFC
// 5880, 4.1) would say that BFD outlives it.
func TestBGPBFDTellsTheTruth(t *testing.T) {
	c := newUnpeered(t, 1, lab.RouterOptions{Kind: lab.NoDaemon})
	r := c.Router("r1")
	for address, network := range map[string]string{r.Addr4().String(): "udp4", r.Addr6().String(): "udp6"} {
		conn, err := r.ListenPacket(network, ":3784")
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		c.apply(bgpConf() + bgpPeer("tor-"+network, address, routersAS, fastBFD))
		if err := conn.SetReadDeadline(time.Now().Add(patience)); err != nil {
			t.Fatal(err)
		}
		packet := make([]byte, 100)
		n, from, err := conn.ReadFrom(packet)
		if err != nil {
			t.Fatal(err)
		}
		const controlPlaneIndependent = 0x08
		if n < 24 || packet[0]>>5 != 1 || packet[1]&controlPlaneIndependent != 0 {
			t.Errorf("%s sent % x, want version 1 and no C bit", from, packet[:n])
		}
	}
}

// bfdLoadVariable is the environment variable that makes the test with busy
// processors last longer, as "10m".
const bfdLoadVariable = "FAIRWAY_BFD_LOAD"

// TestBGPBFDUnderLoad keeps all processors busy for a time. No path is taken for
// lost meanwhile.
func TestBGPBFDUnderLoad(t *testing.T) {
	duration := 30 * time.Second
	if text := os.Getenv(bfdLoadVariable); text != "" {
		var err error
		if duration, err = time.ParseDuration(text); err != nil {
			t.Fatalf("%s: %v", bfdLoadVariable, err)
		}
	}
	c := newUnpeered(t, 2, frrRouter(watched), birdRouter(watched))
	c.serveWeb()
	c.apply(bgpConf("listenPort: 17900"))
	for _, r := range c.Routers() {
		c.apply(bgpPeer(r.Name()+"-4", r.Addr4().String(), routersAS, fastBFD) + bgpPeer(r.Name()+"-6", r.Addr6().String(), routersAS, fastBFD))
		for _, family := range []string{"-4", "-6"} {
			c.bfdIs(r.Name()+family, "Up", "n1", "n2")
		}
	}
	var end atomic.Bool
	var busy sync.WaitGroup
	for range 2 * runtime.NumCPU() {
		busy.Go(func() {
			for !end.Load() {
			}
		})
	}
	select {
	case <-time.After(duration):
	case <-t.Context().Done():
	}
	end.Store(true)
	busy.Wait()
	for _, peer := range c.bgpPeers() {
		for node, entry := range peer.Status.NodesPeerStatus {
			if entry.PeerState.Flops != 0 || entry.BFDState == nil || entry.BFDState.Downs != 0 || entry.BFDState.SessionState != "Up" {
				t.Errorf("BgpPeer %s on %s: the session was lost %d times, BFD is %+v", peer.Name, node, entry.PeerState.Flops, entry.BFDState)
			}
			if flaps := c.flaps(node, peer.Name, peer.Spec.Conf.NeighborAddress); flaps != 0 {
				t.Errorf("BgpPeer %s on %s: the session was lost %d times", peer.Name, node, flaps)
			}
		}
	}
}
