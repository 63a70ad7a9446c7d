package bgp

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"testing"

	"github.com/fairway-lb/fairway/speaker/plan"
)

// TestBursts changes routes faster than they are sent: announced, withdrawn, for
// other neighbors and with other attributes, many in one UPDATE. What a neighbor
// has in the end is what it is to have, with and without ADD-PATH.
func TestBursts(t *testing.T) {
	n, tors := newNode(t), map[string]*tor{"a": newTor(t, "127.0.0.2", 65001), "b": newTor(t, "127.0.0.3", 65002)}
	tors["b"].addPath = true
	for name, r := range tors {
		n.with(peer(name, r))
		r.connect(n.port)
		eventually(t, name+" established", r.established)
	}
	var prefixes []netip.Prefix
	for i := range 40 {
		prefixes = append(prefixes, netip.MustParsePrefix(fmt.Sprintf("192.0.2.%d/32", i)), netip.MustParsePrefix(fmt.Sprintf("2001:db8::%x/128", i)))
	}
	random := rand.New(rand.NewPCG(1, 2))
	wanted := make(map[netip.Prefix]*plan.Route)
	for range 20 {
		for range 30 {
			changes := make(map[netip.Prefix]*plan.Route)
			for range 1 + random.IntN(10) {
				p, med := prefixes[random.IntN(len(prefixes))], random.Uint32N(3)
				r := &plan.Route{Prefix: p, MED: &med}
				switch random.IntN(5) {
				case 0:
					r = nil
				case 1:
					r.Peers = []string{"a"}
				case 2:
					r.Peers = []string{"b"}
				default:
					r.AllPeers = true
				}
				changes[p] = r
			}
			maps.Copy(wanted, changes)
			if err := n.Announce(changes); err != nil {
				t.Fatal(err)
			}
		}
		for name, r := range tors {
			want := make(map[string]uint32)
			for p, route := range wanted {
				if route != nil && (route.AllPeers || route.Peers[0] == name) {
					want[p.String()] = *route.MED
				}
			}
			eventually(t, name+" has what is wanted", func() bool { return maps.Equal(r.meds(), want) })
		}
	}
}
