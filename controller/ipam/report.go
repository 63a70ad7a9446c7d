package ipam

import (
	"maps"
	"math/big"
	"net/netip"
	"slices"
	"time"
)

// Usage returns how much of a pool is in use, false if there is no such pool.
func (a *Allocator) Usage(name string) (Usage, bool) {
	p := a.pools[name]
	if p == nil {
		return Usage{}, false
	}
	u := Usage{Total: new(big.Int), Free: new(big.Int), Families: map[Family]FamilyUsage{}}
	u.First, u.Last = p.Space.Bounds()
	for family, s := range p.stocks {
		if !p.Has(family) {
			continue
		}
		of := s.usage(a.now())
		u.Families[family] = of
		u.Total.Add(u.Total, of.Total)
		u.Free.Add(u.Free, of.Free)
		u.InUse += of.InUse
		u.Quarantined += len(s.list.resting.items)
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
	var holders []Holder
	for _, family := range bothFamilies() {
		for _, addr := range slices.SortedFunc(maps.Keys(p.stocks[family].held), netip.Addr.Compare) {
			holders = append(holders, Holder{Address: addr, Services: a.Tenants(addr)})
		}
	}
	return holders
}

// OutOfPool returns the addresses that are said to be from a pool and that it
// does not contain any more, in order.
func (a *Allocator) OutOfPool(name string) []Holder {
	if a.pools[name] == nil {
		return nil
	}
	var holders []Holder
	for _, addr := range slices.SortedFunc(maps.Keys(a.outside), netip.Addr.Compare) {
		if a.Contains(name, addr) {
			continue
		}
		holder := Holder{Address: addr}
		for _, h := range a.tenants[addr].tenants {
			if h.origin(addr) == name {
				holder.Services = append(holder.Services, h.key)
			}
		}
		if len(holder.Services) > 0 {
			holders = append(holders, holder)
		}
	}
	return holders
}

// Overlaps returns the names of the other pools that have addresses of a
// pool, in order.
func (a *Allocator) Overlaps(name string) []string {
	return a.index().overlapping(name)
}

// Quarantined returns the addresses of a pool that rest after their use, and
// until when. Those that are given only by name do not need to.
func (a *Allocator) Quarantined(name string) map[netip.Addr]time.Time {
	p := a.pools[name]
	if p == nil {
		return nil
	}
	resting := map[netip.Addr]time.Time{}
	for _, s := range p.stocks {
		s.list.expire(a.now())
		for _, it := range s.list.resting.items {
			resting[it.addr] = it.until
		}
	}
	return resting
}

// Rest puts a free address in quarantine again, as it was before a restart,
// for not longer than the pool says. It has no effect on an address in use,
// or when the quarantine is over.
func (a *Allocator) Rest(name string, addr netip.Addr, until time.Time) {
	p, now := a.pools[name], a.now()
	if p == nil || !p.Space.gives(addr) || a.InUse(addr) {
		return
	}
	if end := now.Add(p.Quarantine); until.After(end) {
		until = end
	}
	if until.After(now) {
		p.stock(addr).list.rest(addr, until.Add(-p.Quarantine), until)
	}
}
