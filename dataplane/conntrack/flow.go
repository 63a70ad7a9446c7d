package conntrack

import (
	"net/netip"

	"github.com/fairway-lb/fairway/dataplane/service"
)

// flow is a conntrack entry. Addresses are of one family, and IPv4 ones not
// mapped to IPv6.
type flow struct {
	protocol service.Protocol
	// source and destination are those of the first packet as it came.
	source, destination netip.AddrPort
	// replySource and replyDestination are those of the answers that are
	// expected. Where the destination was translated, replySource is the
	// endpoint, else it is destination.
	replySource, replyDestination netip.AddrPort
	// answered says that there has been an answer (IPS_SEEN_REPLY).
	answered bool
}

func (f *flow) family() service.Family { return service.FamilyOf(f.destination.Addr()) }

// stale tells whether a flow leads from a frontend that is searched for to
// something else than an endpoint that it may stay at. Traffic policies and
// topology do not matter to a flow that there is already, and a frontend of no
// port any more keeps its flows. local are those addresses of the node that
// node ports are served on: a node port is no reason to delete a flow that only
// passes through the node, to the same port of somebody else.
func (x *index) stale(f *flow, local *addressSet) bool {
	if f.protocol != x.protocol || x.connections() && f.answered {
		return false
	}
	// An address of its own goes before a node port, as in the dataplane.
	at, node := f.destination, everywhere(f.destination)
	o := x.owners[at]
	then, searched := x.searched[at]
	if o == nil && x.nodePorts > 0 {
		if o = x.owners[node]; o != nil && !local.has(at.Addr()) {
			return false
		}
		if !searched {
			then, searched = x.searched[node]
		}
	}
	if !searched || !x.decides(o) {
		return false
	}
	// Where it might stay at that moment has had no time to answer since.
	return !x.keeps(o.port, f.replySource) && (then == nil || !x.keeps(then.port, f.replySource))
}
