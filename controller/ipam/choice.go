package ipam

import (
	"slices"
	"strings"
)

// choose finds a pool and an address for a request.
func (a *Allocator) choose(req *Request) (Allocation, *Refusal) {
	if req.Address.IsValid() && !req.accepts(FamilyOf(req.Address)) {
		return Allocation{}, addressFamilyMismatch(req.Address, req)
	}
	switch {
	case req.Pool != "":
		p := a.pools[req.Pool]
		if p == nil {
			return Allocation{}, poolNotFound(req.Pool)
		}
		return a.from(p, req, ChosenByName)
	case req.Address.IsValid():
		return a.byAddress(req)
	default:
		return a.automatic(req)
	}
}

// byAddress takes the requested address from a pool that contains it.
func (a *Allocator) byAddress(req *Request) (Allocation, *Refusal) {
	refusal := inNoPool(req.Address)
	for i, p := range a.sorted(func(p *pool) bool { return p.Contains(req.Address) }, byName) {
		chosen, refused := a.from(p, req, ChosenByAddress)
		if refused == nil {
			return chosen, nil
		}
		if i == 0 {
			refusal = refused
		}
	}
	return Allocation{}, refusal
}

// automatic takes an address from the first pool bound to the namespace that
// has one, else from a default pool.
func (a *Allocator) automatic(req *Request) (Allocation, *Refusal) {
	var tried []*Refusal
	var names []string
	try := func(candidates []*pool, choice Choice) (Allocation, bool) {
		for _, p := range candidates {
			if slices.Contains(names, p.Name) {
				continue
			}
			chosen, refused := a.from(p, req, choice)
			if refused == nil {
				return chosen, true
			}
			tried, names = append(tried, refused), append(names, p.Name)
		}
		return Allocation{}, false
	}
	bound := a.sorted(func(p *pool) bool { return p.Binds(req.Service.Namespace, req.NamespaceLabels) }, byPreference)
	if chosen, ok := try(bound, ChosenByNamespace); ok {
		return chosen, nil
	}
	defaults := a.sorted(func(p *pool) bool { return p.Default }, byName)
	if chosen, ok := try(defaults, ChosenAsDefault); ok {
		return chosen, nil
	}
	if len(tried) == 0 {
		return Allocation{}, noEligiblePool(req.Service.Namespace)
	}
	return Allocation{}, noneAvailable(req.Service.Namespace, tried, names)
}

// from takes the requested address, or the lowest free one, from a pool.
func (a *Allocator) from(p *pool, req *Request, choice Choice) (Allocation, *Refusal) {
	families := slices.DeleteFunc([]Family{IPv4, IPv6}, func(f Family) bool { return !p.Has(f) || !req.accepts(f) })
	switch {
	case req.Address.IsValid() && !p.Contains(req.Address):
		return Allocation{}, outOfRange(p, req.Address)
	case len(families) == 0:
		return Allocation{}, poolFamilyMismatch(p, req)
	case p.Deleting:
		return Allocation{}, poolDeleting(p)
	case p.Disabled:
		return Allocation{}, poolDisabled(p)
	case req.Address.IsValid():
		if t := a.tenants[req.Address]; t != nil && !slices.Contains(t.tenants, req.Service) {
			return Allocation{}, addressInUse(req.Address, t.tenants[0])
		}
		return Allocation{Address: req.Address, Pool: p.Name, Choice: choice}, nil
	}
	slices.SortFunc(families, func(x, y Family) int {
		return slices.Index(req.Families, x) - slices.Index(req.Families, y)
	})
	for _, family := range families {
		if addr, ok := p.free[family].lowest(a.InUse); ok {
			return Allocation{Address: addr, Pool: p.Name, Choice: choice}, nil
		}
	}
	return Allocation{}, poolExhausted(p)
}

func (a *Allocator) sorted(keep func(*pool) bool, order func(x, y *pool) int) []*pool {
	var kept []*pool
	for _, p := range a.pools {
		if keep(p) {
			kept = append(kept, p)
		}
	}
	slices.SortFunc(kept, order)
	return kept
}

func byName(x, y *pool) int {
	return strings.Compare(x.Name, y.Name)
}
