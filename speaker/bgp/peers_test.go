package bgp

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	api "github.com/osrg/gobgp/v3/api"
	wire "github.com/osrg/gobgp/v3/pkg/packet/bgp"
)

// routesOf is an UPDATE of a router with its own routes.
func routesOf(r *tor, prefixes ...string) []byte {
	var nlri []*wire.IPAddrPrefix
	for _, p := range prefixes {
		prefix := netip.MustParsePrefix(p)
		nlri = append(nlri, wire.NewIPAddrPrefix(uint8(prefix.Bits()), prefix.Addr().String()))
	}
	attributes := []wire.PathAttributeInterface{
		wire.NewPathAttributeOrigin(0),
		wire.NewPathAttributeAsPath([]wire.AsPathParamInterface{wire.NewAs4PathParam(wire.BGP_ASPATH_ATTR_TYPE_SEQ, []uint32{r.as + 100})}),
		wire.NewPathAttributeNextHop(r.address.String()),
	}
	return encode(wire.NewBGPUpdateMessage(nil, attributes, nlri))
}

// A route goes to the sessions that it names, and follows a change of them
// without being missed by those that keep it.
func TestRoutesForSomePeers(t *testing.T) {
	for name, addPath := range map[string]bool{"one path": false, "add-path": true} {
		t.Run(name, func(t *testing.T) {
			n := newNode(t)
			tors := map[string]*tor{}
			for i, name := range []string{"a", "b", "c"} {
				r := newTor(t, "127.0.0."+string(rune('2'+i)), 65001)
				r.addPath = addPath
				tors[name] = r
				n.with(peer(name, r))
				r.connect(n.port)
			}
			at := func(prefix string) string {
				have := ""
				for _, name := range []string{"a", "b", "c"} {
					tors[name].mu.Lock()
					for key := range tors[name].routes {
						if key == prefix || len(key) > len(prefix) && key[:len(prefix)+1] == prefix+"#" {
							have += name
						}
					}
					tors[name].mu.Unlock()
				}
				return have
			}
			const p = "192.0.2.1/32"
			for i, step := range []struct {
				peers []string // nil: all
				want  string
			}{
				{[]string{"a", "b"}, "ab"},
				{[]string{"b", "c"}, "bc"},
				{nil, "abc"},
				{[]string{"c"}, "c"},
				{[]string{"unknown"}, ""},
				{[]string{"a"}, "a"},
				{nil, "abc"},
			} {
				r := routeTo(p, step.peers...)
				r.AllPeers = step.peers == nil
				n.announce(r, route("192.0.2.99/32"))
				eventually(t, "step reached", func() bool { return at(p) == step.want && at("192.0.2.99/32") == "abc" })
				if !addPath { // of one path, none that is kept is withdrawn
					for name, r := range tors {
						if _, gone := r.saw(); len(gone) > i+1 {
							t.Errorf("step %d: %s lost %v", i, name, gone)
						}
					}
				}
			}
			if _, gone := tors["b"].saw(); slices.Contains(gone, "192.0.2.99/32") {
				t.Error("the other route was withdrawn")
			}
			n.withdraw(p, "192.0.2.99/32")
			eventually(t, "nothing left", func() bool { return at(p) == "" && at("192.0.2.99/32") == "" })
		})
	}
}

// A change of the operator's policy withdraws what it forbids now and announces
// what it did not before, to each neighbor, in the sessions that there are.
func TestPolicyChangeKeepsSessions(t *testing.T) {
	n, a, b := newNode(t), newTor(t, "127.0.0.2", 65001), newTor(t, "127.0.0.3", 65002)
	b.addPath = true
	n.with(peer("a", a), peer("b", b))
	a.connect(n.port)
	b.connect(n.port)
	n.announce(route("192.0.2.1/32"), route("198.51.100.1/32"))
	eventually(t, "all routes", func() bool { return a.count() == 2 && b.count() == 2 })
	for _, step := range []struct {
		policy string
		a, b   int
	}{
		{rejectPolicy("192.0.2.0/24", ""), 1, 1},
		{rejectPolicy("198.51.100.0/24", "127.0.0.3"), 2, 1},
		{rejectPolicy("0.0.0.0/0", "127.0.0.2"), 0, 2},
		{"", 2, 2},
	} {
		n.config.Policy = nil
		if step.policy != "" {
			p, err := ParsePolicy(step.policy)
			if err != nil {
				t.Fatal(err)
			}
			n.config.Policy = p
		}
		n.configure()
		eventually(t, "policy in force", func() bool { return a.count() == step.a && b.count() == step.b })
		if s := n.session("a"); s.Families[0].Announced != uint64(step.a) {
			t.Errorf("announced %+v, want %d", s.Families, step.a)
		}
	}
	if a.sessions() != 1 || b.sessions() != 1 {
		t.Errorf("sessions opened %d and %d times", a.sessions(), b.sessions())
	}
	for _, prefix := range []string{"192.0.2.1/32", "198.51.100.1/32"} {
		if r := a.route(prefix); r.largeCommunities != nil {
			t.Errorf("tags on the wire: %v", r.largeCommunities)
		}
	}
}

// rejectPolicy rejects prefixes for a neighbor, or for all.
func rejectPolicy(prefix, neighbor string) string {
	text := `
[[defined-sets.prefix-sets]]
prefix-set-name = "ps"
[[defined-sets.prefix-sets.prefix-list]]
ip-prefix = "` + prefix + `"
masklength-range = "0..32"
[[defined-sets.neighbor-sets]]
neighbor-set-name = "ns"
neighbor-info-list = ["` + neighbor + `/32"]
[[policy-definitions]]
name = "operators"
[[policy-definitions.statements]]
name = "one"
[policy-definitions.statements.conditions.match-prefix-set]
prefix-set = "ps"
match-set-options = "any"
[policy-definitions.statements.conditions.match-neighbor-set]
neighbor-set = "ns"
[policy-definitions.statements.actions]
route-disposition = "reject-route"
[global.apply-policy.config]
export-policy-list = ["operators"]
default-export-policy = "accept-route"
`
	if neighbor == "" {
		return removeLines(text, "neighbor")
	}
	return text
}

func removeLines(text, word string) string {
	var kept string
	for line := range strings.Lines(text) {
		if !strings.Contains(line, word) {
			kept += line
		}
	}
	return kept
}

// Third-party next hops are paths of their own; one that comes or goes leaves the
// others alone.
func TestThirdPartyNextHops(t *testing.T) {
	n, r := newNode(t), newTor(t, "127.0.0.2", 65001)
	r.addPath = true
	n.with(peer("a", r))
	r.connect(n.port)
	hops := func(addrs ...string) (hops []netip.Addr) {
		for _, a := range addrs {
			hops = append(hops, netip.MustParseAddr(a))
		}
		return hops
	}
	have := func() string {
		r.mu.Lock()
		defer r.mu.Unlock()
		var list []string
		for _, route := range r.routes {
			list = append(list, route.nextHop.String())
		}
		slices.Sort(list)
		return strings.Join(list, " ")
	}
	for _, step := range []struct {
		hops    []netip.Addr
		want    string
		updates int
	}{
		{hops("10.0.0.1", "10.0.0.3"), "10.0.0.1 10.0.0.3", 2},
		{hops("10.0.0.1", "10.0.0.2", "10.0.0.3"), "10.0.0.1 10.0.0.2 10.0.0.3", 1},
		{hops("10.0.0.2", "10.0.0.3"), "10.0.0.2 10.0.0.3", 1},
		{nil, "127.0.0.1", 3},
	} {
		before, _ := r.saw()
		route := route("192.0.2.1/32")
		route.NextHops = step.hops
		n.announce(route)
		eventually(t, step.want, func() bool { return have() == step.want })
		if after, _ := r.saw(); after-before > step.updates {
			t.Errorf("%s took %d UPDATEs", step.want, after-before)
		}
	}
}

// The next hop of a family that the session does not have is the one that the
// session is given, and changes without a new session.
func TestNextHopsOfTheOtherFamily(t *testing.T) {
	n, r := newNode(t), newTor(t, "127.0.0.2", 65001)
	n.with(peer("a", r))
	r.connect(n.port)
	n.announce(route("192.0.2.1/32"), route("2001:db8::1/128"))
	eventually(t, "both routes", func() bool { return r.count() == 2 })
	n.change("a", func(p *Peer) {
		p.NextHop4, p.NextHop6 = netip.MustParseAddr("10.9.9.9"), netip.MustParseAddr("fd00::2")
	})
	eventually(t, "other next hops", func() bool {
		return r.route("192.0.2.1/32").nextHop.String() == "10.9.9.9" && r.route("2001:db8::1/128").nextHop.String() == "fd00::2"
	})
	if r.sessions() != 1 {
		t.Errorf("%d sessions", r.sessions())
	}
	third := route("192.0.2.2/32")
	third.NextHops = []netip.Addr{netip.MustParseAddr("10.0.0.7")}
	n.announce(third)
	eventually(t, "third-party next hop kept", func() bool {
		got := r.route("192.0.2.2/32")
		return got != nil && got.nextHop.String() == "10.0.0.7"
	})
	// Without an address there is nothing to announce.
	n.change("a", func(p *Peer) { p.NextHop6 = netip.Addr{} })
	eventually(t, "a new session without IPv6 routes", func() bool { return r.sessions() == 2 && r.established() && r.markers() >= 4 })

	if got := n.session("a").Families[1].Announced; got != 0 {
		t.Errorf("%d IPv6 routes announced without a next hop", got)
	}
}

// Internal neighbors get LOCAL_PREF, and no prepended AS that they would take
// for a loop.
func TestInternalPeer(t *testing.T) {
	n, r := newNode(t), newTor(t, "127.0.0.2", 65000)
	n.with(peer("a", r))
	r.connect(n.port)
	preference := uint32(0)
	one, two := route("192.0.2.1/32"), route("192.0.2.2/32")
	one.Prepend, one.LocalPref = 3, &preference
	n.announce(one, two)
	eventually(t, "both routes", func() bool { return r.count() == 2 })
	for prefix, want := range map[string]uint32{"192.0.2.1/32": 0, "192.0.2.2/32": 100} {
		if got := r.route(prefix); len(got.asPath) != 0 || got.localPref == nil || *got.localPref != want || got.nextHop.String() != "127.0.0.1" {
			t.Errorf("%s: %+v, want local preference %d", prefix, got, want)
		}
	}
}

// Routes for neighbors that the node has no session with cost GoBGP nothing, and
// are there when the session is.
func TestRoutesForAbsentPeers(t *testing.T) {
	n, a, b := newNode(t), newTor(t, "127.0.0.2", 65001), newTor(t, "127.0.0.3", 65001)
	n.with(peer("a", a))
	a.connect(n.port)
	b.connect(n.port)
	n.announce(route("192.0.2.1/32"), routeTo("192.0.2.2/32", "b"))
	held := func() (prefixes int) {
		err := n.bgp.ListPath(t.Context(), &api.ListPathRequest{Family: unicast(false)}, func(*api.Destination) { prefixes++ })
		if err != nil {
			t.Fatal(err)
		}
		return prefixes
	}
	eventually(t, "a has its route", func() bool { return a.count() == 1 })
	if got := held(); got != 1 {
		t.Errorf("GoBGP holds %d routes, want 1", got)
	}
	n.with(peer("b", b))
	eventually(t, "b has both routes", func() bool { return b.count() == 2 })
	alone := n.config.Peers[:1]
	n.config.Peers = alone
	n.configure()
	n.announce(routeTo("192.0.2.2/32", "a", "b"), routeTo("192.0.2.3/32", "b"))
	eventually(t, "a has the route that it may have now", func() bool { return a.count() == 2 })
	n.with(peer("b", b))
	eventually(t, "b has all", func() bool { return b.count() == 3 })
	n.withdraw("192.0.2.1/32", "192.0.2.2/32", "192.0.2.3/32")
	eventually(t, "nothing is left", func() bool { return a.count() == 0 && b.count() == 0 && held() == 0 })
}
