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
	"sigs.k8s.io/randfill"

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
	c := &besideBadPeer{cluster: newUnpeered(t, 1, nil, good, lab.RouterOptions{Kind: lab.NoDaemon})}
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
		if flops := c.flops("bad", "n1"); int(flops) < sessions/2 {
			t.Errorf("the status counts %d losses of %d sessions", flops, sessions)
		}
	})
}

// TestBGPMistakes: a BgpPeer with another AS or password than its router has no
// session and says why; the session beside it stays.
func TestBGPMistakes(t *testing.T) {
	bothRouters(t, func(t *testing.T, opts lab.RouterOptions) {
		c := newUnpeered(t, 1, nil, opts, opts)
		good, bad, node := c.Router("r1"), c.Router("r2"), c.Node("n1")
		c.serveWeb()
		c.apply(bgpConf("listenPort: -1") + bgpPeer("r1", good.Addr4().String(), routersAS))
		c.hasRoute(good, web4, "n1")
		w, connections := c.watch(good, web4), c.connections(good)
		own := func(change func(*lab.Neighbor)) {
			c.reconfigure(bad, func(o *lab.RouterOptions) { o.Neighbors = nil })
			c.reconfigure(bad, func(o *lab.RouterOptions) {
				o.Neighbors = []lab.Neighbor{{Address: node.Addr4(), AS: nodesAS, Passive: true}}
				change(&o.Neighbors[0])
			})
		}
		for _, mistake := range []struct {
			name     string
			as       int
			peer     []string
			neighbor func(*lab.Neighbor)
			says     []string
		}{
			{"the BgpPeer has another AS", 65099, nil, func(*lab.Neighbor) {}, []string{"AS is 50001, expected 65099"}},
			{"the router expects another AS", routersAS, nil, func(n *lab.Neighbor) { n.AS = 65098 }, []string{"AS"}},
			{"the router has no password", routersAS, []string{"  authPassword: secret"}, func(*lab.Neighbor) {}, []string{"connecting", "password"}},
			{"the node has no password", routersAS, nil, func(n *lab.Neighbor) { n.Password = "secret" }, []string{"connecting", "timeout"}},
			{"passwords differ", routersAS, []string{"  authPassword: sekret"}, func(n *lab.Neighbor) { n.Password = "secret" }, []string{"connecting", "password"}},
		} {
			c.run(mistake.name, func(t *testing.T) {
				own(mistake.neighbor)
				c.apply(bgpPeer("mistaken", bad.Addr4().String(), mistake.as, mistake.peer...))
				entry := c.sessionIs("mistaken", "n1", v1alpha2.ConditionEstablished, metav1.ConditionFalse, mistake.says...)
				t.Logf("%+v", entry.Conditions)
				c.kubectl("delete", "bgppeer", "mistaken")
			})
		}
		c.unchanged(w, web4)
		c.sameConnections(good, connections)
	})
}

// TestBGPRouterRestarted kills a router's daemon and starts it again: sessions
// and routes come back by themselves.
func TestBGPRouterRestarted(t *testing.T) {
	bothRouters(t, func(t *testing.T, opts lab.RouterOptions) {
		c := newBGPServed(t, 2, opts, opts)
		other, r := c.Router("r1"), c.Router("r2")
		w, connections := c.watch(other, web4), c.connections(other)
		for range 2 {
			if err := r.Kill(); err != nil {
				t.Fatal(err)
			}
			for _, node := range c.nodeNames() {
				c.sessionIs("r2", node, v1alpha2.ConditionEstablished, metav1.ConditionFalse)
			}
			if err := r.Restart(t.Context()); err != nil {
				t.Fatal(err)
			}
			c.established(r, c.nodeNames()...)
			c.hasRoute(r, web4, c.nodeNames()...)
			c.paths(r, web4, "is there", c.nodeNames(), func(lab.BGPPath) bool { return true })
		}
		c.unchanged(w, web4)
		c.sameConnections(other, connections)
	})
}

// TestBGPRandomObjects fills BgpPeers and BgpConfs at random. Whatever the API
// server accepts, the speaker lives, and the sessions that others ask for stay
// or, when the router itself changes, come back.
func TestBGPRandomObjects(t *testing.T) {
	const seed, peers, confs = 5, 400, 40
	c := newUnpeered(t, 1, nil, frrRouter())
	r := c.Router("r1")
	c.serveWeb()
	c.apply(bgpConf("listenPort: 17900") + bgpPeer("r1", r.Addr4().String(), routersAS))
	c.hasRoute(r, web4, "n1")
	w, connections, speaker := c.watch(r, web4), c.connections(r), c.speakers["n1"]
	filler := randfill.NewWithSeed(seed).NilChance(0.4).NumElements(0, 3).Funcs(plausible()...)
	accepted, acceptedConfs := 0, 0
	var refused error // the last one
	for i := range peers {
		peer := &v1alpha2.BgpPeer{}
		filler.Fill(&peer.Spec)
		peer.Name = fmt.Sprintf("random-%d", i%40)
		if refused = c.put(peer); refused == nil {
			accepted++
		}
	}
	if accepted < peers/10 {
		t.Errorf("the API server took %d of %d BgpPeers, so there was little to try: %v", accepted, peers, refused)
	}
	c.eventually("the speaker has seen them all", func() string {
		for _, p := range c.bgpPeers() {
			if p.Spec.NodeSelector == nil && len(p.Status.NodesPeerStatus["n1"].Conditions) == 0 {
				return p.Name + " has no conditions"
			}
		}
		return ""
	})
	c.unchanged(w, web4)
	c.sameConnections(r, connections)

	for range confs {
		conf := &v1alpha2.BgpConf{}
		filler.Fill(&conf.Spec)
		conf.Name = v1alpha2.BgpConfName
		if refused = c.put(conf); refused == nil {
			acceptedConfs++
		}
	}
	t.Logf("the API server took %d of %d BgpPeers and %d of %d BgpConfs", accepted, peers, acceptedConfs, confs)
	if acceptedConfs < confs/10 {
		t.Errorf("the API server took %d of %d BgpConfs, so there was little to try: %v", acceptedConfs, confs, refused)
	}
	c.kubectl("delete", "bgpconf", "default")
	c.apply(bgpConf("listenPort: 17900"))
	c.established(r, "n1")
	c.hasRoute(r, web4, "n1")
	if !speaker.Running() {
		t.Errorf("the speaker ended: %v", speaker.Err())
	}
}

// put creates an object or replaces its spec, as far as the API server takes it.
func (c *cluster) put(object client.Object) error {
	c.t.Helper()
	if current, ok := object.DeepCopyObject().(client.Object); ok && c.api.Get(c.t.Context(), client.ObjectKeyFromObject(object), current) == nil {
		object.SetResourceVersion(current.GetResourceVersion())
		return c.api.Update(c.t.Context(), object)
	}
	return c.api.Create(c.t.Context(), object)
}

// plausible are functions that fill in what stands a chance with the API server.
// Neighbors are in networks that are not there.
func plausible() []any {
	pick := func(r randfill.Continue, texts ...string) string { return texts[r.Intn(len(texts))] }
	// number is mostly a small one: most fields have an upper end.
	number := func(r randfill.Continue) int64 {
		if r.Intn(20) > 0 {
			return []int64{0, 0, 0, 1, 2, 3, 100, 255}[r.Intn(8)]
		}
		return []int64{-1, 256, 4095, 4096, 65535, 65537, 131073, 1<<31 - 1}[r.Intn(8)]
	}
	return []any{
		func(n *v1alpha2.Uint32, r randfill.Continue) { *n = v1alpha2.Uint32(max(0, number(r))) },
		func(s *v1alpha2.Seconds, r randfill.Continue) {
			*s = v1alpha2.Seconds(pick(r, "", "", "0", "1", "3", "30", "90", "65535"))
		},
		func(n *int32, r randfill.Continue) { *n = int32(number(r)) },
		func(s *string, r randfill.Continue) { *s = pick(r, "", "", "", "", "", "a", "x-1", "default", "a b") },
		func(x *v1alpha2.BFD, r randfill.Continue) {
			r.FillNoCustom(x)
			x.MinTx, x.MinRx = []int32{0, 10, 300, 60000}[r.Intn(4)], []int32{0, 10, 300, 60000}[r.Intn(4)]
			if !x.Multihop {
				x.MinimumTTL = 0
			}
		},
		func(p *v1alpha2.PeerConf, r randfill.Continue) {
			r.FillNoCustom(p)
			p.NeighborAddress = pick(r, "198.51.100.7", "198.51.100.8", "2001:db8:5::1", "fe80::5%eth33", "127.0.0.1", "192.168.93.11")
			p.NeighborInterface = ""
			if r.Intn(4) == 0 {
				p.NeighborAddress, p.NeighborInterface = "", pick(r, "eth33", "lo", "nothere0")
			}
			p.RemovePrivateAs = pick(r, "", "NONE", "ALL", "REPLACE")
			p.Vrf, p.PeerGroup = pick(r, "", "", "", "red"), pick(r, "", "", "", "spine")
		},
		func(t *v1alpha2.Transport, r randfill.Continue) {
			r.FillNoCustom(t)
			t.LocalAddress = pick(r, "", "", "192.168.93.11", "198.51.100.99", "fd93::11")
			t.RemoteAddress, t.TCPMSS = "", []v1alpha2.Uint32{0, 0, 88, 1400}[r.Intn(4)]
		},
		func(f *v1alpha2.Family, r randfill.Continue) {
			f.Afi, f.Safi = pick(r, "", "AFI_IP", "AFI_IP6", "AFI_L2VPN"), pick(r, "", "SAFI_UNICAST", "SAFI_EVPN")
		},
		func(s *metav1.LabelSelector, r randfill.Continue) {
			s.MatchLabels = map[string]string{"kubernetes.io/hostname": pick(r, "n1", "n2", "")}
		},
		func(s *v1alpha2.BgpConfSpec, r randfill.Continue) {
			r.FillNoCustom(s)
			s.RouterID = pick(r, "", "", "192.0.2.1", "255.255.255.255", "0.0.0.1")
			s.ListenAddresses = [][]string{nil, nil, {"192.168.93.11"}, {"127.0.0.1", "127.0.0.1"}, {"::"}, {"203.0.113.77"}}[r.Intn(6)]
			s.NextHops = pick(r, "", "self", "nodes")
			s.Policy = pick(r, "", "", "no-such-policy")
		},
	}
}
