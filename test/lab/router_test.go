package lab

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/osrg/gobgp/v3/pkg/packet/bgp"
	"github.com/vishvananda/netlink"
)

// routerPatience is for what a daemon does within seconds: its timers have a
// grain of one.
const routerPatience = time.Minute

var (
	prefix4 = netip.MustParsePrefix("203.0.113.1/32")
	prefix6 = netip.MustParsePrefix("2001:db8:113::1/128")
	fastBFD = &BFDProfile{MinTx: 100 * time.Millisecond, MinRx: 100 * time.Millisecond, Multiplier: 3}
)

// bothKinds runs a test for each daemon.
func bothKinds(t *testing.T, f func(t *testing.T, kind RouterKind)) {
	for _, kind := range []RouterKind{FRR, BIRD} {
		t.Run(kind.String(), func(t *testing.T) { f(t, kind) })
	}
}

func addRouter(t *testing.T, ctx context.Context, l *Lab, opts RouterOptions) *Router {
	t.Helper()
	r, err := l.AddRouter(ctx, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() && r.daemon != nil {
			command := map[RouterKind]string{FRR: "show bgp summary", BIRD: "show protocols"}[r.Options().Kind]
			out, err := r.Show(context.WithoutCancel(ctx), command)
			t.Logf("%s: %s\n%s %v", r.Name(), command, out, err)
		}
	})
	return r
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func awaitRoute(t *testing.T, ctx context.Context, r *Router, prefix netip.Prefix, via ...netip.Addr) {
	t.Helper()
	_, err := r.WaitRoute(ctx, prefix, via...)
	must(t, err)
}

// peerOf is a test's own BGP speaker on a host, in a session with the router.
func peerOf(t *testing.T, ctx context.Context, h *Host, r *Router, open BGPOpen) *BGPConn {
	t.Helper()
	conn, err := h.DialBGP(ctx, netip.AddrPortFrom(r.Addr4(), bgpPort))
	must(t, err)
	t.Cleanup(func() { must(t, conn.Close()) })
	_, err = conn.Establish(ctx, open)
	must(t, err)
	must(t, r.WaitSession(ctx, h.Addr4()))
	return conn
}

// A range takes every node of the lab.
func anyNode() Neighbor {
	return Neighbor{Range: netip.MustParsePrefix(lanPrefix4)}
}

func TestRoutersExchangeRoutes(t *testing.T) {
	l := newLab(t, 1)
	ctx := testContext(t, routerPatience)
	own := []netip.Prefix{netip.MustParsePrefix("198.51.100.0/24"), netip.MustParsePrefix("203.0.113.0/24")}
	r1 := addRouter(t, ctx, l, RouterOptions{Kind: FRR, AS: 65001, Announce: []netip.Prefix{own[0], prefix6}, Neighbors: []Neighbor{{
		Address: lanAddr4(2).Addr(), AS: 65002, UpdateSource: lanAddr4(1).Addr(), Password: "secret", BFD: fastBFD,
		Hold: 9 * time.Second, Keepalive: 3 * time.Second,
	}}})
	r2 := addRouter(t, ctx, l, RouterOptions{Kind: BIRD, AS: 65002, Announce: []netip.Prefix{own[1]}, Neighbors: []Neighbor{{
		Address: lanAddr4(1).Addr(), Password: "secret", BFD: fastBFD,
	}}})
	if l.Router("r2") != r2 || l.Router("r3") != nil || len(l.Routers()) != 2 {
		t.Error("the lab does not know its routers")
	}
	awaitRoute(t, ctx, r2, own[0], r1.Addr4())
	awaitRoute(t, ctx, r2, prefix6, r1.Addr6())
	awaitRoute(t, ctx, r1, own[1], r2.Addr4())
	for _, pair := range [][2]*Router{{r1, r2}, {r2, r1}} {
		r, other := pair[0], pair[1].Addr4()
		must(t, r.WaitSession(ctx, other))
		must(t, r.WaitBFD(ctx, other, "Up"))
		s, err := r.Session(ctx, other)
		must(t, err)
		if s.RemoteAS != pair[1].Options().AS || s.Hold != 9*time.Second || s.Keepalive != 3*time.Second || s.PrefixesReceived == 0 {
			t.Errorf("%s: the session is %+v", r.Name(), s)
		}
		b, err := r.BFD(ctx, other)
		must(t, err)
		if b.Multihop || b.MinTx != 100*time.Millisecond || b.DetectionTime != 300*time.Millisecond {
			t.Errorf("%s: the BFD session is %+v", r.Name(), b)
		}
	}
	for _, r := range l.Routers() {
		if _, err := r.Session(ctx, l.Client().Addr4()); err == nil {
			t.Errorf("%s has a session with a host that is no neighbor", r.Name())
		}
	}
}

// TestRoutersSpeakEveryDialect brings sessions up with options that both sides
// have to agree on, and that the daemons word differently.
func TestRoutersSpeakEveryDialect(t *testing.T) {
	l := newLab(t, 1)
	ctx := testContext(t, routerPatience)
	own := []netip.Prefix{prefix4, prefix6}
	r2 := addRouter(t, ctx, l, RouterOptions{Kind: BIRD, Number: 2, AS: 65002, Announce: own})
	r1 := addRouter(t, ctx, l, RouterOptions{Kind: FRR, Number: 1, AS: 65001})
	r1LinkLocal, r2LinkLocal := linkLocalOf(t, r1.Host), linkLocalOf(t, r2.Host)
	for _, c := range []struct {
		name   string
		as     uint32 // of both; 0: each its own
		r1, r2 Neighbor
		listen uint16     // of BIRD
		peer   netip.Addr // BIRD's address, as FRR sees it
		only4  bool
		via4   netip.Addr // FRR's next hop
	}{
		{name: "TTL security", peer: r2.Addr4(), via4: r2.Addr4(),
			r1: Neighbor{Address: r2.Addr4(), TTLSecurityHops: 1}, r2: Neighbor{Address: r1.Addr4(), TTLSecurityHops: 1}},
		{name: "multihop", peer: r2.Addr4(), via4: r2.Addr4(),
			r1: Neighbor{Address: r2.Addr4(), MultihopTTL: 3, UpdateSource: r1.Addr4()}, r2: Neighbor{Address: r1.Addr4(), MultihopTTL: 3}},
		{name: "iBGP", as: 65003, peer: r2.Addr4(), via4: r2.Addr4(),
			r1: Neighbor{Address: r2.Addr4(), AS: 65003, RouteReflectorClient: true}, r2: Neighbor{Address: r1.Addr4(), AS: 65003}},
		{name: "another port", listen: 1790, peer: r2.Addr4(), via4: r2.Addr4(),
			r1: Neighbor{Address: r2.Addr4(), Port: 1790}, r2: Neighbor{Address: r1.Addr4(), Passive: true}},
		{name: "ranges and add-path, no graceful restart", peer: r2.Addr4(), via4: r2.Addr4(),
			r1: Neighbor{Range: netip.MustParsePrefix(lanPrefix4), AddPaths: true, NoGracefulRestart: true, Password: "x"},
			r2: Neighbor{Address: r1.Addr4(), AddPaths: true, NoGracefulRestart: true, Password: "x"}},
		{name: "IPv4 routes only, over IPv6", only4: true, peer: r2.Addr6(), via4: r2.Addr4(),
			r1: Neighbor{Address: r2.Addr6(), IPv4: true}, r2: Neighbor{Address: r1.Addr6(), IPv4: true}},
		{name: "extended next hops", peer: r2.Addr6(), via4: r2LinkLocal,
			r1: Neighbor{Address: r2.Addr6(), ExtendedNextHop: true}, r2: Neighbor{Address: r1.Addr6(), ExtendedNextHop: true}},
		{name: "link-local addresses, which FRR does not connect to", peer: r2LinkLocal, via4: r2LinkLocal,
			r1: Neighbor{Address: r2LinkLocal, Interface: "eth0", ExtendedNextHop: true},
			r2: Neighbor{Address: r1LinkLocal, Interface: "eth0", ExtendedNextHop: true}},
	} {
		t.Run(c.name, func(t *testing.T) {
			ctx := testContext(t, routerPatience)
			o1, o2 := r1.Options(), r2.Options()
			o1.AS, o2.AS = cmp.Or(c.as, 65001), cmp.Or(c.as, 65002)
			o1.Neighbors, o2.Neighbors = []Neighbor{c.r1}, []Neighbor{c.r2}
			o2.ListenPort = c.listen
			must(t, r2.Reconfigure(ctx, o2))
			must(t, r1.Reconfigure(ctx, o1))
			must(t, r1.WaitSession(ctx, c.peer))
			awaitRoute(t, ctx, r1, prefix4, c.via4)
			route, err := r1.AwaitBGPRoute(ctx, prefix6, "is there, or not", func(route BGPRoute) bool { return (len(route.Paths) == 0) == c.only4 })
			must(t, err)
			if len(route.Paths) > 0 && route.Paths[0].Neighbor.WithZone("") != c.peer {
				t.Errorf("the route is %+v, want it from %s", route, c.peer)
			}
			o1.Neighbors, o2.Neighbors = nil, nil
			must(t, r1.Reconfigure(ctx, o1))
			must(t, r2.Reconfigure(ctx, o2))
			awaitRoute(t, ctx, r1, prefix4)
		})
	}
}

func linkLocalOf(t *testing.T, h *Host) (addr netip.Addr) {
	t.Helper()
	must(t, h.Do(func() error {
		link, err := netlink.LinkByName(h.Link())
		if err != nil {
			return err
		}
		addrs, err := netlink.AddrList(link, netlink.FAMILY_V6)
		for _, a := range addrs {
			if a.IP.IsLinkLocalUnicast() {
				addr = toAddr(a.IP)
			}
		}
		return err
	}))
	return addr
}

func TestRouterShowsAttributes(t *testing.T) {
	bothKinds(t, func(t *testing.T, kind RouterKind) {
		l := newLab(t, 1)
		ctx := testContext(t, routerPatience)
		node := l.Node("n1")
		r := addRouter(t, ctx, l, RouterOptions{Kind: kind, AS: 65001, Neighbors: []Neighbor{{Address: node.Addr4(), Passive: true}}})
		conn := peerOf(t, ctx, node, r, BGPOpen{AS: 65100, Hold: 90 * time.Second})
		must(t, conn.Send(bgp.NewBGPUpdateMessage(nil, []bgp.PathAttributeInterface{
			bgp.NewPathAttributeOrigin(bgp.BGP_ORIGIN_ATTR_TYPE_IGP),
			bgp.NewPathAttributeAsPath([]bgp.AsPathParamInterface{bgp.NewAs4PathParam(bgp.BGP_ASPATH_ATTR_TYPE_SEQ, []uint32{65100, 4200000000})}),
			bgp.NewPathAttributeNextHop(node.Addr4().String()),
			bgp.NewPathAttributeMultiExitDisc(5),
			bgp.NewPathAttributeCommunities([]uint32{65535 << 16, 65535<<16 + 65281, 65100<<16 + 7}),
			bgp.NewPathAttributeLargeCommunities([]*bgp.LargeCommunity{bgp.NewLargeCommunity(65100, 1, 4294967295)}),
		}, []*bgp.IPAddrPrefix{bgp.NewIPAddrPrefix(32, prefix4.Addr().String())})))
		awaitRoute(t, ctx, r, prefix4, node.Addr4())
		route, err := r.BGPRoute(ctx, prefix4)
		must(t, err)
		if len(route.Paths) != 1 {
			t.Fatalf("the route is %+v", route)
		}
		path := route.Paths[0]
		path.LocalPref = nil // FRR and BIRD say different things of an eBGP path
		want := BGPPath{
			Neighbor:         node.Addr4(),
			NextHops:         []netip.Addr{node.Addr4()},
			ASPath:           []uint32{65100, 4200000000},
			Origin:           "IGP",
			MED:              new(uint32(5)),
			Communities:      []string{"65100:7", "65535:0", "65535:65281"},
			LargeCommunities: []string{"65100:1:4294967295"},
			Best:             true,
		}
		if !reflect.DeepEqual(path, want) {
			t.Errorf("the path is\n%+v, want\n%+v", path, want)
		}
		if route, err := r.BGPRoute(ctx, prefix6); err != nil || len(route.Paths) != 0 {
			t.Errorf("a route that nobody offers: %+v (%v)", route, err)
		}
	})
}

func TestKernelHasAllNeighborsAsNextHops(t *testing.T) {
	bothKinds(t, func(t *testing.T, kind RouterKind) {
		l := newLab(t, 2)
		ctx := testContext(t, routerPatience)
		r := addRouter(t, ctx, l, RouterOptions{Kind: kind, AS: 65001, Neighbors: []Neighbor{anyNode()}})
		watch, err := r.WatchRoutes(prefix4, prefix6)
		must(t, err)
		defer watch.Close()
		var conns []*BGPConn
		announce := func(i int, withdraw bool) {
			t.Helper()
			node := l.Nodes()[i]
			must(t, conns[i].Flood(ctx, Flood{First: prefix4.Addr(), Count: 1, AS: 65100, NextHop: node.Addr4()}, withdraw))
			must(t, conns[i].Flood(ctx, Flood{First: prefix6.Addr(), Count: 1, AS: 65100, NextHop: node.Addr6()}, withdraw))
		}
		for i, node := range l.Nodes() {
			conns = append(conns, peerOf(t, ctx, node, r, BGPOpen{AS: 65100, RouterID: node.Addr4(), Hold: 90 * time.Second}))
			begin := time.Now()
			announce(i, false)
			want4, want6 := []netip.Addr{l.Node("n1").Addr4()}, []netip.Addr{l.Node("n1").Addr6()}
			if i == 1 {
				want4, want6 = append(want4, node.Addr4()), append(want6, node.Addr6())
			}
			at, err := watch.Wait(ctx, prefix4, want4...)
			must(t, err)
			t.Logf("%s announces: in the kernel after %s", node.Name(), at.Sub(begin))
			_, err = watch.Wait(ctx, prefix6, want6...)
			must(t, err)
		}
		for _, prefix := range []netip.Prefix{prefix4, prefix6} {
			hops, err := r.KernelRoutes(prefix)
			must(t, err)
			if len(hops) != 2 || hops[0].Link != r.Link() || hops[0].Weight != 1 {
				t.Errorf("the kernel's next hops are %+v", hops)
			}
		}
		if n, err := r.CountRoutes(netip.MustParsePrefix("203.0.113.0/24")); err != nil || n != 1 {
			t.Errorf("%d routes in the prefix (%v), want 1", n, err)
		}
		announce(0, true)
		_, err = watch.Wait(ctx, prefix4, l.Node("n2").Addr4())
		must(t, err)
		must(t, conns[1].Close())
		_, err = watch.Wait(ctx, prefix4)
		must(t, err)
		_, err = watch.Wait(ctx, prefix6)
		must(t, err)
		var kinds []RouteChangeKind
		for _, c := range watch.Changes(prefix4) {
			kinds = append(kinds, c.Kind)
		}
		if want := []RouteChangeKind{RouteAdded, RouteReplaced, RouteReplaced, RouteDeleted}; !slices.Equal(kinds, want) {
			t.Errorf("the record is %v, want %v", kinds, want)
		}
		if gaps := watch.Gaps(prefix4); len(gaps) != 1 || !gaps[0].To.IsZero() {
			t.Errorf("gaps %v, want one without an end", gaps)
		}
		must(t, watch.Err())
	})
}

func TestClientBehindRouter(t *testing.T) {
	bothKinds(t, func(t *testing.T, kind RouterKind) {
		l := newLab(t, 1)
		ctx := testContext(t, routerPatience)
		r := addRouter(t, ctx, l, RouterOptions{Kind: kind, AS: 65001, Number: 3, Neighbors: []Neighbor{anyNode()}})
		node := l.Node("n1")
		conn := peerOf(t, ctx, node, r, BGPOpen{AS: 65100, Hold: 90 * time.Second})
		must(t, conn.Flood(ctx, Flood{First: prefix4.Addr(), Count: 1, AS: 65100, NextHop: node.Addr4()}, false))
		must(t, conn.Flood(ctx, Flood{First: prefix6.Addr(), Count: 1, AS: 65100, NextHop: node.Addr6()}, false))
		awaitRoute(t, ctx, r, prefix4, node.Addr4())
		awaitRoute(t, ctx, r, prefix6, node.Addr6())
		must(t, node.Do(func() error {
			_, err := bringUp("lo", prefix4, prefix6)
			return err
		}))
		client := &Host{Namespace: r.Client()}
		for addr, want := range map[netip.Addr]netip.Addr{prefix4.Addr(): r.ClientAddr4(), prefix6.Addr(): r.ClientAddr6()} {
			caller, err := reach(ctx, client, node, addr)
			if err != nil || caller != want {
				t.Errorf("%s was called by %s (%v), want %s", addr, caller, err, want)
			}
		}
	})
}

func TestRouterEndsSessions(t *testing.T) {
	bothKinds(t, func(t *testing.T, kind RouterKind) {
		l := newLab(t, 1)
		ctx := testContext(t, routerPatience)
		node := l.Node("n1")
		opts := RouterOptions{Kind: kind, AS: 65001, Neighbors: []Neighbor{{Address: node.Addr4(), Passive: true}}}
		r := addRouter(t, ctx, l, opts)
		open := BGPOpen{AS: 65100, Hold: 90 * time.Second}
		expect := func(conn *BGPConn, wantSubcode uint8) {
			t.Helper()
			code, subcode, err := conn.AwaitNotification(ctx)
			must(t, err)
			if code != 6 || subcode != wantSubcode { // RFC 4486
				t.Errorf("NOTIFICATION %d/%d, want 6/%d", code, subcode, wantSubcode)
			}
		}
		conn := peerOf(t, ctx, node, r, open)
		must(t, r.Shutdown(ctx, node.Addr4(), "maintenance"))
		expect(conn, 2)
		must(t, r.Enable(ctx, node.Addr4()))

		conn = connectAgain(t, ctx, node, r, open)
		must(t, r.Clear(ctx, node.Addr4()))
		expect(conn, 4)

		conn = connectAgain(t, ctx, node, r, open)
		must(t, r.Kill())
		must(t, conn.AwaitEnd(ctx))
		must(t, r.Restart(ctx))

		// Another neighbor, and the session stays.
		conn = connectAgain(t, ctx, node, r, open)
		opts.Neighbors = append(opts.Neighbors, Neighbor{Address: l.Client().Addr4(), Passive: true, Password: "x", BFD: fastBFD})
		opts.Announce = []netip.Prefix{prefix4}
		must(t, r.Reconfigure(ctx, opts))
		if _, err := r.Session(ctx, l.Client().Addr4()); err != nil {
			t.Error(err)
		}
		opts.Neighbors = opts.Neighbors[:1]
		must(t, r.Reconfigure(ctx, opts))
		if _, err := r.Session(ctx, l.Client().Addr4()); err == nil {
			t.Error("the neighbor that was removed is still there")
		}
		if _, err := conn.Await(ctx, 2); err != nil { // the UPDATE with the own route
			t.Error(err)
		}
		must(t, r.WaitSession(ctx, node.Addr4()))
		opts.AS = 65009
		must(t, r.Reconfigure(ctx, opts))
		must(t, conn.AwaitEnd(ctx))
		theirs, err := connectAgain(t, ctx, node, r, open).Await(ctx, 1)
		must(t, err)
		if as := fmt.Sprintf("%+v", theirs.Body); !strings.Contains(as, "65009") {
			t.Errorf("the OPEN is %s, want AS 65009", as)
		}
	})
}

// connectAgain tries until the daemon accepts: for a moment after an error it
// refuses.
func connectAgain(t *testing.T, ctx context.Context, h *Host, r *Router, open BGPOpen) (conn *BGPConn) {
	t.Helper()
	must(t, poll(ctx, "the router accepts a session", func() (err error) {
		if conn, err = h.DialBGP(ctx, netip.AddrPortFrom(r.Addr4(), bgpPort)); err != nil {
			return err
		}
		if _, err = conn.Establish(ctx, open); err != nil {
			_ = conn.Close()
		}
		return err
	}))
	t.Cleanup(func() { must(t, conn.Close()) })
	return conn
}

func TestPartitionCutsOnePair(t *testing.T) {
	l := newLab(t, 2)
	ctx := testContext(t, routerPatience)
	r := addRouter(t, ctx, l, RouterOptions{Kind: NoDaemon})
	n1, n2 := l.Node("n1"), l.Node("n2")
	reaches := func(a, b *Host) bool {
		ctx, cancel := context.WithTimeout(ctx, 500*time.Millisecond)
		defer cancel()
		_, err := reach(ctx, a, b, b.Addr6())
		return err == nil
	}
	if !reaches(n1, r.Host) {
		t.Fatal("n1 does not reach the router to begin with")
	}
	must(t, l.Partition(n1, r.Host))
	if reaches(n1, r.Host) || reaches(r.Host, n1) {
		t.Error("frames pass between the two that are partitioned")
	}
	for _, pair := range [][2]*Host{{n1, n2}, {n2, r.Host}, {r.Host, n2}, {l.Client(), r.Host}} {
		if _, err := reach(ctx, pair[0], pair[1], pair[1].Addr4()); err != nil {
			t.Errorf("%s does not reach %s: %v", pair[0].Name(), pair[1].Name(), err)
		}
	}
	must(t, l.Partition(n2, r.Host))
	must(t, l.Heal(r.Host, n1))
	if _, err := reach(ctx, n1, r.Host, r.Addr6()); err != nil {
		t.Errorf("after the partition: %v", err)
	}
	if reaches(n2, r.Host) {
		t.Error("the end of one partition ended the other")
	}
}

func TestRoutersLeaveNothingBehind(t *testing.T) {
	l := newLab(t, 1)
	ctx := testContext(t, routerPatience)
	addRouter(t, ctx, l, RouterOptions{Kind: FRR, AS: 65001, Neighbors: []Neighbor{anyNode()}})
	addRouter(t, ctx, l, RouterOptions{Kind: BIRD, AS: 65002, Neighbors: []Neighbor{anyNode()}})
	var pids []int
	for _, p := range l.processes {
		pids = append(pids, p.Pid())
	}
	if len(pids) != 4 {
		t.Errorf("%d processes, want zebra, bfdd, bgpd and bird", len(pids))
	}
	must(t, l.Close())
	for _, pid := range pids {
		if _, err := os.Stat(fmt.Sprintf("/proc/%d", pid)); err == nil {
			t.Errorf("process %d lives", pid)
		}
	}
	if left := namespacesOf(t, l.ID()); len(left) != 0 {
		t.Errorf("namespaces %v are left", left)
	}
	if left, err := filepath.Glob(filepath.Join(stateRoot, l.ID(), "*")); err != nil || len(left) != 0 {
		t.Errorf("files %v are left (%v)", left, err)
	}
}

func TestAddRouterRefuses(t *testing.T) {
	l := newLab(t, 1)
	addRouter(t, t.Context(), l, RouterOptions{Kind: NoDaemon, Number: 2})
	for name, opts := range map[string]RouterOptions{
		"no kind":        {AS: 65001},
		"no AS":          {Kind: FRR},
		"number":         {Kind: NoDaemon, Number: 10},
		"taken number":   {Kind: NoDaemon, Number: 2},
		"taken name":     {Kind: NoDaemon, Name: "n1"},
		"name":           {Kind: NoDaemon, Name: "r-1"},
		"no neighbor":    {Kind: FRR, AS: 65001, Neighbors: []Neighbor{{}}},
		"two neighbors":  {Kind: FRR, AS: 65001, Neighbors: []Neighbor{{Address: lanAddr4(11).Addr(), Range: netip.MustParsePrefix(lanPrefix4)}}},
		"bad raw config": {Kind: BIRD, AS: 65001, Extra: "nonsense"},
	} {
		if _, err := l.AddRouter(testContext(t, routerPatience), opts); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestUnnumberedNeighbors(t *testing.T) {
	l := newLab(t, 1)
	ctx := testContext(t, routerPatience)
	unnumbered := []Neighbor{{Interface: "eth0", ExtendedNextHop: true}}
	r1 := addRouter(t, ctx, l, RouterOptions{Kind: FRR, AS: 65001, Announce: []netip.Prefix{prefix4}, Neighbors: unnumbered})
	r2 := addRouter(t, ctx, l, RouterOptions{Kind: FRR, AS: 65002, Neighbors: unnumbered})
	must(t, r2.WaitSession(ctx, linkLocalOf(t, r1.Host)))
	awaitRoute(t, ctx, r2, prefix4, linkLocalOf(t, r1.Host))

	// BIRD takes whom it does not know.
	r3 := addRouter(t, ctx, l, RouterOptions{Kind: BIRD, AS: 65003, Neighbors: unnumbered})
	node := l.Node("n1")
	var zone string
	must(t, node.Do(func() error {
		link, err := netlink.LinkByName(node.Link())
		zone = strconv.Itoa(link.Attrs().Index)
		return err
	}))
	conn, err := node.DialBGP(ctx, netip.AddrPortFrom(linkLocalOf(t, r3.Host).WithZone(zone), bgpPort))
	must(t, err)
	defer conn.Close()
	_, err = conn.Establish(ctx, BGPOpen{AS: 65100, Hold: 90 * time.Second})
	must(t, err)
	must(t, r3.WaitSession(ctx, linkLocalOf(t, node)))

	out, err := l.Client().Command(ctx, "ip", "-6", "route", "show", "default").CombinedOutput()
	if err != nil || strings.Contains(string(out), "proto ra") {
		t.Errorf("the client's default route is %s (%v)", out, err)
	}
}
