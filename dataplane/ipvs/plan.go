package ipvs

import (
	"net/netip"

	"github.com/fairway-lb/fairway/dataplane"
	"github.com/fairway-lb/fairway/dataplane/service"
)

// virtualKey names a virtual service.
type virtualKey struct {
	protocol service.Protocol
	// address is the frontend's. That of a NodePort within the node has the
	// unspecified address, for all of the node's.
	address netip.AddrPort
	// within is for what comes from within the node, where that goes elsewhere
	// than the rest. IPVS finds it by the packet's mark.
	within bool
	// orphan is the mark of one whose frontend nobody knows.
	orphan uint32
}

// orphan returns the key of a virtual service of which only the mark is known.
func orphan(family service.Family, mark uint32) virtualKey {
	addr := netip.IPv4Unspecified()
	if family == service.IPv6 {
		addr = netip.IPv6Unspecified()
	}
	return virtualKey{address: netip.AddrPortFrom(addr, 0), orphan: mark}
}

func (k virtualKey) family() service.Family { return service.FamilyOf(k.address.Addr()) }

// byMark tells whether IPVS finds it by mark.
func (k virtualKey) byMark() bool { return k.within || k.orphan != 0 }

// graceful tells whether flows may outlast their endpoint. Those of UDP have no
// end that could be waited for.
func (k virtualKey) graceful() bool { return k.protocol != service.UDP }

// spec is what a virtual service is but for its endpoints.
type spec struct {
	scheduler scheduler
	timeout   uint32 // of session affinity, in seconds
}

func (s spec) flags() uint32 {
	if s.timeout > 0 {
		return s.scheduler.flags | flagPersistent
	}
	return s.scheduler.flags
}

// virtual is a virtual service as it is to be.
type virtual struct {
	spec
	owner   service.PortName
	weights map[netip.AddrPort]int // by endpoint
	serving []netip.AddrPort       // that flows of UDP may stay at
}

// entryKey is an element of a set. Its address says of which family's.
type entryKey struct {
	set      setKind
	addr     netip.Addr
	protocol service.Protocol
	port     uint16
	source   netip.Prefix // of allowedSet, hairpinsSet
}

// plan is all that a port wants in the kernel.
type plan struct {
	entries   map[entryKey]virtualKey // the value is that of withinSet
	virtuals  map[virtualKey]*virtual
	addresses map[netip.Addr]struct{}
}

// planner is what plans depend on besides the port.
type planner struct {
	config    dataplane.Config
	options   Options
	families  []service.Family // that are served
	nodePorts [2][]netip.Addr  // by family, where NodePorts answer
}

// plan decides what becomes of a port's traffic.
func (l *planner) plan(name service.PortName, p *service.Port) *plan {
	n := &plan{map[entryKey]virtualKey{}, map[virtualKey]*virtual{}, map[netip.Addr]struct{}{}}
	for _, f := range p.Frontends {
		if f.Kind == service.NodePort {
			for _, addr := range l.nodePorts[name.Family] {
				l.frontend(n, name, p, f, netip.AddrPortFrom(addr, f.Address.Port()))
			}
			continue
		}
		l.frontend(n, name, p, f, f.Address)
		n.addresses[f.Address.Addr()] = struct{}{}
	}
	for _, endpoints := range [][]netip.AddrPort{p.Cluster, p.Local} {
		for _, e := range endpoints {
			itself := netip.PrefixFrom(e.Addr(), e.Addr().BitLen())
			n.entries[entryKey{hairpinsSet, e.Addr(), name.Protocol, e.Port(), itself}] = virtualKey{}
		}
	}
	return n
}

// frontend decides for one address and port.
func (l *planner) frontend(n *plan, name service.PortName, p *service.Port, f service.Frontend, at netip.AddrPort) {
	key := virtualKey{protocol: name.Protocol, address: at}
	into := func(set setKind) {
		n.entries[entryKey{set: set, addr: at.Addr(), protocol: name.Protocol, port: at.Port()}] = virtualKey{}
	}
	endpoints, verdict := p.Choose(f.Kind)
	if f.Kind == service.LoadBalancer {
		l.sourceRanges(n, name, p, at)
	}
	if f.Kind != service.ClusterIP && p.ExternalPolicy == service.Local {
		switch {
		case len(p.Cluster) > 0:
			// What comes from this node goes by policy Cluster, as if it had
			// left the node and come back by another.
			within := virtualKey{protocol: name.Protocol, address: f.Address, within: true}
			n.entries[entryKey{set: withinSet, addr: at.Addr(), protocol: name.Protocol, port: at.Port()}] = within
			n.virtuals[within] = l.virtual(name, p, p.Cluster, true)
			if verdict != service.Forward {
				into(externalDropSet)
				return
			}
		case p.Usable || len(p.Local) > 0:
			// Topology hints cannot do that: whatever is local is in both.
			verdict = service.Drop
		}
	}
	switch verdict {
	case service.Drop:
		into(dropSet)
	case service.Reject:
		into(rejectSet)
	case service.Forward:
		v := l.virtual(name, p, endpoints, false)
		n.virtuals[key] = v
		switch {
		case f.Kind == service.ClusterIP:
			into(clusterIPsSet)
		case p.ExternalPolicy == service.Cluster:
			into(masqueradeSet)
		default:
			// IPVS remembers a flow longer than conntrack does. To an endpoint
			// elsewhere it would go on without a translated source.
			v.serving = nil
		}
	}
}

func (l *planner) virtual(name service.PortName, p *service.Port, endpoints []netip.AddrPort, within bool) *virtual {
	v := &virtual{spec: spec{scheduler: l.options.schedulerOf(p)}, owner: name, weights: make(map[netip.AddrPort]int, len(endpoints)), serving: p.Serving}
	if p.Affinity > 0 {
		v.timeout = uint32(p.Affinity.Seconds())
		if within {
			// A persistent virtual service that is found by mark does not
			// translate ports. A hash has clients stay as well.
			v.spec = spec{scheduler: newScheduler("mh", false)}
		}
	}
	for _, e := range endpoints {
		v.weights[e] = p.Weight(e)
	}
	return v
}

// sourceRanges restricts a load-balancer address to clients.
func (l *planner) sourceRanges(n *plan, name service.PortName, p *service.Port, at netip.AddrPort) {
	if len(p.SourceRanges) == 0 {
		return
	}
	key := entryKey{set: restrictedSet, addr: at.Addr(), protocol: name.Protocol, port: at.Port()}
	n.entries[key] = virtualKey{}
	key.set = allowedSet
	node := false
	for _, r := range p.SourceRanges {
		for _, half := range halves(r) {
			key.source = half
			n.entries[key] = virtualKey{}
		}
		for _, addr := range l.config.NodeAddresses {
			node = node || r.Contains(addr)
		}
	}
	if node {
		// Processes of the node have the address itself as source.
		key.source = netip.PrefixFrom(at.Addr(), at.Addr().BitLen())
		n.entries[key] = virtualKey{}
	}
}

// halves returns the prefix, or two that together are the one that a set does
// not take, of length 0.
func halves(p netip.Prefix) []netip.Prefix {
	if p.Bits() > 0 {
		return []netip.Prefix{p.Masked()}
	}
	high := p.Addr().AsSlice()
	clear(high)
	low, _ := netip.AddrFromSlice(high)
	high[0] = 0x80
	upper, _ := netip.AddrFromSlice(high)
	return []netip.Prefix{netip.PrefixFrom(low, 1), netip.PrefixFrom(upper, 1)}
}
