package ipam

import (
	"iter"
	"slices"
)

// candidate is a pool that may serve a request, and why it is one.
type candidate struct {
	name   string
	pool   *pool // nil if there is none of the name
	choice Choice
}

// candidates yields the pools that an address of a family may come from, the
// first to be tried first. The pool of the Service's other address is tried
// before others.
func (a *Allocator) candidates(req *Request, family Family, beside []Allocation) iter.Seq[candidate] {
	all := a.inOrder(req, family)
	if len(beside) == 0 {
		return all
	}
	partner := beside[0].Pool // a Service has two addresses at most
	return func(yield func(candidate) bool) {
		for c := range all {
			if c.name == partner && !yield(c) {
				return
			}
		}
		for c := range all {
			if c.name != partner && !yield(c) {
				return
			}
		}
	}
}

// inOrder yields the candidates in the order of what the request names, or
// else of preference.
func (a *Allocator) inOrder(req *Request, family Family) iter.Seq[candidate] {
	return func(yield func(candidate) bool) {
		if len(req.Pools) > 0 {
			for _, name := range req.Pools {
				if !yield(candidate{name, a.pools[name], ChosenByName}) {
					return
				}
			}
			return
		}
		for _, addr := range req.Addresses {
			if asked := req.asked(family); asked.IsValid() && addr != asked {
				continue // the other one, whose pools do not help
			}
			for _, p := range a.index().containing(addr) {
				if !yield(candidate{p.Name, p, ChosenByAddress}) {
					return
				}
			}
		}
		if req.asked(family).IsValid() {
			return
		}
		for c := range a.offering(req) {
			if (req.Protocol == "" || req.Protocol == c.pool.announcedBy()) && !yield(c) {
				return
			}
		}
	}
}

// offering yields the pools that serve a Service which names nothing,
// whatever protocol it asks for: those bound to it, then the default ones.
func (a *Allocator) offering(req *Request) iter.Seq[candidate] {
	return func(yield func(candidate) bool) {
		for _, p := range a.index().byPreference {
			if choice, ok := p.offers(req); ok && choice != ChosenAsDefault && !yield(candidate{p.Name, p, choice}) {
				return
			}
		}
		for _, p := range a.index().byName {
			if !p.Default {
				continue
			}
			if choice, ok := p.offers(req); ok && choice == ChosenAsDefault && !yield(candidate{p.Name, p, choice}) {
				return
			}
		}
	}
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
	if asked := req.asked(family); asked.IsValid() {
		return p.Contains(asked)
	}
	if slices.ContainsFunc(req.Addresses, p.Contains) {
		return true
	}
	_, ok := p.offers(req)
	return ok && (req.Protocol == "" || req.Protocol == p.announcedBy())
}
