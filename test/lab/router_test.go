package lab

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/osrg/gobgp/v3/pkg/packet/bgp"
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
	must(t, r.WaitRoute(ctx, prefix, via...))
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

// anyNode takes a session of every host of the lab.
func anyNode() Neighbor {
	return Neighbor{Range: netip.MustParsePrefix(lanPrefix4)}
}

func linkLocalOf(t *testing.T, h *Host) netip.Addr {
	t.Helper()
	addr, err := h.LinkLocal()
	must(t, err)
	return addr
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
		must(t, poll(ctx, "the neighbor that was removed is gone", func() error {
			if _, err := r.Session(ctx, l.Client().Addr4()); !errors.Is(err, errNoNeighbor) {
				return fmt.Errorf("it is still there, or: %w", err)
			}
			return nil
		}))
		if _, err := conn.Await(ctx, bgp.BGP_MSG_UPDATE); err != nil { // with the own route
			t.Error(err)
		}
		must(t, r.WaitSession(ctx, node.Addr4()))
		opts.AS = 65009
		must(t, r.Reconfigure(ctx, opts))
		must(t, conn.AwaitEnd(ctx))
		theirs, err := connectAgain(t, ctx, node, r, open).Await(ctx, bgp.BGP_MSG_OPEN)
		must(t, err)
		if got := theirs.Body.(*bgp.BGPOpen); got.MyAS != 65009 {
			t.Errorf("the OPEN is %+v, want AS 65009", got)
		}
	})
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
