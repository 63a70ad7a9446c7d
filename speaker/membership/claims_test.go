package membership

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"testing"
	"time"
)

var (
	vip   = netip.MustParseAddr("192.0.2.7")
	other = netip.MustParseAddr("2001:db8::7")
)

// group is a few nodes' claims, with a network that the test controls.
type group struct {
	t       *testing.T
	now     time.Time
	claims  map[string]*claims
	flying  []flight
	history []string // who answers for vip, after each change of a held set
	lost    func(from, to string, m message) bool
}

type flight struct {
	to string
	m  message
}

// newGroup returns nodes that are members to each other. The first outranks
// the second for vip, and so on.
func newGroup(t *testing.T, n int) (*group, []string) {
	t.Helper()
	var names []string
	for i := range n {
		names = append(names, fmt.Sprintf("n%d", i))
	}
	slices.SortFunc(names, func(a, b string) int {
		if outranks(vip, a, b) {
			return -1
		}
		return 1
	})
	g := &group{
		t:      t,
		now:    time.Unix(1, 0),
		claims: map[string]*claims{},
		lost:   func(string, string, message) bool { return false },
	}
	for _, name := range names {
		g.claims[name] = newClaims(name, 1)
	}
	for _, name := range names {
		for _, peer := range names {
			g.claims[name].joined(g.now, peer)
		}
	}
	return g, names
}

// effects carries out what a node wants done, but leaves messages in flight.
func (g *group) effects(name string) effects {
	e := g.claims[name].effects(g.now)
	for _, out := range e.send {
		g.flying = append(g.flying, flight{out.to, out.message})
	}
	if e.changed {
		g.history = append(g.history, g.holders())
		if len(g.holders()) > 2 {
			g.t.Errorf("two nodes hold %s: %s", vip, g.holders())
		}
	}
	return e
}

// settle delivers messages until there are none.
func (g *group) settle() {
	for {
		for _, name := range slices.Sorted(maps.Keys(g.claims)) {
			g.effects(name)
		}
		if len(g.flying) == 0 {
			return
		}
		f := g.flying[0]
		g.flying = g.flying[1:]
		if to, ok := g.claims[f.to]; ok && !g.lost(f.m.from, f.to, f.m) {
			to.received(g.now, f.m)
		}
	}
}

// pass lets time pass, with ticks and messages.
func (g *group) pass(d time.Duration) {
	for end := g.now.Add(d); g.now.Before(end); {
		g.now = g.now.Add(tickInterval)
		for _, name := range slices.Sorted(maps.Keys(g.claims)) {
			g.claims[name].tick(g.now)
		}
		g.settle()
	}
}

func (g *group) want(name string, addrs ...netip.Addr) {
	want := map[netip.Addr]string{}
	for _, addr := range addrs {
		want[addr] = "eth0"
	}
	g.claims[name].want(g.now, want)
}

func (g *group) holders() string {
	var names string
	for _, name := range slices.Sorted(maps.Keys(g.claims)) {
		if _, ok := g.claims[name].held()[vip]; ok {
			names += name
		}
	}
	return names
}

func (g *group) expect(holders string) {
	g.t.Helper()
	if got := g.holders(); got != holders {
		g.t.Errorf("%s is held by %q, want %q", vip, got, holders)
	}
}

func TestAloneTakesAtOnce(t *testing.T) {
	g, n := newGroup(t, 1)
	g.want(n[0], vip, other)
	if e := g.effects(n[0]); !e.changed || len(e.send) != 0 || len(e.took) != 2 {
		t.Errorf("effects = %+v", e)
	}
	g.expect(n[0])
}

func TestTakesWithTheConsentOfAll(t *testing.T) {
	g, n := newGroup(t, 3)
	g.want(n[1], vip)
	g.effects(n[1])
	g.expect("")
	g.settle()
	g.expect(n[1])
}

func TestLostMessagesAreSentAgain(t *testing.T) {
	for _, lost := range []kind{kindAsk, kindConsent, kindClaim, kindYields} {
		g, n := newGroup(t, 3)
		g.want(n[2], vip)
		g.settle()
		drop := 1
		g.lost = func(_, _ string, m message) bool { drop--; return m.kind == lost && drop >= 0 }
		g.want(n[0], vip)
		g.settle()
		drop = 0
		g.pass(3 * resendInterval)
		if g.expect(n[0]); t.Failed() {
			t.Fatalf("with a lost message of kind %d", lost)
		}
	}
}

// The better ranked of two that want an address gets it, whoever comes first.
func TestBetterRankWins(t *testing.T) {
	for _, order := range [][]int{{0, 1}, {1, 0}} {
		g, n := newGroup(t, 3)
		for _, i := range order {
			g.want(n[i], vip)
			g.settle()
		}
		g.expect(n[0])
		g.pass(4 * retryDelay)
		g.expect(n[0])
	}
	g, n := newGroup(t, 3)
	g.want(n[0], vip) // both at one time
	g.want(n[1], vip)
	g.pass(4 * retryDelay)
	g.expect(n[0])
}

// An owner that comes back waits for slow members before it makes the holder
// yield, so that the address is not unanswered meanwhile.
func TestHolderYieldsLast(t *testing.T) {
	g, n := newGroup(t, 4)
	g.want(n[2], vip)
	g.settle()
	slow := true
	g.lost = func(_, to string, _ message) bool { return slow && to == n[3] }
	g.want(n[0], vip)
	g.pass(time.Second)
	g.expect(n[2])
	slow = false
	g.pass(resendInterval)
	g.expect(n[0])
	if want := []string{n[2], "", n[0]}; !slices.Equal(g.history, want) {
		t.Errorf("held by %q in turn, want %q", g.history, want)
	}
}

// A refused node does not wait for its retry when the holder tells that the
// address is free, and does when that message is lost.
func TestRefusedNodeTakesWhatBecomesFree(t *testing.T) {
	for _, lost := range []bool{false, true} {
		g, n := newGroup(t, 3)
		g.want(n[0], vip)
		g.settle()
		g.want(n[1], vip)
		g.settle()
		g.expect(n[0])
		g.lost = func(_, _ string, m message) bool { return lost && m.kind == kindFree }
		g.want(n[0])
		g.settle()
		if lost {
			g.expect("")
			g.pass(retryDelay)
		}
		g.expect(n[1])
	}
}

func TestUnwantedAddressIsDroppedAtOnce(t *testing.T) {
	g, n := newGroup(t, 2)
	g.want(n[0], vip, other)
	g.settle()
	g.want(n[0], other)
	if e := g.effects(n[0]); !e.changed {
		t.Error("the held set did not change")
	}
	g.expect("")
	if held := g.claims[n[0]].held(); len(held) != 1 {
		t.Errorf("held = %v, want %s only", held, other)
	}
}

func TestChangedLinkIsApplied(t *testing.T) {
	g, n := newGroup(t, 2)
	g.want(n[0], vip)
	g.settle()
	g.want(n[0], vip)
	if e := g.effects(n[0]); e.changed {
		t.Error("the same want changed the held set")
	}
	g.claims[n[0]].want(g.now, map[netip.Addr]string{vip: "eth1"})
	if e := g.effects(n[0]); !e.changed || len(e.send) != 0 || g.claims[n[0]].held()[vip] != "eth1" {
		t.Errorf("effects = %+v, held = %v", e, g.claims[n[0]].held())
	}
}

func TestDeadHolderIsReplacedAtOnce(t *testing.T) {
	g, n := newGroup(t, 3)
	g.want(n[0], vip)
	g.settle()
	g.want(n[1], vip) // refused, waits
	g.settle()
	delete(g.claims, n[0])
	g.claims[n[1]].left(g.now, n[0])
	g.claims[n[2]].left(g.now, n[0])
	g.settle()
	g.expect(n[1])
}

// A member that dies, or was never heard of, while a claim is under way.
func TestMembersChangeDuringAClaim(t *testing.T) {
	g, n := newGroup(t, 3)
	g.lost = func(_, to string, _ message) bool { return to == n[2] }
	g.want(n[0], vip)
	g.settle()
	g.expect("")
	g.claims[n[0]].left(g.now, n[2])
	g.settle()
	g.expect(n[0])

	g, n = newGroup(t, 3)
	g.claims[n[1]].left(g.now, n[0])
	g.want(n[0], vip)
	g.settle()
	g.want(n[1], vip)
	g.effects(n[1])
	g.claims[n[1]].joined(g.now, n[0]) // before the others consented
	g.settle()
	g.expect(n[0])
}

// Both sides of a partition hold the address; when it is over the better
// ranked keeps it, whichever side notices first.
func TestHealedPartition(t *testing.T) {
	for _, first := range []int{0, 1} {
		g, n := newGroup(t, 2)
		g.claims[n[0]].left(g.now, n[1])
		g.claims[n[1]].left(g.now, n[0])
		g.want(n[0], vip)
		g.want(n[1], vip)
		if g.claims[n[0]].effects(g.now); g.claims[n[1]].effects(g.now).changed == false {
			t.Fatal("not taken")
		}
		g.claims[n[first]].joined(g.now, n[1-first])
		for len(g.holders()) > 2 {
			e := g.claims[n[first]].effects(g.now)
			if len(e.send) != 1 {
				t.Fatalf("effects of %s = %+v, want one claim", n[first], e)
			}
			g.claims[n[1-first]].received(g.now, e.send[0].message)
			g.claims[n[1-first]].joined(g.now, n[first])
			for _, out := range g.claims[n[1-first]].effects(g.now).send {
				g.claims[n[first]].received(g.now, out.message)
			}
		}
		g.settle()
		g.expect(n[0])
	}
}

func TestRepliesToOlderClaimsAreVoid(t *testing.T) {
	for name, reply := range map[string]message{
		"older claim":   {kindConsent, "", 1, []entry{{vip, 1}}},
		"older process": {kindConsent, "", 0, []entry{{vip, 2}}},
		"refusal":       {kindRefuse, "", 1, []entry{{vip, 1}}},
	} {
		g, n := newGroup(t, 2)
		g.want(n[0], vip)
		g.want(n[0])
		g.want(n[0], vip) // number 2
		g.effects(n[0])
		g.flying = nil
		reply.from = n[1]
		g.claims[n[0]].received(g.now, reply)
		if phase := g.claims[n[0]].claims[vip].phase; phase != claiming {
			t.Errorf("%s: phase %d, want still claiming", name, phase)
		}
	}
}

// A claim of a process that is no more makes nobody yield, unless it is the
// clock that was set back.
func TestRestartedClaimant(t *testing.T) {
	g, n := newGroup(t, 2)
	g.claims[n[0]] = newClaims(n[0], 5) // n[1] does not notice the restart
	g.claims[n[0]].joined(g.now, n[1])
	g.want(n[0], other)
	g.settle() // n[1] hears of epoch 5
	g.want(n[1], vip)
	g.settle()
	g.expect(n[1])
	old := message{kindClaim, n[0], 4, []entry{{vip, 1}}}
	g.claims[n[1]].received(g.now, old)
	g.settle()
	g.expect(n[1])
	g.now = g.now.Add(staleEpoch)
	g.claims[n[1]].received(g.now, old)
	g.expect("")
}

// A restarted holder asks again like anybody.
func TestRestartedHolder(t *testing.T) {
	g, n := newGroup(t, 2)
	g.want(n[0], vip)
	g.settle()
	g.claims[n[0]] = newClaims(n[0], 2)
	g.claims[n[0]].joined(g.now, n[1])
	g.want(n[1], vip)
	g.settle()
	g.expect(n[1])
	g.want(n[0], vip)
	g.settle()
	g.expect(n[0])
}

func TestSilentLiveMemberIsOverridden(t *testing.T) {
	g, n := newGroup(t, 3)
	g.want(n[2], vip)
	g.settle()
	g.lost = func(from, to string, _ message) bool { return from == n[2] || to == n[2] }
	g.want(n[0], vip)
	g.settle()
	var overrides []override
	taken := time.Duration(0)
	for start := g.now; g.now.Sub(start) < 3*overrideAfter; {
		g.now = g.now.Add(tickInterval)
		g.claims[n[0]].tick(g.now)
		e := g.claims[n[0]].effects(g.now)
		if overrides = append(overrides, e.overridden...); len(e.overridden) > 0 {
			taken = g.now.Sub(start)
		}
		for _, out := range e.send {
			if out.to != n[1] {
				continue
			}
			g.claims[n[1]].received(g.now, out.message)
			for _, reply := range g.claims[n[1]].effects(g.now).send {
				g.claims[n[0]].received(g.now, reply.message)
			}
		}
	}
	if want := []override{{n[2], 1, true}}; !slices.Equal(overrides, want) {
		t.Errorf("overrides = %+v, want %+v", overrides, want)
	}
	if taken < overrideAfter || taken > overrideAfter+2*tickInterval {
		t.Errorf("taken after %v, want %v", taken, overrideAfter)
	}
	// It is asked on, so that the duplicate ends as soon as it listens again.
	g.lost = func(string, string, message) bool { return false }
	for start := g.now; g.now.Sub(start) < slowResendInterval+tickInterval; {
		g.now = g.now.Add(tickInterval)
		g.claims[n[0]].tick(g.now)
		for _, out := range g.claims[n[0]].effects(g.now).send {
			g.claims[out.to].received(g.now, out.message)
		}
	}
	g.expect(n[0])
}

// A process that was stopped holds nothing until the others agree anew.
func TestStalledNodeIsSilentFirst(t *testing.T) {
	g, n := newGroup(t, 3)
	g.want(n[0], vip)
	g.settle()
	g.now = g.now.Add(time.Minute)
	g.claims[n[0]].stalled(g.now)
	if e := g.effects(n[0]); !e.changed {
		t.Error("a stall did not change the held set")
	}
	g.expect("")
	g.claims[n[0]].tick(g.now)
	if e := g.effects(n[0]); len(e.overridden) > 0 {
		t.Error("the time of the stall counts as that of members that do not answer")
	}
	g.settle()
	g.expect(n[0])
}

// A draining node yields to whoever claims, keeps what nobody claims, and
// claims nothing.
func TestDrain(t *testing.T) {
	g, n := newGroup(t, 3)
	g.want(n[0], vip, other)
	g.settle()
	g.claims[n[0]].drain()
	g.want(n[0])
	g.settle()
	g.expect(n[0])
	g.want(n[2], vip) // outranked by n[0]
	g.settle()
	g.expect(n[2])
	if g.claims[n[0]].drained() {
		t.Errorf("drained, but holds %v", g.claims[n[0]].held())
	}
	g.want(n[1], other)
	g.settle()
	if !g.claims[n[0]].drained() {
		t.Errorf("not drained, holds %v", g.claims[n[0]].held())
	}
	g.want(n[0], vip)
	g.pass(time.Second)
	g.expect(n[2])
}

func TestLastMemberIsDrained(t *testing.T) {
	g, n := newGroup(t, 2)
	g.want(n[0], vip)
	g.settle()
	g.claims[n[0]].drain()
	if g.claims[n[0]].drained() {
		t.Error("drained with a member left to take over")
	}
	g.claims[n[0]].left(g.now, n[1])
	if !g.claims[n[0]].drained() {
		t.Error("not drained with nobody to take over")
	}
	g.expect(n[0])
	g.claims[n[0]].releaseAll()
	g.settle()
	g.expect("")
}

// A thousand addresses move in a few packets, and in one Apply on each side.
func TestManyAddressesMoveTogether(t *testing.T) {
	g, n := newGroup(t, 3)
	addr := netip.MustParseAddr("10.0.0.0")
	var addrs []netip.Addr
	for range 1000 {
		addr = addr.Next()
		addrs = append(addrs, addr)
	}
	g.want(n[1], addrs...)
	e := g.effects(n[1])
	if len(e.send) != 2 || len(e.send[0].message.entries) != 1000 {
		t.Errorf("%d messages, the first of %d addresses; want one of 1000 to each member", len(e.send), len(e.send[0].message.entries))
	}
	if packets := len(e.send[0].message.encode()); packets > 10 {
		t.Errorf("1000 addresses in %d packets", packets)
	}
	g.settle()
	if held := len(g.claims[n[1]].held()); held != 1000 {
		t.Errorf("%d held", held)
	}
}

// BenchmarkClaims claims 1,000 addresses from 49 other members, who answer.
func BenchmarkClaims(b *testing.B) {
	const members, addresses = 50, 1000
	want := map[netip.Addr]string{}
	addr := netip.MustParseAddr("10.0.0.0")
	for range addresses {
		addr = addr.Next()
		want[addr] = "eth0"
	}
	b.ReportAllocs()
	for b.Loop() {
		now := time.Unix(1, 0)
		c := newClaims("n0", 1)
		for i := range members - 1 {
			c.joined(now, fmt.Sprintf("m%d", i))
		}
		c.want(now, want)
		var replies []message
		for _, out := range c.effects(now).send {
			for _, packet := range out.message.encode() {
				m, err := decodeMessage(packet)
				if err != nil {
					b.Fatal(err)
				}
				m.kind, m.from = kindConsent, out.to
				replies = append(replies, m)
			}
		}
		for _, m := range replies {
			c.received(now, m)
		}
		c.effects(now)
		if len(c.held()) != addresses {
			b.Fatalf("holds %d", len(c.held()))
		}
	}
}
