package membership

import (
	"net/netip"
	"time"
)

// received handles a message of another member.
func (c *claims) received(now time.Time, m message) {
	if m.from == c.self {
		return
	}
	switch m.kind {
	case kindAsk, kindClaim:
		if p, ok := c.peers[m.from]; ok && !p.current(now, m.epoch) {
			return
		}
		for _, e := range m.entries {
			kind := c.answer(now, e.addr, claimant{m.from, m.epoch, e.seq}, m.kind == kindClaim)
			c.out.reply(kind, m.from, m.epoch, e)
		}
	case kindConsent, kindYields, kindRefuse, kindFree:
		if m.epoch != c.epoch { // meant for an earlier process of this name
			return
		}
		for _, e := range m.entries {
			if cl, ok := c.claims[e.addr]; ok && cl.seq == e.seq {
				c.answered(now, m.kind, m.from, e.addr, cl)
			}
		}
	}
}

// answer decides on another node's claim. It consents at once to a claim for
// what it neither holds nor claims; otherwise the better ranked of the two
// gets it, and a draining node yields to any. A held address is given up only
// by a final claim, when nobody else's consent is missing.
//
// Whatever a consent rests on is in effect before it leaves: outbox.
func (c *claims) answer(now time.Time, addr netip.Addr, by claimant, final bool) kind {
	cl, ok := c.claims[addr]
	switch {
	case !ok || cl.phase == waiting:
		return kindConsent
	case !c.draining && !outranks(addr, by.name, c.self):
		cl.refuse(by)
		return kindRefuse
	case cl.phase == held && !final:
		return kindYields
	default:
		c.stepBack(now, addr, cl)
		return kindConsent
	}
}

// refuse notes that a claim was refused, the newest one of each node.
func (cl *claim) refuse(by claimant) {
	for i := range cl.refused {
		if cl.refused[i].name == by.name {
			cl.refused[i] = by
			return
		}
	}
	cl.refused = append(cl.refused, by)
}

// answered handles another member's reply to the newest claim for an address.
func (c *claims) answered(now time.Time, reply kind, from string, addr netip.Addr, cl *claim) {
	p, known := c.peers[from]
	if known {
		p.overridden = false
	}
	switch reply {
	case kindFree:
		if cl.phase == waiting {
			c.start(now, addr, cl)
		}
	case kindRefuse: // obeyed also from a node that we do not see as a member
		if cl.phase != waiting {
			c.stepBack(now, addr, cl)
		}
	case kindConsent, kindYields:
		if !known {
			return
		}
		a, asked := p.asked[addr]
		switch {
		case !asked || reply == kindYields && (a.final || a.yields || a.overridden):
			return // a copy, or late
		case reply == kindYields:
			a.yields = true
			cl.yields++
		default:
			p.settle(addr, cl)
		}
		c.proceed(now, addr, cl)
	}
}
