package ipam

import (
	"net/netip"
	"slices"
)

// candidate is a pool that may serve a request, and why it is one.
type candidate struct {
	name   string
	pool   *pool // nil if there is none of the name
	choice Choice
}

// candidates returns the pools that an address of a family may come from, the
// first to be tried first. The pool of the Service's other address is tried
// before others.
func (a *Allocator) candidates(req *Request, family Family, beside []Allocation) []candidate {
	var found []candidate
	switch {
	case len(req.Pools) > 0:
		for _, name := range req.Pools {
			found = append(found, candidate{name, a.pools[name], ChosenByName})
		}
	case req.asked(family).IsValid():
		found = a.byAddress(req.asked(family))
	default:
		for _, addr := range req.Addresses { // of the other family
			found = append(found, a.byAddress(addr)...)
		}
		found = append(found, a.automatic(req)...)
	}
	for _, x := range beside {
		i := slices.IndexFunc(found, func(c candidate) bool { return c.name == x.Pool })
		if i > 0 {
			partner := found[i]
			found = slices.Insert(slices.Delete(found, i, i+1), 0, partner)
		}
	}
	return found
}

// byAddress returns the pools that contain an address.
func (a *Allocator) byAddress(addr netip.Addr) (found []candidate) {
	for p := range a.index().containing(addr) {
		found = append(found, candidate{p.Name, p, ChosenByAddress})
	}
	return found
}

// automatic returns the pools bound to a Service, then the default ones.
func (a *Allocator) automatic(req *Request) []candidate {
	bound, defaults := a.offering(req)
	return slices.DeleteFunc(append(bound, defaults...), func(c candidate) bool {
		return req.Protocol != "" && req.Protocol != c.pool.announcedBy()
	})
}

// offering returns the pools that serve a Service which names nothing,
// whatever protocol it asks for.
func (a *Allocator) offering(req *Request) (bound, defaults []candidate) {
	for _, p := range a.index().byPreference {
		if choice, ok := p.offers(req); ok && choice != ChosenAsDefault {
			bound = append(bound, candidate{p.Name, p, choice})
		}
	}
	for _, p := range a.index().byName {
		if !p.Default {
			continue
		}
		if choice, ok := p.offers(req); ok && choice == ChosenAsDefault {
			defaults = append(defaults, candidate{p.Name, p, choice})
		}
	}
	return bound, defaults
}

// CouldServe tells whether a pool, as it is now, might give a Service what it
// lacks: it is enabled, not being deleted, and one of those that the request
// may be served from. It does not matter whether an address is free.
func (a *Allocator) CouldServe(name string, req *Request) bool {
	p := a.pools[name]
	if p == nil {
		return false
	}
	families, refusal, _ := req.wanted()
	if refusal != nil {
		return false
	}
	h := a.services[req.Service]
	return slices.ContainsFunc(families, func(family Family) bool {
		if h != nil {
			if x, ok := h.of(family); ok && req.satisfiedBy(x) && !a.rehoming(x) {
				return false
			}
		}
		return p.isCandidate(req, family) && p.closedTo(req, family, req.asked(family)) == nil
	})
}

// isCandidate tells whether candidates would return the pool.
func (p *pool) isCandidate(req *Request, family Family) bool {
	if len(req.Pools) > 0 {
		return slices.Contains(req.Pools, p.Name)
	}
	if slices.ContainsFunc(req.Addresses, p.Contains) || req.asked(family).IsValid() {
		return true // closedTo looks at the address of this family
	}
	_, ok := p.offers(req)
	return ok && (req.Protocol == "" || req.Protocol == p.announcedBy())
}
