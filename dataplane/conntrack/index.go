package conntrack

import (
	"net/netip"

	"github.com/fairway-lb/fairway/dataplane/service"
)

// index says which UDP service port a frontend of one family leads to, and
// which frontends have to be looked at since a search of the kernel's table
// was done. It is kept up by changes, each at the cost of its own frontends.
type index struct {
	// owners are by frontend. Node ports have the unspecified address.
	owners    map[netip.AddrPort]*owner
	nodePorts int // among them
	// changed are the frontends that changed ports have or had; all stands for
	// every one.
	changed map[netip.AddrPort]struct{}
	all     bool
}

// owner is a service port.
type owner struct {
	name    service.PortName
	serving []netip.AddrPort // sorted
}

// take follows a change. What a port had goes only where another does not have
// it by now, so that the order of changes does not matter.
func (x *index) take(change *service.PortChange) {
	if change.Before != nil {
		for _, f := range change.Before.Frontends {
			if o := x.owners[f.Address]; o != nil && o.name == change.Name {
				x.remove(f.Address)
			}
			x.touch(f.Address)
		}
	}
	if change.After != nil {
		o := &owner{change.Name, change.After.Serving}
		for _, f := range change.After.Frontends {
			x.set(f.Address, o)
			x.touch(f.Address)
		}
	}
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

func (x *index) touch(at netip.AddrPort) {
	if x.all {
		return
	}
	if x.changed == nil {
		x.changed = map[netip.AddrPort]struct{}{}
	}
	x.changed[at] = struct{}{}
}

// concerns tells whether a frontend has to be looked at.
func (x *index) concerns(at netip.AddrPort) bool {
	_, changed := x.changed[at]
	return x.all || changed
}

// needs tells whether any entry can be stale, and whether that takes to know
// the node's own addresses.
func (x *index) needs() (search, local bool) {
	if x.all {
		return len(x.owners) > 0, x.nodePorts > 0
	}
	for at := range x.changed {
		o, own := x.owners[at], true
		if o == nil { // a node port shows through where an address was
			o, own = x.owners[everywhere(at)], false
		}
		if o != nil && len(o.serving) > 0 {
			search = true
			local = local || !own || at.Addr().IsUnspecified()
		}
	}
	return search, local
}

// done says that what changed was looked at.
func (x *index) done() { x.changed, x.all = nil, false }

// everywhere is a port number at all addresses of a family, as node ports have
// it.
func everywhere(at netip.AddrPort) netip.AddrPort {
	if at.Addr().Is4() {
		return netip.AddrPortFrom(netip.IPv4Unspecified(), at.Port())
	}
	return netip.AddrPortFrom(netip.IPv6Unspecified(), at.Port())
}
