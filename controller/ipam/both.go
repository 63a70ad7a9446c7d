package ipam

import "slices"

// chooseEach finds an address of each of the families, from one pool if one
// has both. The refusals are those of the families, nil where one was found.
func (a *Allocator) chooseEach(h *holding, families []Family, beside []Allocation) (chosen []Allocation, refusals []*Refusal) {
	for _, family := range families { // what can be shared comes first, as the other follows it
		if x, ok := a.shared(h, []Family{family}, slices.Concat(beside, chosen)); ok {
			chosen = append(chosen, x)
		}
	}
	if len(chosen) == 0 {
		chosen = a.pair(h, families, beside)
	}
	for _, family := range families {
		var refusal *Refusal
		if !hasFamily(chosen, family) {
			var x Allocation
			if x, refusal = a.choose(h, []Family{family}, slices.Concat(beside, chosen)); refusal == nil {
				chosen = append(chosen, x)
			}
		}
		refusals = append(refusals, refusal)
	}
	if len(families) == 2 && len(chosen) == 1 {
		if both := a.together(h, families, beside); both != nil {
			return both, make([]*Refusal, 2)
		}
	}
	return chosen, refusals
}

// pair finds addresses of two families in one pool, nil if there are none.
func (a *Allocator) pair(h *holding, families []Family, beside []Allocation) []Allocation {
	if len(families) < 2 {
		return nil
	}
	var found []Allocation
	a.candidates(&h.claim, families[0], beside, func(c candidate) bool {
		if c.pool == nil || !c.pool.Has(families[0]) || !c.pool.isCandidate(&h.claim, families[1]) {
			return false
		}
		first, refusal := a.from(c, h, families[0], beside)
		if refusal != nil {
			return false
		}
		second, refusal := a.from(c, h, families[1], append(slices.Clip(beside), first))
		if refusal != nil {
			return false
		}
		found = []Allocation{first, second}
		return true
	})
	return found
}

// together finds addresses of two families that can be had beside one
// another, nil if there are none: where a pool gives only one more to the
// namespace, the preferred address of one family may bar all of the other.
func (a *Allocator) together(h *holding, families []Family, beside []Allocation) []Allocation {
	for _, family := range families {
		if _, refusal := a.choose(h, []Family{family}, beside); refusal != nil {
			return nil // not even alone
		}
	}
	var both []Allocation
	try := func(first Allocation) bool {
		second, refusal := a.choose(h, families[1:], append(slices.Clip(beside), first))
		if refusal == nil {
			both = []Allocation{first, second}
		}
		return refusal == nil
	}
	if a.sharable(h, families[0], beside, try) {
		return both
	}
	a.candidates(&h.claim, families[0], beside, func(c candidate) bool {
		first, refusal := a.from(c, h, families[0], beside)
		return refusal == nil && try(first)
	})
	return both
}
