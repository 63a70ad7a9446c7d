package membership

import (
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/hashicorp/memberlist"
)

const (
	// tickInterval is how often timers are looked at. It is half of the
	// shortest, resendInterval.
	tickInterval = resendInterval / 2
	// maxStall bounds stallTime, so that a node that was stopped notices it
	// before another overrides it.
	maxStall = overrideAfter / 2
	// applyRetry is how soon an Apply that failed is repeated. What it lacked,
	// a link or memory, seldom comes sooner.
	applyRetry = 500 * time.Millisecond
	// updateTimeout bounds the wait until new meta was gossiped. It is
	// gossiped in any case.
	updateTimeout = time.Second
)

// stallTime is the shortest time after which others may have declared this
// node dead: one probe that failed, and the suspicion.
func stallTime(probe time.Duration, suspicion int) time.Duration {
	return min(time.Duration(suspicion+1)*probe, maxStall)
}

// owner is what the goroutine run keeps to itself.
type owner struct {
	claims *claims
	nodes  map[string]memberlist.Node // live, this one included
	behind bool                       // the last Apply failed
	retry  time.Time                  // when it is repeated
}

// run owns the claims: it gives them all events and carries out their effects.
func (c *Cluster) run(state *claims) {
	defer c.stopped.Done()
	o := &owner{claims: state, nodes: map[string]memberlist.Node{}}
	ticker := time.NewTicker(tickInterval)
	defer ticker.Stop()
	for {
		select {
		case <-c.stop:
			state.releaseAll()
			c.carryOut(o)
			return
		case <-c.inbox.wake:
		case <-ticker.C:
		}
		now := time.Now()
		c.pulse.beat(now)
		if stall, ok := c.pulse.stalled(); ok {
			c.log.Info("This process did not run for a while; claiming its addresses anew", "atLeastSeconds", c.pulse.stallTime.Seconds())
			c.metrics.stalls.Inc()
			state.stalled(now)
			// What was held may be another's by now. Be silent before
			// anything else, also if the consent of others is at hand.
			c.carryOut(o)
			c.pulse.deal(stall)
		}
		c.handle(o, now, c.inbox.take())
		state.tick(now)
		c.carryOut(o)
		if state.drained() {
			c.signalDrained()
		}
	}
}

// beat keeps the pulse. It does nothing else: run may wait for a slow Apply,
// which is no stall, as gossip goes on.
func (c *Cluster) beat() {
	defer c.stopped.Done()
	ticker := time.NewTicker(c.pulse.interval())
	defer ticker.Stop()
	for {
		select {
		case <-c.stop:
			return
		case <-ticker.C:
			c.pulse.beat(time.Now())
		}
	}
}

// handle gives mail to the claims, in the order of arrival: a message may come
// from a member that joined just before.
func (c *Cluster) handle(o *owner, now time.Time, m mail) {
	changed := false
	for _, e := range m.events {
		if e.kind == eventMessage {
			message, err := decodeMessage(e.packet)
			if err != nil {
				c.metrics.discarded.Inc()
				c.log.V(1).Info("Discarding a message", "error", err.Error())
				continue
			}
			o.claims.received(now, message)
			continue
		}
		changed = true
		c.metrics.events.WithLabelValues(string(e.kind)).Inc()
		c.memberChanged(o, now, e)
	}
	if changed {
		c.publishMembers(o)
	}
	if m.want != nil {
		o.claims.want(now, m.want)
	}
	if m.drain {
		o.claims.drain()
	}
}

func (c *Cluster) memberChanged(o *owner, now time.Time, e event) {
	name := e.node.Name
	switch e.kind {
	case eventLeave:
		delete(o.nodes, name)
		o.claims.left(now, name)
		c.log.Info("Member left, or does not answer any more", "member", name)
	case eventJoin:
		o.nodes[name] = e.node
		o.claims.joined(now, name)
		c.log.Info("Member joined", "member", name, "address", e.node.Address())
	case eventUpdate:
		o.nodes[name] = e.node
		c.log.V(1).Info("Member updated", "member", name)
	}
}

func (c *Cluster) publishMembers(o *owner) {
	members := make([]Member, 0, len(o.nodes))
	for _, name := range slices.Sorted(maps.Keys(o.nodes)) {
		node := o.nodes[name]
		members = append(members, newMember(&node))
	}
	c.members.Store(&members)
	c.metrics.members.Set(float64(len(members)))
	signal(c.changed)
}

// carryOut makes the held set effective, and then, and only then, sends the
// messages, some of which tell others that an address is free.
func (c *Cluster) carryOut(o *owner) {
	now := time.Now()
	e := o.claims.effects(now)
	if e.changed || o.behind && !now.Before(o.retry) {
		c.apply(o, o.claims.held())
		o.retry = now.Add(applyRetry)
	}
	for _, since := range e.took {
		c.metrics.takeover.Observe(time.Since(since).Seconds())
	}
	for _, v := range e.overridden {
		c.metrics.overridden.Add(float64(v.addresses))
		if v.first {
			c.log.Info("A live member does not answer; taking addresses without its consent",
				"member", v.peer, "addresses", v.addresses, "seconds", overrideAfter.Seconds())
		}
	}
	for _, out := range e.send {
		c.send(o, out)
	}
}

func (c *Cluster) apply(o *owner, held map[netip.Addr]string) {
	n := len(held)
	c.applyErr = c.cfg.Apply(held)
	if c.applyErr != nil {
		c.metrics.applyErrors.Inc()
		if !o.behind { // the first of a series
			c.log.Error(c.applyErr, "Could not announce all held addresses; trying again", "addresses", n)
		}
	}
	o.behind = c.applyErr != nil
	c.metrics.held.Set(float64(n))
}

// send sends a message, best effort: claims are sent again until answered.
func (c *Cluster) send(o *owner, out outgoing) {
	node, ok := o.nodes[out.to]
	if !ok { // it has left, or has yet to join; then it asks again
		return
	}
	for _, packet := range out.message.encode() {
		if err := c.gossip.SendBestEffort(&node, packet); err != nil {
			c.log.V(1).Info("Could not send a message", "member", out.to, "error", err.Error())
		}
	}
}

func (c *Cluster) signalDrained() {
	select {
	case <-c.drained:
	default:
		close(c.drained)
	}
}

// publish gossips what this node serves whenever that changed.
func (c *Cluster) publish() {
	defer c.stopped.Done()
	for {
		select {
		case <-c.stop:
			return
		case <-c.newMeta:
			if err := c.gossip.UpdateNode(updateTimeout); err != nil {
				c.log.V(1).Info("Gossiping what this node serves", "error", err.Error())
			}
		}
	}
}
