package conntrack

import (
	"net/netip"
	"slices"

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
}

func (f *flow) family() service.Family { return service.FamilyOf(f.destination.Addr()) }

// stale tells whether a flow leads from a frontend that has to be looked at to
// something else than an endpoint that it may stay at. Traffic policies and
// topology do not matter to a flow that there is already, and a frontend
// without endpoints, or of no port any more, keeps its flows. local are those
// addresses of the node that node ports are served on: a node port is no
// reason to delete a flow that only passes through the node, to the same port
// of somebody else.
func (x *index) stale(f *flow, local *addressSet) bool {
	if f.protocol != service.UDP {
		return false
	}
	// An address of its own goes before a node port, as in the dataplane. Which
	// of them changed does not matter: one shows where the other goes.
	at, node := f.destination, everywhere(f.destination)
	o := x.owners[at]
	if o == nil && x.nodePorts > 0 {
		if o = x.owners[node]; o != nil && !local.has(at.Addr()) {
			return false
		}
	}
	if o == nil || len(o.serving) == 0 || !x.concerns(at) && !x.concerns(node) {
		return false
	}
	_, serves := slices.BinarySearchFunc(o.serving, f.replySource, netip.AddrPort.Compare)
	return !serves
}
