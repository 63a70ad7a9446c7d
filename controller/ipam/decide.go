package ipam

import (
	"cmp"
	"slices"
)

// decide returns what a Service is to hold from now on, and why its request
// is not met or not wholly.
func (a *Allocator) decide(h *holding) (next []Allocation, refusal, lacks *Refusal) {
	req := &h.claim
	wanted, refusal, lacks := req.wanted()
	switch {
	case refusal != nil:
		return a.retained(h, nil), refusal, nil
	case req.single():
		next, refusal = a.one(h, wanted)
		return next, refusal, nil
	}
	next, refused := a.each(h, wanted)
	for _, r := range refused {
		switch {
		case req.DualStack == PreferDualStack && len(refused) < len(wanted) && !hasFamily(next, r.family):
			lacks = cmp.Or(lacks, lacking(r))
		case refusal == nil:
			refusal = dualRefusal(req, r, refused)
		}
	}
	if refusal != nil {
		lacks = nil
	}
	return next, refusal, lacks
}

// wanted returns the families that the request wants an address of: any one
// of them for a single-stack Service, else all. An address asked for of a
// family that the Service cannot use is refused, unless the other will do.
func (r *Request) wanted() (families []Family, refusal, lacks *Refusal) {
	for _, addr := range r.Addresses {
		if r.accepts(FamilyOf(addr)) {
			continue
		}
		refusal := addressFamilyMismatch(addr, r)
		if r.DualStack != PreferDualStack || len(r.Addresses) == 1 {
			return nil, refusal, nil
		}
		lacks = refusal
	}
	families = r.families()
	if r.single() && len(r.Addresses) > 0 {
		families = slices.DeleteFunc(slices.Clone(families), func(f Family) bool { return !r.asked(f).IsValid() })
	}
	return families, nil, lacks
}

// one finds an address of one of the families, the preferred first.
func (a *Allocator) one(h *holding, families []Family) ([]Allocation, *Refusal) {
	for _, family := range families {
		if x, ok := a.having(h, family); ok {
			return []Allocation{x}, nil
		}
	}
	chosen, refusal := a.choose(h, families, nil)
	if refusal != nil {
		return a.retained(h, nil), refusal
	}
	return []Allocation{chosen}, nil
}

// missing is a family that no address was found of.
type missing struct {
	*Refusal
	family Family
}

// each finds an address of each family.
func (a *Allocator) each(h *holding, families []Family) (next []Allocation, refused []missing) {
	var lack []Family
	for _, family := range families {
		if x, ok := a.having(h, family); ok {
			next = append(next, x)
		} else {
			lack = append(lack, family)
		}
	}
	chosen, refusals := a.chooseEach(h, lack, next)
	next = append(next, chosen...)
	for i, refusal := range refusals {
		if refusal != nil {
			refused = append(refused, missing{refusal, lack[i]})
		}
	}
	if h.claim.DualStack == RequireDualStack && len(h.held) == 0 && len(refused) > 0 {
		return nil, refused // both or none
	}
	return a.retained(h, next), refused
}

// having returns the address of a family that the Service holds, or has given
// up and not settled, if it is what the request wants.
func (a *Allocator) having(h *holding, family Family) (Allocation, bool) {
	if x, ok := h.of(family); ok && h.claim.SatisfiedBy(x) && !a.rehoming(x) {
		return x, true
	}
	for _, x := range h.leaving { // a change of mind
		if FamilyOf(x.Address) == family && h.claim.SatisfiedBy(x) && !a.rehoming(x) && a.mayReturn(h, x.Address) {
			return x, true
		}
	}
	return Allocation{}, false
}

// rehoming tells whether the pool of an address is to go without waiting for
// it.
func (a *Allocator) rehoming(x Allocation) bool {
	home := a.home(x.Address, x.Pool)
	if home == nil {
		home = a.pools[x.Pool] // that it was cut from
	}
	return home != nil && home.Rehome
}

// retained adds to what a Service is to hold what it keeps beside, in the
// order of the request's families: of the families that have no address yet
// what it holds already. What is of a family that it cannot use, or is one
// too many, it keeps only if it has nothing better.
func (a *Allocator) retained(h *holding, next []Allocation) []Allocation {
	kept := slices.Clone(next)
	for _, x := range h.held {
		family := FamilyOf(x.Address)
		if !hasFamily(kept, family) && !a.rehoming(x) {
			kept = append(kept, x)
		}
	}
	families := h.claim.families()
	rank := func(x Allocation) int {
		if i := slices.Index(families, FamilyOf(x.Address)); i >= 0 {
			return i
		}
		return len(families)
	}
	slices.SortStableFunc(kept, func(x, y Allocation) int { return cmp.Compare(rank(x), rank(y)) })
	for i := 1; i < len(kept); i++ {
		if rank(kept[i]) == len(families) || h.claim.single() {
			return kept[:i]
		}
	}
	return kept
}

func hasFamily(allocations []Allocation, family Family) bool {
	return slices.ContainsFunc(allocations, func(x Allocation) bool { return FamilyOf(x.Address) == family })
}

// dualRefusal is the refusal of a family, which waits for what the other waits
// for, too.
func dualRefusal(req *Request, r missing, all []missing) *Refusal {
	whole := r.prefixed("")
	if req.DualStack == RequireDualStack {
		whole = requiringDualStack(r)
	}
	for _, other := range all {
		whole.alsoWaitFor(other.Refusal)
	}
	return whole
}
