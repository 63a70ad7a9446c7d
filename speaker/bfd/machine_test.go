package bfd

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

const ms = time.Millisecond

// Discriminators: ours, the neighbor's, and that of its next session.
const ours, theirs, anew = 9, 7, 8

// A play is a machine, its clock, and what it has done.
type play struct {
	t      *testing.T
	m      *machine
	begin  time.Time
	now    time.Time
	sent   []packet
	sentAt []time.Duration
	// events are like "300ms Down Control Detection Time Expired lost".
	events []string
}

func newPlay(t *testing.T, p Profile) *play {
	random := rand.New(rand.NewPCG(1, 2))
	begin := time.Unix(1e9, 0)
	return &play{t: t, m: newMachine(p, ours, random.Float64, begin), begin: begin, now: begin}
}

func (y *play) did(out effects) {
	for _, p := range packets(y.m, out) {
		y.sent = append(y.sent, p)
		y.sentAt = append(y.sentAt, y.now.Sub(y.begin))
	}
	if out.changed || out.lost {
		e := fmt.Sprintf("%v %v %v", y.now.Sub(y.begin).Round(ms), y.m.state, y.m.diag)
		if out.lost {
			e += " lost"
		}
		y.events = append(y.events, e)
	}
}

// packets are those that a step has the driver send.
func packets(m *machine, out effects) []packet {
	var all []packet
	if out.send {
		all = append(all, m.packet(false))
	}
	if out.final {
		all = append(all, m.packet(true))
	}
	return all
}

// pass lets time go by.
func (y *play) pass(d time.Duration) {
	y.t.Helper()
	end := y.now.Add(d)
	for range 1_000_000 {
		next, ok := y.m.next()
		if !ok || next.After(end) {
			y.now = end
			return
		}
		if next.After(y.now) {
			y.now = next
		}
		y.did(y.m.advance(y.now))
	}
	y.t.Fatal("the machine has something to do all the time")
}

// hear gives the machine a packet of a neighbor with 100 ms x 3, changed by edits.
func (y *play) hear(s State, edits ...func(*packet)) discard {
	p := packet{state: s, detectMult: 3, myDiscriminator: theirs, yourDiscriminator: ours, desiredMinTx: 100 * ms, requiredMinRx: 100 * ms}
	for _, e := range edits {
		e(&p)
	}
	out, why := y.m.receive(p, y.now)
	y.did(out)
	return why
}

// up makes the handshake, and the neighbor confirm the intervals.
func (y *play) up(edits ...func(*packet)) {
	y.t.Helper()
	y.hear(Down, append(edits, your(0))...)
	y.hear(Up, edits...)
	y.hear(Up, append(edits, final)...)
	if y.m.state != Up || y.m.polling {
		y.t.Fatalf("state %v, polling %v", y.m.state, y.m.polling)
	}
	y.sent, y.sentAt, y.events = nil, nil, nil
}

// last returns the packet that was sent last.
func (y *play) last() packet {
	y.t.Helper()
	if len(y.sent) == 0 {
		y.t.Fatal("nothing was sent")
	}
	return y.sent[len(y.sent)-1]
}

func (y *play) expect(events ...string) {
	y.t.Helper()
	if !slices.Equal(y.events, events) {
		y.t.Errorf("events %q\n  want %q", y.events, events)
	}
}

func diag(d Diagnostic) func(*packet)     { return func(p *packet) { p.diag = d } }
func my(d uint32) func(*packet)           { return func(p *packet) { p.myDiscriminator = d } }
func your(d uint32) func(*packet)         { return func(p *packet) { p.yourDiscriminator = d } }
func minTx(d time.Duration) func(*packet) { return func(p *packet) { p.desiredMinTx = d } }
func minRx(d time.Duration) func(*packet) { return func(p *packet) { p.requiredMinRx = d } }
func multiplier(n uint8) func(*packet)    { return func(p *packet) { p.detectMult = n } }
func final(p *packet)                     { p.final = true }
func poll(p *packet)                      { p.poll = true }
func demand(p *packet)                    { p.demand = true }

// RFC 5880, 6.2 and 6.8.6.
func TestStates(t *testing.T) {
	for _, c := range []struct{ from, heard, to State }{
		{Down, AdminDown, Down}, {Down, Down, Init}, {Down, Init, Up}, {Down, Up, Down},
		{Init, AdminDown, Down}, {Init, Down, Init}, {Init, Init, Up}, {Init, Up, Up},
		{Up, AdminDown, Down}, {Up, Down, Down}, {Up, Init, Up}, {Up, Up, Up},
		{AdminDown, AdminDown, AdminDown}, {AdminDown, Down, AdminDown}, {AdminDown, Init, AdminDown}, {AdminDown, Up, AdminDown},
	} {
		t.Run(fmt.Sprintf("%v hears %v", c.from, c.heard), func(t *testing.T) {
			y := newPlay(t, fast())
			y.m.state = c.from
			why := y.hear(c.heard)
			if y.m.state != c.to {
				t.Errorf("state %v, want %v", y.m.state, c.to)
			}
			if discarded := c.from == AdminDown; discarded != (why == administrativelyDown) {
				t.Errorf("discarded for %q", why)
			}
			// A change is told at once, and only a change is.
			if told := len(y.sent) == 1 && y.last().state == c.to; told != (c.from != c.to) || len(y.sent) > 1 {
				t.Errorf("sent %+v", y.sent)
			}
			if c.to == Down && c.from != Down && y.m.diag != NeighborSignaledSessionDown {
				t.Errorf("diagnostic %v", y.m.diag)
			}
		})
	}
}

// What counts as a lost path, as stories. Each begins Up, at 100 ms x 3.
func TestLost(t *testing.T) {
	remake := func(y *play) { y.hear(Down, my(anew), your(0), minTx(time.Second)) }
	for _, c := range []struct {
		name  string
		story func(y *play)
		want  []string
	}{
		{"silence", func(y *play) { y.pass(time.Minute) },
			[]string{"300ms Down Control Detection Time Expired lost"}},
		{"the neighbor heard us no longer", func(y *play) {
			y.pass(100 * ms)
			y.hear(Down, diag(ControlDetectionTimeExpired))
			y.pass(time.Minute)
		}, []string{"100ms Down Neighbor Signaled Session Down lost"}},
		{"the neighbor heard us no longer and has forgotten us, as BIRD does", func(y *play) {
			y.hear(Down, diag(ControlDetectionTimeExpired), your(0))
			y.pass(time.Minute)
		}, []string{"0s Down Neighbor Signaled Session Down lost"}},
		{"the neighbor knows that the path is down", func(y *play) {
			y.hear(Down, diag(PathDown))
		}, []string{"0s Down Neighbor Signaled Session Down lost"}},
		{"and the path comes back", func(y *play) {
			y.hear(Down, diag(ControlDetectionTimeExpired), your(0))
			y.hear(Down, diag(ControlDetectionTimeExpired))
			y.hear(Init)
			y.hear(Up, final)
			y.pass(300 * ms)
		}, []string{
			"0s Down Neighbor Signaled Session Down lost", "0s Init Neighbor Signaled Session Down",
			"0s Up No Diagnostic", "300ms Down Control Detection Time Expired lost",
		}},
		{"the neighbor makes the session anew, as FRR does", func(y *play) {
			remake(y)
			y.pass(time.Second)
			y.hear(Init, my(anew), minTx(time.Second))
			for range 100 {
				y.hear(Up, my(anew), final)
				y.pass(100 * ms)
			}
		}, []string{"0s Down Neighbor Signaled Session Down", "1s Up No Diagnostic"}},
		{"the neighbor is restarted after it had a failure", func(y *play) {
			y.hear(Down, my(anew), your(0), diag(ControlDetectionTimeExpired))
			y.pass(time.Second)
			y.hear(Down, my(anew))
			y.hear(Up, my(anew))
		}, []string{"0s Down Neighbor Signaled Session Down", "1s Init Neighbor Signaled Session Down", "1s Up No Diagnostic"}},
		{"it begins anew and is silent", func(y *play) {
			remake(y)
			y.pass(time.Minute)
		}, []string{"0s Down Neighbor Signaled Session Down", "5s Down Neighbor Signaled Session Down lost"}},
		{"it begins anew and never hears us", func(y *play) {
			for range 30 {
				remake(y)
				y.pass(time.Second)
			}
		}, []string{
			"0s Down Neighbor Signaled Session Down", "1s Init Neighbor Signaled Session Down",
			"5s Init Neighbor Signaled Session Down lost",
		}},
		{"it begins anew and changes its mind", func(y *play) {
			remake(y)
			y.pass(time.Second)
			y.hear(AdminDown, my(anew), diag(AdministrativelyDown))
			y.pass(time.Minute)
		}, []string{"0s Down Neighbor Signaled Session Down"}},
		{"it begins anew with the discriminator that it had", func(y *play) {
			y.hear(Down, your(0))
			y.pass(time.Second)
			y.hear(Init)
		}, []string{"0s Down Neighbor Signaled Session Down", "1s Up No Diagnostic"}},
		{"the slow neighbor that begins anew has its detection time", func(y *play) {
			y.hear(Up, minTx(4*time.Second))
			remake(y)
			y.pass(time.Minute)
		}, []string{"0s Down Neighbor Signaled Session Down", "12s Down Neighbor Signaled Session Down lost"}},
		{"the neighbor is taken down by its operator", func(y *play) {
			y.hear(AdminDown, diag(AdministrativelyDown))
			y.pass(time.Minute)
		}, []string{"0s Down Neighbor Signaled Session Down"}},
		{"a handshake that fails after a loss is no second loss", func(y *play) {
			y.pass(time.Second)
			y.hear(Down, your(0))
			y.pass(time.Minute)
		}, []string{
			"300ms Down Control Detection Time Expired lost", "1s Init Control Detection Time Expired",
			"1.3s Down Control Detection Time Expired",
		}},
		{"we are taken down", func(y *play) {
			y.did(y.m.shutDown(y.now))
			y.pass(time.Minute)
		}, []string{"0s AdminDown Administratively Down"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			y := newPlay(t, fast())
			y.up()
			c.story(y)
			y.expect(c.want...)
		})
	}
}

func TestNeverUpIsNeverLost(t *testing.T) {
	y := newPlay(t, fast())
	y.pass(10 * time.Second)
	y.hear(Down, your(0))
	y.pass(10 * time.Second)
	y.hear(Up) // of a session that we do not remember
	y.hear(AdminDown)
	y.pass(10 * time.Second)
	y.expect("10s Init No Diagnostic", "10.3s Down Control Detection Time Expired")
}
