package ipam

import (
	"net/netip"
	"slices"
)

// holding is what one Service has, and its request, by which it shares.
type holding struct {
	key     ServiceKey
	claim   Request
	held    []Allocation // at most one of each family
	leaving []Allocation // given up, but not free before Settle
}

// of returns what is held of a family.
func (h *holding) of(family Family) (Allocation, bool) {
	for _, x := range h.held {
		if FamilyOf(x.Address) == family {
			return x, true
		}
	}
	return Allocation{}, false
}

// holds tells whether an address is held, and not given up.
func (h *holding) holds(addr netip.Addr) bool {
	return hasAddress(h.held, addr)
}

// origin returns the pool that an address of the Service is said to be from.
func (h *holding) origin(addr netip.Addr) string {
	for _, x := range h.held {
		if x.Address == addr {
			return x.Pool
		}
	}
	for _, x := range h.leaving {
		if x.Address == addr {
			return x.Pool
		}
	}
	return ""
}

func hasAddress(allocations []Allocation, addr netip.Addr) bool {
	return slices.ContainsFunc(allocations, func(x Allocation) bool { return x.Address == addr })
}

// tenancy is who uses an address, and where that is counted.
type tenancy struct {
	tenants []*holding // those who leave included; the first owns it
	pool    *pool      // that it counts in, nil for a foreign address
	// namespaces and keys of sharing of the tenants, each once.
	namespaces []string
	keys       []string
}

// others returns the tenants but one.
func (t *tenancy) others(h *holding) []*holding {
	if t == nil || len(t.tenants) == 1 && t.tenants[0] == h {
		return nil
	}
	i := slices.Index(t.tenants, h)
	if i < 0 {
		return t.tenants
	}
	return slices.Delete(slices.Clone(t.tenants), i, i+1)
}

// move makes what a Service holds what it is to hold. What it gives up is
// still reserved for it.
func (a *Allocator) move(h *holding, next []Allocation) {
	var leaving []Allocation
	for _, before := range [...][]Allocation{h.held, h.leaving} {
		for _, x := range before {
			if !hasAddress(next, x.Address) {
				leaving = append(leaving, x)
			}
		}
	}
	for _, x := range next {
		if !hasAddress(h.held, x.Address) && !hasAddress(h.leaving, x.Address) {
			a.occupy(h, x.Address)
		}
	}
	h.held, h.leaving = next, leaving
	for _, x := range next {
		a.recount(x.Address)
	}
	if len(next)+len(leaving) > 0 {
		a.services[h.key] = h
	}
}

// occupy makes a Service the last tenant of an address.
func (a *Allocator) occupy(h *holding, addr netip.Addr) {
	t := a.tenants[addr]
	if t == nil {
		t = &tenancy{}
		a.tenants[addr] = t
		for _, p := range a.index().containing(addr) {
			p.use(addr)
		}
	}
	t.tenants = append(t.tenants, h)
}

// vacate ends a tenancy. With the last tenant the address is free.
func (a *Allocator) vacate(h *holding, addr netip.Addr) {
	t := a.tenants[addr]
	t.tenants = t.others(h)
	a.recount(addr)
	if len(t.tenants) > 0 {
		return
	}
	delete(a.tenants, addr)
	for _, p := range a.index().containing(addr) { // more than one only where pools overlap
		p.free(addr, a.now())
	}
}

// recount brings all that is counted of an address in use up to date. It
// counts in the pool that its owner has it from, or else in the one that
// contains it.
func (a *Allocator) recount(addr netip.Addr) {
	t := a.tenants[addr]
	a.uncount(addr, t)
	if len(t.tenants) == 0 {
		return
	}
	t.pool = a.home(addr, t.tenants[0].origin(addr))
	for _, h := range t.tenants {
		if !slices.Contains(t.namespaces, h.key.Namespace) {
			t.namespaces = append(t.namespaces, h.key.Namespace)
		}
		if key := h.claim.ShareKey; key != "" && !slices.Contains(t.keys, key) {
			t.keys = append(t.keys, key)
			a.keyed[key] = insert(a.keyed[key], addr)
		}
		if !a.Contains(h.origin(addr), addr) {
			a.outside[addr] = struct{}{}
		}
	}
	if t.pool != nil {
		t.pool.hold(addr)
		for _, namespace := range t.namespaces {
			t.pool.namespaces[namespace]++
		}
	}
}

// uncount takes an address out of all counts.
func (a *Allocator) uncount(addr netip.Addr, t *tenancy) {
	if t.pool != nil {
		t.pool.drop(addr)
		for _, namespace := range t.namespaces {
			if t.pool.namespaces[namespace]--; t.pool.namespaces[namespace] == 0 {
				delete(t.pool.namespaces, namespace)
			}
		}
	}
	for _, key := range t.keys {
		if a.keyed[key] = remove(a.keyed[key], addr); len(a.keyed[key]) == 0 {
			delete(a.keyed, key)
		}
	}
	delete(a.outside, addr)
	t.pool, t.namespaces, t.keys = nil, t.namespaces[:0], t.keys[:0]
}

// home returns the pool that has an address: the one that it is said to be
// from, or else the first that contains it, nil if none does.
func (a *Allocator) home(addr netip.Addr, origin string) *pool {
	if p := a.pools[origin]; p != nil && p.Contains(addr) {
		return p
	}
	for _, p := range a.index().containing(addr) {
		return p
	}
	return nil
}

func insert(addrs []netip.Addr, addr netip.Addr) []netip.Addr {
	i, _ := slices.BinarySearchFunc(addrs, addr, netip.Addr.Compare)
	return slices.Insert(addrs, i, addr)
}

func remove(addrs []netip.Addr, addr netip.Addr) []netip.Addr {
	i, _ := slices.BinarySearchFunc(addrs, addr, netip.Addr.Compare)
	return slices.Delete(addrs, i, i+1)
}
