package ipam

import (
	"maps"
	"math/big"
	"net/netip"
	"slices"
	"strings"
)

// SetPool adds a pool or replaces the one of its name. Nothing that is held
// changes hands. It tells whether the pool is not what it was before, and
// which Services' addresses are now said to be from another pool, because
// the one they were from is gone or does not contain them.
func (a *Allocator) SetPool(p Pool) (changed bool, renamed []ServiceKey) {
	old := a.pools[p.Name]
	switch {
	case old != nil && old.equal(&p):
		return false, nil
	case old != nil && slices.Equal(old.Ranges, p.Ranges):
		old.Pool = p
		return true, nil
	}
	a.pools[p.Name] = newPool(p)
	return true, a.recountAll()
}

// RemovePool forgets a pool. Its addresses stay with the Services that hold
// them.
func (a *Allocator) RemovePool(name string) (renamed []ServiceKey) {
	if a.pools[name] == nil {
		return nil
	}
	delete(a.pools, name)
	return a.recountAll()
}

// recountAll brings what depends on the pools' ranges up to date.
func (a *Allocator) recountAll() (renamed []ServiceKey) {
	for service, h := range a.services {
		if origin := a.origin(h.Address, h.Pool, h.asked); origin != h.Pool {
			h.Pool = origin
			renamed = append(renamed, service)
		}
	}
	for addr := range a.tenants {
		a.recount(addr)
	}
	slices.SortFunc(renamed, func(x, y ServiceKey) int { return strings.Compare(x.String(), y.String()) })
	return renamed
}

// Usage is how much of a pool is in use.
type Usage struct {
	// Total is the number of addresses in the pool, exact. It is not to be
	// changed.
	Total *big.Int
	// InUse is the number of addresses that Services hold.
	InUse int
	// First and Last are the pool's lowest and highest address.
	First, Last netip.Addr
}

// Full tells whether no address is left.
func (u Usage) Full() bool {
	return u.Total.Cmp(big.NewInt(int64(u.InUse))) <= 0
}

// Usage returns how much of a pool is in use, false if there is no such pool.
func (a *Allocator) Usage(name string) (Usage, bool) {
	p := a.pools[name]
	if p == nil {
		return Usage{}, false
	}
	u := Usage{Total: p.size, InUse: len(p.held)}
	for i, r := range p.Ranges {
		if i == 0 || r.From().Less(u.First) {
			u.First = r.From()
		}
		if i == 0 || u.Last.Less(r.To()) {
			u.Last = r.To()
		}
	}
	return u, true
}

// Holder is an address in use and the Services that have it, its owner first.
type Holder struct {
	Address  netip.Addr
	Services []ServiceKey
}

// Holders returns the addresses of a pool that are in use, in order.
func (a *Allocator) Holders(name string) []Holder {
	p := a.pools[name]
	if p == nil {
		return nil
	}
	holders := make([]Holder, 0, len(p.held))
	for _, addr := range slices.SortedFunc(maps.Keys(p.held), netip.Addr.Compare) {
		holders = append(holders, Holder{Address: addr, Services: slices.Clone(a.tenants[addr].tenants)})
	}
	return holders
}

// rangesText writes a pool's ranges as a user would.
func (p *Pool) rangesText() string {
	texts := make([]string, len(p.Ranges))
	for i, r := range p.Ranges {
		switch prefix, isPrefix := r.Prefix(); {
		case r.From() == r.To():
			texts[i] = r.From().String()
		case isPrefix:
			texts[i] = prefix.String()
		default:
			texts[i] = r.String()
		}
	}
	return strings.Join(texts, ", ")
}
