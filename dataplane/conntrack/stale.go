package conntrack

import (
	"iter"
	"net/netip"
	"slices"

	"github.com/fairway-lb/fairway/dataplane/service"
)

// Entry is a conntrack entry. Addresses are of one family, and IPv4 ones not
// mapped to IPv6.
type Entry struct {
	Protocol service.Protocol
	// Source and Destination are those of the first packet as it came.
	Source, Destination netip.AddrPort
	// ReplySource and ReplyDestination are those of the answers that are
	// expected. Where the destination was translated, ReplySource is the
	// endpoint, else it is Destination.
	ReplySource, ReplyDestination netip.AddrPort
}

// Stale says which entries are stale after a change: those of UDP that lead
// from a frontend of a service port to something else than one of
// Port.Serving. Traffic policies and topology do not matter to a flow that
// there is already, and a port without endpoints keeps its entries.
type Stale struct {
	families [2]staleFamily
}

type staleFamily struct {
	// owners are the service ports that frontends lead to now. Node ports have
	// the unspecified address.
	owners map[netip.AddrPort]*service.Port
	// nodePorts tells whether there are any among them.
	nodePorts bool
}

// Find returns what is stale after changes that led to the present ports, of
// which it sees those alone that are reached by the same port numbers as
// changed ones. It is enough to ask whom a frontend belongs to now: where it
// belongs to nobody, flows stay as they are; where it gets another Service,
// that one's change tells.
func Find(changes []service.PortChange, ports iter.Seq2[service.PortName, *service.Port]) Stale {
	c := concern{}
	c.add(changes)
	return c.find(ports)
}

// Any tells whether entries of the family can be stale.
func (s *Stale) Any(family service.Family) bool { return len(s.families[family].owners) > 0 }

// NeedsLocal tells whether Has asks for addresses of the node in the family.
func (s *Stale) NeedsLocal(family service.Family) bool { return s.families[family].nodePorts }

// Has tells whether an entry is stale. local are those addresses of the node
// that node ports are served on.
// A node port is no reason to delete a flow that only passes through the node,
// to the same port of somebody else.
func (s *Stale) Has(e Entry, local Addresses) bool {
	if e.Protocol != service.UDP {
		return false
	}
	family := familyOf(e.Destination.Addr())
	f := &s.families[family]
	// An address of its own goes before a node port, as in the dataplane.
	owner := f.owners[e.Destination]
	if owner == nil && f.nodePorts && local.Has(e.Destination.Addr()) {
		owner = f.owners[everywhere(family, e.Destination.Port())]
	}
	if owner == nil || len(owner.Serving) == 0 {
		return false
	}
	_, serving := slices.BinarySearchFunc(owner.Serving, e.ReplySource, netip.AddrPort.Compare)
	return !serving
}

// concern are the port numbers of UDP frontends that changed, each with the
// unspecified address of its family. Numbers are enough: they leave few
// entries to look at, and show which frontends can have been in whose way.
type concern map[netip.AddrPort]struct{}

func (c concern) add(changes []service.PortChange) {
	for i := range changes {
		if changes[i].Name.Protocol != service.UDP {
			continue
		}
		for _, port := range []*service.Port{changes[i].Before, changes[i].After} {
			if port == nil {
				continue
			}
			for _, f := range port.Frontends {
				c[everywhere(changes[i].Name.Family, f.Address.Port())] = struct{}{}
			}
		}
	}
}

func (c concern) find(ports iter.Seq2[service.PortName, *service.Port]) (s Stale) {
	if len(c) == 0 {
		return s
	}
	for name, port := range ports {
		if name.Protocol != service.UDP || port == nil {
			continue
		}
		family := &s.families[name.Family]
		for _, f := range port.Frontends {
			if _, concerned := c[everywhere(name.Family, f.Address.Port())]; !concerned {
				continue
			}
			if family.owners == nil {
				family.owners = map[netip.AddrPort]*service.Port{}
			}
			family.owners[f.Address] = port
			family.nodePorts = family.nodePorts || f.Kind == service.NodePort
		}
	}
	return s
}

// done takes a family out, whose stale entries are deleted.
func (c concern) done(family service.Family) {
	for at := range c {
		if familyOf(at.Addr()) == family {
			delete(c, at)
		}
	}
}

// Addresses is a set of addresses. The zero value is empty.
type Addresses struct {
	single map[netip.Addr]struct{}
	wide   []netip.Prefix
}

// NewAddresses returns the set of all addresses in prefixes.
func NewAddresses(prefixes []netip.Prefix) Addresses {
	a := Addresses{single: make(map[netip.Addr]struct{}, len(prefixes))}
	for _, p := range prefixes {
		if p.IsSingleIP() {
			a.single[p.Addr()] = struct{}{}
		} else if p.IsValid() {
			a.wide = append(a.wide, p.Masked())
		}
	}
	return a
}

// Has tells whether an address is in the set.
func (a Addresses) Has(addr netip.Addr) bool {
	if _, is := a.single[addr]; is {
		return true
	}
	return slices.ContainsFunc(a.wide, func(p netip.Prefix) bool { return p.Contains(addr) })
}

func familyOf(addr netip.Addr) service.Family {
	if addr.Is4() {
		return service.IPv4
	}
	return service.IPv6
}

// everywhere is a port number of all addresses of a family, as node ports have
// it.
func everywhere(family service.Family, port uint16) netip.AddrPort {
	if family == service.IPv4 {
		return netip.AddrPortFrom(netip.IPv4Unspecified(), port)
	}
	return netip.AddrPortFrom(netip.IPv6Unspecified(), port)
}
