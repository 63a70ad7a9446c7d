package lab

import (
	"cmp"
	"net/netip"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
)

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
		if err != nil {
			return err
		}
		zone = strconv.Itoa(link.Attrs().Index)
		return nil
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
