package nftables

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"time"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"github.com/fairway-lb/fairway/dataplane/service"
)

// learn is what frontends have in common whose clients stay with their
// endpoint: where that is remembered, and for how long after a new connection.
type learn struct {
	nodePort bool
	timeout  time.Duration
}

// String returns the name of the chain, as in learn-10800.
func (l learn) String() string {
	name := fmt.Sprintf("learn-%d", l.timeout/time.Second)
	if l.nodePort {
		return "nodeport-" + name
	}
	return name
}

// addTo puts the chain into a batch. Packets come to it with the endpoint as
// their destination, and with their own source: that is translated later.
func (l learn) addTo(b *batch, family service.Family) {
	b.addChain(family, l.String())
	r := b.rule(family)
	set, reg := affinitySet, uint32(reg0)
	r.saddr(reg)
	reg += r.width()
	if l.nodePort {
		set = nodePortAffinitySet
	} else {
		r.originalDaddr(reg)
		reg += r.width()
	}
	r.l4proto(reg).originalDport(reg + 1)
	data := reg + 2
	r.daddr(data).dport(data+r.width()).update(set, reg0, data, l.timeout)
	b.addRule(l.String(), r)
}

// memory is where a client stays, as the kernel has learned it.
type memory struct {
	set, key, endpoint string
	timeout, left      uint64 // milliseconds
}

// frontend is the part of the key that is the frontend's.
func (m *memory) frontend(family service.Family) elementKey {
	return elementKey{set: m.set, key: m.key[addrLen(family):]}
}

// sticky tells whether clients of a port are remembered.
func sticky(p *service.Port) bool {
	return p != nil && p.Affinity > 0 && hashOf(p) == service.HashNone
}

// homes are the endpoints that clients of a frontend may stay with.
type homes map[elementKey]map[string]bool

// add adds the frontends of a port. Whoever stayed with an endpoint that has
// left a set, or while the policy was another, has to choose again: which set
// a client chose from is not known.
func (h homes) add(name service.PortName, before, after *service.Port) {
	if !sticky(before) && !sticky(after) {
		return
	}
	stay := map[string]bool{}
	if sticky(after) {
		for _, e := range slices.Concat(after.Cluster, after.Local) {
			stay[endpointData(e)] = true
		}
	}
	if before != nil && after != nil {
		if before.InternalPolicy != after.InternalPolicy || before.ExternalPolicy != after.ExternalPolicy {
			clear(stay)
		}
		forgetMissing(stay, before.Cluster, after.Cluster)
		forgetMissing(stay, before.Local, after.Local)
	}
	for _, p := range []*service.Port{before, after} {
		if p == nil {
			continue
		}
		for _, f := range p.Frontends {
			h[affinityKey(f, name.Protocol)] = stay
		}
	}
}

// addAll adds the frontends of a port of which it is not known what it was
// before. Policy may have been another: whoever would be at an endpoint that
// clients from outside cannot have has to choose again.
func (h homes) addAll(name service.PortName, p *service.Port) {
	if !sticky(p) {
		return
	}
	for _, f := range p.Frontends {
		endpoints, _ := p.Choose(f.Kind)
		stay := map[string]bool{}
		for _, e := range endpoints {
			stay[endpointData(e)] = true
		}
		h[affinityKey(f, name.Protocol)] = stay
	}
}

func affinityKey(f service.Frontend, protocol service.Protocol) elementKey {
	set := affinitySet
	if f.Kind == service.NodePort {
		set = nodePortAffinitySet
	}
	return elementKey{set: set, key: frontendKey(f, protocol)}
}

func forgetMissing(stay map[string]bool, before, after []netip.AddrPort) {
	for _, e := range before {
		if !slices.Contains(after, e) {
			delete(stay, endpointData(e))
		}
	}
}

// commitAndForget commits a batch, and with it the end of what the kernel has
// learned of endpoints that are gone: a client could follow it to where the new
// policy has no way back. Nothing more is learned of them meanwhile; what is
// there may expire, so that it is tried again.
func (b *Backend) commitAndForget(t *batch, changes []service.PortChange) error {
	var err error
	for range attempts {
		whole := *t
		whole.messages = slices.Clip(t.messages)
		if err := b.addForgotten(&whole, changes); err != nil {
			return err
		}
		if err = b.commit(&whole); !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	return err
}

func (b *Backend) addForgotten(t *batch, changes []service.PortChange) error {
	for _, family := range families {
		h := homes{}
		for _, c := range changes {
			if c.Name.Family == family && c.Before != nil {
				h.add(c.Name, c.Before, c.After)
			}
		}
		if len(h) == 0 {
			continue
		}
		for _, set := range []string{affinitySet, nodePortAffinitySet} {
			memories, err := b.socket.memories(family, set)
			if err != nil {
				return b.reconnect(err)
			}
			var gone []change
			for _, m := range memories {
				if stay, ok := h[m.frontend(family)]; ok && !stay[m.endpoint] {
					gone = append(gone, change{elementKey{set: set, key: m.key}, member})
				}
			}
			t.deleteElements(family, gone)
		}
	}
	return nil
}

// remember returns what the tables have learned that still holds, by family. A
// table that it cannot read has nothing to remember.
func (b *Backend) remember() [][]memory {
	all := make([][]memory, len(b.families))
	for i, family := range b.families {
		h := homes{}
		for name, p := range b.ports {
			if name.Family == family {
				h.addAll(name, p)
			}
		}
		for _, set := range []string{affinitySet, nodePortAffinitySet} {
			memories, err := b.socket.memories(family, set)
			if err != nil {
				// The next question gets a fresh socket or fails by itself.
				if err := b.socket.redial(); err != nil {
					return all
				}
				continue
			}
			for _, m := range memories {
				if h[m.frontend(family)][m.endpoint] && m.left > 0 {
					all[i] = append(all[i], m)
				}
			}
		}
	}
	return all
}

// memories reads a set that the kernel has learned.
func (s *socket) memories(family service.Family, set string) ([]memory, error) {
	answers, err := s.dump(family, set)
	if err != nil {
		return nil, fmt.Errorf("read set %s: %w", set, err)
	}
	var memories []memory
	for _, a := range answers {
		list, ok := attribute(a.Data, unix.NFTA_SET_ELEM_LIST_ELEMENTS)
		if !ok {
			continue
		}
		err := eachAttribute(list, func(_ uint16, element []byte) error {
			m := memory{set: set}
			err := eachAttribute(element, func(kind uint16, value []byte) error {
				switch kind {
				case unix.NFTA_SET_ELEM_KEY:
					return dataValue(value, &m.key)
				case unix.NFTA_SET_ELEM_DATA:
					return dataValue(value, &m.endpoint)
				case unix.NFTA_SET_ELEM_TIMEOUT:
					m.timeout = bigEndian(value)
				case unix.NFTA_SET_ELEM_EXPIRATION:
					m.left = bigEndian(value)
				}
				return nil
			})
			if err == nil && uint32(len(m.key)) > addrLen(family) {
				memories = append(memories, m)
			}
			return err
		})
		if err != nil {
			return nil, fmt.Errorf("read set %s: %w", set, err)
		}
	}
	return memories, nil
}

// dump reads a set. It begins again if a transaction came in between.
func (s *socket) dump(family service.Family, set string) ([]netlink.Message, error) {
	var e encoder
	e.string(unix.NFTA_SET_ELEM_LIST_TABLE, tableName)
	e.string(unix.NFTA_SET_ELEM_LIST_SET, set)
	for range attempts {
		answers, err := s.ask(unix.NFT_MSG_GETSETELEM, netlink.Dump, netfilterFamily(family), e)
		interrupted := slices.ContainsFunc(answers, func(m netlink.Message) bool {
			return m.Header.Flags&netlink.DumpInterrupted != 0
		})
		if err != nil || !interrupted {
			return answers, err
		}
	}
	return nil, fmt.Errorf("interrupted %d times by other transactions", attempts)
}

func (b *batch) addMemories(family service.Family, memories []memory) {
	for len(memories) > 0 {
		set := memories[0].set
		var e encoder
		e.string(unix.NFTA_SET_ELEM_LIST_TABLE, b.table)
		e.string(unix.NFTA_SET_ELEM_LIST_SET, set)
		e.nest(unix.NFTA_SET_ELEM_LIST_ELEMENTS, func() {
			for len(memories) > 0 && memories[0].set == set && len(e) < maxElements {
				m := memories[0]
				memories = memories[1:]
				e.nest(unix.NFTA_LIST_ELEM, func() {
					e.nest(unix.NFTA_SET_ELEM_KEY, func() { e.bytes(unix.NFTA_DATA_VALUE, []byte(m.key)) })
					e.nest(unix.NFTA_SET_ELEM_DATA, func() { e.bytes(unix.NFTA_DATA_VALUE, []byte(m.endpoint)) })
					e.uint64(unix.NFTA_SET_ELEM_TIMEOUT, m.timeout)
					e.uint64(unix.NFTA_SET_ELEM_EXPIRATION, m.left)
				})
			}
		})
		b.add(unix.NFT_MSG_NEWSETELEM, netlink.Create, family, e)
	}
}

func dataValue(data []byte, to *string) error {
	return eachAttribute(data, func(kind uint16, value []byte) error {
		if kind == unix.NFTA_DATA_VALUE {
			*to = string(value)
		}
		return nil
	})
}

func eachAttribute(data []byte, f func(kind uint16, value []byte) error) error {
	d, err := netlink.NewAttributeDecoder(data)
	if err != nil {
		return err
	}
	for d.Next() {
		if err := f(d.Type(), d.Bytes()); err != nil {
			return err
		}
	}
	return d.Err()
}

func bigEndian(b []byte) uint64 {
	if len(b) != 8 {
		return 0
	}
	return binary.BigEndian.Uint64(b)
}
