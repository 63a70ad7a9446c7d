package membership

import (
	"context"
	"net/netip"
	"testing"
	"time"
)

// The pulse through stops of the process: at each step, which of its users
// runs, and whether answering is allowed afterwards.
func TestPulse(t *testing.T) {
	p := newPulse(300 * time.Millisecond)
	var number uint64
	beat := p.beat
	notice := func(now time.Time) {
		p.beat(now)
		var stalled bool
		if number, stalled = p.stalled(); !stalled {
			t.Error("a stall was not noticed")
		}
	}
	deal := func(time.Time) { p.deal(number) }
	look := func(time.Time) {}
	for _, step := range []struct {
		name  string
		at    time.Duration // since the start, in ms
		do    func(time.Time)
		awake bool
	}{
		{"just started", 0, look, true},
		{"a beat", 30, beat, true},
		{"stopped, but for less than others need to notice", 329, look, true},
		{"and on it goes", 329, beat, true},
		{"stopped for as long, and an answer is tried first", 629, look, false},
		{"then a beat", 630, beat, false},
		{"and another", 660, beat, false},
		{"noticed", 670, notice, false},
		{"silenced", 680, deal, true},
		{"stopped and noticed before a beat", 1000, notice, false},
		{"stopped again before it was silenced", 2000, look, false},
		{"silenced for the first stall only", 2000, deal, false},
		{"a beat", 2001, beat, false},
		{"the second is noticed", 2002, notice, false},
		{"and silenced", 2003, deal, true},
	} {
		now := p.origin.Add(step.at * time.Millisecond)
		step.do(now)
		if awake := p.awake(now); awake != step.awake {
			t.Errorf("%s (%d ms): awake: %v", step.name, step.at, awake)
		}
	}
}

func TestAwakeAllocatesNothing(t *testing.T) {
	c := mustStart(t, testConfig("a"))
	if n := testing.AllocsPerRun(100, func() { c.Awake() }); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

// A process that was stopped may not answer until what it held is silent. It
// then gets it back from the others.
func TestNotAwakeUntilSilent(t *testing.T) {
	t.Parallel()
	addr := testAddrs(1)[0]
	type applied struct{ held, awake bool }
	applies := make(chan applied, 100)
	var a *Cluster
	ready := make(chan struct{})
	cfg := testConfig("a")
	cfg.Apply = func(held map[netip.Addr]string) error {
		<-ready
		applies <- applied{len(held) > 0, a.Awake()}
		return nil
	}
	a = mustStart(t, cfg)
	close(ready)
	b := mustStart(t, testConfig("b"))
	a.Join(t.Context(), []netip.AddrPort{addrOf(b)})
	awaitMembers(t, a, "a sees b", func(m []Member) bool { return len(m) == 2 })
	a.Want(map[netip.Addr]string{addr: "eth0"})
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	next := func(what string) applied {
		select {
		case got := <-applies:
			return got
		case <-ctx.Done():
			t.Fatalf("waiting until %s", what)
			return applied{}
		}
	}
	for !next("a holds the address").held {
	}
	a.pulse.last.Add(-int64(a.pulse.stallTime)) // as if the last beat were older
	if a.Awake() {
		t.Error("may answer right after a stall")
	}
	if got := next("a is silent"); got.held || got.awake {
		t.Errorf("after a stall: %+v, want silence, and no answers before", got)
	}
	for !next("a holds the address again").held {
	}
	if !a.Awake() {
		t.Error("may not answer though it was silenced")
	}
}
