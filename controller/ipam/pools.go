package ipam

import (
	"net/netip"
	"slices"
	"strings"
)

// SetPool adds a pool or replaces the one of its name. Nothing that is held
// changes hands. It tells whether the pool is not what it was before, and
// which Services are to be looked at again: those whose address is now said
// to be from another pool, or came into a pool or fell out of one, or is to be
// given up, and those that share one on other terms.
func (a *Allocator) SetPool(p Pool) (changed bool, affected []ServiceKey) {
	existing := a.pools[p.Name]
	if existing != nil && existing.equal(&p) {
		return false, nil
	}
	if existing == nil {
		existing = newPool(Pool{Name: p.Name}, a.now())
		a.pools[p.Name] = existing
	}
	before := existing.Pool
	found := keySet{}
	if before.Space.Equal(p.Space) {
		existing.set(p, a.now())
		a.indexed = nil
	} else {
		a.reshape(found, existing, func() { existing.set(p, a.now()) }, before.Space, p.Space)
	}
	rehome := p.Rehome && !before.Rehome
	terms := !slices.Equal(p.SharingNamespaces, before.SharingNamespaces)
	if rehome || terms {
		for _, holder := range slices.Concat(a.Holders(p.Name), a.OutOfPool(p.Name)) {
			if rehome || len(holder.Services) > 1 {
				found.add(holder.Services...)
			}
		}
	}
	return true, found.sorted()
}

// RemovePool forgets a pool. Its addresses stay with the Services that hold
// them, which are to be looked at again.
func (a *Allocator) RemovePool(name string) (affected []ServiceKey) {
	p := a.pools[name]
	if p == nil {
		return nil
	}
	found := keySet{}
	a.reshape(found, p, func() { delete(a.pools, name) }, p.Space, Space{})
	return found.sorted()
}

// reshape changes the space of a pool, and counts anew all addresses in use
// that this concerns.
func (a *Allocator) reshape(found keySet, p *pool, change func(), before, after Space) {
	concerned := map[netip.Addr]*pool{} // and where they counted
	for addr, t := range a.tenants {
		if before.Contains(addr) || after.Contains(addr) {
			concerned[addr] = t.pool
			a.uncount(addr, t)
		}
	}
	change()
	a.indexed = nil
	for _, s := range p.stocks {
		s.used = 0
	}
	for addr, counted := range concerned {
		t := a.tenants[addr]
		if after.gives(addr) {
			p.stock(addr).used++
		}
		for _, h := range t.tenants {
			if a.rename(h, addr) {
				found.add(h.key)
			}
		}
		a.recount(addr)
		if t.pool != counted {
			found.add(a.Tenants(addr)...)
		}
	}
}

// rename brings the name of the pool up to date that an address is said to be
// from, and tells whether it has changed.
func (a *Allocator) rename(h *holding, addr netip.Addr) bool {
	for _, allocations := range []*[]Allocation{&h.held, &h.leaving} {
		i := slices.IndexFunc(*allocations, func(x Allocation) bool { return x.Address == addr })
		if i < 0 {
			continue
		}
		before := (*allocations)[i].Pool
		if origin := a.origin(addr, before, h.claim.Pools); origin != before {
			*allocations = slices.Clone(*allocations)
			(*allocations)[i].Pool = origin
			return true
		}
	}
	return false
}

// keySet is a set of Services.
type keySet map[ServiceKey]struct{}

func (s keySet) add(keys ...ServiceKey) {
	for _, key := range keys {
		s[key] = struct{}{}
	}
}

func (s keySet) sorted() []ServiceKey {
	var keys []ServiceKey
	for key := range s {
		keys = append(keys, key)
	}
	slices.SortFunc(keys, func(x, y ServiceKey) int { return strings.Compare(x.String(), y.String()) })
	return keys
}
