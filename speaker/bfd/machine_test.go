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

// gaps returns the shortest and the longest time between packets sent.
func (y *play) gaps() (shortest, longest time.Duration) {
	y.t.Helper()
	if len(y.sentAt) < 3 {
		y.t.Fatalf("sent at %v", y.sentAt)
	}
	shortest = time.Hour
	for i, at := range y.sentAt[1:] {
		gap := at - y.sentAt[i]
		shortest, longest = min(shortest, gap), max(longest, gap)
	}
	return shortest, longest
}

// RFC 5880, 6.8.3 and 6.8.7.
func TestTransmission(t *testing.T) {
	single := fast()
	single.DetectMult = 1
	up := func(edits ...func(*packet)) func(y *play) {
		return func(y *play) {
			y.up(append(edits, multiplier(255))...)
			y.pass(20 * time.Second)
		}
	}
	for _, c := range []struct {
		name              string
		profile           Profile
		story             func(y *play)
		shortest, longest time.Duration
	}{
		{"at one second until Up", fast(), func(y *play) { y.pass(100 * time.Second) }, 750 * ms, time.Second},
		{"at what we want if that is slower", Profile{MinTx: 4 * time.Second, MinRx: ms, DetectMult: 3},
			func(y *play) { y.pass(400 * time.Second) }, 3 * time.Second, 4 * time.Second},
		{"Up", fast(), up(), 75 * ms, 100 * ms},
		{"Up, and one lost packet is too many", single, up(), 75 * ms, 90 * ms},
		{"Up, to a slower neighbor", fast(), up(minRx(400 * ms)), 300 * ms, 400 * ms},
		{"Up, to a faster neighbor", fast(), up(minRx(10 * ms)), 75 * ms, 100 * ms},
	} {
		t.Run(c.name, func(t *testing.T) {
			y := newPlay(t, c.profile)
			c.story(y)
			shortest, longest := y.gaps()
			width := c.longest - c.shortest
			if shortest < c.shortest || longest > c.longest || longest-shortest < width*8/10 {
				t.Errorf("between packets %v to %v, want all of %v to %v", shortest, longest, c.shortest, c.longest)
			}
		})
	}
}

func TestNeighborWantsNoPackets(t *testing.T) {
	for _, c := range []struct {
		name string
		edit func(*packet)
	}{{"receive interval 0", minRx(0)}, {"demand mode", demand}} {
		t.Run(c.name, func(t *testing.T) {
			y := newPlay(t, fast())
			y.up(c.edit, multiplier(100))
			y.pass(5 * time.Second)
			if len(y.sent) != 0 {
				t.Fatalf("sent %+v", y.sent)
			}
			y.hear(Up, c.edit, poll)
			if p := y.last(); len(y.sent) != 1 || !p.final || p.poll {
				t.Errorf("to a poll: %+v", y.sent)
			}
			y.hear(Up, multiplier(100))
			y.pass(time.Second)
			if len(y.sent) < 10 {
				t.Errorf("sent %d packets once it wants them again", len(y.sent))
			}
		})
	}
}

func TestPacketsOfAHandshake(t *testing.T) {
	y := newPlay(t, fast())
	y.pass(0)
	if p := y.last(); p != (packet{state: Down, detectMult: 3, myDiscriminator: ours, desiredMinTx: time.Second, requiredMinRx: 100 * ms}) {
		t.Errorf("first %+v", p)
	}
	y.hear(Down, your(0))
	if p := y.last(); p.state != Init || p.yourDiscriminator != theirs || p.desiredMinTx != time.Second || p.poll {
		t.Errorf("second %+v", p)
	}
	y.hear(Up)
	if p := y.last(); p.state != Up || p.desiredMinTx != 100*ms || !p.poll {
		t.Errorf("third %+v", p)
	}
	y.hear(Up, poll)
	if p := y.last(); p.poll || !p.final {
		t.Errorf("to a poll during a poll %+v", p)
	}
	y.pass(90 * ms)
	if p := y.last(); !p.poll || p.final {
		t.Errorf("until the answer %+v", p)
	}
	y.hear(Up, final)
	y.pass(100 * ms)
	if p := y.last(); p.poll || p.controlPlaneIndependent || p.demand || p.requiredMinEchoRx != 0 {
		t.Errorf("after the answer %+v", p)
	}
	// Nobody is there any more: the next may be another.
	y.pass(time.Second)
	if p := y.last(); p.state != Down || p.diag != ControlDetectionTimeExpired || p.yourDiscriminator != 0 || p.desiredMinTx != time.Second {
		t.Errorf("after the loss %+v", p)
	}
}

// RFC 5880, 6.8.3: what changes while Up, and when it counts.
func TestConfigure(t *testing.T) {
	type timing struct{ transmit, detection time.Duration }
	for _, c := range []struct {
		name           string
		to             Profile
		atOnce, agreed timing
	}{
		{"send faster", Profile{MinTx: 50 * ms, MinRx: 100 * ms, DetectMult: 3}, timing{50 * ms, 300 * ms}, timing{50 * ms, 300 * ms}},
		{"send slower", Profile{MinTx: 200 * ms, MinRx: 100 * ms, DetectMult: 3}, timing{100 * ms, 300 * ms}, timing{200 * ms, 300 * ms}},
		{"hear faster", Profile{MinTx: 100 * ms, MinRx: 50 * ms, DetectMult: 3}, timing{100 * ms, 300 * ms}, timing{100 * ms, 150 * ms}},
		{"hear slower", Profile{MinTx: 100 * ms, MinRx: 200 * ms, DetectMult: 3}, timing{100 * ms, 600 * ms}, timing{100 * ms, 600 * ms}},
	} {
		t.Run(c.name, func(t *testing.T) {
			y := newPlay(t, fast())
			y.up(minTx(ms), minRx(ms))
			check := func(when string, want timing) {
				t.Helper()
				if got := (timing{y.m.transmitInterval(), y.m.detectionTime()}); got != want {
					t.Errorf("%s: %v, want %v", when, got, want)
				}
			}
			check("before", timing{100 * ms, 300 * ms})
			y.did(y.m.configure(c.to, y.now))
			if p := y.last(); !p.poll || p.desiredMinTx != c.to.MinTx || p.requiredMinRx != c.to.MinRx {
				t.Errorf("told %+v", p)
			}
			check("at once", c.atOnce)
			y.hear(Up, minTx(ms), minRx(ms))
			check("before the answer", c.atOnce)
			y.hear(Up, minTx(ms), minRx(ms), final)
			check("agreed", c.agreed)
			y.expect()
		})
	}
}

func TestConfigureDuringPoll(t *testing.T) {
	y := newPlay(t, fast())
	y.up()
	slower, slowest := fast(), fast()
	slower.MinTx, slowest.MinTx = 200*ms, 400*ms
	y.did(y.m.configure(slower, y.now))
	y.did(y.m.configure(slowest, y.now))
	y.hear(Up, final)
	if !y.m.polling || y.m.transmitInterval() != 100*ms {
		t.Errorf("an answer to the first change counted for the second: interval %v", y.m.transmitInterval())
	}
	y.hear(Up, final)
	if y.m.polling || y.m.transmitInterval() != 400*ms {
		t.Errorf("agreed: polling %v, interval %v", y.m.polling, y.m.transmitInterval())
	}
}

func TestConfigureBeforeUpAndMultiplier(t *testing.T) {
	y := newPlay(t, fast())
	p := Profile{MinTx: 2 * time.Second, MinRx: 3 * time.Second, DetectMult: 3}
	y.did(y.m.configure(p, y.now))
	if p := y.last(); p.desiredMinTx != 2*time.Second || p.requiredMinRx != 3*time.Second || p.poll {
		t.Errorf("told %+v", p)
	}
	p.DetectMult = 7
	y.did(y.m.configure(p, y.now))
	if p := y.last(); p.detectMult != 7 {
		t.Errorf("told %+v", p)
	}
	p.MinTTL = 9
	sent := len(y.sent)
	if y.did(y.m.configure(p, y.now)); len(y.sent) != sent {
		t.Errorf("told what the neighbor has no use for: %+v", y.last())
	}
}

// Two machines on a path that loses packets at random find each other, and lose
// each other no more often than three packets in a row are lost.
func TestTwoMachines(t *testing.T) {
	for _, loss := range []float64{0, 0.05, 0.3} {
		t.Run(fmt.Sprint(loss), func(t *testing.T) {
			random := rand.New(rand.NewPCG(3, 4))
			slower := Profile{MinTx: 150 * ms, MinRx: 120 * ms, DetectMult: 5}
			now := time.Unix(1e9, 0)
			ends := []*machine{newMachine(fast(), 1, random.Float64, now), newMachine(slower, 2, random.Float64, now)}
			ups := 0
			var deliver func(to int, out effects)
			deliver = func(from int, out effects) {
				if out.changed && ends[from].state == Up {
					ups++
				}
				if loss == 0 && out.lost {
					t.Errorf("lost at %v", now)
				}
				for _, p := range packets(ends[from], out) {
					if random.Float64() < loss {
						continue
					}
					if q, why := decode(encoded(p)); why != accepted || q != p {
						t.Fatalf("packet %+v discarded for %q", p, why)
					}
					answer, _ := ends[1-from].receive(p, now)
					deliver(1-from, answer)
				}
			}
			for range 30_000 {
				now = now.Add(ms)
				for i, m := range ends {
					deliver(i, m.advance(now))
				}
			}
			if ups < 2 || loss == 0 && ups != 2 {
				t.Errorf("%d times Up", ups)
			}
			if loss == 0 {
				for i, want := range []struct{ tx, detection time.Duration }{{120 * ms, 750 * ms}, {150 * ms, 360 * ms}} {
					if m := ends[i]; m.transmitInterval() != want.tx || m.detectionTime() != want.detection || m.polling {
						t.Errorf("end %d: transmit %v, detection %v, polling %v", i, m.transmitInterval(), m.detectionTime(), m.polling)
					}
				}
			}
		})
	}
}

// No packet makes a machine panic, or busy for ever.
func FuzzMachine(f *testing.F) {
	f.Add(wire(f, upPacket), uint16(300))
	f.Add(wire(f, "20 40 03 18 00000007 00000000 000186a0 000493e0 00000000"+upPacket), uint16(50))
	f.Fuzz(func(t *testing.T, b []byte, wait uint16) {
		y := newPlay(t, fast())
		for len(b) >= packetLen {
			if p, why := decode(b[:packetLen]); why == accepted {
				out, _ := y.m.receive(p, y.now)
				y.did(out)
			}
			b = b[packetLen:]
			y.pass(time.Duration(wait) * ms)
		}
		if len(y.sent) > 0 {
			if _, why := decode(encoded(y.last())); why != accepted {
				t.Errorf("sent %+v, which is discarded for %q", y.last(), why)
			}
		}
	})
}
