package bgp

import (
	"cmp"
	"net/netip"
)

// transport is the TCP connection of a session.
func (d *draft) transport() *problem {
	p := &d.peer
	p.Port = DefaultListenPort
	t := d.obj.Spec.Transport
	if t == nil {
		return nil
	}
	if t.RemotePort > 65535 {
		return problemf(ReasonTransportInvalid, "spec.transport.remotePort %d is no TCP port: set one from 1 to 65535", t.RemotePort)
	}
	if t.RemotePort > 0 {
		p.Port = uint16(t.RemotePort)
	}
	if t.TCPMSS > 65535 {
		return problemf(ReasonTransportInvalid, "spec.transport.tcpMss %d is too large: set at most 65535 bytes", t.TCPMSS)
	}
	p.TCPMSS = uint16(t.TCPMSS)
	p.Passive = t.PassiveMode
	p.MTUDiscovery = t.MtuDiscovery
	if t.MtuDiscovery {
		d.about.remarkf("spec.transport.mtuDiscovery has no effect, the node's kernel decides on path MTU discovery")
	}
	if refused := d.localAddress(t.LocalAddress); refused != nil {
		return refused
	}
	return d.remoteAddress(t.RemoteAddress)
}

func (d *draft) localAddress(text string) *problem {
	if text == "" {
		return nil
	}
	addr, err := netip.ParseAddr(text)
	if err == nil {
		addr = addr.Unmap()
	}
	switch {
	case err != nil, addr.IsMulticast():
		return problemf(ReasonTransportInvalid, "spec.transport.localAddress %q is not an IP address of a node: correct it, or leave it out to use the one that the node's routes choose", text)
	case addr.IsUnspecified():
		return nil // as if it were absent
	case addr.Is6() != d.overIPv6():
		return problemf(ReasonTransportInvalid, "spec.transport.localAddress %s is not of the neighbor's address family: correct it, or leave it out to use the one that the node's routes choose", addr)
	}
	d.peer.LocalAddress = addr
	return nil
}

// remoteAddress refuses to connect elsewhere than to the neighbor, which GoBGP
// cannot.
func (d *draft) remoteAddress(text string) *problem {
	if text == "" {
		return nil
	}
	addr, err := netip.ParseAddr(text)
	if err == nil && addr.Unmap() == d.peer.Address {
		return nil
	}
	return problemf(ReasonUnsupported, "spec.transport.remoteAddress %q differs from the neighbor, which is not supported: remove it, and set spec.conf.neighborAddress to the address to connect to", text)
}

// listener refuses a session that could never come up, or would lead back to
// the node's own router.
func (d *draft) listener() *problem {
	p, r := &d.peer, d.router
	if p.Passive {
		if r.ListenPort < 0 {
			return problemf(ReasonNotListening, "spec.transport.passiveMode leaves it to the neighbor to connect, but the node accepts no sessions: set BgpConf's listenPort, or remove passiveMode")
		}
		return nil
	}
	own := p.Address.IsLoopback() || (p.Address.IsValid() && (p.Address == d.in.Node.Addr4 || p.Address == d.in.Node.Addr6))
	if own && r.ListenPort == int32(p.Port) && r.listensOn(p.Address) {
		return problemf(ReasonNeighborIsSelf, "spec.conf.neighborAddress %s with port %d is the node's own BGP router: set spec.transport.remotePort to that of the other router on the node, or leave the node out with spec.nodeSelector", p.Address, p.Port)
	}
	return nil
}

// listensOn says whether sessions to one of the node's addresses are accepted.
func (r *Router) listensOn(addr netip.Addr) bool {
	for _, l := range r.ListenAddresses {
		if l == addr || (l.IsUnspecified() && l.Is6() == addr.Is6()) {
			return true
		}
	}
	return len(r.ListenAddresses) == 0
}

// overIPv6 says whether the session's TCP connection is over IPv6.
func (d *draft) overIPv6() bool {
	return d.peer.Interface != "" || d.peer.Address.Is6()
}

// distance is how many hops away the neighbor may be.
func (d *draft) distance() *problem {
	multihop, security := d.obj.Spec.EbgpMultihop, d.obj.Spec.TTLSecurity
	far := multihop != nil && multihop.Enabled
	near := security != nil && security.Enabled
	switch {
	case far && near:
		return problemf(ReasonTTLInvalid, "spec.ebgpMultihop and spec.ttlSecurity exclude each other: for a neighbor several hops away set ttlSecurity.ttlMin alone, else remove one of them")
	case far && multihop.MultihopTTL > 255:
		return problemf(ReasonTTLInvalid, "spec.ebgpMultihop.multihopTtl %d is no IP TTL: set one from 1 to 255", multihop.MultihopTTL)
	case near && security.TTLMin > 255:
		return problemf(ReasonTTLInvalid, "spec.ttlSecurity.ttlMin %d is no IP TTL: set one from 1 to 255", security.TTLMin)
	case far:
		d.peer.MultihopTTL = cmp.Or(uint8(multihop.MultihopTTL), 255)
	case near:
		d.peer.MinTTL = cmp.Or(uint8(security.TTLMin), 255)
	}
	return nil
}
