package nftables

import (
	"encoding/binary"
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/fairway-lb/fairway/dataplane"
	"github.com/fairway-lb/fairway/dataplane/service"
)

// elementKey says which element of which set. Fields are as the kernel has
// them: each padded to 4 bytes.
type elementKey struct {
	set string
	key string
	end string // the last key of a range, or ""
}

// value is what a map has for a key.
type value struct {
	none     bool // it is in a set
	endpoint string
	class    class   // a chain to go to
	learn    learn   // likewise
	verdict  verdict // if there is neither
}

// verdict is what a rule or an element of a verdict map does.
type verdict struct {
	code  int32
	chain string // for goto and jump
}

// member is the value of what is in a set.
var member = value{none: true}

var (
	dropped = verdict{code: nfDrop}
	refused = verdict{code: unix.NFT_GOTO, chain: refuseChain}
)

const nfDrop = 0 // NF_DROP

func (v verdict) encode(e *encoder) {
	e.nest(unix.NFTA_DATA_VERDICT, func() {
		e.uint32(unix.NFTA_VERDICT_CODE, uint32(v.code))
		if v.chain != "" {
			e.string(unix.NFTA_VERDICT_CHAIN, v.chain)
		}
	})
}

func (v value) encode(e *encoder) {
	switch {
	case v.endpoint != "":
		e.text(unix.NFTA_DATA_VALUE, v.endpoint)
	case v.class != class{}:
		verdict{code: unix.NFT_GOTO, chain: v.class.String()}.encode(e)
	case v.learn != learn{}:
		verdict{code: unix.NFT_GOTO, chain: v.learn.String()}.encode(e)
	default:
		v.verdict.encode(e)
	}
}

// shared tells of which sets several ports may want the same element.
func shared(set string) bool { return set == clusterIPsSet || set == hairpinsSet }

// isSlot tells whether a set has endpoints, which chains choose from by number.
func isSlot(set string) bool {
	switch set {
	case endpointsSet, localEndpointsSet, nodePortEndpointsSet, nodePortLocalEndpointsSet, hashedSet:
		return true
	}
	return false
}

// learned tells of which sets the elements lead to where clients are remembered.
func learned(set string) bool { return set == learnSet || set == nodePortLearnSet }

// elements hands every element of a port to yield, the slots of hashing aside.
func elements(name service.PortName, p *service.Port, number int, config *dataplane.Config, yield func(elementKey, value)) {
	if p == nil {
		return
	}
	for _, f := range p.Frontends {
		frontend := frontendKey(f, name.Protocol)
		services, cluster, local, learns := servicesSet, endpointsSet, localEndpointsSet, learnSet
		if f.Kind == service.NodePort {
			services, cluster, local, learns = nodePortsSet, nodePortEndpointsSet, nodePortLocalEndpointsSet, nodePortLearnSet
		}
		v := decide(f, p)
		hashes := v.class != class{} && hashOf(p) != service.HashNone
		if hashes {
			v.class = v.class.hashing(hashOf(p), number)
		}
		yield(elementKey{set: services, key: frontend}, v)
		if v.class.cluster > 0 && !hashes {
			slots(cluster, frontend, p.Cluster, yield)
		}
		if v.class.local > 0 && !hashes {
			slots(local, frontend, p.Local, yield)
		}
		if v.class.sticky {
			yield(elementKey{set: learns, key: frontend}, value{learn: learn{v.class.nodePort, p.Affinity}})
		}
		switch f.Kind {
		case service.ClusterIP:
			yield(elementKey{set: clusterIPsSet, key: addrKey(f.Address.Addr())}, member)
		case service.LoadBalancer:
			sourceRanges(frontend, f.Address.Addr(), p.SourceRanges, config, yield)
		}
	}
	for _, endpoints := range [][]netip.AddrPort{p.Cluster, p.Local} {
		var last netip.Addr
		for _, e := range endpoints {
			// They are sorted, so that those of one address are together.
			if addr := e.Addr(); addr != last {
				last = addr
				yield(elementKey{set: hairpinsSet, key: addrKey(addr, addr)}, member)
			}
		}
	}
}

// decide returns what happens to connections to a frontend.
func decide(f service.Frontend, p *service.Port) value {
	c := class{nodePort: f.Kind == service.NodePort, sticky: p.Affinity > 0}
	if f.Kind != service.ClusterIP && p.ExternalPolicy == service.Local {
		switch {
		case !p.Usable && len(p.Cluster) == 0 && len(p.Local) == 0:
			return value{verdict: refused}
		case len(p.Cluster) == 0:
			// Topology hints cannot do that: whatever is local is in both.
			return value{verdict: dropped}
		}
		c.behaviour, c.cluster, c.local = externalLocal, len(p.Cluster), len(p.Local)
		return value{class: c}
	}
	endpoints, v := p.Choose(f.Kind)
	switch {
	case v == service.Drop:
		return value{verdict: dropped}
	case v == service.Reject:
		return value{verdict: refused}
	case f.Kind != service.ClusterIP:
		c.behaviour, c.cluster = external, len(endpoints)
	case p.InternalPolicy == service.Local:
		c.behaviour, c.local = internalLocal, len(endpoints)
	default:
		c.behaviour, c.cluster = internal, len(endpoints)
	}
	return value{class: c}
}

// slots numbers the endpoints of a frontend, for a class to draw from.
func slots(set, frontend string, endpoints []netip.AddrPort, yield func(elementKey, value)) {
	for i, e := range endpoints {
		key := append(make([]byte, 0, maxKey), frontend...)
		key = binary.NativeEndian.AppendUint32(key, uint32(i))
		yield(elementKey{set: set, key: string(key)}, value{endpoint: endpointData(e)})
	}
}

// sourceRanges are those that may use a load-balancer address.
func sourceRanges(frontend string, vip netip.Addr, ranges []netip.Prefix, config *dataplane.Config, yield func(elementKey, value)) {
	if len(ranges) == 0 {
		return
	}
	yield(elementKey{set: restrictedSet, key: frontend}, member)
	var also []netip.Addr
	for _, r := range ranges {
		for _, a := range config.NodeAddresses {
			if r.Contains(a) {
				also = []netip.Addr{vip}
			}
		}
	}
	for _, r := range rangesOf(service.FamilyOf(vip), ranges, also...) {
		yield(elementKey{set: allowedSet, key: frontend + addrKey(r.From()), end: frontend + addrKey(r.To())}, member)
	}
}

// frontendKey is address, protocol and port, or for a NodePort the last two.
func frontendKey(f service.Frontend, protocol service.Protocol) string {
	key := make([]byte, 0, maxKey)
	if f.Kind != service.NodePort {
		key = appendAddr(key, f.Address.Addr())
	}
	key = append(key, byte(protocol), 0, 0, 0)
	key = binary.BigEndian.AppendUint16(key, f.Address.Port())
	return string(append(key, 0, 0))
}

// maxKey is as many bytes as most keys have at most.
const maxKey = 32

func addrKey(addrs ...netip.Addr) string {
	key := make([]byte, 0, maxKey)
	for _, a := range addrs {
		key = appendAddr(key, a)
	}
	return string(key)
}

func endpointData(e netip.AddrPort) string {
	data := appendAddr(make([]byte, 0, maxKey), e.Addr())
	data = binary.BigEndian.AppendUint16(data, e.Port())
	return string(append(data, 0, 0))
}

func appendAddr(b []byte, addr netip.Addr) []byte {
	if addr.Is4() {
		four := addr.As4()
		return append(b, four[:]...)
	}
	sixteen := addr.As16()
	return append(b, sixteen[:]...)
}

func addrLen(family service.Family) uint32 {
	if family == service.IPv6 {
		return 16
	}
	return 4
}
