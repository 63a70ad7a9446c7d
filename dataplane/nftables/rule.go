package nftables

import (
	"encoding/binary"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fairway-lb/fairway/dataplane/service"
)

// Registers of 4 bytes. A key of several fields is in consecutive ones.
const reg0 = unix.NFT_REG32_00

const (
	ipsDstNAT = 1 << 5 // IPS_DST_NAT, a bit of ct status
	natRandom = 1 << 4 // NF_NAT_RANGE_PROTO_RANDOM_FULLY

	// NF_CT_STATE_BIT of IP_CT_ESTABLISHED, IP_CT_RELATED and IP_CT_NEW
	ctStateEstablished = 1 << 1
	ctStateRelated     = 1 << 2
	ctStateNew         = 1 << 3
)

// Where addresses are in a header of IPv4.
const (
	source      = 12
	destination = 16
)

// rule is the expressions of a rule, in the forms that nft 1.0.6 can list: it
// crashes on others that the kernel would take.
type rule struct {
	family service.Family
	batch  *batch // takes the anonymous sets
	encoder
}

// width is how many registers an address takes.
func (r *rule) width() uint32 { return addrLen(r.family) / 4 }

func (r *rule) expr(name string, f func()) *rule {
	r.nest(unix.NFTA_LIST_ELEM, func() {
		r.string(unix.NFTA_EXPR_NAME, name)
		r.nest(unix.NFTA_EXPR_DATA, f)
	})
	return r
}

func (r *rule) value(kind uint16, data []byte) {
	r.nest(kind, func() { r.bytes(unix.NFTA_DATA_VALUE, data) })
}

func (r *rule) payload(base, offset, length, reg uint32) *rule {
	return r.expr("payload", func() {
		r.uint32(unix.NFTA_PAYLOAD_DREG, reg)
		r.uint32(unix.NFTA_PAYLOAD_BASE, base)
		r.uint32(unix.NFTA_PAYLOAD_OFFSET, offset)
		r.uint32(unix.NFTA_PAYLOAD_LEN, length)
	})
}

func (r *rule) saddr(reg uint32) *rule {
	offset := uint32(12)
	if r.family == service.IPv6 {
		offset = 8
	}
	return r.payload(unix.NFT_PAYLOAD_NETWORK_HEADER, offset, addrLen(r.family), reg)
}

func (r *rule) daddr(reg uint32) *rule {
	offset := uint32(16)
	if r.family == service.IPv6 {
		offset = 24
	}
	return r.payload(unix.NFT_PAYLOAD_NETWORK_HEADER, offset, addrLen(r.family), reg)
}

func (r *rule) sport(reg uint32) *rule {
	return r.payload(unix.NFT_PAYLOAD_TRANSPORT_HEADER, 0, 2, reg)
}

func (r *rule) dport(reg uint32) *rule {
	return r.payload(unix.NFT_PAYLOAD_TRANSPORT_HEADER, 2, 2, reg)
}

func (r *rule) meta(key, reg uint32) *rule {
	return r.expr("meta", func() {
		r.uint32(unix.NFTA_META_DREG, reg)
		r.uint32(unix.NFTA_META_KEY, key)
	})
}

func (r *rule) l4proto(reg uint32) *rule { return r.meta(unix.NFT_META_L4PROTO, reg) }

func (r *rule) cmp(op, reg uint32, data []byte) *rule {
	return r.expr("cmp", func() {
		r.uint32(unix.NFTA_CMP_SREG, reg)
		r.uint32(unix.NFTA_CMP_OP, op)
		r.value(unix.NFTA_CMP_DATA, data)
	})
}

func (r *rule) bitwise(mask, xor uint32) *rule {
	return r.expr("bitwise", func() {
		r.uint32(unix.NFTA_BITWISE_SREG, reg0)
		r.uint32(unix.NFTA_BITWISE_DREG, reg0)
		r.uint32(unix.NFTA_BITWISE_LEN, 4)
		r.value(unix.NFTA_BITWISE_MASK, native(mask))
		r.value(unix.NFTA_BITWISE_XOR, native(xor))
	})
}

// bits goes on if any of the bits in the register is set.
func (r *rule) bits(mask uint32) *rule {
	return r.bitwise(mask, 0).cmp(unix.NFT_CMP_NEQ, reg0, native(0))
}

// noBits goes on if none of them is.
func (r *rule) noBits(mask uint32) *rule {
	return r.bitwise(mask, 0).cmp(unix.NFT_CMP_EQ, reg0, native(0))
}

// loopback goes on if an address of a packet of IPv4 is in 127.0.0.0/8.
func (r *rule) loopback(end uint32) *rule {
	return r.payload(unix.NFT_PAYLOAD_NETWORK_HEADER, end, 1, reg0).cmp(unix.NFT_CMP_EQ, reg0, []byte{127})
}

// notLink goes on if a packet came by another link.
func (r *rule) notLink(name string) *rule {
	whole := make([]byte, unix.IFNAMSIZ)
	copy(whole, name)
	return r.meta(unix.NFT_META_IIFNAME, reg0).cmp(unix.NFT_CMP_NEQ, reg0, whole)
}

// mark sets a bit of the packet's mark.
func (r *rule) mark(bit uint32) *rule {
	return r.meta(unix.NFT_META_MARK, reg0).bitwise(^bit, bit).setMark()
}

// unmark goes on if the bit of the packet's mark is set, and clears it.
func (r *rule) unmark(bit uint32) *rule {
	r.meta(unix.NFT_META_MARK, reg0).bitwise(bit, 0).cmp(unix.NFT_CMP_EQ, reg0, native(bit))
	return r.meta(unix.NFT_META_MARK, reg0).bitwise(^uint32(0), bit).setMark()
}

func (r *rule) setMark() *rule {
	return r.expr("meta", func() {
		r.uint32(unix.NFTA_META_KEY, unix.NFT_META_MARK)
		r.uint32(unix.NFTA_META_SREG, reg0)
	})
}

// in goes on if the registers are in a set.
func (r *rule) in(set string) *rule { return r.lookup(set, 0) }

func (r *rule) notIn(set string) *rule { return r.lookup(set, unix.NFT_LOOKUP_F_INV) }

func (r *rule) lookup(set string, flags uint32) *rule {
	return r.expr("lookup", func() {
		r.string(unix.NFTA_LOOKUP_SET, set)
		r.uint32(unix.NFTA_LOOKUP_SREG, reg0)
		if flags != 0 {
			r.uint32(unix.NFTA_LOOKUP_FLAGS, flags)
		}
	})
}

// find loads what a map has of the registers into the same registers.
func (r *rule) find(set string) *rule { return r.findInto(set, reg0) }

// vmap does what a verdict map says.
func (r *rule) vmap(set string) *rule { return r.findInto(set, unix.NFT_REG_VERDICT) }

func (r *rule) findInto(set string, reg uint32) *rule {
	return r.expr("lookup", func() {
		r.string(unix.NFTA_LOOKUP_SET, set)
		r.uint32(unix.NFTA_LOOKUP_SREG, reg0)
		r.uint32(unix.NFTA_LOOKUP_DREG, reg)
	})
}

// protocols goes on if the packet has ports. Without it nft does not accept
// what it lists of dnat.
func (r *rule) protocols() *rule {
	id := r.batch.protocols(r.family)
	return r.l4proto(reg0).expr("lookup", func() {
		r.string(unix.NFTA_LOOKUP_SET, anonymous)
		r.uint32(unix.NFTA_LOOKUP_SREG, reg0)
		r.uint32(unix.NFTA_LOOKUP_SET_ID, id)
	})
}

func (r *rule) draw(count int, reg uint32) *rule {
	return r.expr("numgen", func() {
		r.uint32(unix.NFTA_NG_DREG, reg)
		r.uint32(unix.NFTA_NG_MODULUS, uint32(count))
		r.uint32(unix.NFTA_NG_TYPE, unix.NFT_NG_RANDOM)
	})
}

// hash loads a number from offset on that follows from who sent the packet.
func (r *rule) hash(by service.Hash, offset uint32) *rule {
	from, length := uint32(reg0+1), addrLen(r.family)
	r.saddr(from)
	if by == service.HashSourcePort {
		r.sport(from + r.width())
		length += 4
	}
	return r.expr("hash", func() {
		r.uint32(unix.NFTA_HASH_SREG, from)
		r.uint32(unix.NFTA_HASH_DREG, reg0)
		r.uint32(unix.NFTA_HASH_LEN, length)
		r.uint32(unix.NFTA_HASH_MODULUS, tableSize)
		r.uint32(unix.NFTA_HASH_SEED, hashSeed)
		r.uint32(unix.NFTA_HASH_OFFSET, offset)
		r.uint32(unix.NFTA_HASH_TYPE, unix.NFT_HASH_JENKINS)
	})
}

// fib loads the type of an address: of the destination or the source.
func (r *rule) fib(which uint32) *rule {
	return r.expr("fib", func() {
		r.uint32(unix.NFTA_FIB_DREG, reg0)
		r.uint32(unix.NFTA_FIB_RESULT, unix.NFT_FIB_RESULT_ADDRTYPE)
		r.uint32(unix.NFTA_FIB_FLAGS, which)
	}).cmp(unix.NFT_CMP_EQ, reg0, native(unix.RTN_LOCAL))
}

func (r *rule) ct(key, reg uint32) *rule {
	return r.expr("ct", func() {
		r.uint32(unix.NFTA_CT_DREG, reg)
		r.uint32(unix.NFTA_CT_KEY, key)
	})
}

// original loads a field of the first packet of the connection.
func (r *rule) original(key, reg uint32) *rule {
	return r.expr("ct", func() {
		r.uint32(unix.NFTA_CT_DREG, reg)
		r.uint32(unix.NFTA_CT_KEY, key)
		r.bytes(unix.NFTA_CT_DIRECTION, []byte{0})
	})
}

func (r *rule) originalDaddr(reg uint32) *rule {
	if r.family == service.IPv6 {
		return r.original(unix.NFT_CT_DST_IP6, reg)
	}
	return r.original(unix.NFT_CT_DST_IP, reg)
}

func (r *rule) originalDport(reg uint32) *rule {
	return r.original(unix.NFT_CT_PROTO_DST, reg)
}

// dnat takes the address and the port from the registers.
func (r *rule) dnat() *rule {
	return r.expr("nat", func() {
		r.uint32(unix.NFTA_NAT_TYPE, unix.NFT_NAT_DNAT)
		r.uint32(unix.NFTA_NAT_FAMILY, uint32(netfilterFamily(r.family)))
		r.uint32(unix.NFTA_NAT_REG_ADDR_MIN, reg0)
		r.uint32(unix.NFTA_NAT_REG_PROTO_MIN, reg0+r.width())
	})
}

func (r *rule) masquerade() *rule {
	return r.expr("masq", func() { r.uint32(unix.NFTA_MASQ_FLAGS, natRandom) })
}

// update puts a client's endpoint into a map, or prolongs it there.
func (r *rule) update(set string, key, data uint32, timeout time.Duration) *rule {
	return r.expr("dynset", func() {
		r.string(unix.NFTA_DYNSET_SET_NAME, set)
		r.uint32(unix.NFTA_DYNSET_OP, unix.NFT_DYNSET_OP_UPDATE)
		r.uint32(unix.NFTA_DYNSET_SREG_KEY, key)
		r.uint32(unix.NFTA_DYNSET_SREG_DATA, data)
		r.uint64(unix.NFTA_DYNSET_TIMEOUT, uint64(timeout.Milliseconds()))
	})
}

func (r *rule) reject(kind uint32, code byte) *rule {
	return r.expr("reject", func() {
		r.uint32(unix.NFTA_REJECT_TYPE, kind)
		r.bytes(unix.NFTA_REJECT_ICMP_CODE, []byte{code})
	})
}

func (r *rule) verdict(v verdict) *rule {
	return r.expr("immediate", func() {
		r.uint32(unix.NFTA_IMMEDIATE_DREG, unix.NFT_REG_VERDICT)
		r.nest(unix.NFTA_IMMEDIATE_DATA, func() { v.encode(&r.encoder) })
	})
}

func native(v uint32) []byte { return binary.NativeEndian.AppendUint32(nil, v) }
