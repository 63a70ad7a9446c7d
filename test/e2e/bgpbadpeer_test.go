package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/osrg/gobgp/v3/pkg/packet/bgp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fairway-lb/fairway/api/v1alpha2"
	"github.com/fairway-lb/fairway/test/lab"
)

// besideBadPeer is a cluster of one node with a good router, whose route and
// session nothing may touch, and a second one on which a test speaks BGP.
type besideBadPeer struct {
	*cluster
	good, bad   *lab.Router
	watch       *lab.RouteWatch
	connections []string
}

// newBesideBadPeer makes the cluster; more are further lines of the bad BgpPeer's
// spec.
func newBesideBadPeer(t *testing.T, good lab.RouterOptions, more ...string) *besideBadPeer {
	t.Helper()
	c := &besideBadPeer{cluster: newUnpeered(t, 1, good, lab.RouterOptions{Kind: lab.NoDaemon})}
	c.good, c.bad = c.Router("r1"), c.Router("r2")
	c.serveWeb()
	c.apply(bgpConf("listenPort: 17900") +
		bgpPeer("good", c.good.Addr4().String(), routersAS) +
		bgpPeer("bad", c.bad.Addr4().String(), routersAS, more...))
	c.hasRoute(c.good, web4, "n1")
	c.watch = c.cluster.watch(c.good, web4)
	c.connections = c.cluster.connections(c.good)
	return c
}

// dial connects to the node's BGP port as the bad peer.
func (c *besideBadPeer) dial(ctx context.Context) (*lab.BGPConn, error) {
	return c.bad.DialBGP(ctx, netip.AddrPortFrom(c.Node("n1").Addr4(), 17900))
}

// connect is dial that does not give up: a session that was just closed is not
// taken again for a second.
func (c *besideBadPeer) connect(open *lab.BGPOpen) *lab.BGPConn {
	c.t.Helper()
	var conn *lab.BGPConn
	c.eventually("the node takes the bad peer's connection", func() string {
		ctx, cancel := context.WithTimeout(c.t.Context(), 5*time.Second)
		defer cancel()
		var err error
		if conn, err = c.dial(ctx); err != nil {
			return err.Error()
		}
		if open == nil {
			_, err = conn.Await(ctx, bgp.BGP_MSG_OPEN)
		} else {
			_, err = conn.Establish(ctx, *open)
		}
		if err != nil {
			return errors.Join(err, conn.Close()).Error()
		}
		return ""
	})
	c.t.Cleanup(func() {
		if err := conn.Close(); err != nil {
			c.t.Error(err)
		}
	})
	return conn
}

// unharmed fails the test if the good session or its route was touched, or the
// speaker ended.
func (c *besideBadPeer) unharmed() {
	c.t.Helper()
	c.unchanged(c.watch, web4)
	c.sameConnections(c.good, c.connections)
	if speaker := c.speakers["n1"]; !speaker.Running() {
		c.t.Errorf("the speaker ended: %v", speaker.Err())
	}
}

var badOpen = lab.BGPOpen{AS: routersAS, Hold: 90 * time.Second}

// TestBGPMalformedMessages: a peer that sends what is no BGP loses its session,
// and the status says why. Nothing else suffers.
func TestBGPMalformedMessages(t *testing.T) {
	bothRouters(t, func(t *testing.T, opts lab.RouterOptions) {
		c := newBesideBadPeer(t, opts)
		attribute := func(flags, kind byte, value ...byte) []byte {
			return append([]byte{flags, kind, byte(len(value))}, value...)
		}
		update := func(attributes []byte, nlri ...byte) []byte {
			body := []byte{0, 0, byte(len(attributes) >> 8), byte(len(attributes))}
			return append(append(body, attributes...), nlri...)
		}
		whole := func(last []byte) func(*lab.BGPConn) error {
			attributes := bytes.Join([][]byte{attribute(0x40, 1, 0), attribute(0x40, 2, 2, 1, 0, 0, 0xc3, 0x51), attribute(0x40, 3, 192, 168, 93, 2), last}, nil)
			return func(conn *lab.BGPConn) error {
				return conn.SendBody(bgp.BGP_MSG_UPDATE, update(attributes, 24, 10, 0, 0))
			}
		}
		// Each ends the session, whose state says so.
		for _, bad := range []struct {
			name  string
			early bool // in place of OPEN
			send  func(*lab.BGPConn) error
		}{
			// As BGP it has a length of 18,245 bytes.
			{"HTTP", true, func(conn *lab.BGPConn) error { return conn.SendRaw(bytes.Repeat([]byte("GET / HTTP/1.1\r\n"), 2000)) }},
			{"OPEN that is cut off", true, func(conn *lab.BGPConn) error { return conn.SendBody(bgp.BGP_MSG_OPEN, []byte{4, 0}) }},
			{"OPEN of version 3", true, func(conn *lab.BGPConn) error {
				return conn.SendBody(bgp.BGP_MSG_OPEN, []byte{3, 0xc3, 0x51, 0, 90, 192, 0, 2, 66, 0})
			}},
			{"OPEN with a parameter that is longer than it", true, func(conn *lab.BGPConn) error {
				return conn.SendBody(bgp.BGP_MSG_OPEN, []byte{4, 0xc3, 0x51, 0, 90, 192, 0, 2, 66, 4, 2, 200, 65, 4})
			}},
			{"OPEN with a hold time of 1 s", true, func(conn *lab.BGPConn) error {
				return conn.SendBody(bgp.BGP_MSG_OPEN, []byte{4, 0xc3, 0x51, 0, 1, 192, 0, 2, 66, 0})
			}},
			{"UPDATE before OPEN", true, func(conn *lab.BGPConn) error { return conn.SendBody(bgp.BGP_MSG_UPDATE, update(nil)) }},
			{"message of no known type", false, func(conn *lab.BGPConn) error { return conn.SendBody(77, nil) }},
			{"message of 18 bytes", false, func(conn *lab.BGPConn) error {
				return conn.SendRaw(append(bytes.Repeat([]byte{0xff}, 16), 0, 18, bgp.BGP_MSG_KEEPALIVE))
			}},
			{"UPDATE whose attributes end after it", false, func(conn *lab.BGPConn) error {
				return conn.SendBody(bgp.BGP_MSG_UPDATE, []byte{0, 0, 0xff, 0xff, 1})
			}},
			{"UPDATE whose withdrawn routes end after it", false, func(conn *lab.BGPConn) error {
				return conn.SendBody(bgp.BGP_MSG_UPDATE, []byte{0xff, 0xff, 1, 2, 3})
			}},
			{"UPDATE with a prefix of 200 bits", false, func(conn *lab.BGPConn) error {
				return conn.SendBody(bgp.BGP_MSG_UPDATE, update(nil, 200, 1, 2, 3, 4))
			}},
			{"MP_REACH_NLRI that ends with the SAFI", false, whole(attribute(0x80, 14, 0, 2, 1))},
			{"MP_UNREACH_NLRI with a FlowSpec rule that is cut off", false, whole(attribute(0x80, 15, 0, 2, 133, 1, 1, 13, 184))},
			{"Prefix-SID that is cut off", false, whole(attribute(0xc0, 40, 5, 0, 0, 0, 2, 0, 0, 0, 3))},
		} {
			c.run(bad.name, func(t *testing.T) {
				open := &badOpen
				if bad.early {
					open = nil
				}
				conn := c.connect(open)
				if err := bad.send(conn); err != nil {
					t.Fatal(err)
				}
				ctx, cancel := contextWithTimeout(t)
				defer cancel()
				if err := conn.AwaitEnd(ctx); err != nil {
					t.Errorf("the session goes on: %v", err)
				}
				c.unharmed()
			})
		}
		c.sessionIs("bad", "n1", v1alpha2.ConditionEstablished, metav1.ConditionFalse, "malformed")

		c.run("random messages", func(t *testing.T) {
			const seed = 11
			rnd := rand.New(rand.NewPCG(seed, 4))
			for range 4 {
				conn := c.connect(&badOpen)
				for range 20 {
					body := make([]byte, rnd.IntN(200))
					for i := range body {
						body[i] = byte(rnd.Uint32())
					}
					// The node may have closed the connection already.
					if conn.SendBody(byte(1+rnd.IntN(6)), body) != nil {
						break
					}
				}
				if err := conn.Close(); err != nil {
					t.Fatal(err)
				}
			}
			c.unharmed()
		})
	})
}

// TestBGPFlood: a peer that announces 200,000 routes of each family is ignored:
// nothing is kept, installed or passed on.
func TestBGPFlood(t *testing.T) {
	const (
		count = 200_000
		// growth is far less than the routes would need.
		growth = 50 << 20
	)
	bothRouters(t, func(t *testing.T, opts lab.RouterOptions) {
		c := newBesideBadPeer(t, opts, twoFamilies()...)
		conn := c.connect(&badOpen)
		before := c.memory("n1")
		ctx, cancel := contextWithTimeout(t)
		defer cancel()
		for _, flood := range []lab.Flood{
			{First: netip.MustParseAddr("10.0.0.0"), NextHop: c.bad.Addr4()},
			{First: netip.MustParseAddr("2001:db8:f::"), NextHop: c.bad.Addr6()},
		} {
			flood.Count, flood.AS = count, routersAS
			begin := time.Now()
			if err := conn.Flood(ctx, flood, false); err != nil {
				t.Fatal(err)
			}
			t.Logf("%d routes were sent in %v", count, time.Since(begin))
			within := netip.PrefixFrom(flood.First, 8).Masked()
			for _, n := range []*lab.Namespace{c.Node("n1").Namespace, c.good.Namespace} {
				before, err := n.CountRoutes(within)
				if err != nil || before > 20 { // those of the lab
					t.Errorf("%s has %d routes in %s: %v", n.Name(), before, within, err)
				}
			}
		}
		// What is announced now comes after the flood.
		c.apply(loadBalancer("late", "nginx", fromPool("bgp-eip"), wantsAddress("172.22.0.9")))
		c.hasIP("dev", "late", "172.22.0.9")
		c.hasRoute(c.good, "172.22.0.9/32", "n1")
		c.eventually("the bad peer hears of a new route", func() string {
			for _, m := range conn.Received() {
				if update, ok := m.Body.(*bgp.BGPUpdate); ok {
					for _, p := range update.NLRI {
						if p.String() == "172.22.0.9/32" {
							return ""
						}
					}
				}
			}
			return "not yet"
		})
		after := c.memory("n1")
		t.Logf("the speaker's largest resident memory: %d MiB before the flood, %d MiB after", before>>20, after>>20)
		if after > before+growth {
			t.Errorf("the speaker's resident memory grew from %d to %d MiB", before>>20, after>>20)
		}
		c.unharmed()
	})
}

// memory is the largest resident memory that a node's speaker has had, in bytes.
func (c *cluster) memory(node string) uint64 {
	c.t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", c.speakers[node].Pid()))
	if err != nil {
		c.t.Fatal(err)
	}
	for line := range strings.Lines(string(status)) {
		if fields := strings.Fields(line); fields[0] == "VmHWM:" {
			kib, err := strconv.ParseUint(fields[1], 10, 64)
			if err != nil {
				c.t.Fatal(err)
			}
			return kib << 10
		}
	}
	c.t.Fatalf("no resident memory in %s", status)
	return 0
}

// TestBGPFlappingPeer: a peer whose session comes and goes every second costs
// the API server a few writes, and the other session nothing.
func TestBGPFlappingPeer(t *testing.T) {
	const (
		duration = 20 * time.Second
		// writesBound is the writes of one entry in that time: five at once, one
		// each ten seconds, and some of the good peer's beginning.
		writesBound = 5 + 2 + 3
	)
	bothRouters(t, func(t *testing.T, opts lab.RouterOptions) {
		c := newBesideBadPeer(t, opts, "transport: {passiveMode: true}")
		changes, err := c.api.Watch(t.Context(), &v1alpha2.BgpPeerList{}, client.MatchingFields{"metadata.name": "bad"})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), duration)
		defer cancel()
		writes := make(chan int)
		go func() {
			n := 0
			for event := range changes.ResultChan() {
				if event.Type == watch.Modified {
					n++
				}
			}
			writes <- n
		}()
		sessions := lab.FlapBGP(ctx, badOpen, time.Second, c.dial)
		changes.Stop()
		written := <-writes
		t.Logf("%d sessions in %v, %d writes of the status", sessions, duration, written)
		if sessions < 2 {
			t.Errorf("the peer had %d sessions", sessions)
		}
		if written == 0 || written > writesBound {
			t.Errorf("the status was written %d times, want some, and at most %d", written, writesBound)
		}
		c.unharmed()
		c.sessionIs("bad", "n1", v1alpha2.ConditionEstablished, metav1.ConditionFalse)
		// The last write may have to wait.
		c.eventually("the status counts the losses", func() string {
			if flops := c.flops("bad", "n1"); int(flops) < sessions/2 {
				return fmt.Sprintf("%d of %d sessions", flops, sessions)
			}
			return ""
		})
	})
}
