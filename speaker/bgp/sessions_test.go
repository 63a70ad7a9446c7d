package bgp

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/fairway-lb/fairway/speaker/plan"
)

// What a session does not depend on changes without a new one; what it does
// depend on changes that session only.
func TestChangesOfASession(t *testing.T) {
	n, a, b := newNode(t), newTor(t, "127.0.0.2", 65001), newTor(t, "127.0.0.3", 65002)
	n.with(peer("a", a), peer("b", b))
	a.connect(n.port)
	b.connect(n.port)
	n.announce(route("192.0.2.1/32"))
	eventually(t, "routes", func() bool { return a.count() == 1 && b.count() == 1 })
	since := n.session("b").Since
	for _, step := range []struct {
		name   string
		change func(p *Peer)
		resets bool
	}{
		{"description", func(p *Peer) { p.Description = "the left one" }, false},
		{"connect retry", func(p *Peer) { p.ConnectRetry = 9 * time.Second }, false},
		{"hold time", func(p *Peer) { p.HoldTime, p.KeepaliveInterval = 30*time.Second, 10*time.Second }, false},
		{"next hop", func(p *Peer) { p.NextHop4 = netip.MustParseAddr("10.1.1.1") }, false},
		{"graceful restart", func(p *Peer) { p.GracefulRestart.RestartTime = 60 * time.Second }, true},
		{"families", func(p *Peer) { p.Families = p.Families[:1] }, true},
		{"local AS", func(p *Peer) { p.LocalAS = 65010 }, true},
		{"hops", func(p *Peer) { p.MultihopTTL = 3 }, true},
		{"TTL security", func(p *Peer) { p.MultihopTTL, p.MinTTL = 0, 1 }, true},
	} {
		t.Run(step.name, func(t *testing.T) {
			before := a.sessions()
			n.change("a", step.change)
			n.configure() // nothing is left to do
			want := before
			if step.resets {
				want++
			}
			eventually(t, "session", func() bool { return a.sessions() == want && a.established() && n.session("a").Established() })
		})
	}
	n.change("a", func(p *Peer) { p.AdminDown = true })
	eventually(t, "down", func() bool { return !a.established() && n.session("a").State == idle })
	if s := n.session("a"); s.AdminState != "DOWN" || !strings.Contains(a.notification(), "Administrative Shutdown") {
		t.Errorf("session %+v, the neighbor got %q", s, a.notification())
	}
	n.change("a", func(p *Peer) { p.AdminDown = false })
	eventually(t, "up again", func() bool { return n.session("a").Established() })
	n.config.Peers = n.config.Peers[1:]
	n.configure()
	eventually(t, "removed", func() bool { return !a.established() && len(n.Sessions()) == 1 })
	if s := n.session("b"); b.sessions() != 1 || s.Since != since || s.Flaps != 0 {
		t.Errorf("the other session changed: %+v", s)
	}
	if _, gone := b.saw(); len(gone) != 0 {
		t.Errorf("the other neighbor lost %v", gone)
	}
}

// Neither another router nor none costs a route (the wanted ones are kept).
func TestRouterChangeKeepsRoutes(t *testing.T) {
	n, r := newNode(t), newTor(t, "127.0.0.2", 65001)
	n.announce(route("192.0.2.1/32"))
	n.with(peer("a", r))
	r.connect(n.port)
	n.announce(route("192.0.2.2/32"))
	eventually(t, "routes", func() bool { return r.count() == 2 })
	for i, change := range []func(r *Router){
		func(r *Router) { r.AS = 65100 },
		func(r *Router) { r.ID = netip.MustParseAddr("10.0.0.9") },
		func(r *Router) { r.UseMultiplePaths = true },
		func(r *Router) { r.ListenAddresses = append(r.ListenAddresses, netip.MustParseAddr("127.0.0.9")) },
	} {
		router := *n.config.Router
		change(&router)
		n.config.Router = &router
		r.mu.Lock()
		clear(r.routes)
		r.mu.Unlock()
		n.configure()
		eventually(t, "all routes again", func() bool { return r.count() == 2 && r.sessions() == i+2 })
	}
	config := n.config
	n.config.Router, n.config.Peers = nil, nil
	n.configure()
	eventually(t, "no session", func() bool { return !r.established() && len(n.Sessions()) == 0 })
	n.withdraw("192.0.2.1/32")
	r.mu.Lock()
	clear(r.routes)
	r.mu.Unlock()
	n.config = config
	n.configure()
	eventually(t, "what is wanted now", func() bool { return r.count() == 1 && r.route("192.0.2.2/32") != nil })
}

// A port that is in use breaks nothing else, and is tried again.
func TestPortInUse(t *testing.T) {
	n := newNode(t)
	l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(n.port)))
	if err != nil {
		t.Fatal(err)
	}
	r := newTor(t, "127.0.0.2", 65001)
	n.announce(route("192.0.2.1/32"))
	n.config.Peers = []Peer{peer("a", r)}
	for range 3 {
		err = n.Configure(t.Context(), n.config)
		if err == nil || !strings.Contains(err.Error(), strconv.Itoa(n.port)) || !strings.Contains(err.Error(), "listenPort") {
			t.Fatalf("error %v", err)
		}
	}
	l.Close()
	n.configure()
	r.connect(n.port)
	eventually(t, "route", func() bool { return r.count() == 1 })
}

// The first sessions of a process say that they are restarted and that forwarding
// was preserved, all of them and not only until one has come back.
func TestRestartedProcess(t *testing.T) {
	n, a, b := newNode(t), newTor(t, "127.0.0.2", 65001), newTor(t, "127.0.0.3", 65002)
	n.announce(route("192.0.2.1/32"))
	n.with(peer("a", a), peer("b", b))
	a.connect(n.port)
	eventually(t, "first neighbor", func() bool { return a.count() == 1 && a.markers() >= 2 })
	b.noEOR = true // a slow one: the deferral time counts
	b.connect(n.port)
	eventually(t, "second neighbor", func() bool { return b.count() == 1 && b.markers() >= 2 })
	for name, r := range map[string]*tor{"first": a, "second": b} {
		if restarted, preserved := r.restarting(); !restarted || !preserved {
			t.Errorf("%s neighbor: restarted %v, forwarding preserved %v", name, restarted, preserved)
		}
	}
	// A session that comes later has nothing to preserve.
	c := newTor(t, "127.0.0.4", 65003)
	n.with(peer("c", c))
	c.connect(n.port)
	eventually(t, "third neighbor", func() bool { return c.count() == 1 })
	if restarted, preserved := c.restarting(); restarted || preserved {
		t.Errorf("third neighbor: restarted %v, forwarding preserved %v", restarted, preserved)
	}
	if a.sessions() != 1 || b.sessions() != 1 {
		t.Errorf("%d and %d sessions", a.sessions(), b.sessions())
	}
}

// Leaving says nothing to the neighbors, stopping does.
func TestLeaveAndStop(t *testing.T) {
	n, r := newNode(t), newTor(t, "127.0.0.2", 65001)
	n.with(peer("a", r))
	r.connect(n.port)
	n.announce(route("192.0.2.1/32"))
	eventually(t, "route", func() bool { return r.count() == 1 })
	n.Leave()
	if !n.session("a").Established() || r.notification() != "" {
		t.Errorf("leaving told the neighbor %q", r.notification())
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	n.Stop(ctx)
	eventually(t, "Cease", func() bool { return strings.HasPrefix(r.notification(), "Cease/") })
	if err := n.Configure(t.Context(), n.config); err == nil {
		t.Error("a stopped Server was configured")
	}
}

// Changes are told of.
func TestChanged(t *testing.T) {
	n, r := newNode(t), newTor(t, "127.0.0.2", 65001)
	n.with(peer("a", r))
	r.connect(n.port)
	deadline := time.After(patience)
	for !n.session("a").Established() {
		select {
		case <-n.Changed():
		case <-deadline:
			t.Fatal("never told")
		}
	}
}

// Errors name the session that they are about, and the others are there.
func TestPeerErrors(t *testing.T) {
	n, r := newNode(t), newTor(t, "127.0.0.2", 65001)
	n.config.Peers = []Peer{peer("a", r), {Name: "b", Interface: "nosuch0", AS: 65002, Families: []Family{{}}}}
	err := n.Configure(t.Context(), n.config)
	var peerError *PeerError
	if !errors.As(err, &peerError) || peerError.Name != "b" || !strings.Contains(err.Error(), "nosuch0") {
		t.Fatalf("error %v", err)
	}
	if s := n.session("b"); s.State != idle || !strings.Contains(s.Reason, "nosuch0") || s.Neighbor.IsValid() {
		t.Errorf("session %+v", s)
	}
	r.connect(n.port)
	eventually(t, "the other session", func() bool { return n.session("a").Established() })
}

// One changed address among many is one UPDATE.
func TestOneChangeIsOneUpdate(t *testing.T) {
	const many = 10_000
	n, r := newNode(t), newTor(t, "127.0.0.2", 65001)
	routes := make(map[netip.Prefix]*plan.Route, many)
	addr := netip.MustParseAddr("10.0.0.0")
	for range many {
		addr = addr.Next()
		p := netip.PrefixFrom(addr, 32)
		routes[p] = &plan.Route{Prefix: p, AllPeers: true}
	}
	start := time.Now()
	if err := n.Announce(routes); err != nil {
		t.Fatal(err)
	}
	n.with(peer("a", r))
	t.Logf("%d routes loaded in %v", many, time.Since(start))
	start = time.Now()
	r.connect(n.port)
	eventually(t, "all routes", func() bool { return r.count() == many })
	t.Logf("at the neighbor in %v", time.Since(start))
	eventually(t, "End-of-RIB", func() bool { return r.markers() >= 2 })

	before, _ := r.saw()
	med := uint32(1)
	n.announce(&plan.Route{Prefix: netip.MustParsePrefix("10.0.0.9/32"), AllPeers: true, MED: &med})
	n.announce(route("10.0.0.8/32")) // as it was
	n.configure()
	n.withdraw("10.0.0.7/32")
	eventually(t, "changes", func() bool { return r.count() == many-1 && r.route("10.0.0.9/32").med != nil })
	if after, _ := r.saw(); after-before != 2 {
		t.Errorf("%d UPDATEs for a change and a withdrawal", after-before)
	}
	if got := n.session("a").Families[0].Announced; got != many-1 {
		t.Errorf("announced %d", got)
	}
}
