package service

import (
	"cmp"
	"net/netip"
	"slices"
)

// claims say which Service a frontend leads to, where several want it: the
// oldest one. Most frontends are wanted by one.
type claims struct {
	holders    map[frontendKey]*entry
	contenders map[frontendKey][]*entry // two or more, the holder first
}

// frontendKey is what can lead to one Service only: other protocols at the
// same address and port are other frontends.
type frontendKey struct {
	at       netip.AddrPort
	protocol Protocol
}

// claim enters what an entry wants, and returns the others that lose by it.
func (c *claims) claim(e *entry, keys []frontendKey) (losers []*entry) {
	for _, key := range keys {
		holder := c.holders[key]
		if holder == nil {
			c.holders[key] = e
			continue
		}
		line := c.contenders[key]
		if line == nil {
			line = []*entry{holder}
		}
		at, _ := slices.BinarySearchFunc(line, e, compareAge)
		line = slices.Insert(line, at, e)
		c.contenders[key] = line
		if at == 0 {
			c.holders[key] = e
			losers = append(losers, line[1:]...)
		}
	}
	return losers
}

// release takes back what an entry has wanted, and returns the others that
// are concerned: one of them wins, and the rest have another rival.
func (c *claims) release(e *entry, keys []frontendKey) (concerned []*entry) {
	for _, key := range keys {
		line := c.contenders[key]
		if line == nil {
			delete(c.holders, key)
			continue
		}
		at := slices.Index(line, e)
		line = slices.Delete(line, at, at+1)
		c.contenders[key] = line
		if at == 0 {
			c.holders[key] = line[0]
			concerned = append(concerned, line...)
		}
		if len(line) == 1 {
			delete(c.contenders, key)
		}
	}
	return concerned
}

// compareAge orders Services by age, and those of one second by name.
func compareAge(a, b *entry) int {
	return cmp.Or(cmp.Compare(a.spec.created, b.spec.created), compareNames(a.name, b.name))
}

// appendFrontends appends all that a Service wants. None is there twice.
func (s *spec) appendFrontends(keys []frontendKey) []frontendKey {
	for family := range s.facets {
		f := &s.facets[family]
		if len(f.addresses) == 0 {
			continue
		}
		node := Family(family).unspecified()
		for i := range s.ports {
			port := &s.ports[i]
			for _, a := range f.addresses {
				keys = append(keys, frontendKey{netip.AddrPortFrom(a.addr, port.port), port.protocol})
			}
			if port.nodePort != 0 {
				keys = append(keys, frontendKey{netip.AddrPortFrom(node, port.nodePort), port.protocol})
			}
		}
		if s.healthCheck != 0 {
			keys = append(keys, frontendKey{netip.AddrPortFrom(node, s.healthCheck), TCP})
		}
	}
	return keys
}
