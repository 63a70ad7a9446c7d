package ipam

import (
	"net/netip"
	"slices"
	"time"
)

// Allocator knows all pools and who holds which address. It is to be used by
// one goroutine. What it returns is not to be changed, and does not change.
type Allocator struct {
	now      func() time.Time
	pools    map[string]*pool
	indexed  *index // nil while it is to be made anew
	services map[ServiceKey]*holding
	tenants  map[netip.Addr]*tenancy
	keyed    map[string][]netip.Addr // those in use under a key of sharing, ascending
	outside  map[netip.Addr]struct{} // those in use that are not in the pool that they are said to be from
}

// New returns an allocator without pools and Services. now is the clock that
// quarantines go by.
func New(now func() time.Time) *Allocator {
	return &Allocator{
		now:      now,
		pools:    map[string]*pool{},
		services: map[ServiceKey]*holding{},
		tenants:  map[netip.Addr]*tenancy{},
		keyed:    map[string][]netip.Addr{},
		outside:  map[netip.Addr]struct{}{},
	}
}

// Outcome is what a Service has after Assign.
type Outcome struct {
	// Held has at most one address of each family, in the order of the
	// request's families.
	Held []Allocation
	// Refusal is why the request is not met, nil if it is. What is held is
	// kept.
	Refusal *Refusal
	// Lacks is why a Service that prefers dual stack has an address of one
	// family only, nil if there is nothing to say or there is a Refusal.
	Lacks *Refusal
	// Implicit are the Services that an address is shared with although no
	// key says so, because all ask for it.
	Implicit []ServiceKey
	// Recheck are the Services that have an address together with this one
	// and whose own outcome may be another now.
	Recheck []ServiceKey
}

// Assign gives a Service what it asks for, or keeps what it holds. An address
// that is replaced stays reserved for the Service until Settle.
func (a *Allocator) Assign(req Request) Outcome {
	h := a.services[req.Service]
	if h == nil {
		h = &holding{key: req.Service}
	}
	var out Outcome
	out.Recheck = a.renew(h, req)
	next, refusal, lacks := a.decide(h)
	if !slices.Equal(next, h.held) {
		for _, x := range h.held {
			if !hasAddress(next, x.Address) {
				out.Recheck = a.alsoHolding(h, x.Address, out.Recheck)
			}
		}
		a.move(h, next)
	}
	out.Held, out.Refusal, out.Lacks = h.held, refusal, lacks
	for _, x := range h.held {
		if against := a.keptAgainst(h, x); against != nil && out.Refusal == nil {
			out.Refusal, out.Lacks = against, nil
			if lacks != nil {
				against.alsoWaitFor(lacks)
			}
		}
		out.Implicit = append(out.Implicit, a.sharedByAsking(h, x.Address)...)
	}
	return out
}

// Settle frees what a Service gave up when it was moved, and returns it. It
// is to be called when the Service's present addresses are written down.
func (a *Allocator) Settle(service ServiceKey) []Allocation {
	h := a.services[service]
	if h == nil {
		return nil
	}
	left := h.leaving
	h.leaving = nil
	for _, x := range left {
		a.vacate(h, x.Address)
	}
	if len(h.held) == 0 {
		delete(a.services, service)
	}
	return left
}

// Release frees all that a Service has and returns it.
func (a *Allocator) Release(service ServiceKey) []Allocation {
	h := a.services[service]
	if h == nil {
		return nil
	}
	h.leaving, h.held = slices.Concat(h.leaving, h.held), nil
	return a.Settle(service)
}

// Adopt takes over the addresses that a Service was found with, the first of
// each family, whatever the pools say. The pool is the one that they were
// recorded as coming from, "" if that is unknown. Services are to be adopted
// in order of age: of two that claim one address without consent, the first
// owns it, and Assign says so to the other. A Service that holds addresses
// already is left alone.
func (a *Allocator) Adopt(req Request, found []netip.Addr, recorded string) []Allocation {
	if h := a.services[req.Service]; h != nil {
		return h.held
	}
	h := &holding{key: req.Service, claim: req}
	var held []Allocation
	for _, family := range req.families() {
		held = a.adopted(held, &req, family, found, recorded)
	}
	for _, family := range bothFamilies() { // also what the Service should not have
		held = a.adopted(held, &req, family, found, recorded)
	}
	a.move(h, held)
	for _, x := range held {
		for _, p := range a.index().containing(x.Address) {
			p.stock(x.Address).list.skipTo(x.Address)
		}
	}
	return held
}

func (a *Allocator) adopted(held []Allocation, req *Request, family Family, found []netip.Addr, recorded string) []Allocation {
	i := slices.IndexFunc(found, func(addr netip.Addr) bool { return addr.IsValid() && FamilyOf(addr) == family })
	if i < 0 || hasAddress(held, found[i]) {
		return held
	}
	if p := a.pools[recorded]; p != nil && !p.Has(family) {
		recorded = a.namedFor(req, family) // that was recorded is the other family's
	}
	return append(held, Allocation{Address: found[i], Pool: a.origin(found[i], recorded, req.Pools), Choice: ChosenByAdoption})
}

// namedFor returns the first of the pools that a request names which has
// addresses of a family, "" if none has.
func (a *Allocator) namedFor(req *Request, family Family) string {
	for _, name := range req.Pools {
		if p := a.pools[name]; p != nil && p.Has(family) {
			return name
		}
	}
	return ""
}

// Lookup returns what a Service holds, and what it gave up and is not yet
// settled.
func (a *Allocator) Lookup(service ServiceKey) (held, leaving []Allocation) {
	if h := a.services[service]; h != nil {
		return h.held, h.leaving
	}
	return nil, nil
}

// Tenants returns the Services that have an address, those included that gave
// it up and are not yet settled, the owner first.
func (a *Allocator) Tenants(addr netip.Addr) []ServiceKey {
	t := a.tenants[addr]
	if t == nil {
		return nil
	}
	keys := make([]ServiceKey, len(t.tenants))
	for i, h := range t.tenants {
		keys[i] = h.key
	}
	return keys
}

// InUse tells whether a Service has an address, or gave it up and is not yet
// settled.
func (a *Allocator) InUse(addr netip.Addr) bool {
	return a.tenants[addr] != nil
}

// Contains tells whether the pool of a name contains an address.
func (a *Allocator) Contains(pool string, addr netip.Addr) bool {
	p := a.pools[pool]
	return p != nil && p.Contains(addr)
}

// Pool returns the pool of a name as it was set.
func (a *Allocator) Pool(name string) (Pool, bool) {
	if p := a.pools[name]; p != nil {
		return p.Pool, true
	}
	return Pool{}, false
}

// PoolsContaining returns the names of the pools that contain an address, in
// order.
func (a *Allocator) PoolsContaining(addr netip.Addr) []string {
	var names []string
	for _, p := range a.index().containing(addr) {
		names = append(names, p.Name)
	}
	return names
}

// ShareKeys returns the keys under which an address in use is shared.
func (a *Allocator) ShareKeys(addr netip.Addr) []string {
	if t := a.tenants[addr]; t != nil {
		return slices.Clone(t.keys)
	}
	return nil
}

// PoolContaining returns the name of the first pool, by name, that contains
// an address.
func (a *Allocator) PoolContaining(addr netip.Addr) (string, bool) {
	for _, p := range a.index().containing(addr) {
		return p.Name, true
	}
	return "", false
}

// origin is the pool that a found address is said to be from: the recorded
// one while it contains the address, or else a pool that does, one of those
// asked for if possible. While the Service asks for the recorded pool, no
// other takes its place: then it is the pool that has changed, not the
// owner's will.
func (a *Allocator) origin(addr netip.Addr, recorded string, asked []string) string {
	if a.Contains(recorded, addr) {
		return recorded
	}
	for _, name := range asked {
		if a.Contains(name, addr) {
			return name
		}
	}
	if recorded != "" && slices.Contains(asked, recorded) {
		return recorded
	}
	if name, ok := a.PoolContaining(addr); ok {
		return name
	}
	return recorded
}

func (a *Allocator) index() *index {
	if a.indexed == nil {
		a.indexed = newIndex(a.pools)
	}
	return a.indexed
}
