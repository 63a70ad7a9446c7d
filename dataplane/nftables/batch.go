package nftables

import (
	"encoding/binary"

	"github.com/mdlayher/netlink"
	"go4.org/netipx"
	"golang.org/x/sys/unix"

	"github.com/fairway-lb/fairway/dataplane/service"
)

// anonymous is the name that the kernel replaces by one of its own.
const anonymous = "__set%d"

// maxElements bounds the elements of a message, as bytes: the length of an
// attribute is a number of 16 bits.
const maxElements = 60000

// Numbers of nf_tables that golang.org/x/sys does not have.
const (
	setConcat       = 0x80 // NFT_SET_CONCAT
	setDescConcat   = 2    // NFTA_SET_DESC_CONCAT
	setFieldLen     = 1    // NFTA_SET_FIELD_LEN
	elementKeyEnd   = 10   // NFTA_SET_ELEM_KEY_END
	tableOwner      = 2    // NFT_TABLE_F_OWNER
	verdictDataType = 0xffffff00
)

// batch is the messages of one transaction.
type batch struct {
	table    string
	messages []netlink.Message
	elements int // deleted or added
	sets     uint32
}

func newBatch() *batch { return &batch{table: tableName} }

func netfilterFamily(f service.Family) byte {
	if f == service.IPv6 {
		return unix.NFPROTO_IPV6
	}
	return unix.NFPROTO_IPV4
}

func (b *batch) add(kind uint16, flags netlink.HeaderFlags, family service.Family, attributes encoder) {
	b.messages = append(b.messages, netlink.Message{
		Header: netlink.Header{
			Type:  netlink.HeaderType(unix.NFNL_SUBSYS_NFTABLES<<8 | kind),
			Flags: netlink.Request | flags,
		},
		Data: append([]byte{netfilterFamily(family), unix.NFNETLINK_V0, 0, 0}, attributes...),
	})
}

func (b *batch) addTable(family service.Family) {
	var e encoder
	e.string(unix.NFTA_TABLE_NAME, b.table)
	b.add(unix.NFT_MSG_NEWTABLE, netlink.Create, family, e)
}

func (b *batch) deleteTable(family service.Family) {
	var e encoder
	e.string(unix.NFTA_TABLE_NAME, b.table)
	b.add(unix.NFT_MSG_DELTABLE, 0, family, e)
}

func (b *batch) addChain(family service.Family, name string) {
	var e encoder
	e.string(unix.NFTA_CHAIN_TABLE, b.table)
	e.string(unix.NFTA_CHAIN_NAME, name)
	b.add(unix.NFT_MSG_NEWCHAIN, netlink.Create|netlink.Excl, family, e)
}

func (b *batch) addBaseChain(family service.Family, name, kind string, hook uint32, priority int32) {
	var e encoder
	e.string(unix.NFTA_CHAIN_TABLE, b.table)
	e.string(unix.NFTA_CHAIN_NAME, name)
	e.nest(unix.NFTA_CHAIN_HOOK, func() {
		e.uint32(unix.NFTA_HOOK_HOOKNUM, hook)
		e.uint32(unix.NFTA_HOOK_PRIORITY, uint32(priority))
	})
	e.uint32(unix.NFTA_CHAIN_POLICY, 1) // NF_ACCEPT
	e.string(unix.NFTA_CHAIN_TYPE, kind)
	b.add(unix.NFT_MSG_NEWCHAIN, netlink.Create|netlink.Excl, family, e)
}

// deleteChain removes a chain with its rules. Nothing may lead to it.
func (b *batch) deleteChain(family service.Family, name string) {
	var e encoder
	e.string(unix.NFTA_RULE_TABLE, b.table)
	e.string(unix.NFTA_RULE_CHAIN, name)
	b.add(unix.NFT_MSG_DELRULE, 0, family, e)
	e = nil
	e.string(unix.NFTA_CHAIN_TABLE, b.table)
	e.string(unix.NFTA_CHAIN_NAME, name)
	b.add(unix.NFT_MSG_DELCHAIN, 0, family, e)
}

func (b *batch) rule(family service.Family) *rule { return &rule{family: family, batch: b} }

func (b *batch) addRule(chain string, r *rule) {
	var e encoder
	e.string(unix.NFTA_RULE_TABLE, b.table)
	e.string(unix.NFTA_RULE_CHAIN, chain)
	e.bytes(unix.NFTA_RULE_EXPRESSIONS|unix.NLA_F_NESTED, r.encoder)
	b.add(unix.NFT_MSG_NEWRULE, netlink.Create|netlink.Append, r.family, e)
}

// protocols makes the anonymous set of the protocols that have ports, and
// returns its number in the batch.
func (b *batch) protocols(family service.Family) uint32 {
	b.sets++
	var e encoder
	e.string(unix.NFTA_SET_TABLE, b.table)
	e.string(unix.NFTA_SET_NAME, anonymous)
	e.uint32(unix.NFTA_SET_FLAGS, unix.NFT_SET_ANONYMOUS|unix.NFT_SET_CONSTANT)
	e.uint32(unix.NFTA_SET_KEY_TYPE, typeProtocol)
	e.uint32(unix.NFTA_SET_KEY_LEN, 1)
	e.uint32(unix.NFTA_SET_ID, b.sets)
	e.nest(unix.NFTA_SET_DESC, func() { e.uint32(unix.NFTA_SET_DESC_SIZE, 3) })
	b.add(unix.NFT_MSG_NEWSET, netlink.Create, family, e)
	e = nil
	e.string(unix.NFTA_SET_ELEM_LIST_TABLE, b.table)
	e.string(unix.NFTA_SET_ELEM_LIST_SET, anonymous)
	e.uint32(unix.NFTA_SET_ELEM_LIST_SET_ID, b.sets)
	e.nest(unix.NFTA_SET_ELEM_LIST_ELEMENTS, func() {
		for _, p := range []service.Protocol{service.TCP, service.UDP, service.SCTP} {
			e.nest(unix.NFTA_LIST_ELEM, func() {
				e.nest(unix.NFTA_SET_ELEM_KEY, func() { e.bytes(unix.NFTA_DATA_VALUE, []byte{byte(p)}) })
			})
		}
	})
	b.add(unix.NFT_MSG_NEWSETELEM, netlink.Create, family, e)
	return b.sets
}

// addSet makes a named set. What nft wants to know of it is in typeof.go.
func (b *batch) addSet(family service.Family, s setSpec) {
	b.sets++
	var e encoder
	e.string(unix.NFTA_SET_TABLE, b.table)
	e.string(unix.NFTA_SET_NAME, s.name)
	e.uint32(unix.NFTA_SET_ID, b.sets)
	e.uint32(unix.NFTA_SET_KEY_TYPE, typeOf(family, s.key))
	e.uint32(unix.NFTA_SET_KEY_LEN, lengthOf(family, s.key))
	var flags uint32
	switch s.data {
	case verdictData:
		flags |= unix.NFT_SET_MAP
		e.uint32(unix.NFTA_SET_DATA_TYPE, verdictDataType)
	case addrPortData:
		flags |= unix.NFT_SET_MAP
		e.uint32(unix.NFTA_SET_DATA_TYPE, typeOf(family, addrPort))
		e.uint32(unix.NFTA_SET_DATA_LEN, lengthOf(family, addrPort))
	}
	if s.interval {
		flags |= unix.NFT_SET_INTERVAL
		if len(s.key) > 1 {
			flags |= setConcat
			e.nest(unix.NFTA_SET_DESC, func() {
				e.nest(setDescConcat, func() {
					for _, f := range s.key {
						e.nest(unix.NFTA_LIST_ELEM, func() { e.uint32(setFieldLen, f.length(family)) })
					}
				})
			})
		}
	}
	if s.learned {
		flags |= unix.NFT_SET_TIMEOUT | unix.NFT_SET_EVAL
		e.nest(unix.NFTA_SET_DESC, func() { e.uint32(unix.NFTA_SET_DESC_SIZE, maxAffinity) })
	}
	e.uint32(unix.NFTA_SET_FLAGS, flags)
	e.bytes(unix.NFTA_SET_USERDATA, userdata(family, s))
	b.add(unix.NFT_MSG_NEWSET, netlink.Create|netlink.Excl, family, e)
}

// addElements and deleteElements take changes that are sorted by set.
func (b *batch) addElements(family service.Family, changes []change) {
	b.put(unix.NFT_MSG_NEWSETELEM, netlink.Create|netlink.Excl, family, changes)
}

func (b *batch) deleteElements(family service.Family, changes []change) {
	b.put(unix.NFT_MSG_DELSETELEM, 0, family, changes)
}

func (b *batch) put(kind uint16, flags netlink.HeaderFlags, family service.Family, changes []change) {
	b.elements += len(changes)
	var e encoder
	for len(changes) > 0 {
		set := changes[0].set
		for len(changes) > 0 && changes[0].set == set && len(e) < maxElements {
			changes[0].encode(&e)
			changes = changes[1:]
		}
		b.addList(kind, flags, family, set, e)
		e = e[:0]
	}
}

// addList makes a message of elements of a set.
func (b *batch) addList(kind uint16, flags netlink.HeaderFlags, family service.Family, set string, elements encoder) {
	e := make(encoder, 0, len(elements)+64)
	e.string(unix.NFTA_SET_ELEM_LIST_TABLE, b.table)
	e.string(unix.NFTA_SET_ELEM_LIST_SET, set)
	e.bytes(unix.NFTA_SET_ELEM_LIST_ELEMENTS|unix.NLA_F_NESTED, elements)
	b.add(kind, flags, family, e)
}

func (c change) encode(e *encoder) {
	e.nest(unix.NFTA_LIST_ELEM, func() {
		e.nest(unix.NFTA_SET_ELEM_KEY, func() { e.text(unix.NFTA_DATA_VALUE, c.key) })
		if c.end != "" {
			e.nest(elementKeyEnd, func() { e.text(unix.NFTA_DATA_VALUE, c.end) })
		}
		if !c.value.none {
			e.nest(unix.NFTA_SET_ELEM_DATA, func() { c.value.encode(e) })
		}
	})
}

// addRanges fills a set of plain intervals: of each, where it begins and the
// address after it.
func (b *batch) addRanges(family service.Family, set string, ranges []netipx.IPRange) {
	if len(ranges) == 0 {
		return
	}
	var e encoder
	e.string(unix.NFTA_SET_ELEM_LIST_TABLE, b.table)
	e.string(unix.NFTA_SET_ELEM_LIST_SET, set)
	element := func(key []byte, flags uint32) {
		e.nest(unix.NFTA_LIST_ELEM, func() {
			e.nest(unix.NFTA_SET_ELEM_KEY, func() { e.bytes(unix.NFTA_DATA_VALUE, key) })
			if flags != 0 {
				e.uint32(unix.NFTA_SET_ELEM_FLAGS, flags)
			}
		})
	}
	e.nest(unix.NFTA_SET_ELEM_LIST_ELEMENTS, func() {
		if !ranges[0].From().IsUnspecified() {
			element(make([]byte, addrLen(family)), unix.NFT_SET_ELEM_INTERVAL_END)
		}
		for _, r := range ranges {
			element(r.From().AsSlice(), 0)
			if next := r.To().Next(); next.IsValid() {
				element(next.AsSlice(), unix.NFT_SET_ELEM_INTERVAL_END)
			}
		}
	})
	b.add(unix.NFT_MSG_NEWSETELEM, netlink.Create, family, e)
}

// envelope returns the messages between those that begin and end the
// transaction. With a generation, the kernel refuses it after any other.
func (b *batch) envelope(generation uint32) []netlink.Message {
	border := func(kind netlink.HeaderType, attributes encoder) netlink.Message {
		data := binary.BigEndian.AppendUint16([]byte{unix.AF_UNSPEC, unix.NFNETLINK_V0}, unix.NFNL_SUBSYS_NFTABLES)
		return netlink.Message{
			Header: netlink.Header{Type: kind, Flags: netlink.Request},
			Data:   append(data, attributes...),
		}
	}
	var e encoder
	if generation != 0 {
		e.uint32(unix.NFNL_BATCH_GENID, generation)
	}
	messages := make([]netlink.Message, 0, len(b.messages)+2)
	messages = append(messages, border(unix.NFNL_MSG_BATCH_BEGIN, e))
	messages = append(messages, b.messages...)
	messages[len(messages)-1].Header.Flags |= netlink.Acknowledge
	return append(messages, border(unix.NFNL_MSG_BATCH_END, nil))
}
