package ipam

import (
	"slices"
)

// candidate is a pool that may serve a request, and why it is one.
type candidate struct {
	name   string
	pool   *pool // nil if there is none of the name
	choice Choice
}

// candidates calls try with the pools that an address of a family may come
// from, the first to be tried first, until it is done. The pool of the
// Service's other address is tried before others.
func (a *Allocator) candidates(req *Request, family Family, beside []Allocation, try func(candidate) (done bool)) bool {
	if len(beside) == 0 {
		return a.inOrder(req, family, try)
	}
	partner := beside[0].Pool // a Service has two addresses at most
	return a.inOrder(req, family, func(c candidate) bool { return c.name == partner && try(c) }) ||
		a.inOrder(req, family, func(c candidate) bool { return c.name != partner && try(c) })
}

// inOrder calls try with the candidates in the order of what the request
// names, or else of preference, until it is done.
func (a *Allocator) inOrder(req *Request, family Family, try func(candidate) (done bool)) bool {
	for _, name := range req.Pools {
		if try(candidate{name, a.pools[name], ChosenByName}) {
			return true
		}
	}
	if len(req.Pools) > 0 {
		return false
	}
	asked := req.asked(family)
	for _, addr := range req.Addresses {
		if asked.IsValid() && addr != asked {
			continue // the other one, whose pools do not help
		}
		for _, p := range a.index().containing(addr) {
			if try(candidate{p.Name, p, ChosenByAddress}) {
				return true
			}
		}
	}
	return !asked.IsValid() && a.offering(req, func(c candidate) bool {
		return (req.Protocol == "" || req.Protocol == c.pool.announcedBy()) && try(c)
	})
}

// offering calls try with the pools that serve a Service which names nothing,
// whatever protocol it asks for, until it is done: those bound to it, then the
// default ones.
func (a *Allocator) offering(req *Request, try func(candidate) (done bool)) bool {
	for _, p := range a.index().byPreference {
		if choice, ok := p.offers(req); ok && choice != ChosenAsDefault && try(candidate{p.Name, p, choice}) {
			return true
		}
	}
	for _, p := range a.index().byName {
		if !p.Default {
			continue
		}
		if choice, ok := p.offers(req); ok && choice == ChosenAsDefault && try(candidate{p.Name, p, choice}) {
			return true
		}
	}
	return false
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
			if x, ok := h.of(family); ok && req.SatisfiedBy(x) && !a.rehoming(x) {
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
	if asked := req.asked(family); asked.IsValid() {
		return p.Contains(asked)
	}
	if slices.ContainsFunc(req.Addresses, p.Contains) {
		return true
	}
	_, ok := p.offers(req)
	return ok && (req.Protocol == "" || req.Protocol == p.announcedBy())
}
