package membership

import (
	"sync/atomic"
	"time"
)

// beatsPerStall is how often the pulse beats in a stallTime. A stop that is
// shorter than stallTime by less than one beat counts as a stall too.
const beatsPerStall = 10

// pulse notices that this process was stopped, by a signal, a debugger or a
// starved machine. Whoever runs first afterwards sees it: that the last beat is
// old, or, once the pulse beats again, that a stall was counted which was not
// dealt with. Its time is that of the monotonic clock, which goes on meanwhile.
type pulse struct {
	stallTime time.Duration
	origin    time.Time
	last      atomic.Int64  // the last beat, as time since origin
	stalls    atomic.Uint64 // the times that a beat was late by stallTime
	dealtWith atomic.Uint64 // the stalls after which this node was silenced
}

func newPulse(stallTime time.Duration) *pulse {
	return &pulse{stallTime: stallTime, origin: time.Now()}
}

// interval is how often to beat.
func (p *pulse) interval() time.Duration {
	return max(p.stallTime/beatsPerStall, time.Millisecond)
}

// beat records that the process runs. A stall is counted before the beat makes
// the pulse look fresh. Two callers may count one stall twice, which is harmless.
func (p *pulse) beat(now time.Time) {
	if p.late(now) {
		p.stalls.Add(1)
	}
	p.last.Store(int64(now.Sub(p.origin)))
}

// stalled returns a number for deal if there was a stall that was not dealt with.
func (p *pulse) stalled() (number uint64, stalled bool) {
	number = p.stalls.Load()
	return number, number != p.dealtWith.Load()
}

// deal says that this node was silenced after the stall. A stall that came
// after it stays to be dealt with.
func (p *pulse) deal(number uint64) {
	p.dealtWith.Store(number)
}

// awake tells whether no stall is under way or to be dealt with.
func (p *pulse) awake(now time.Time) bool {
	if p.late(now) { // first: after this look, a beat has counted what it missed
		return false
	}
	_, stalled := p.stalled()
	return !stalled
}

func (p *pulse) late(now time.Time) bool {
	return now.Sub(p.origin)-time.Duration(p.last.Load()) >= p.stallTime
}
