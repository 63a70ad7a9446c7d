package service

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"
)

// draft is what a Service is to become. Its memory is used again for the next.
type draft struct {
	told
	choice    choice
	frontends []Frontend
	ready     [2][]netip.Addr // on this node, by Family
}

// decide drafts what follows from a Service and its slices.
func (s *State) decide(e *entry) {
	d := &s.draft
	d.ports, d.checks, d.findings = d.ports[:0], d.checks[:0], d.findings[:0]
	if e.spec == nil {
		return
	}
	d.ready[IPv4], d.ready[IPv6] = d.ready[IPv4][:0], d.ready[IPv6][:0]
	d.findings = append(d.findings, e.spec.findings...)
	for i := range e.spec.ports {
		for family := range e.spec.facets {
			if len(e.spec.facets[family].addresses) > 0 {
				s.decidePort(e, &e.spec.ports[i], Family(family))
			}
		}
	}
	for family := range e.spec.facets {
		if len(e.spec.facets[family].addresses) > 0 {
			s.decideCheck(e, Family(family))
		}
	}
	d.findEndpoints(e)
	slices.SortFunc(d.findings, Finding.compare)
	d.findings = slices.Compact(d.findings)
}

// decidePort drafts one service port of one family.
func (s *State) decidePort(e *entry, port *specPort, family Family) {
	d, facet := &s.draft, &e.spec.facets[family]
	d.choice.begin()
	d.choice.gather(e, port, family)
	for _, c := range d.choice.candidates {
		if e.spec.healthCheck != 0 && c.local && c.is.ready() {
			d.ready[family] = append(d.ready[family], c.at.Addr())
		}
	}
	s.decideFrontends(e, port, family)
	if len(d.frontends) == 0 {
		return
	}
	external := d.frontends[len(d.frontends)-1].Kind != ClusterIP
	p := Port{
		InternalPolicy: e.spec.internal,
		ExternalPolicy: e.spec.external,
		NeedsCluster:   e.spec.internal == Cluster || external,
		NeedsLocal:     e.spec.internal == Local || e.spec.external == Local && external,
		Affinity:       e.spec.affinity,
		Scheduler:      e.spec.scheduler,
		Hash:           e.spec.hash,
	}
	if slices.ContainsFunc(d.frontends, func(f Frontend) bool { return f.Kind == LoadBalancer }) {
		p.SourceRanges = facet.ranges
	}
	d.choice.choose(s.zone, p.NeedsCluster, p.NeedsLocal, port.protocol == UDP)
	d.choice.weigh(&e.spec.weights)
	p.Usable = d.choice.usable

	// What is as before, or twice, is in memory once.
	key := portKey{port.name, port.protocol, family}
	before := e.port(key)
	var old Port
	if before != nil {
		old = *before
	}
	p.Frontends = kept(d.frontends, old.Frontends)
	p.Cluster = kept(d.choice.cluster, old.Cluster)
	p.Local = kept(d.choice.local, old.Local, p.Cluster)
	p.Serving = kept(d.choice.serving, old.Serving, p.Cluster)
	p.Weights = kept(d.choice.weights, old.Weights)
	if p.Equal(before) {
		d.ports = append(d.ports, toldPort{key, before})
	} else {
		d.ports = append(d.ports, toldPort{key, new(p)})
	}
}

// decideFrontends drafts the frontends of a service port, but those that
// another Service keeps.
func (s *State) decideFrontends(e *entry, port *specPort, family Family) {
	d := &s.draft
	d.frontends = d.frontends[:0]
	add := func(kind Kind, at netip.AddrPort) {
		if s.holds(e, at, port.protocol) {
			d.frontends = append(d.frontends, Frontend{kind, at})
		}
	}
	for _, a := range e.spec.facets[family].addresses {
		add(a.kind, netip.AddrPortFrom(a.addr, port.port))
	}
	if port.nodePort != 0 {
		add(NodePort, netip.AddrPortFrom(family.unspecified(), port.nodePort))
	}
}

// decideCheck drafts the health check of one family.
func (s *State) decideCheck(e *entry, family Family) {
	d := &s.draft
	port := e.spec.healthCheck
	if port == 0 || !s.holds(e, netip.AddrPortFrom(family.unspecified(), port), TCP) {
		return
	}
	ready := d.ready[family]
	slices.SortFunc(ready, netip.Addr.Compare)
	d.checks = append(d.checks, toldCheck{family, HealthCheck{port, len(slices.Compact(ready))}})
}

// holds tells whether a frontend leads to the Service, and has it be found if
// it leads to another.
func (s *State) holds(e *entry, at netip.AddrPort, protocol Protocol) bool {
	holder := s.claims.holders[frontendKey{at, protocol}]
	if holder == e {
		return true
	}
	s.draft.findings = append(s.draft.findings, Finding{
		Kind: "Service", Object: e.name, Reason: ReasonFrontendTaken, Value: describe(at, protocol), Rival: holder.name,
	})
	return false
}

// gather collects the endpoints of a service port from the slices, which give
// it its name and protocol; the number is the slice's.
func (c *choice) gather(e *entry, port *specPort, family Family) {
	facet := &e.spec.facets[family]
	for _, s := range e.slices {
		if s.family != family {
			continue
		}
		for i := range s.ports {
			if s.ports[i].name != port.name || s.ports[i].protocol != port.protocol {
				continue
			}
			for j := range s.endpoints {
				if endpoint := &s.endpoints[j]; !facet.loops(endpoint) {
					c.candidates = append(c.candidates, candidate{netip.AddrPortFrom(endpoint.addr, s.ports[i].port), endpoint})
				}
			}
		}
	}
	c.unify()
}

// loops tells whether an endpoint has an address of its own Service, so that
// traffic to it would come back. A host-network Pod behind an address of its
// node is another matter: it is known by its node, and never has a cluster IP.
func (f *facet) loops(e *endpoint) bool {
	kind, is := f.has(e.addr)
	return is && (kind == ClusterIP || !e.node.known())
}

// findEndpoints finds the endpoints that are left out, slice by slice.
func (d *draft) findEndpoints(e *entry) {
	for _, s := range e.slices {
		facet := &e.spec.facets[s.family]
		if len(facet.addresses) == 0 {
			continue
		}
		find := func(reason Reason, value string, count int) {
			object := e.name
			object.Name = s.name
			d.findings = append(d.findings, Finding{Kind: "EndpointSlice", Object: object, Reason: reason, Value: value, Others: count - 1})
		}
		for _, f := range s.flawed {
			find(reasonFlaw+Reason(f.flaw), f.first, f.count)
		}
		loops, first := 0, netip.Addr{}
		for i := range s.endpoints {
			if facet.loops(&s.endpoints[i]) {
				if loops++; loops == 1 {
					first = s.endpoints[i].addr
				}
			}
		}
		if loops > 0 {
			find(ReasonEndpointIsFrontend, first.String(), loops)
		}
	}
}

// kept returns one of the slices that there are if it is as wanted, and
// otherwise a copy, as wanted is to be used again.
func kept[T comparable](wanted []T, there ...[]T) []T {
	if len(wanted) == 0 {
		return nil
	}
	for _, t := range there {
		if slices.Equal(t, wanted) {
			return t
		}
	}
	return slices.Clip(slices.Clone(wanted))
}

func (k portKey) compare(other portKey) int {
	return cmp.Or(
		strings.Compare(k.name, other.name),
		cmp.Compare(k.protocol, other.protocol),
		cmp.Compare(k.family, other.family),
	)
}
