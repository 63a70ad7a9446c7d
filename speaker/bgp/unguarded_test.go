//go:build !guarded

package bgp

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// What GoBGP keeps of neighbors' routes is bounded and goes nowhere, also in a
// build without the guard, which drops them before: see build/gobgp.

// A node between two routers is no way from one to the other, whatever the
// operator's policy says.
func TestNothingOfNeighborsIsPassedOn(t *testing.T) {
	for name, ases := range map[string][2]uint32{"external": {65001, 65002}, "internal": {65000, 65001}} {
		t.Run(name, func(t *testing.T) {
			n, a, b := newNode(t), newTor(t, "127.0.0.2", ases[0]), newTor(t, "127.0.0.3", ases[1])
			n.config.Policy = &Policy{} // accepts everything
			n.announce(route("192.0.2.1/32"))
			n.with(peer("a", a), peer("b", b))
			a.connect(n.port)
			b.connect(n.port)
			eventually(t, "own route at both", func() bool { return a.count() == 1 && b.count() == 1 })
			a.send(routesOf(a, "203.0.113.0/24", "192.0.2.1/32"))
			eventually(t, "routes received", func() bool { return n.session("a").Families[0].Received == 2 })
			n.announce(route("192.0.2.2/32"))
			eventually(t, "next route at both", func() bool { return a.count() == 2 && b.count() == 2 })
			if b.route("203.0.113.0/24") != nil {
				t.Error("a neighbor's route was passed on")
			}
			if f := n.session("a").Families[0]; f.Accepted != 0 || f.Announced != 2 {
				t.Errorf("counts %+v", f)
			}
		})
	}
}

// A flood of routes ends the session, not the memory, and says what to do.
func TestTooManyRoutes(t *testing.T) {
	n, good, bad := newNode(t), newTor(t, "127.0.0.2", 65001), newTor(t, "127.0.0.3", 65002)
	n.with(peer("good", good), peer("bad", bad))
	n.announce(route("192.0.2.1/32"))
	good.connect(n.port)
	bad.connect(n.port)
	eventually(t, "both", func() bool { return good.count() == 1 && n.session("bad").Established() && bad.established() })
	for i := 0; i <= maxPrefixes; i += 500 {
		var prefixes []string
		for j := range 500 {
			prefixes = append(prefixes, fmt.Sprintf("11.%d.%d.%d/32", (i+j)>>16, (i+j)>>8&255, (i+j)&255))
		}
		bad.send(routesOf(bad, prefixes...))
	}
	eventually(t, "closed", func() bool { return n.session("bad").AdminState == adminPrefixes })
	eventually(t, "Cease", func() bool { return strings.Contains(bad.notification(), "Maximum Number of Prefixes") })
	if s := n.session("bad"); s.Established() || !strings.Contains(s.Reason, "more than") || !strings.Contains(s.Reason, "announce nothing") {
		t.Errorf("session %+v", s)
	}
	if s := n.session("good"); s.Flaps != 0 {
		t.Errorf("the good session: %+v", s)
	}
	// The time to open it again has come.
	eventually(t, "a pause", func() bool {
		n.mu.Lock()
		defer n.mu.Unlock()
		bad := n.neighbors["bad"]
		if bad.pause != minPause {
			return false
		}
		bad.reopen = time.Now()
		return true
	})
	signal(n.wake)
	before := n.session("bad").Received.Update
	eventually(t, "opened again", func() bool { s := n.session("bad"); return s.Established() && s.Received.Update >= before+2 })
}
