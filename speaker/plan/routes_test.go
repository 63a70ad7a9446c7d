package plan

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"go4.org/netipx"
)

// eip is an Eip with such addresses ("10.0.0.0/24 10.1.0.1"), and how they are
// announced.
func eip(name, addresses string, change func(*Advertisement)) *Announcement {
	var set netipx.IPSetBuilder
	for _, text := range strings.Fields(addresses) {
		set.AddPrefix(netip.MustParsePrefix(text))
	}
	space, err := set.IPSet()
	if err != nil {
		panic(err)
	}
	return &Announcement{Eip: name, Advertisement: plainAdvertisement(change), Addresses: space}
}

// via is the announcement with next hops.
func (a Announcement) via(hops ...string) *Announcement {
	for _, hop := range hops {
		a.NextHops = append(a.NextHops, netip.MustParseAddr(hop))
	}
	return &a
}

// text is a route as a line: what it has beside its prefix.
func text(r *Route) string {
	if r == nil {
		return "withdrawn"
	}
	var b strings.Builder
	add := func(name string, value any) { fmt.Fprintf(&b, " %s=%v", name, value) }
	if len(r.NextHops) > 0 {
		add("via", r.NextHops)
	}
	if len(r.Communities) > 0 {
		add("communities", r.Communities)
	}
	if len(r.LargeCommunities) > 0 {
		add("large", r.LargeCommunities)
	}
	if r.LocalPref != nil {
		add("localPref", *r.LocalPref)
	}
	if r.MED != nil {
		add("med", *r.MED)
	}
	if r.Prepend > 0 {
		add("prepend", r.Prepend)
	}
	if !r.AllPeers {
		add("peers", r.Peers)
	}
	return strings.TrimSpace(b.String())
}

// lines are routes as text, sorted by prefix.
func lines(routes map[netip.Prefix]*Route) string {
	var all []string
	for _, prefix := range slices.SortedFunc(maps.Keys(routes), netip.Prefix.Compare) {
		if r := routes[prefix]; r != nil && r.Prefix != prefix {
			return fmt.Sprintf("the route of %s says %s", prefix, r.Prefix)
		}
		all = append(all, strings.TrimSpace(prefix.String()+" "+text(routes[prefix])))
	}
	return strings.Join(all, "\n")
}

// step is a change of the table and what follows from it.
type step struct {
	name    string
	do      func(*Routes)
	changes string // lines
}

func runSteps(t *testing.T, steps []step) *Routes {
	t.Helper()
	r := NewRoutes()
	for _, step := range steps {
		step.do(r)
		if got := lines(r.Changes()); got != step.changes {
			t.Errorf("%s: changes\n%s\nwant\n%s", step.name, got, step.changes)
		}
		if again := r.Changes(); len(again) > 0 {
			t.Errorf("%s: the changes are there twice: %v", step.name, again)
		}
	}
	return r
}

func set(addr string, a *Announcement) func(*Routes) {
	return func(r *Routes) { r.Set(netip.MustParseAddr(addr), a) }
}

func TestRoutesOfSingleAddresses(t *testing.T) {
	plain := eip("pool", "10.0.0.0/24 2001:db8::/64", nil)
	r := runSteps(t, []step{
		{"nothing", func(*Routes) {}, ""},
		{"an address", set("10.0.0.1", plain), "10.0.0.1/32"},
		{"the same again", set("10.0.0.1", plain), ""},
		{"an equal Advertisement, read anew", set("10.0.0.1", eip("pool", "10.0.0.0/24", nil)), ""},
		{"an IPv6 address", set("2001:db8::1", plain), "2001:db8::1/128"},
		{"an address that no Eip has any more", set("192.168.0.1", plain), "192.168.0.1/32"},
		{"an address that is not announced goes", set("10.0.0.9", nil), ""},
		{"one comes and goes at once", func(r *Routes) { set("10.0.0.7", plain)(r); set("10.0.0.7", nil)(r) }, ""},
		{"one goes and comes at once", func(r *Routes) { set("10.0.0.1", nil)(r); set("10.0.0.1", plain)(r) }, ""},
		{"attributes", set("10.0.0.1", eip("pool", "10.0.0.0/24", func(a *Advertisement) {
			a.Communities, a.LargeCommunities = []uint32{1, 2}, []LargeCommunity{{1, 2, 3}}
			a.LocalPref, a.MED, a.Prepend = new(uint32(0)), new(uint32(7)), 2
			a.AllPeers, a.Peers = false, []string{"tor"}
		})), "10.0.0.1/32 communities=[1 2] large=[{1 2 3}] localPref=0 med=7 prepend=2 peers=[tor]"},
		{"another large community", set("10.0.0.1", eip("pool", "10.0.0.0/24", func(a *Advertisement) { a.LargeCommunities = []LargeCommunity{{1, 2, 4}} })),
			"10.0.0.1/32 large=[{1 2 4}]"},
		{"and another", set("10.0.0.1", eip("pool", "10.0.0.0/24", func(a *Advertisement) { a.LargeCommunities = []LargeCommunity{{1, 2, 5}} })),
			"10.0.0.1/32 large=[{1 2 5}]"},
		{"next hops", set("2001:db8::1", plain.via("fd00::1", "fd00::2")), "2001:db8::1/128 via=[fd00::1 fd00::2]"},
		{"one next hop less", set("2001:db8::1", plain.via("fd00::2")), "2001:db8::1/128 via=[fd00::2]"},
		{"the node itself again", set("2001:db8::1", plain), "2001:db8::1/128"},
		{"gone", set("10.0.0.1", nil), "10.0.0.1/32 withdrawn"},
		{"no address at all", func(r *Routes) { r.Set(netip.Addr{}, plain) }, ""},
	})
	set("192.168.0.1", nil)(r)
	set("192.168.0.2", plain)(r)
	if got, want := lines(r.All()), "192.168.0.2/32\n2001:db8::1/128"; got != want {
		t.Errorf("all routes are\n%s\nwant\n%s", got, want)
	}
	if r.Len() != 2 {
		t.Errorf("%d addresses, want 2", r.Len())
	}
	if changes := r.Changes(); len(changes) > 0 {
		t.Errorf("All left changes: %s", lines(changes))
	}
}

// aggregated announces /30 and /64.
func aggregated(a *Advertisement) { a.Length4, a.Length6 = 30, 64 }

func TestRoutesOfAggregates(t *testing.T) {
	pool := eip("pool", "10.0.0.0/29 10.0.0.8/31 2001:db8::/64 2001:db8:1::/65", aggregated)
	runSteps(t, []step{
		{"the first member", set("10.0.0.1", pool), "10.0.0.0/30"},
		{"the second", set("10.0.0.2", pool), ""},
		{"one in another aggregate", set("10.0.0.4", pool), "10.0.0.4/30"},
		{"one whose aggregate is not wholly the Eip's", set("10.0.0.8", pool), "10.0.0.8/32"},
		{"IPv6", set("2001:db8::5", pool), "2001:db8::/64"},
		{"IPv6, not wholly the Eip's", set("2001:db8:1::5", pool), "2001:db8:1::5/128"},
		{"the first member goes", set("10.0.0.1", nil), ""},
		{"another takes the place of the last at once", func(r *Routes) { set("10.0.0.2", nil)(r); set("10.0.0.3", pool)(r) }, ""},
		{"the last member goes", set("10.0.0.3", nil), "10.0.0.0/30 withdrawn"},
		{"it comes back", set("10.0.0.3", pool), "10.0.0.0/30"},
		{"the Eip grows", set("10.0.0.8", eip("pool", "10.0.0.0/28", aggregated)), "10.0.0.8/30\n10.0.0.8/32 withdrawn"},
		{"an address is excluded from the Eip", set("10.0.0.4", eip("pool", "10.0.0.4/31 10.0.0.6/32", aggregated)), "10.0.0.4/30 withdrawn\n10.0.0.4/32"},
		{"no aggregation any more", set("10.0.0.3", eip("pool", "10.0.0.0/28", nil)), "10.0.0.0/30 withdrawn\n10.0.0.3/32"},
		{"the default route is nobody's", set("10.0.0.3", eip("pool", "10.0.0.0/28", func(a *Advertisement) { a.Length4 = 0 })), ""},
	})
}

// An aggregate has the next hops of all its members.
func TestNextHopsOfAggregates(t *testing.T) {
	pool := eip("pool", "10.0.0.0/24", aggregated)
	runSteps(t, []step{
		{"one member", set("10.0.0.1", pool.via("192.0.2.1", "192.0.2.2")), "10.0.0.0/30 via=[192.0.2.1 192.0.2.2]"},
		{"another, elsewhere", set("10.0.0.2", pool.via("192.0.2.2", "192.0.2.3")), "10.0.0.0/30 via=[192.0.2.1 192.0.2.2 192.0.2.3]"},
		{"a third, where there are some", set("10.0.0.3", pool.via("192.0.2.3")), ""},
		{"the first moves", set("10.0.0.1", pool.via("192.0.2.3")), "10.0.0.0/30 via=[192.0.2.2 192.0.2.3]"},
		{"the second goes", set("10.0.0.2", nil), "10.0.0.0/30 via=[192.0.2.3]"},
		{"all go", func(r *Routes) { set("10.0.0.1", nil)(r); set("10.0.0.3", nil)(r) }, "10.0.0.0/30 withdrawn"},
	})
}

func TestDrain(t *testing.T) {
	pool := eip("pool", "10.0.0.0/24", func(a *Advertisement) { a.Communities, a.LocalPref = []uint32{1, 0xffffff01}, new(uint32(200)) })
	drain := func(on bool) func(*Routes) { return func(r *Routes) { r.Drain(on) } }
	runSteps(t, []step{
		{"two addresses", func(r *Routes) { set("10.0.0.1", pool)(r); set("10.0.0.2", eip("plain", "10.0.0.0/24", nil))(r) },
			"10.0.0.1/32 communities=[1 4294967041] localPref=200\n10.0.0.2/32"},
		{"drain", drain(true), "10.0.0.1/32 communities=[1 4294901760 4294967041] localPref=0\n10.0.0.2/32 communities=[4294901760] localPref=0"},
		{"again", drain(true), ""},
		{"an address comes", set("10.0.0.3", pool), "10.0.0.3/32 communities=[1 4294901760 4294967041] localPref=0"},
		{"an address goes", set("10.0.0.1", nil), "10.0.0.1/32 withdrawn"},
		{"the Eip has the community itself", set("10.0.0.2", eip("plain", "10.0.0.0/24", func(a *Advertisement) { a.Communities = []uint32{gracefulShutdown} })), ""},
		{"no drain after all", drain(false), "10.0.0.2/32 communities=[4294901760]\n10.0.0.3/32 communities=[1 4294967041] localPref=200"},
		{"on and off", func(r *Routes) { r.Drain(true); r.Drain(false) }, ""},
	})
	if pool.Advertisement.Communities[1] != 0xffffff01 || *pool.Advertisement.LocalPref != 200 {
		t.Errorf("draining changed the Advertisement: %+v", pool.Advertisement)
	}
}

// Eips that overlap may share a route: the stricter value of each attribute
// counts, and the disagreement is known.
func TestConflicts(t *testing.T) {
	number := func(v uint32) *uint32 { return &v }
	for _, test := range []struct {
		name  string
		a, b  func(*Advertisement)
		route string
		where string // the fields, "" for no conflict
	}{
		{"equal", func(a *Advertisement) { a.MED = number(1) }, func(a *Advertisement) { a.MED = number(1) }, "med=1", ""},
		{"communities: all",
			func(a *Advertisement) {
				a.Communities, a.LargeCommunities = []uint32{1, 3}, []LargeCommunity{{1, 1, 2}}
			},
			func(a *Advertisement) {
				a.Communities, a.LargeCommunities = []uint32{2, 3}, []LargeCommunity{{1, 1, 1}}
			},
			"communities=[1 2 3] large=[{1 1 1} {1 1 2}]", "communities"},
		{"a community on one side", func(a *Advertisement) { a.Communities = []uint32{0xffffff02} }, func(*Advertisement) {}, "communities=[4294967042]", "communities"},
		{"local preference: the lowest", func(a *Advertisement) { a.LocalPref = number(300) }, func(a *Advertisement) { a.LocalPref = number(200) }, "localPref=200", "localPref"},
		{"local preference: none is 100, which is lower", func(a *Advertisement) { a.LocalPref = number(300) }, func(*Advertisement) {}, "", "localPref"},
		{"local preference: lower than none", func(a *Advertisement) { a.LocalPref = number(50) }, func(*Advertisement) {}, "localPref=50", "localPref"},
		{"local preference: none and 100 are alike", func(a *Advertisement) { a.LocalPref = number(100) }, func(*Advertisement) {}, "localPref=100", ""},
		{"MED: the highest", func(a *Advertisement) { a.MED = number(3) }, func(a *Advertisement) { a.MED = number(4) }, "med=4", "med"},
		{"MED: none is 0", func(a *Advertisement) { a.MED = number(3) }, func(*Advertisement) {}, "med=3", "med"},
		{"MED: none and 0 are alike", func(a *Advertisement) { a.MED = number(0) }, func(*Advertisement) {}, "med=0", ""},
		{"path: the longest", func(a *Advertisement) { a.Prepend = 1 }, func(a *Advertisement) { a.Prepend = 2 }, "prepend=2", "asPathPrepend"},
		{"peers: those of both", func(a *Advertisement) { a.AllPeers, a.Peers = false, []string{"a", "b"} },
			func(a *Advertisement) { a.AllPeers, a.Peers = false, []string{"b", "c"} }, "peers=[b]", "peers"},
		{"peers: all and some", func(a *Advertisement) { a.AllPeers, a.Peers = false, []string{"a"} }, func(*Advertisement) {}, "peers=[a]", "peers"},
		{"peers: none in common", func(a *Advertisement) { a.AllPeers, a.Peers = false, []string{"a"} },
			func(a *Advertisement) { a.AllPeers, a.Peers = false, []string{"b"} }, "peers=[]", "peers"},
		{"several", func(a *Advertisement) { a.MED, a.Prepend, a.Communities = number(1), 1, []uint32{1} },
			func(*Advertisement) {}, "communities=[1] med=1 prepend=1", "asPathPrepend communities med"},
	} {
		t.Run(test.name, func(t *testing.T) {
			both := func(change func(*Advertisement)) func(*Advertisement) {
				return func(a *Advertisement) { aggregated(a); change(a) }
			}
			a, b := eip("a", "10.0.0.0/24", both(test.a)), eip("b", "10.0.0.0/25", both(test.b))
			for range 2 { // either first
				r := NewRoutes()
				set("10.0.0.1", a)(r)
				set("10.0.0.2", b)(r)
				if got, want := lines(r.Changes()), strings.TrimSpace("10.0.0.0/30 "+test.route); got != want {
					t.Errorf("%s, want %s", got, want)
				}
				conflicts := r.everyConflict()
				if test.where == "" {
					if len(conflicts) > 0 {
						t.Errorf("conflicts %v", conflicts)
					}
				} else if len(conflicts) != 1 || fmt.Sprint(conflicts[0].Prefix, conflicts[0].Eips, conflicts[0].Fields) != fmt.Sprintf("10.0.0.0/30 [a b] [%s]", test.where) {
					t.Errorf("conflicts %v", conflicts)
				}
				set("10.0.0.2", nil)(r)
				r.Changes()
				if rest := r.everyConflict(); len(rest) > 0 {
					t.Errorf("one Eip alone disagrees: %v", rest)
				}
				a, b = b, a
			}
		})
	}
}

func TestConflictIsASentence(t *testing.T) {
	c := Conflict{Prefix: netip.MustParsePrefix("10.0.0.0/24"), Eips: []string{"a", "b"}, Fields: []string{"localPref", "med"}}
	want := "Eips a, b announce 10.0.0.0/24 together and disagree in spec.bgp.localPref, spec.bgp.med: the stricter value counts, make them equal or take the overlap out of one"
	if c.String() != want {
		t.Errorf("%q, want %q", c, want)
	}
}
