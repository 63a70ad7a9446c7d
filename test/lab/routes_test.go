package lab

import (
	"net/netip"
	"slices"
	"testing"
	"time"
)

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
