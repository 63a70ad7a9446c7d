package sessions

import "time"

const (
	// minGap is the shortest time between two writes of one entry.
	minGap = time.Second
	// refill is the time after which one more write is in store, and burst how
	// many there are at most. So the first changes are seen as they happen, and
	// a session that comes and goes without end, on every node, is one write per
	// node each ten seconds.
	refill, burst = 10 * time.Second, 5
)

// pace says when an entry may be written. The zero value lets it be written
// at once.
type pace struct {
	last time.Time // when it was written last
	full time.Time // when burst writes will be in store again
}

// wait returns how long it is too early to write, 0 if it is not.
func (p *pace) wait(now time.Time) time.Duration {
	return max(0, p.last.Add(minGap).Sub(now), p.full.Add(-(burst-1)*refill).Sub(now))
}

// spend notes a write.
func (p *pace) spend(now time.Time) {
	p.last = now
	if p.full.Before(now) {
		p.full = now
	}
	p.full = p.full.Add(refill)
}
