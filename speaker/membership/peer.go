package membership

import (
	"net/netip"
	"time"
)

const (
	// resendInterval is how long a claim waits for its answer before it is
	// sent again: far above a round trip on a LAN, far below what a user sees
	// as an outage.
	resendInterval = 100 * time.Millisecond
	// overrideAfter is how long a live member may leave a claim unanswered.
	// One that does not answer twenty claims while gossip says that it lives
	// is broken (or of a version that does not know the message), and an
	// address must not stay unanswered because of it. Dead members are removed
	// long before, after 0.3 to 0.7 s by default.
	overrideAfter = 2 * time.Second
	// slowResendInterval is for claims that have been unanswered for longer.
	slowResendInterval = time.Second
	// staleEpoch is how long after the last message of a member's process the
	// messages of an older process under its name are taken for late packets.
	// Afterwards they mean that the member's clock was set back.
	staleEpoch = time.Second
)

// peer is another live member.
type peer struct {
	// asked are the claims that it has not consented to.
	asked map[netip.Addr]*ask
	// unsent are those to be sent now; some may have been settled since.
	unsent []netip.Addr
	// overridden is set from the first override to the next answer.
	overridden bool
	epoch      uint64 // of its newest process
	heard      time.Time
}

// ask is the consent of one peer to one claim that is still missing.
type ask struct {
	since time.Time // first sent
	sent  time.Time // last sent, zero if to be sent now
	// final says that no other consent is missing: a peer that holds the
	// address yields it now. Before, it would only leave a gap.
	final      bool
	yields     bool // the peer holds the address and yields it when asked finally
	overridden bool // the peer's consent is not waited for
}

func newPeer() *peer {
	return &peer{asked: map[netip.Addr]*ask{}}
}

// ask asks for consent to a claim.
func (p *peer) ask(now time.Time, addr netip.Addr, final bool) {
	p.asked[addr] = &ask{since: now, final: final}
	p.unsent = append(p.unsent, addr)
}

// press makes the asking for an address final. Waiting for the others is not
// this peer's fault, so its time starts anew.
func (p *peer) press(now time.Time, addr netip.Addr) {
	a, ok := p.asked[addr]
	if !ok || a.final {
		return
	}
	a.final, a.since, a.sent = true, now, time.Time{}
	p.unsent = append(p.unsent, addr)
}

// settle ends the asking for an address. Other than the end of the claim
// itself it counts as the peer's consent.
func (p *peer) settle(addr netip.Addr, cl *claim) {
	a := p.asked[addr]
	delete(p.asked, addr)
	if !a.overridden {
		p.discount(a, cl)
	}
}

// discount makes a claim need this peer no longer.
func (p *peer) discount(a *ask, cl *claim) {
	cl.needed--
	if a.yields {
		cl.yields--
	}
}

// current tells whether a claim comes from the peer's newest process and not
// from one before its restart.
func (p *peer) current(now time.Time, epoch uint64) bool {
	if epoch < p.epoch && now.Sub(p.heard) < staleEpoch {
		return false
	}
	p.epoch, p.heard = epoch, now
	return true
}

// tick sends again what was not answered, overrides a member that does not
// answer at all, and claims again what was refused.
func (c *claims) tick(now time.Time) {
	for name, p := range c.peers {
		overridden := 0
		for addr, a := range p.asked {
			cl := c.claims[addr]
			age := now.Sub(a.since)
			if age >= overrideAfter && cl.phase == claiming && !a.overridden && (a.final || !a.yields) {
				a.overridden = true
				overridden++
				p.discount(a, cl)
				c.proceed(now, addr, cl)
			}
			p.resend(now, addr, a)
		}
		if overridden > 0 {
			c.out.overridden = append(c.out.overridden, override{peer: name, addresses: overridden, first: !p.overridden})
			p.overridden = true
		}
	}
	for addr, cl := range c.claims {
		if cl.phase == waiting && !now.Before(cl.retry) {
			c.start(now, addr, cl)
		}
	}
}

// resend has an ask sent again if it is time.
func (p *peer) resend(now time.Time, addr netip.Addr, a *ask) {
	interval := resendInterval
	switch {
	case a.sent.IsZero(): // about to be sent
		return
	case a.yields && !a.final: // answered; waits for the others
		return
	case now.Sub(a.since) >= overrideAfter:
		interval = slowResendInterval
	}
	if now.Sub(a.sent) >= interval {
		a.sent = time.Time{}
		p.unsent = append(p.unsent, addr)
	}
}
