package bgp

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/go-logr/logr/testr"

	"github.com/fairway-lb/fairway/speaker/plan"
)

// patience is how long a test waits for what should come at once.
const patience = 30 * time.Second

// node is a Server with a listener on 127.0.0.1.
type node struct {
	*Server
	t      testing.TB
	port   int
	config Config
}

func newNode(t testing.TB) *node {
	t.Helper()
	n := &node{t: t, port: freePort(t)}
	n.Server = New(Options{Log: logger(t)})
	n.config.Router = &Router{AS: 65000, ID: netip.MustParseAddr("10.0.0.1"), ListenPort: int32(n.port),
		ListenAddresses: []netip.Addr{netip.MustParseAddr("127.0.0.1")}}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		n.Stop(ctx)
	})
	return n
}

func logger(t testing.TB) logr.Logger {
	return testr.NewWithInterface(t, testr.Options{Verbosity: 0})
}

func freePort(t testing.TB) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// peer is a session with a router that connects to the node.
func peer(name string, r *tor) Peer {
	return Peer{Name: name, Address: r.address, AS: r.as, LocalAS: 65000, Port: 179, Passive: true,
		ConnectRetry: 5 * time.Second, HoldTime: 90 * time.Second, KeepaliveInterval: 30 * time.Second,
		GracefulRestart: GracefulRestart{Enabled: true, RestartTime: 120 * time.Second, DeferralTime: time.Second},
		Families: []Family{
			{GracefulRestart: true, AddPathsSendMax: 10},
			{IPv6: true, GracefulRestart: true, AddPathsSendMax: 10},
		},
		NextHop6: netip.MustParseAddr("fd00::1"),
	}
}

// with has sessions with these, in addition to those that are there.
func (n *node) with(peers ...Peer) *node {
	n.t.Helper()
	n.config.Peers = append(n.config.Peers, peers...)
	slices.SortFunc(n.config.Peers, func(a, b Peer) int { return strings.Compare(a.Name, b.Name) })
	n.configure()
	return n
}

func (n *node) configure() {
	n.t.Helper()
	if err := n.Configure(n.t.Context(), n.config); err != nil {
		n.t.Fatal(err)
	}
}

// change changes the only session or the one with this name.
func (n *node) change(name string, f func(p *Peer)) {
	n.t.Helper()
	n.config.Peers = slices.Clone(n.config.Peers)
	for i := range n.config.Peers {
		if n.config.Peers[i].Name == name {
			f(&n.config.Peers[i])
		}
	}
	n.configure()
}

func (n *node) announce(routes ...*plan.Route) {
	n.t.Helper()
	changes := make(map[netip.Prefix]*plan.Route)
	for _, r := range routes {
		changes[r.Prefix] = r
	}
	if err := n.Announce(changes); err != nil {
		n.t.Fatal(err)
	}
}

func (n *node) withdraw(prefixes ...string) {
	n.t.Helper()
	changes := make(map[netip.Prefix]*plan.Route)
	for _, p := range prefixes {
		changes[netip.MustParsePrefix(p)] = nil
	}
	if err := n.Announce(changes); err != nil {
		n.t.Fatal(err)
	}
}

func (n *node) session(name string) Session {
	n.t.Helper()
	for _, s := range n.Sessions() {
		if s.Name == name {
			return s
		}
	}
	n.t.Fatalf("no session %s", name)
	return Session{}
}

func route(prefix string) *plan.Route {
	return &plan.Route{Prefix: netip.MustParsePrefix(prefix), AllPeers: true}
}

func routeTo(prefix string, peers ...string) *plan.Route {
	return &plan.Route{Prefix: netip.MustParsePrefix(prefix), Peers: peers}
}

// eventually waits for a condition.
func eventually(t testing.TB, what string, condition func() bool) {
	t.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(patience)
	for !condition() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("never: %s", what)
		}
	}
}

func TestRoutesFollow(t *testing.T) {
	n, r := newNode(t), newTor(t, "127.0.0.2", 65001)
	n.announce(route("192.0.2.1/32"), route("2001:db8::1/128"))
	n.with(peer("a", r))
	r.connect(n.port)
	eventually(t, "both routes", func() bool { return r.count() == 2 })
	if got := r.route("192.0.2.1/32"); got.nextHop.String() != "127.0.0.1" || fmt.Sprint(got.asPath) != "[65000]" ||
		got.largeCommunities != nil || got.localPref != nil {
		t.Errorf("IPv4 route %+v", got)
	}
	if got := r.route("2001:db8::1/128"); got.nextHop.String() != "fd00::1" || got.largeCommunities != nil {
		t.Errorf("IPv6 route %+v", got)
	}
	med := uint32(7)
	n.announce(&plan.Route{Prefix: netip.MustParsePrefix("192.0.2.2/32"), AllPeers: true, MED: &med, Prepend: 2,
		Communities: []uint32{65535 << 16}, LargeCommunities: []plan.LargeCommunity{{Global: 1, Local1: 2, Local2: 3}}})
	eventually(t, "another route", func() bool { return r.route("192.0.2.2/32") != nil })
	got := r.route("192.0.2.2/32")
	if fmt.Sprint(got.asPath) != "[65000 65000 65000]" || got.med == nil || *got.med != 7 ||
		fmt.Sprint(got.communities) != "[4294901760]" || fmt.Sprint(got.largeCommunities) != "[1:2:3]" {
		t.Errorf("route with attributes %+v", got)
	}
	n.withdraw("192.0.2.1/32", "2001:db8::1/128")
	eventually(t, "routes withdrawn", func() bool { return r.count() == 1 })
	s := n.session("a")
	if !s.Established() || s.AdminState != "UP" || s.RouterID != r.address || s.NegotiatedHoldTime != 90*time.Second ||
		s.PeerAS != 65001 || s.LocalAS != 65000 || s.Since.IsZero() || s.Flaps != 0 {
		t.Errorf("session %+v", s)
	}
	if s.Families[0].Announced != 1 || s.Families[1].Announced != 0 || s.Families[0].IPv6 || !s.Families[1].IPv6 {
		t.Errorf("families %+v", s.Families)
	}
}
