package ipam

import (
	"net/netip"
	"slices"
)

// choose finds an address of any of the families for a Service, beside those
// that it is to hold already. The best pool counts more than the preferred
// family.
func (a *Allocator) choose(h *holding, families []Family, beside []Allocation) (Allocation, *Refusal) {
	if x, ok := a.shared(h, families, beside); ok {
		return x, nil
	}
	var tried []attempt
	for _, search := range a.searches(h, families, beside) {
		for _, c := range search.candidates {
			for _, family := range search.families {
				x, refusal := a.from(c, h, family, beside)
				if refusal == nil {
					return x, nil
				}
				tried = append(tried, attempt{c.name, refusal})
			}
		}
	}
	return Allocation{}, a.summary(&h.claim, families, tried)
}

// chooseEach finds an address of each of the families, from one pool if one
// has both. The refusals are those of the families, nil where one was found.
func (a *Allocator) chooseEach(h *holding, families []Family, beside []Allocation) (chosen []Allocation, refusals []*Refusal) {
	if pair := a.pair(h, families, beside); pair != nil {
		return pair, []*Refusal{nil, nil}
	}
	for _, family := range families {
		x, refusal := a.choose(h, []Family{family}, slices.Concat(beside, chosen))
		if refusal == nil {
			chosen = append(chosen, x)
		}
		refusals = append(refusals, refusal)
	}
	return chosen, refusals
}

// pair finds addresses of two families in one pool, nil if there are none.
// Where one can be shared, the other one follows it.
func (a *Allocator) pair(h *holding, families []Family, beside []Allocation) []Allocation {
	if len(families) < 2 {
		return nil
	}
	for _, family := range families {
		if _, ok := a.shared(h, []Family{family}, beside); ok {
			return nil
		}
	}
	others := a.candidates(&h.claim, families[1], beside)
	for _, c := range a.candidates(&h.claim, families[0], beside) {
		if c.pool == nil || !slices.ContainsFunc(others, func(o candidate) bool { return o.pool == c.pool }) {
			continue
		}
		first, refusal := a.from(c, h, families[0], beside)
		if refusal != nil {
			continue
		}
		if second, refusal := a.from(c, h, families[1], append(slices.Clip(beside), first)); refusal == nil {
			return []Allocation{first, second}
		}
	}
	return nil
}

// search is which pools are asked for an address of which families.
type search struct {
	families   []Family
	candidates []candidate
}

// searches looks for asked addresses one after the other, as each has pools
// of its own.
func (a *Allocator) searches(h *holding, families []Family, beside []Allocation) []search {
	if len(h.claim.Addresses) == 0 {
		return []search{{families, a.candidates(&h.claim, families[0], beside)}}
	}
	all := make([]search, len(families))
	for i, family := range families {
		all[i] = search{[]Family{family}, a.candidates(&h.claim, family, beside)}
	}
	return all
}

// from takes from a pool the address that is asked for, or that the Service
// has already, or else the next one.
func (a *Allocator) from(c candidate, h *holding, family Family, beside []Allocation) (Allocation, *Refusal) {
	p := c.pool
	if p == nil {
		return Allocation{}, poolNotFound(c.name)
	}
	addr := h.claim.asked(family)
	if !addr.IsValid() {
		if own, ok := h.of(family); ok && p.Contains(own.Address) {
			addr = own.Address // only the pool changes
		}
	}
	if refusal := p.closedTo(&h.claim, family, addr); refusal != nil {
		return Allocation{}, refusal
	}
	if addr.IsValid() {
		if refusal := a.objectionTo(h, addr, p); refusal != nil {
			return Allocation{}, refusal
		}
	}
	if refusal := a.overQuota(h, p, addr, beside); refusal != nil {
		return Allocation{}, refusal
	}
	if !addr.IsValid() {
		now := a.now()
		next, ok := p.stocks[family].list.next(now, a.InUse)
		if !ok {
			return Allocation{}, poolExhausted(p, family)
		}
		addr = next
	}
	return Allocation{Address: addr, Pool: p.Name, Choice: c.choice}, nil
}

// closedTo returns why a pool gives a Service no address of a family, or not
// the one that it asks for, whatever is in use; nil if it might.
func (p *pool) closedTo(req *Request, family Family, asked netip.Addr) *Refusal {
	switch {
	case asked.IsValid() && !p.Contains(asked):
		return outOfRange(p, asked)
	case !p.admits(req):
		return namespaceNotAllowed(p, req.Service.Namespace)
	case !p.Has(family):
		return poolFamilyMismatch(p, family)
	case p.Deleting:
		return poolDeleting(p)
	case p.Disabled:
		return poolDisabled(p)
	default:
		return nil
	}
}

// overQuota returns a refusal if a namespace has as many addresses of a pool
// as it may, and would have one more with this one; an invalid addr is one
// that nobody has. What the Service has now does not count, as it gives it up
// if it is not to hold it beside.
func (a *Allocator) overQuota(h *holding, p *pool, addr netip.Addr, beside []Allocation) *Refusal {
	limit, limited := p.limit(h.key.Namespace)
	if !limited {
		return nil
	}
	if t := a.tenants[addr]; t != nil && t.pool == p && a.neighbours(h, addr) {
		return nil // the namespace has it already
	}
	count := p.namespaces[h.key.Namespace]
	for _, x := range slices.Concat(h.held, h.leaving) {
		if a.tenants[x.Address].pool == p && !a.neighbours(h, x.Address) {
			count--
		}
	}
	for _, x := range beside {
		if a.home(x.Address, x.Pool) == p && !a.neighbours(h, x.Address) {
			count++
		}
	}
	if count < limit {
		return nil
	}
	return quotaExceeded(p, h.key.Namespace, limit)
}

// neighbours tells whether another Service of the same namespace has an
// address.
func (a *Allocator) neighbours(h *holding, addr netip.Addr) bool {
	t := a.tenants[addr]
	return t != nil && slices.ContainsFunc(t.tenants, func(o *holding) bool { return o != h && o.key.Namespace == h.key.Namespace })
}
