package bfd

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"
)

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
