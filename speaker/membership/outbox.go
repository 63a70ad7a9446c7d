package membership

import (
	"maps"
	"slices"
	"strings"
	"time"
)

// effects are what a run of events asks for. They are carried out in order:
// first the held set, which must be in effect when that returns, then the
// messages, which may tell others that an address is no longer held.
type effects struct {
	changed    bool // the held set, or the link of a held address
	send       []outgoing
	took       []time.Time // for each address taken, since when it was wanted
	overridden []override
}

// outgoing is a message and the member that it is for.
type outgoing struct {
	to      string
	message message
}

// override says that addresses were taken without a live member's consent.
type override struct {
	peer      string
	addresses int
	first     bool // since the peer last answered
}

// outbox collects effects.
type outbox struct {
	changed    bool
	took       []time.Time
	overridden []override
	replies    map[replyTo][]entry
}

// replyTo is what entries of one message have in common.
type replyTo struct {
	name  string
	epoch uint64
	kind  kind
}

func newOutbox() outbox {
	return outbox{replies: map[replyTo][]entry{}}
}

func (o *outbox) reply(k kind, to string, epoch uint64, e entry) {
	key := replyTo{to, epoch, k}
	o.replies[key] = append(o.replies[key], e)
}

// effects returns what the events since the last call ask for. The order of
// messages does not depend on the order of maps.
func (c *claims) effects(now time.Time) effects {
	e := effects{
		changed:    c.out.changed,
		took:       c.out.took,
		overridden: c.out.overridden,
	}
	for _, key := range slices.SortedFunc(maps.Keys(c.out.replies), replyTo.compare) {
		e.send = append(e.send, outgoing{key.name, message{key.kind, c.self, key.epoch, sorted(c.out.replies[key])}})
	}
	var unsent []string
	for name, p := range c.peers {
		if len(p.unsent) > 0 {
			unsent = append(unsent, name)
		}
	}
	slices.Sort(unsent)
	for _, name := range unsent {
		asks, finals := c.unsent(now, c.peers[name])
		if len(asks) > 0 {
			e.send = append(e.send, outgoing{name, message{kindAsk, c.self, c.epoch, asks}})
		}
		if len(finals) > 0 {
			e.send = append(e.send, outgoing{name, message{kindClaim, c.self, c.epoch, finals}})
		}
	}
	c.out = newOutbox()
	return e
}

// unsent returns the claims to be sent to a peer now, and marks them sent.
func (c *claims) unsent(now time.Time, p *peer) (asks, finals []entry) {
	for _, addr := range p.unsent {
		a, ok := p.asked[addr]
		if !ok || !a.sent.IsZero() { // settled, or twice in the list
			continue
		}
		a.sent = now
		e := entry{addr, c.claims[addr].seq}
		if a.final {
			finals = append(finals, e)
		} else {
			asks = append(asks, e)
		}
	}
	p.unsent = p.unsent[:0]
	return sorted(asks), sorted(finals)
}

func (r replyTo) compare(other replyTo) int {
	if n := strings.Compare(r.name, other.name); n != 0 {
		return n
	}
	if r.kind != other.kind {
		return int(r.kind) - int(other.kind)
	}
	if r.epoch < other.epoch {
		return -1
	}
	return 1
}

func sorted(entries []entry) []entry {
	slices.SortFunc(entries, func(a, b entry) int { return a.addr.Compare(b.addr) })
	return entries
}
