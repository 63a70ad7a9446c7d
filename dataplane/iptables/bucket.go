package iptables

import (
	"fmt"
	"net/netip"
	"strconv"

	"github.com/fairway-lb/fairway/dataplane/service"
)

// tree is a way to find the rules of one address, or of one port of the node,
// in steps of at most 16 or 32 rules.
type tree struct {
	root  string // chain that the tree begins at
	short string // in the names of all others
}

var (
	servicesTree  = tree{servicesChain, "AT-"}  // frontends in nat, by address
	nodePortsTree = tree{nodePortsChain, "NP-"} // NodePorts in nat and filter, by port
	hairpinsTree  = tree{hairpinsChain, "HP-"}  // endpoints in nat
	verdictsTree  = tree{verdictsChain, "AT-"}  // frontends in filter
)

// bucket is a chain of a tree. Those of addresses part by 4 bits from the end,
// because those who give addresses count up: cluster IPs, and addresses of a
// pool, differ there. So 4096 chains share all frontends. Ports part by ranges
// of 512 and of 16.
type bucket struct {
	tree     tree
	family   service.Family
	protocol service.Protocol // 0 for addresses
	depth    int              // 0 is the root
	at       uint16           // the bits that all its addresses end with, or the first port
}

const (
	addressDepth = 3
	portDepth    = 2
)

func (t tree) ofAddr(a netip.Addr) bucket {
	b := a.AsSlice()
	at := uint16(b[len(b)-2])<<8 | uint16(b[len(b)-1])
	return bucket{tree: t, family: service.FamilyOf(a), depth: addressDepth, at: at & 0xfff}
}

func (t tree) ofPort(family service.Family, p service.Protocol, port uint16) bucket {
	return bucket{tree: t, family: family, protocol: p, depth: portDepth, at: port &^ (portsAt(portDepth) - 1)}
}

// portsAt is how many ports a bucket has.
func portsAt(depth int) uint16 {
	if depth == portDepth {
		return 16
	}
	return 512
}

// name is that of the chain: digits from the last one of the address on, or
// the first port.
func (b bucket) name() string {
	switch {
	case b.depth == 0:
		return b.tree.root
	case b.protocol != 0:
		return fmt.Sprintf("%s%s%s-%d-%d", prefix, b.tree.short, b.protocol, portsAt(b.depth), b.at)
	}
	name := []byte(prefix + b.tree.short)
	for i := range b.depth {
		name = append(name, "0123456789ABCDEF"[b.at>>(4*i)&0xf])
	}
	return string(name)
}

// parent is the bucket that leads to this one.
func (b bucket) parent() bucket {
	b.depth--
	switch {
	case b.depth == 0:
		b.at = 0
	case b.protocol != 0:
		b.at &^= portsAt(b.depth) - 1
	default:
		b.at &= 1<<(4*b.depth) - 1
	}
	return b
}

// rule is what leads here from the parent.
func (b bucket) rule() string {
	if b.protocol != 0 {
		last := b.at + portsAt(b.depth) - 1
		return ports(b.protocol, strconv.Itoa(int(b.at))+":"+strconv.Itoa(int(last))) + jump(b.name())
	}
	shift := 4 * (b.depth - 1)
	value, mask := b.at&(0xf<<shift), uint16(0xf)<<shift
	return "-d " + lowBits(b.family, value) + "/" + lowBits(b.family, mask) + " " + jump(b.name())
}

// lowBits is an address of those bits.
func lowBits(family service.Family, bits uint16) string {
	if family == service.IPv6 {
		return netip.AddrFrom16([16]byte{14: byte(bits >> 8), 15: byte(bits)}).String()
	}
	return netip.AddrFrom4([4]byte{2: byte(bits >> 8), 3: byte(bits)}).String()
}
