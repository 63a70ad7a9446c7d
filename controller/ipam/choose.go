package ipam

import (
	"net/netip"
	"slices"
)

// choose finds an address of any of the families for a Service, beside those
// that it is to hold already. The best pool counts more than the preferred
// family, unless the Service asks for addresses.
func (a *Allocator) choose(h *holding, families []Family, beside []Allocation) (Allocation, *Refusal) {
	if x, ok := a.shared(h, families, beside); ok {
		return x, nil
	}
	atOnce := len(families)
	if len(h.claim.Addresses) > 0 {
		atOnce = 1 // each address has candidates of its own
	}
	var tried []attempt
	for i := 0; i < len(families); i += atOnce {
		group := families[i : i+atOnce]
		var chosen Allocation
		if a.candidates(&h.claim, group[0], beside, func(c candidate) bool {
			for _, family := range c.offered(group) {
				x, refusal := a.from(c, h, family, beside)
				if refusal == nil {
					chosen = x
					return true
				}
				tried = append(tried, attempt{c.name, refusal})
			}
			return false
		}) {
			return chosen, nil
		}
	}
	return Allocation{}, a.summary(&h.claim, families, tried)
}

// offered returns those of some families that a candidate has, or the first
// if it has none.
func (c candidate) offered(families []Family) []Family {
	switch {
	case len(families) == 1 || c.pool == nil || !c.pool.Has(families[1]):
		return families[:1]
	case !c.pool.Has(families[0]):
		return families[1:]
	default:
		return families
	}
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
		if own, ok := h.of(family); ok && p.Contains(own.Address) && a.objectionTo(h, own.Address) == nil {
			addr = own.Address // only the pool changes
		}
	}
	if refusal := p.closedTo(&h.claim, family, addr); refusal != nil {
		return Allocation{}, refusal
	}
	if addr.IsValid() {
		if refusal := a.objectionTo(h, addr); refusal != nil {
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
	if t := a.tenants[addr]; len(t.others(h)) > 0 {
		p = t.pool // where it counts
	}
	limit, limited := p.limit(h.key.Namespace)
	if !limited || a.neighbours(h, addr) {
		return nil
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
