package plan

import (
	"cmp"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
)

// TestRoutesAgainstModel lives through random changes and compares the table
// after each with one that is computed from nothing.
func TestRoutesAgainstModel(t *testing.T) {
	for seed := range uint64(20) {
		random := rand.New(rand.NewPCG(seed, 0))
		ways := randomWays(random)
		r, addresses := NewRoutes(), map[netip.Addr]*Announcement{}
		routed, draining := map[netip.Prefix]*Route{}, false
		for range 100 {
			for range 1 + random.IntN(4) { // changes of one batch
				switch addr := netip.AddrFrom4([4]byte{10, 0, 0, byte(random.IntN(32))}); random.IntN(20) {
				case 0:
					draining = !draining
					r.Drain(draining)
				case 1, 2, 3, 4, 5, 6:
					delete(addresses, addr)
					r.Set(addr, nil)
				default:
					addresses[addr] = ways[random.IntN(len(ways))]
					r.Set(addr, addresses[addr])
				}
			}
			for prefix, route := range r.Changes() {
				if route.Equal(routed[prefix]) {
					t.Fatalf("seed %d: %s did not change: %s", seed, prefix, text(route))
				}
				if routed[prefix] = route; route == nil {
					delete(routed, prefix)
				}
			}
			want, conflicts := model(addresses, draining)
			if !maps.EqualFunc(routed, want, (*Route).Equal) {
				t.Fatalf("seed %d: the routes are\n%s\nwant\n%s", seed, lines(routed), lines(want))
			}
			if got := r.everyConflict(); fmt.Sprint(got) != fmt.Sprint(conflicts) {
				t.Fatalf("seed %d: conflicts\n%v\nwant\n%v", seed, got, conflicts)
			}
			if all := r.All(); !maps.EqualFunc(all, want, (*Route).Equal) {
				t.Fatalf("seed %d: All returns\n%s\nwant\n%s", seed, lines(all), lines(want))
			}
		}
	}
}

// randomWays are announcements of three Eips that overlap.
func randomWays(random *rand.Rand) (ways []*Announcement) {
	some := func(n uint32) *uint32 {
		if random.IntN(2) == 0 {
			return nil
		}
		return new(random.Uint32N(n))
	}
	for range 8 {
		a := eip(string(rune('a'+random.IntN(3))), []string{"10.0.0.0/28", "10.0.0.8/29 10.0.0.16/31", "10.0.0.0/24"}[random.IntN(3)], func(a *Advertisement) {
			a.Length4 = 28 + random.IntN(5)
			for c := range uint32(3) {
				if random.IntN(3) == 0 {
					a.Communities = append(a.Communities, c)
				}
			}
			a.LocalPref, a.MED, a.Prepend = some(200), some(2), random.IntN(2)
			if random.IntN(2) == 0 {
				a.AllPeers, a.Peers = false, [][]string{{"p", "q"}, {"q", "r"}, {"p"}, nil}[random.IntN(4)]
			}
		})
		for i := range byte(4) {
			if random.IntN(3) > 0 {
				a.NextHops = append(a.NextHops, netip.AddrFrom4([4]byte{192, 0, 2, i}))
			}
		}
		ways = append(ways, a)
	}
	return ways
}

// model computes all routes and conflicts, one attribute at a time.
func model(addresses map[netip.Addr]*Announcement, draining bool) (routes map[netip.Prefix]*Route, conflicts []Conflict) {
	members := map[netip.Prefix][]*Announcement{}
	for addr, a := range addresses {
		prefix, _ := addr.Prefix(a.Advertisement.Length4)
		if !a.Addresses.ContainsPrefix(prefix) {
			prefix = netip.PrefixFrom(addr, 32)
		}
		members[prefix] = append(members[prefix], a)
	}
	routes = map[netip.Prefix]*Route{}
	for _, prefix := range slices.SortedFunc(maps.Keys(members), netip.Prefix.Compare) {
		of := members[prefix]
		conflict := Conflict{Prefix: prefix}
		each := func(field string, value func(*Advertisement) string) (values []string) {
			for _, a := range of {
				values = append(values, value(a.Advertisement))
			}
			slices.Sort(values)
			if values = slices.Compact(values); len(values) > 1 {
				conflict.Fields = append(conflict.Fields, field)
			}
			return values
		}
		each("asPathPrepend", func(a *Advertisement) string { return fmt.Sprint(a.Prepend) })
		each("communities", func(a *Advertisement) string { return fmt.Sprint(a.Communities) })
		each("localPref", func(a *Advertisement) string { return fmt.Sprint(orElse(a.LocalPref, 100)) })
		each("med", func(a *Advertisement) string { return fmt.Sprint(orElse(a.MED, 0)) })
		each("peers", func(a *Advertisement) string { return fmt.Sprint(a.AllPeers, a.Peers) })

		route := &Route{Prefix: prefix, AllPeers: true}
		hops, communities, peers := map[netip.Addr]bool{}, map[uint32]bool{}, map[string]int{}
		var saysPref, saysMED []uint32
		limited := 0
		pref, med := uint32(1<<32-1), uint32(0)
		for _, a := range of {
			for _, hop := range a.NextHops {
				hops[hop] = true
			}
			for _, c := range a.Advertisement.Communities {
				communities[c] = true
			}
			pref, med = min(pref, orElse(a.Advertisement.LocalPref, 100)), max(med, orElse(a.Advertisement.MED, 0))
			if a.Advertisement.LocalPref != nil {
				saysPref = append(saysPref, *a.Advertisement.LocalPref)
			}
			if a.Advertisement.MED != nil {
				saysMED = append(saysMED, *a.Advertisement.MED)
			}
			route.Prepend = max(route.Prepend, a.Advertisement.Prepend)
			if !a.Advertisement.AllPeers {
				limited++
				for _, peer := range a.Advertisement.Peers {
					peers[peer]++
				}
			}
			conflict.Eips = append(conflict.Eips, a.Eip)
		}
		if slices.Contains(saysPref, pref) {
			route.LocalPref = &pref
		}
		if slices.Contains(saysMED, med) {
			route.MED = &med
		}
		if limited > 0 {
			route.AllPeers = false
			for peer, n := range peers {
				if n == limited {
					route.Peers = append(route.Peers, peer)
				}
			}
			slices.Sort(route.Peers)
		}
		if draining {
			communities[65535<<16] = true
			route.LocalPref = new(uint32(0))
		}
		route.NextHops = slices.SortedFunc(maps.Keys(hops), netip.Addr.Compare)
		route.Communities = slices.SortedFunc(maps.Keys(communities), cmp.Compare[uint32])
		routes[prefix] = route
		if len(conflict.Fields) > 0 {
			slices.Sort(conflict.Eips)
			conflict.Eips = slices.Compact(conflict.Eips)
			conflicts = append(conflicts, conflict)
		}
	}
	return routes, conflicts
}

func orElse(p *uint32, absent uint32) uint32 {
	if p == nil {
		return absent
	}
	return *p
}
