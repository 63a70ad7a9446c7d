package ipam

import (
	"net/netip"
	"slices"
)

// shared finds an address of any of the families that Services of the same
// key hold in one of the pools that may serve the request, and that this one
// may have as well.
func (a *Allocator) shared(h *holding, families []Family, beside []Allocation) (Allocation, bool) {
	if h.claim.ShareKey == "" {
		return Allocation{}, false
	}
	var found Allocation
	for _, family := range families {
		if a.sharable(h, family, beside, func(x Allocation) bool { found = x; return true }) {
			return found, true
		}
	}
	return Allocation{}, false
}

// sharable calls try with the addresses of a family that can be shared like
// this, those of the first pool first, until it is done.
func (a *Allocator) sharable(h *holding, family Family, beside []Allocation, try func(Allocation) (done bool)) bool {
	if h.claim.ShareKey == "" || h.claim.asked(family).IsValid() {
		return false
	}
	var open []netip.Addr
	for _, addr := range a.keyed[h.claim.ShareKey] {
		if FamilyOf(addr) == family && !slices.Contains(a.tenants[addr].tenants, h) && a.objectionTo(h, addr) == nil {
			open = append(open, addr)
		}
	}
	return len(open) > 0 && a.candidates(&h.claim, family, beside, func(c candidate) bool {
		return c.pool != nil && slices.ContainsFunc(open, func(addr netip.Addr) bool {
			return c.pool.closedTo(&h.claim, family, addr) == nil && a.overQuota(h, c.pool, addr, beside) == nil &&
				try(Allocation{Address: addr, Pool: c.name, Choice: ChosenBySharing})
		})
	})
}

// objectionTo returns why a Service may not have an address beside those that
// have it, nil if it may.
func (a *Allocator) objectionTo(h *holding, addr netip.Addr) *Refusal {
	t := a.tenants[addr]
	for _, other := range t.others(h) {
		var refusal *Refusal
		if other.holds(addr) {
			refusal = objection(&h.claim, other, addr, t.pool)
		} else {
			refusal = addressLeaving(addr, other.key)
		}
		if refusal != nil {
			refusal.Address = addr
			return refusal
		}
	}
	return nil
}

// mayReturn tells whether a Service may have an address again that it has
// just given up.
func (a *Allocator) mayReturn(h *holding, addr netip.Addr) bool {
	t := a.tenants[addr]
	return !slices.ContainsFunc(t.others(h), func(other *holding) bool {
		return other.holds(addr) && objection(&h.claim, other, addr, t.pool) != nil
	})
}

// keptAgainst returns what there is to say against an address that a Service
// holds: an older tenant with whom it could not share it now, or that no pool
// contains it. nil if there is nothing.
func (a *Allocator) keptAgainst(h *holding, x Allocation) *Refusal {
	t := a.tenants[x.Address]
	for _, senior := range t.tenants {
		if senior == h {
			break
		}
		if !senior.holds(x.Address) {
			continue
		}
		if refusal := objection(&h.claim, senior, x.Address, t.pool); refusal != nil {
			refusal.Address = x.Address
			return refusal
		}
	}
	if t.pool == nil {
		return notInPool(x)
	}
	return nil
}

// sharedByAsking returns the Services with which an address is shared only
// because all ask for it.
func (a *Allocator) sharedByAsking(h *holding, addr netip.Addr) (implicit []ServiceKey) {
	for _, other := range a.tenants[addr].others(h) {
		if other.holds(addr) && bothAsk(&h.claim, &other.claim, addr) {
			implicit = append(implicit, other.key)
		}
	}
	return implicit
}

// renew takes over what a Service asks for now. It returns those with whom it
// has an address, if they are to be judged anew.
func (a *Allocator) renew(h *holding, req Request) (recheck []ServiceKey) {
	before := h.claim
	h.claim = req
	asBefore := before.ShareKey == req.ShareKey && before.Keeps == req.Keeps && before.Local == req.Local && before.Selector == req.Selector &&
		slices.Equal(before.Ports, req.Ports) && slices.Equal(before.Addresses, req.Addresses)
	for _, x := range h.held {
		if renamed := a.rename(h, x.Address); renamed || !asBefore {
			a.recount(x.Address)
		}
		if !asBefore {
			recheck = a.alsoHolding(h, x.Address, recheck)
		}
	}
	for _, x := range h.leaving {
		if a.rename(h, x.Address) {
			a.recount(x.Address)
		}
	}
	return recheck
}

// alsoHolding adds the other Services that hold an address to a list.
func (a *Allocator) alsoHolding(h *holding, addr netip.Addr, list []ServiceKey) []ServiceKey {
	for _, other := range a.tenants[addr].others(h) {
		if other.holds(addr) && !slices.Contains(list, other.key) {
			list = append(list, other.key)
		}
	}
	return list
}

// objection returns why a Service may not share an address with one that
// holds it, nil if it may. p is the pool that the address counts in.
func objection(req *Request, other *holding, addr netip.Addr, p *pool) *Refusal {
	theirs := &other.claim
	byKey := req.ShareKey != "" && req.ShareKey == theirs.ShareKey
	switch {
	case !byKey && !bothAsk(req, theirs, addr):
		return noConsent(addr, req, other.key)
	case req.Service.Namespace != other.key.Namespace && (p == nil || !p.mayShare(req.Service.Namespace, other.key.Namespace)):
		return otherNamespace(addr, other.key, p)
	}
	for _, port := range req.Ports {
		if slices.Contains(theirs.Ports, port) {
			return portTaken(addr, port, other.key)
		}
	}
	if (req.Local || theirs.Local) && !sameEndpoints(req, theirs) {
		return otherSelector(addr, other.key)
	}
	return nil
}

// bothAsk tells whether both ask for an address and neither says by a key whom
// it shares with.
func bothAsk(x, y *Request, addr netip.Addr) bool {
	return !x.Keeps && !y.Keeps && x.ShareKey == "" && y.ShareKey == "" && slices.Contains(x.Addresses, addr) && slices.Contains(y.Addresses, addr)
}
