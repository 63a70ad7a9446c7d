package ipam

import (
	"math/big"
	"net/netip"
	"slices"

	"go4.org/netipx"
)

// Allocator knows all pools and who holds which address. It is to be used by
// one goroutine.
type Allocator struct {
	pools    map[string]*pool
	services map[ServiceKey]*holding
	tenants  map[netip.Addr]*tenancy
}

// pool is a Pool with what the allocator knows of it.
type pool struct {
	Pool
	size *big.Int
	free map[Family]*freeList
	held map[netip.Addr]struct{} // the addresses in use that count here
}

// holding is what one Service has.
type holding struct {
	Allocation
	asked   string       // the pool that the Service last named
	leaving []Allocation // given up, but not free before Settle
}

// tenancy is who uses an address. There is more than one tenant only where
// Services were found to claim the same address; the first owns it.
type tenancy struct {
	tenants []ServiceKey
	pool    *pool // that it counts in, nil for a foreign address
}

// New returns an allocator without pools and Services.
func New() *Allocator {
	return &Allocator{
		pools:    map[string]*pool{},
		services: map[ServiceKey]*holding{},
		tenants:  map[netip.Addr]*tenancy{},
	}
}

// Assign gives a Service what it asks for, or keeps what it holds. A Refusal
// says why the request is not met; the Service then keeps what it held
// before, if anything, which is returned beside it. An address that is
// replaced stays reserved for the Service until Settle.
func (a *Allocator) Assign(req Request) (Allocation, *Refusal) {
	h := a.services[req.Service]
	if h == nil {
		chosen, refusal := a.choose(&req)
		if refusal != nil {
			return Allocation{}, refusal
		}
		a.services[req.Service] = &holding{Allocation: chosen, asked: req.Pool}
		a.occupy(req.Service, chosen)
		return chosen, nil
	}
	h.asked = req.Pool
	if req.satisfiedBy(h.Allocation) {
		return h.Allocation, nil
	}
	if i := slices.IndexFunc(h.leaving, req.satisfiedBy); i >= 0 {
		h.Allocation, h.leaving[i] = h.leaving[i], h.Allocation // a change of mind
		return h.Allocation, nil
	}
	chosen, refusal := a.choose(&req)
	if refusal != nil {
		return h.Allocation, refusal
	}
	previous := h.Allocation
	h.Allocation = chosen
	if chosen.Address == previous.Address {
		a.recount(chosen.Address) // only the pool has changed
		return chosen, nil
	}
	h.leaving = append(h.leaving, previous)
	a.occupy(req.Service, chosen)
	return chosen, nil
}

// Settle frees what a Service gave up when it was moved, and returns it. It
// is to be called when the Service's present address is written down.
func (a *Allocator) Settle(service ServiceKey) []Allocation {
	h := a.services[service]
	if h == nil {
		return nil
	}
	left := h.leaving
	h.leaving = nil
	for _, allocation := range left {
		a.vacate(service, allocation.Address)
	}
	return left
}

// Release frees all that a Service has and returns it.
func (a *Allocator) Release(service ServiceKey) []Allocation {
	left := a.Settle(service)
	h := a.services[service]
	if h == nil {
		return left
	}
	delete(a.services, service)
	a.vacate(service, h.Address)
	return append(left, h.Allocation)
}

// Adopt takes over an address that a Service was found with, whatever the
// pools say. The pool is the one it was recorded as coming from, "" if that
// is unknown. Services are to be adopted in order of age: of two that claim
// one address, the first owns it, and Conflict names the owner to the other.
// A Service that holds an address already is left alone.
func (a *Allocator) Adopt(req Request, addr netip.Addr, recorded string) Allocation {
	if h := a.services[req.Service]; h != nil {
		return h.Allocation
	}
	found := Allocation{Address: addr, Pool: a.origin(addr, recorded, req.Pool), Choice: ChosenByAdoption}
	a.services[req.Service] = &holding{Allocation: found, asked: req.Pool}
	a.occupy(req.Service, found)
	return found
}

// Lookup returns what a Service holds, and what it gave up and is not yet
// settled.
func (a *Allocator) Lookup(service ServiceKey) (held Allocation, leaving []Allocation) {
	if h := a.services[service]; h != nil {
		return h.Allocation, h.leaving
	}
	return Allocation{}, nil
}

// Conflict returns the Service that owns the address that another one holds
// as well.
func (a *Allocator) Conflict(service ServiceKey) (owner ServiceKey, conflict bool) {
	h := a.services[service]
	if h == nil {
		return ServiceKey{}, false
	}
	owner = a.tenants[h.Address].tenants[0]
	return owner, owner != service
}

// InUse tells whether a Service holds an address, or gave it up and is not
// yet settled.
func (a *Allocator) InUse(addr netip.Addr) bool {
	return a.tenants[addr] != nil
}

// Contains tells whether the pool of a name contains an address.
func (a *Allocator) Contains(pool string, addr netip.Addr) bool {
	p := a.pools[pool]
	return p != nil && p.Contains(addr)
}

// PoolContaining returns the name of the first pool, by name, that contains
// an address.
func (a *Allocator) PoolContaining(addr netip.Addr) (string, bool) {
	if p := a.containing(addr); p != nil {
		return p.Name, true
	}
	return "", false
}

// origin is the pool that a found address is said to be from: the recorded
// one while it contains the address, or while the Service still asks for it
// (then it is the pool that has changed, not the owner's will); else the one
// that does contain it.
func (a *Allocator) origin(addr netip.Addr, recorded, asked string) string {
	if p := a.pools[recorded]; p != nil && p.Contains(addr) {
		return recorded
	}
	if recorded != "" && recorded == asked {
		return recorded
	}
	if p := a.containing(addr); p != nil {
		return p.Name
	}
	return recorded
}

func (a *Allocator) containing(addr netip.Addr) *pool {
	var first *pool
	for _, p := range a.pools {
		if p.Contains(addr) && (first == nil || p.Name < first.Name) {
			first = p
		}
	}
	return first
}

// occupy makes a Service a tenant of its address, the last of those there are.
func (a *Allocator) occupy(service ServiceKey, allocation Allocation) {
	t := a.tenants[allocation.Address]
	if t == nil {
		t = &tenancy{}
		a.tenants[allocation.Address] = t
	}
	if !slices.Contains(t.tenants, service) {
		t.tenants = append(t.tenants, service)
	}
	a.recount(allocation.Address)
}

// vacate ends a tenancy. With the last tenant the address is free.
func (a *Allocator) vacate(service ServiceKey, addr netip.Addr) {
	t := a.tenants[addr]
	t.tenants = slices.DeleteFunc(t.tenants, func(k ServiceKey) bool { return k == service })
	if len(t.tenants) > 0 {
		a.recount(addr)
		return
	}
	if t.pool != nil {
		delete(t.pool.held, addr)
	}
	delete(a.tenants, addr)
	for _, p := range a.pools { // more than one only where pools overlap
		if p.Contains(addr) {
			p.free[FamilyOf(addr)].free(addr)
		}
	}
}

// recount lets an address in use count in the pool that its owner has it
// from, or else in the one that contains it.
func (a *Allocator) recount(addr netip.Addr) {
	t := a.tenants[addr]
	counted := a.pools[a.recordedPool(t.tenants[0], addr)]
	if counted == nil || !counted.Contains(addr) {
		counted = a.containing(addr)
	}
	if t.pool != nil {
		delete(t.pool.held, addr)
	}
	t.pool = counted
	if counted != nil {
		counted.held[addr] = struct{}{}
	}
}

func (a *Allocator) recordedPool(service ServiceKey, addr netip.Addr) string {
	h := a.services[service]
	if h.Address == addr {
		return h.Pool
	}
	for _, leaving := range h.leaving {
		if leaving.Address == addr {
			return leaving.Pool
		}
	}
	return ""
}

func newPool(p Pool) *pool {
	made := &pool{Pool: p, size: Size(p.Ranges), free: map[Family]*freeList{}, held: map[netip.Addr]struct{}{}}
	for _, family := range []Family{IPv4, IPv6} {
		ofFamily := slices.DeleteFunc(slices.Clone(p.Ranges), func(r netipx.IPRange) bool { return FamilyOf(r.From()) != family })
		made.free[family] = newFreeList(ofFamily)
	}
	return made
}
