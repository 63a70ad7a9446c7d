package membership

import (
	"net/netip"
	"time"
)

// retryDelay is how long a node waits that was refused an address it wants.
// Views of the cluster differ for a gossip round or two (100 ms each); asking
// sooner would mostly be refused again. The two events that usually end the
// wait, a hint and a member that left, cut it short.
const retryDelay = 250 * time.Millisecond

// claims decides which of the addresses that this node wants it may hold, in
// agreement with the claims of all other members. It is pure: events go in by
// its methods, and effects returns what they ask for. doc.go argues why no two
// members hold one address.
type claims struct {
	self     string
	epoch    uint64 // tells this process from earlier ones of the same name
	seq      uint32 // of the newest claim
	claims   map[netip.Addr]*claim
	peers    map[string]*peer
	draining bool
	out      outbox
}

// claim is this node's wish for one address. Another node's claims leave no
// trace here but the list of those to whom it was refused.
type claim struct {
	link   string
	phase  phase
	seq    uint32    // of the newest claim for this address; replies to an older one are void
	since  time.Time // when it was wanted and not held
	retry  time.Time // when to claim again, while waiting
	needed int       // peers that neither consented nor were overridden
	yields int       // peers among the needed that hold the address and will yield it
	// refused are the claims of others for it, which are told when it is free.
	refused []claimant
}

type phase uint8

const (
	waiting  phase = iota // neither held nor claimed, until retry
	claiming              // members were asked
	held
)

// claimant is one process's claim for an address.
type claimant struct {
	name  string
	epoch uint64
	seq   uint32
}

func newClaims(self string, epoch uint64) *claims {
	return &claims{
		self:   self,
		epoch:  epoch,
		claims: map[netip.Addr]*claim{},
		peers:  map[string]*peer{},
		out:    newOutbox(),
	}
}

// want replaces the set of addresses that this node should hold, each with
// the link that it is announced on.
func (c *claims) want(now time.Time, want map[netip.Addr]string) {
	if c.draining {
		return
	}
	for addr := range c.claims {
		if _, ok := want[addr]; !ok {
			c.release(addr)
		}
	}
	for addr, link := range want {
		cl, ok := c.claims[addr]
		switch {
		case !ok:
			cl = &claim{link: link, since: now}
			c.claims[addr] = cl
			c.start(now, addr, cl)
		case cl.link != link:
			cl.link = link
			if cl.phase == held {
				c.out.changed = true
			}
		}
	}
}

// joined adds a live member, or one that was away. What is held already is
// asserted to it: it may hold the same, having been where we could not see it.
func (c *claims) joined(now time.Time, name string) {
	if name == c.self {
		return
	}
	c.left(now, name)
	p := newPeer()
	c.peers[name] = p
	for addr, cl := range c.claims {
		if cl.phase == waiting {
			continue
		}
		cl.needed++
		p.ask(now, addr, cl.phase == held || len(c.peers) == 1)
	}
}

// left removes a member. Its consent is needed no longer, and what it refused
// may be free now.
func (c *claims) left(now time.Time, name string) {
	p, ok := c.peers[name]
	if !ok {
		return
	}
	delete(c.peers, name)
	for addr := range p.asked {
		cl := c.claims[addr]
		p.settle(addr, cl)
		c.proceed(now, addr, cl)
	}
	for addr, cl := range c.claims {
		if cl.phase == waiting {
			c.start(now, addr, cl)
		}
	}
}

// stalled is called when this process did not run for so long that others may
// have declared it dead and taken what it holds. It holds nothing any more
// until they agree anew.
func (c *claims) stalled(now time.Time) {
	for addr, cl := range c.claims {
		if cl.phase == held {
			c.lose(now, cl)
		}
		c.start(now, addr, cl)
	}
}

// drain makes this node claim nothing more and yield what it holds to any
// member that claims it.
func (c *claims) drain() {
	c.draining = true
	for addr, cl := range c.claims {
		if cl.phase != held {
			c.release(addr)
		}
	}
}

// drained tells whether there is nothing left to hand over, or nobody to hand
// it to.
func (c *claims) drained() bool {
	return c.draining && (len(c.claims) == 0 || len(c.peers) == 0)
}

// releaseAll gives everything up.
func (c *claims) releaseAll() {
	for addr := range c.claims {
		c.release(addr)
	}
}

// held returns a new map of the addresses that this node holds and their links.
func (c *claims) held() map[netip.Addr]string {
	holds := make(map[netip.Addr]string)
	for addr, cl := range c.claims {
		if cl.phase == held {
			holds[addr] = cl.link
		}
	}
	return holds
}

// start claims an address from all members, under a new number, which makes
// all replies to older claims void.
func (c *claims) start(now time.Time, addr netip.Addr, cl *claim) {
	c.forget(addr, cl)
	c.seq++
	cl.seq, cl.phase = c.seq, claiming
	cl.needed = len(c.peers)
	for _, p := range c.peers {
		p.ask(now, addr, len(c.peers) == 1)
	}
	c.proceed(now, addr, cl)
}

// proceed takes an address that nobody's consent is missing for, or asks those
// to yield it whose consent alone is missing.
func (c *claims) proceed(now time.Time, addr netip.Addr, cl *claim) {
	switch {
	case cl.phase != claiming:
	case cl.needed == 0:
		cl.phase = held
		c.out.changed = true
		c.out.took = append(c.out.took, cl.since)
		c.press(now, addr) // those overridden, who may hold it
	case cl.needed == cl.yields:
		c.press(now, addr)
	}
}

// press makes the asking of all peers that have yet to consent final.
func (c *claims) press(now time.Time, addr netip.Addr) {
	for _, p := range c.peers {
		p.press(now, addr)
	}
}

// stepBack ends a claim, or a hold, in favour of another node. While this
// node still wants the address it tries again later.
func (c *claims) stepBack(now time.Time, addr netip.Addr, cl *claim) {
	if c.draining {
		c.release(addr)
		return
	}
	if cl.phase == held {
		c.lose(now, cl)
	}
	c.forget(addr, cl)
	cl.phase = waiting
	cl.retry = now.Add(retryDelay)
}

// lose makes a held address not held.
func (c *claims) lose(now time.Time, cl *claim) {
	cl.phase, cl.since = waiting, now
	c.out.changed = true
}

// release drops an address for good and tells those who were refused it.
func (c *claims) release(addr netip.Addr) {
	cl := c.claims[addr]
	if cl.phase == held {
		c.out.changed = true
	}
	c.forget(addr, cl)
	for _, r := range cl.refused {
		c.out.reply(kindFree, r.name, r.epoch, entry{addr, r.seq})
	}
	delete(c.claims, addr)
}

// forget ends all asking for an address.
func (c *claims) forget(addr netip.Addr, cl *claim) {
	for _, p := range c.peers {
		delete(p.asked, addr)
	}
	cl.needed, cl.yields = 0, 0
}
