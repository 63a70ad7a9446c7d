package lab

import (
	"net/netip"
	"reflect"
	"testing"
	"time"

	"github.com/osrg/gobgp/v3/pkg/packet/bgp"
)

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
