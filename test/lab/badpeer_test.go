package lab

import (
	"context"
	"net/netip"
	"testing"
	"time"

	"github.com/osrg/gobgp/v3/pkg/packet/bgp"
)

func TestBadPeer(t *testing.T) {
	bothKinds(t, func(t *testing.T, kind RouterKind) {
		l := newLab(t, 1)
		ctx := testContext(t, routerPatience)
		node := l.Node("n1")
		r := addRouter(t, ctx, l, RouterOptions{Kind: kind, AS: 65001, Neighbors: []Neighbor{{Address: node.Addr4(), AS: 65100, Passive: true}}})
		good := BGPOpen{AS: 65100, Hold: 90 * time.Second}

		// A wrong AS number: OPEN Message Error, Bad Peer AS.
		conn, err := node.DialBGP(ctx, netip.AddrPortFrom(r.Addr4(), bgpPort))
		must(t, err)
		_, err = conn.Establish(ctx, BGPOpen{AS: 65101, Hold: 90 * time.Second})
		if err == nil {
			t.Error("a session with a wrong AS came up")
		}
		if code, subcode, err := conn.AwaitNotification(ctx); err != nil || code != 2 || subcode != 2 {
			t.Errorf("NOTIFICATION %d/%d (%v), want 2/2", code, subcode, err)
		}
		must(t, conn.Close())

		// A flood, and its end with the session.
		conn = connectAgain(t, ctx, node, r, good)
		watch, err := r.WatchRoutes()
		must(t, err)
		defer watch.Close()
		flooded := netip.MustParsePrefix("100.64.0.0/10")
		const many = 2000
		must(t, conn.Flood(ctx, Flood{First: flooded.Addr(), Count: many, AS: 65100, NextHop: node.Addr4(), PerSecond: 20000}, false))
		_, err = watch.WaitCount(ctx, flooded, many)
		must(t, err)
		if n, err := r.CountRoutes(flooded); err != nil || n != many {
			t.Errorf("%d routes (%v), want %d", n, err, many)
		}
		// 200 bytes of withdrawn routes that are not there: UPDATE Message Error.
		must(t, conn.SendBody(bgp.BGP_MSG_UPDATE, []byte{0, 200, 0, 0}))
		if code, _, err := conn.AwaitNotification(ctx); err != nil || code != 3 {
			t.Errorf("NOTIFICATION %d (%v), want 3", code, err)
		}
		_, err = watch.WaitCount(ctx, flooded, 0)
		must(t, err)

		// Noise instead of a header: Message Header Error.
		conn = connectAgain(t, ctx, node, r, good)
		must(t, conn.SendRaw(make([]byte, 64)))
		if code, _, err := conn.AwaitNotification(ctx); err != nil || code != 1 {
			t.Errorf("NOTIFICATION %d (%v), want 1", code, err)
		}
	})
}

func TestFlappingPeer(t *testing.T) {
	l := newLab(t, 1)
	ctx := testContext(t, routerPatience)
	listener, err := l.Client().ListenBGP(bgpPort)
	must(t, err)
	defer listener.Close()
	r := addRouter(t, ctx, l, RouterOptions{Kind: BIRD, AS: 65001, Neighbors: []Neighbor{{Address: l.Client().Addr4()}}})
	flapping, stop := context.WithCancel(ctx)
	sessions := make(chan int, 1)
	go func() {
		sessions <- FlapBGP(flapping, BGPOpen{AS: 65100, Hold: 90 * time.Second}, 100*time.Millisecond, listener.Accept)
	}()
	for range 2 {
		must(t, r.WaitSession(ctx, l.Client().Addr4()))
		must(t, r.WaitNoSession(ctx, l.Client().Addr4()))
	}
	stop()
	if n := <-sessions; n < 2 {
		t.Errorf("%d sessions, want 2 at least", n)
	}
}
