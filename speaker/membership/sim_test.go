package membership

import (
	"container/heap"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/fairway-lb/fairway/speaker/rendezvous"
)

// world is a deterministic cluster: claims of several nodes, a network that
// loses, delays, repeats and reorders packets, gossip that notices changes
// late and each node at its own time, plans that disagree, Applies that take
// time, and nodes that crash, restart, drain, and are stopped and continued.
// At every change of the wire it checks that no two nodes answer for one
// address that both got with the consent of the other.
type world struct {
	t        testing.TB
	rng      *rand.Rand
	now      time.Time
	queue    simQueue
	order    int
	nodes    []*simNode
	addrs    []netip.Addr
	cut      map[[2]int]bool
	loss     float64 // of packets
	repeat   float64
	delay    time.Duration // most, of a packet
	apply    time.Duration // longest Apply
	epoch    uint64
	takes    int
	overlaps map[simOverlap]time.Time // since when
}

// simOverlap is two nodes that answer for one address, see each other, and
// can talk. That happens after a partition, and must not last.
type simOverlap struct {
	a, b int
	addr netip.Addr
}

type simNode struct {
	index   int
	name    string
	claims  *claims // nil while down
	life    int     // counts starts, so that what was meant for an earlier one is dropped
	view    map[int]bool
	wire    map[netip.Addr]simHold // what it answers for
	paused  bool
	since   time.Time // of the pause
	busy    bool      // in Apply
	backlog []func()
}

// simHold is how an address was taken.
type simHold struct {
	// agreed are the nodes that were members in the owner's view, but for
	// those that were overridden.
	agreed map[int]bool
}

const (
	simTick  = 50 * time.Millisecond
	simStall = 300 * time.Millisecond
)

func newWorld(t testing.TB, rng *rand.Rand) *world {
	w := &world{
		t:        t,
		rng:      rng,
		now:      time.Unix(1_000_000, 0),
		cut:      map[[2]int]bool{},
		overlaps: map[simOverlap]time.Time{},
		loss:     []float64{0, 0.05, 0.2}[rng.IntN(3)],
		repeat:   []float64{0, 0.1}[rng.IntN(2)],
		delay:    []time.Duration{time.Millisecond, 30 * time.Millisecond, 150 * time.Millisecond, 600 * time.Millisecond}[rng.IntN(4)],
		apply:    []time.Duration{0, 5 * time.Millisecond, 80 * time.Millisecond}[rng.IntN(3)],
	}
	for i := range 3 + rng.IntN(5) {
		w.nodes = append(w.nodes, &simNode{index: i, name: fmt.Sprintf("n%d", i)})
	}
	addr := netip.MustParseAddr("192.0.2.0")
	for range 1 + rng.IntN(4) {
		addr = addr.Next()
		w.addrs = append(w.addrs, addr)
	}
	w.addrs = append(w.addrs, netip.MustParseAddr("2001:db8::1"))
	for _, n := range w.nodes {
		w.start(n)
	}
	w.monitor()
	return w
}

// at runs f later.
func (w *world) at(d time.Duration, f func()) {
	w.order++
	heap.Push(&w.queue, simEvent{w.now.Add(d), w.order, f})
}

func (w *world) run(d time.Duration) {
	end := w.now.Add(d)
	for len(w.queue) > 0 && !w.queue[0].at.After(end) {
		e := heap.Pop(&w.queue).(simEvent)
		w.now = e.at
		e.f()
	}
	w.now = end
}

func (w *world) upTo(d time.Duration) time.Duration {
	if d <= 0 {
		return 0
	}
	return time.Duration(w.rng.Int64N(int64(d)))
}

// do gives an event to a node, now or when it is running and not in Apply.
func (w *world) do(n *simNode, f func(c *claims)) {
	life := n.life
	event := func() {
		if n.claims != nil && n.life == life {
			f(n.claims)
			w.carryOut(n)
		}
	}
	if n.paused || n.busy {
		n.backlog = append(n.backlog, event)
		return
	}
	event()
}

// carryOut does what Cluster.carryOut does, with the worst timing: an Apply
// puts new addresses on the wire when it begins and takes old ones from it
// when it ends.
func (w *world) carryOut(n *simNode) {
	c := n.claims
	e := c.effects(w.now)
	if !e.changed {
		w.send(n, e.send)
		return
	}
	holds := c.held()
	for addr := range holds {
		if _, ok := n.wire[addr]; ok {
			continue
		}
		agreed := maps.Clone(n.view)
		for i := range agreed {
			if a, ok := c.peers[w.nodes[i].name].asked[addr]; ok && a.overridden {
				delete(agreed, i)
			}
		}
		n.wire[addr] = simHold{agreed}
		w.takes++
		w.check(addr)
	}
	n.busy = true
	life := n.life
	finish := func() {
		if n.life != life || n.claims == nil {
			return
		}
		for addr := range n.wire {
			if _, ok := holds[addr]; !ok {
				delete(n.wire, addr)
			}
		}
		n.busy = false
		w.send(n, e.send)
		w.work(n)
	}
	w.at(w.upTo(w.apply), func() {
		if n.paused && n.life == life {
			n.backlog = slices.Insert(n.backlog, 0, finish)
			return
		}
		finish()
	})
}

// work empties a node's backlog.
func (w *world) work(n *simNode) {
	for len(n.backlog) > 0 && !n.paused && !n.busy {
		f := n.backlog[0]
		n.backlog = n.backlog[1:]
		f()
	}
}

// check fails if two nodes answer for an address that consented to each other.
func (w *world) check(addr netip.Addr) {
	var owners []*simNode
	for _, n := range w.nodes {
		if _, ok := n.wire[addr]; ok {
			owners = append(owners, n)
		}
	}
	for i, a := range owners {
		for _, b := range owners[i+1:] {
			if a.wire[addr].agreed[b.index] && b.wire[addr].agreed[a.index] {
				w.t.Fatalf("at %v %s and %s both answer for %s and are members to each other", w.now.Sub(time.Unix(1_000_000, 0)), a.name, b.name, addr)
			}
		}
	}
}

// monitor fails if two nodes that can talk go on answering for one address.
func (w *world) monitor() {
	limit := 2*time.Second + 4*(w.delay+w.apply)
	seen := map[simOverlap]time.Time{}
	for _, a := range w.nodes {
		for _, b := range w.nodes[:a.index] {
			if a.paused || b.paused || w.isCut(a, b) || !a.view[b.index] || !b.view[a.index] {
				continue
			}
			for addr := range a.wire {
				if _, ok := b.wire[addr]; !ok {
					continue
				}
				key := simOverlap{a.index, b.index, addr}
				since, ok := w.overlaps[key]
				if !ok {
					since = w.now
				}
				if seen[key] = since; w.now.Sub(since) > limit {
					w.t.Fatalf("%s and %s can talk and both answer for %s, for %v", a.name, b.name, addr, w.now.Sub(since))
				}
			}
		}
	}
	w.overlaps = seen
	w.at(simTick, w.monitor)
}

func (w *world) send(n *simNode, out []outgoing) {
	for _, o := range out {
		to := w.node(o.to)
		if !n.view[to.index] { // as Cluster.send
			continue
		}
		for _, packet := range o.message.encode() {
			for copies := 1; copies > 0; copies-- {
				if w.rng.Float64() < w.repeat {
					copies++
				}
				if w.rng.Float64() < w.loss {
					continue
				}
				w.at(w.upTo(w.delay), func() { w.deliver(n, to, packet) })
			}
		}
	}
}

func (w *world) deliver(from, to *simNode, packet []byte) {
	if to.claims == nil || w.isCut(from, to) {
		return
	}
	m, err := decodeMessage(packet)
	if err != nil {
		w.t.Fatal(err)
	}
	w.do(to, func(c *claims) { c.received(w.now, m) })
}

func (w *world) node(name string) *simNode {
	for _, n := range w.nodes {
		if n.name == name {
			return n
		}
	}
	w.t.Fatalf("no node %s", name)
	return nil
}

func (w *world) isCut(a, b *simNode) bool {
	return w.cut[[2]int{min(a.index, b.index), max(a.index, b.index)}]
}

// start starts a node's process, which knows nobody.
func (w *world) start(n *simNode) {
	w.epoch++
	n.claims = newClaims(n.name, w.epoch)
	n.life++
	n.view, n.wire = map[int]bool{}, map[netip.Addr]simHold{}
	n.paused, n.busy, n.backlog = false, false, nil
	w.ticking(n, n.life)
	w.connectivityChanged()
}

func (w *world) ticking(n *simNode, life int) {
	if n.claims == nil || n.life != life {
		return
	}
	if !n.paused && !n.busy {
		w.do(n, func(c *claims) { c.tick(w.now) })
	}
	w.at(simTick, func() { w.ticking(n, life) })
}

// kill ends a process; the wire falls silent with it.
func (w *world) kill(n *simNode) {
	n.claims, n.backlog, n.wire, n.view = nil, nil, nil, nil
	n.paused, n.busy = false, false
	w.connectivityChanged()
}

// leave drains a node and stops it.
func (w *world) leave(n *simNode) {
	life := n.life
	w.do(n, func(c *claims) { c.drain() })
	patience := w.now.Add(time.Second)
	var wait func()
	wait = func() {
		if n.claims == nil || n.life != life {
			return
		}
		if n.paused || n.busy || !n.claims.drained() && w.now.Before(patience) {
			w.at(simTick, wait)
			return
		}
		w.do(n, func(c *claims) { c.releaseAll() })
		w.at(w.apply, func() {
			if n.life == life && n.claims != nil {
				w.kill(n)
			}
		})
	}
	w.at(0, wait)
}

func (w *world) pause(n *simNode, d time.Duration) {
	life := n.life
	n.paused, n.since = true, w.now
	w.connectivityChanged()
	w.at(d, func() {
		if n.life != life || !n.paused {
			return
		}
		n.paused = false
		if w.now.Sub(n.since) > simStall {
			event := func() {
				if n.claims != nil && n.life == life {
					n.claims.stalled(w.now)
					w.carryOut(n)
				}
			}
			at := 0
			if n.busy && len(n.backlog) > 0 { // the rest of Apply goes first
				at = 1
			}
			n.backlog = slices.Insert(n.backlog, at, event)
		}
		if n.busy && len(n.backlog) > 0 { // it was stopped within Apply
			f := n.backlog[0]
			n.backlog = n.backlog[1:]
			f()
		}
		w.work(n)
		w.connectivityChanged()
	})
}

// connectivityChanged has every node notice, each at its own time, whom it
// can reach.
func (w *world) connectivityChanged() {
	for _, a := range w.nodes {
		for _, b := range w.nodes {
			if a == b || a.claims == nil {
				continue
			}
			d := w.upTo(200 * time.Millisecond)
			if !w.reachable(a, b) {
				d = 300*time.Millisecond + w.upTo(300*time.Millisecond)
			}
			life := a.life
			w.at(d, func() {
				if a.life == life {
					w.notice(a, b)
				}
			})
		}
	}
}

func (w *world) reachable(a, b *simNode) bool {
	return b.claims != nil && !b.paused && !w.isCut(a, b)
}

// notice sets a's view of b to the truth.
func (w *world) notice(a, b *simNode) {
	if a.claims == nil || a.paused {
		return
	}
	w.do(a, func(c *claims) {
		switch reachable := w.reachable(a, b); {
		case reachable && !a.view[b.index]:
			a.view[b.index] = true
			c.joined(w.now, b.name)
		case !reachable && a.view[b.index]:
			delete(a.view, b.index)
			c.left(w.now, b.name)
		}
	})
}

// plan gives a node a want: mostly what its view implies, sometimes nonsense.
func (w *world) plan(n *simNode, nonsense float64) {
	if n.claims == nil {
		return
	}
	candidates := []string{n.name}
	for i := range n.view {
		candidates = append(candidates, w.nodes[i].name)
	}
	want := map[netip.Addr]string{}
	for _, addr := range w.addrs {
		wanted := rendezvous.First(addr, candidates) == n.name
		if w.rng.Float64() < nonsense {
			wanted = w.rng.IntN(2) == 0
		}
		if wanted {
			want[addr] = fmt.Sprintf("eth%d", w.rng.IntN(2))
		}
	}
	w.do(n, func(c *claims) { c.want(w.now, want) })
}

// disturb does one random thing.
func (w *world) disturb() {
	n := w.nodes[w.rng.IntN(len(w.nodes))]
	switch w.rng.IntN(10) {
	case 0:
		if n.claims == nil {
			w.start(n)
		} else {
			w.kill(n)
			if w.rng.IntN(2) == 0 { // so quickly that nobody notices
				w.start(n)
			}
		}
	case 1:
		if n.claims != nil {
			w.leave(n)
		}
	case 2:
		if n.claims != nil && !n.paused {
			w.pause(n, w.upTo(2*time.Second))
		}
	case 3, 4: // a partition, or its end
		if len(w.cut) > 0 && w.rng.IntN(2) == 0 {
			clear(w.cut)
		} else {
			side := w.rng.Uint32()
			for i := range w.nodes {
				for j := range i {
					if side>>i&1 != side>>j&1 {
						w.cut[[2]int{j, i}] = true
					}
				}
			}
		}
		w.connectivityChanged()
	default:
		w.plan(n, 0.3)
	}
}

// settle ends all disturbance and checks that every address comes to its owner.
func (w *world) settle() {
	clear(w.cut)
	w.connectivityChanged()
	w.run(4 * time.Second) // pauses end, and whoever leaves has left
	for _, n := range w.nodes {
		if n.claims == nil || n.claims.draining {
			w.kill(n)
			w.start(n)
		}
	}
	w.run(time.Second)
	for _, n := range w.nodes {
		w.at(w.upTo(500*time.Millisecond), func() { w.plan(n, 0) })
	}
	w.run(8 * time.Second)
	var names []string
	for _, n := range w.nodes {
		names = append(names, n.name)
	}
	for _, addr := range w.addrs {
		var owners []string
		for _, n := range w.nodes {
			if _, ok := n.wire[addr]; ok {
				owners = append(owners, n.name)
			}
		}
		if want := []string{rendezvous.First(addr, names)}; !slices.Equal(owners, want) {
			w.t.Errorf("%s is answered by %v after everything settled, want %v", addr, owners, want)
		}
	}
}

func (w *world) live(disturbances int) {
	w.run(300 * time.Millisecond)
	for _, n := range w.nodes {
		w.plan(n, 0)
	}
	for range disturbances {
		w.run(w.upTo(300 * time.Millisecond))
		w.disturb()
	}
	w.settle()
}

// In any order of faults no two nodes that know of each other answer for one
// address, and when the faults end each address is answered by its owner.
func TestSimulation(t *testing.T) {
	const shards = 8
	seeds := 250
	if testing.Short() || raceDetector { // one goroutine, nothing to detect
		seeds = 25
	}
	for shard := range shards {
		t.Run(fmt.Sprintf("shard=%d", shard), func(t *testing.T) {
			t.Parallel()
			takes := 0
			for i := range seeds {
				seed := uint64(i*shards + shard)
				w := newWorld(t, rand.New(rand.NewPCG(seed, 1)))
				w.live(40)
				takes += w.takes
				if t.Failed() {
					t.Fatalf("seed %d", seed)
				}
			}
			if takes < 5*seeds {
				t.Errorf("only %d takeovers in %d runs: too few to show anything", takes, seeds)
			}
		})
	}
}

// FuzzSimulation lets the fuzzer choose what happens.
func FuzzSimulation(f *testing.F) {
	f.Add([]byte("some choices"), uint64(1))
	f.Fuzz(func(t *testing.T, choices []byte, seed uint64) {
		source := &choiceSource{choices, rand.NewPCG(seed, 2)}
		newWorld(t, rand.New(source)).live(min(len(choices), 60))
	})
}

// choiceSource takes random numbers from bytes, and then from a generator.
type choiceSource struct {
	choices []byte
	rest    rand.Source
}

func (s *choiceSource) Uint64() uint64 {
	if len(s.choices) == 0 {
		return s.rest.Uint64()
	}
	b := uint64(s.choices[0])
	s.choices = s.choices[1:]
	return b<<56 | s.rest.Uint64()>>8
}

type simEvent struct {
	at    time.Time
	order int
	f     func()
}

type simQueue []simEvent

func (q simQueue) Len() int { return len(q) }
func (q simQueue) Less(i, j int) bool {
	if !q[i].at.Equal(q[j].at) {
		return q[i].at.Before(q[j].at)
	}
	return q[i].order < q[j].order
}
func (q simQueue) Swap(i, j int) { q[i], q[j] = q[j], q[i] }
func (q *simQueue) Push(x any)   { *q = append(*q, x.(simEvent)) }
func (q *simQueue) Pop() any {
	old := *q
	e := old[len(old)-1]
	*q = old[:len(old)-1]
	return e
}
