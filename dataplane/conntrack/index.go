package conntrack

import (
	"cmp"
	"net/netip"
	"slices"
	"time"

	"github.com/fairway-lb/fairway/dataplane/service"
)

// index says which service port a frontend of one protocol and family leads
// to, and which frontends the kernel's table is to be searched for. It is kept
// up by changes, each at the cost of its own frontends.
type index struct {
	protocol service.Protocol
	// owners are by frontend. Node ports have the unspecified address.
	owners    map[netip.AddrPort]*owner
	nodePorts int // among them
	// changed are the frontends that changed ports have or had, since the search
	// was decided on that is for those of searched, and to be done when due.
	changed map[netip.AddrPort]struct{}
	// searched has who they led to at that moment, or nil.
	searched map[netip.AddrPort]*owner
	due      time.Time
	rested   time.Time // no search for connections is due before
}

// owner is the service port that a frontend leads to.
type owner struct {
	name service.PortName
	port *service.Port
}

// connections tells whether the protocol has connections, which end: an entry
// is of use then once it was answered.
func (x *index) connections() bool { return x.protocol != service.UDP }

// decides tells whether flows may be stale by what a port has: a datagram
// without an endpoint has nowhere better to go, while a connection that nobody
// has answered is better refused.
func (x *index) decides(o *owner) bool {
	return o != nil && (len(o.port.Serving) > 0 || x.connections())
}

// take follows a change. What a port had goes only where another does not have
// it by now, so that the order of changes does not matter.
func (x *index) take(change *service.PortChange) {
	looked := !x.connections() || !x.grows(change)
	if change.Before != nil {
		for _, f := range change.Before.Frontends {
			if o := x.owners[f.Address]; o != nil && o.name == change.Name {
				x.remove(f.Address)
			}
			if looked {
				x.touch(f.Address)
			}
		}
	}
	if change.After != nil {
		o := &owner{change.Name, change.After}
		for _, f := range change.After.Frontends {
			x.set(f.Address, o)
			if looked {
				x.touch(f.Address)
			}
		}
	}
}

// keeps tells whether flows may stay at an endpoint of a port, or connections
// that nobody has answered yet: those to where no new ones go are given up.
func (x *index) keeps(p *service.Port, endpoint netip.AddrPort) bool {
	if x.connections() {
		return contains(p.Cluster, endpoint) || contains(p.Local, endpoint)
	}
	return contains(p.Serving, endpoint)
}

// grows tells whether a port has all frontends and endpoints that it had, so
// that no connection was begun that leads elsewhere by now.
func (x *index) grows(change *service.PortChange) bool {
	before, after := change.Before, change.After
	if before == nil || after == nil || !slices.Equal(before.Frontends, after.Frontends) {
		return false
	}
	gone := func(e netip.AddrPort) bool { return !x.keeps(after, e) }
	return !slices.ContainsFunc(before.Cluster, gone) && !slices.ContainsFunc(before.Local, gone)
}

// contains tells whether a sorted list has an endpoint.
func contains(list []netip.AddrPort, endpoint netip.AddrPort) bool {
	_, is := slices.BinarySearchFunc(list, endpoint, netip.AddrPort.Compare)
	return is
}

func (x *index) set(at netip.AddrPort, o *owner) {
	if x.owners == nil {
		x.owners = map[netip.AddrPort]*owner{}
	}
	if _, there := x.owners[at]; !there && at.Addr().IsUnspecified() {
		x.nodePorts++
	}
	x.owners[at] = o
}

func (x *index) remove(at netip.AddrPort) {
	delete(x.owners, at)
	if at.Addr().IsUnspecified() {
		x.nodePorts--
	}
}

// touch has a frontend searched for.
func (x *index) touch(at netip.AddrPort) {
	if x.changed == nil {
		x.changed = map[netip.AddrPort]struct{}{}
	}
	x.changed[at] = struct{}{}
}

// next tells whether the kernel's table is to be searched now, and else when,
// the zero time for never.
func (x *index) next(now time.Time) (search bool, at time.Time) {
	for {
		if len(x.searched) == 0 {
			if len(x.changed) == 0 {
				return false, time.Time{}
			}
			x.decide(now)
		}
		if needed, _ := x.needs(); needed {
			break
		}
		x.done()
	}
	if x.due.After(now) {
		return false, x.due
	}
	return true, time.Time{}
}

// decide makes what has changed what is searched for.
func (x *index) decide(now time.Time) {
	x.searched = make(map[netip.AddrPort]*owner, len(x.changed))
	for at := range x.changed {
		x.searched[at] = cmp.Or(x.owners[at], x.owners[everywhere(at)])
	}
	x.changed, x.due = nil, now
	if x.connections() {
		x.due = later(now.Add(answerTime), x.rested)
	}
}

// needs tells whether any entry can be stale, and whether that takes to know
// the node's own addresses.
func (x *index) needs() (search, local bool) {
	for at := range x.searched {
		o, own := x.owners[at], true
		if o == nil { // a node port shows through where an address was
			o, own = x.owners[everywhere(at)], false
		}
		if x.decides(o) {
			search = true
			local = local || !own || at.Addr().IsUnspecified()
		}
		if local {
			break
		}
	}
	return search, local
}

// done says that the search was done.
func (x *index) done() { x.searched = nil }

// rest follows a search, whether it was done or is to go on.
func (x *index) rest(began, ended time.Time) {
	if x.connections() {
		x.rested = ended.Add(searchRest * ended.Sub(began))
		x.due = x.rested
	}
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// everywhere is a port number at all addresses of a family, as node ports have
// it.
func everywhere(at netip.AddrPort) netip.AddrPort {
	if at.Addr().Is4() {
		return netip.AddrPortFrom(netip.IPv4Unspecified(), at.Port())
	}
	return netip.AddrPortFrom(netip.IPv6Unspecified(), at.Port())
}
