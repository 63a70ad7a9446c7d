package service

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"
)

// candidate is an endpoint as one service port sees it.
type candidate struct {
	at netip.AddrPort
	*endpoint
}

// choice is the endpoints of one service port, by what they are for. Its
// slices are in use until the next choice.
type choice struct {
	candidates []candidate
	cluster    []netip.AddrPort
	local      []netip.AddrPort
	serving    []netip.AddrPort
	weights    []Weight
	usable     bool
}

// begin forgets the choice before, but not its memory.
func (c *choice) begin() {
	c.candidates, c.usable = c.candidates[:0], false
	c.cluster, c.local, c.serving, c.weights = c.cluster[:0], c.local[:0], c.serving[:0], c.weights[:0]
}

// unify sorts the candidates and leaves one of those with the same address and
// port, which there are while an endpoint moves between slices or a Pod has
// been given the address of one that terminates.
func (c *choice) unify() {
	slices.SortFunc(c.candidates, func(a, b candidate) int {
		return cmp.Or(a.at.Compare(b.at), compareEndpoints(*a.endpoint, *b.endpoint))
	})
	c.candidates = slices.CompactFunc(c.candidates, func(a, b candidate) bool { return a.at == b.at })
}

// compareEndpoints orders by address. Of several with the same, the first is
// the one to believe: one that does not terminate, one that is ready; beyond
// that, any order that does not depend on that of events.
func compareEndpoints(a, b endpoint) int {
	return cmp.Or(
		a.addr.Compare(b.addr),
		trueLast(a.is.terminating(), b.is.terminating()),
		trueLast(b.is.ready(), a.is.ready()),
		trueLast(b.is.answers(), a.is.answers()),
		cmp.Compare(a.is, b.is),
		trueLast(b.local, a.local),
		trueLast(b.node.known(), a.node.known()),
		trueLast(a.forNodes, b.forNodes),
		trueLast(a.forThis, b.forThis),
		strings.Compare(a.zones.text(), b.zones.text()),
		strings.Compare(a.node.name(), b.node.name()),
	)
}

func trueLast(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return 1
	}
	return -1
}

// choose sorts the candidates into sets. Each falls back on its own to
// endpoints that terminate but serve (KEP-1669).
func (c *choice) choose(zone string, needsCluster, needsLocal, udp bool) {
	hints := c.hints(zone)
	for _, e := range c.candidates {
		ready := e.is.ready()
		if ready && needsCluster && hints.allow(e.endpoint, zone) {
			c.cluster = append(c.cluster, e.at)
		}
		if ready && needsLocal && e.local {
			c.local = append(c.local, e.at)
		}
		if udp && e.is.answers() {
			c.serving = append(c.serving, e.at)
		}
		c.usable = c.usable || ready || e.is.fallback()
	}
	// Hints leave something where anything is ready, so that an empty set is
	// one without a ready endpoint.
	needsCluster, needsLocal = needsCluster && len(c.cluster) == 0, needsLocal && len(c.local) == 0
	if !needsCluster && !needsLocal {
		return
	}
	for _, e := range c.candidates {
		if !e.is.fallback() {
			continue
		}
		if needsCluster {
			c.cluster = append(c.cluster, e.at)
		}
		if needsLocal && e.local {
			c.local = append(c.local, e.at)
		}
	}
}

// hints are the topology hints that hold for a service port on this node.
type hints uint8

const (
	hintsNone hints = iota
	hintsNodes
	hintsZones
)

// hints tells which hints hold: only such as every ready endpoint has, and
// only if one of them is for this node, or its zone. Those for nodes go before
// those for zones (KEP-3015).
func (c *choice) hints(zone string) hints {
	nodes, zones := true, true
	forNode, forZone := false, false
	for _, e := range c.candidates {
		if !e.is.ready() {
			continue
		}
		nodes, zones = nodes && e.forNodes, zones && e.zones.any()
		if !nodes && !zones {
			return hintsNone
		}
		forNode, forZone = forNode || e.forThis, forZone || e.zones.has(zone)
	}
	switch {
	case nodes && forNode:
		return hintsNodes
	case zones && forZone:
		return hintsZones
	}
	return hintsNone
}

// allow tells whether the hints leave an endpoint to this node.
func (h hints) allow(e *endpoint, zone string) bool {
	switch h {
	case hintsNodes:
		return e.forThis
	case hintsZones:
		return e.zones.has(zone)
	}
	return true
}
