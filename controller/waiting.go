package controller

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/fairway-lb/fairway/controller/ipam"
)

// waiting are the Services whose request is not met. They are looked at again
// when something changes that may help them, in order of age. Those who wait
// for room in a pool stand in a line, and are called one after the other while
// there is room: one freed address does not have everybody looked at.
type waiting struct {
	services  map[ipam.ServiceKey]*waiter
	addresses index[netip.Addr] // by the address that they ask for and another has
	keys      index[string]     // by the key of sharing
	lines     map[string]*line  // by the pools that could serve them
	called    map[ipam.ServiceKey][]string
	pending   map[ipam.Reason]int // those without an address
}

// waiter is a Service that waits.
type waiter struct {
	key     ipam.ServiceKey
	created time.Time
	wish    ipam.Request
	reason  ipam.Reason
	// addresses that it asks for and cannot have
	addresses  []netip.Addr
	lacks      []ipam.Family // of these families, or any if there are none
	pools      []string      // in whose lines it stands
	considered []string      // that it was told of
	// holds tells that the Service has an address and waits for another.
	holds bool
}

func newWaiting() waiting {
	return waiting{
		services:  map[ipam.ServiceKey]*waiter{},
		addresses: index[netip.Addr]{},
		keys:      index[string]{},
		lines:     map[string]*line{},
		called:    map[ipam.ServiceKey][]string{},
		pending:   map[ipam.Reason]int{},
	}
}

// add has a Service that holds something or nothing wait for what its refusal
// says would help.
func (w *waiting) add(created time.Time, wish ipam.Request, refusal *ipam.Refusal, held []ipam.Allocation) {
	w.remove(wish.Service)
	s := &waiter{
		key: wish.Service, created: created, wish: wish, reason: refusal.Reason, holds: len(held) > 0,
		lacks: lackingFamilies(&wish, held), considered: refusal.Considered,
	}
	s.addresses = []netip.Addr{refusal.Address, refusal.OtherAddress}
	w.services[s.key] = s
	for _, pool := range refusal.Pools {
		w.join(pool, s)
	}
	for _, addr := range s.addresses {
		w.addresses.add(addr, s)
	}
	w.keys.add(s.wish.ShareKey, s)
	if !s.holds {
		w.pending[s.reason]++
	}
}

func (w *waiting) remove(key ipam.ServiceKey) {
	s := w.services[key]
	if s == nil {
		return
	}
	delete(w.services, key)
	for _, pool := range s.pools {
		w.lines[pool].leave(s)
		w.dropIdle(pool)
	}
	for _, addr := range s.addresses {
		w.addresses.remove(addr, s)
	}
	w.keys.remove(s.wish.ShareKey, s)
	if !s.holds {
		w.pending[s.reason]--
	}
}

// lackingFamilies returns those that nothing is held of that the Service asks
// for, or all if that is none: then it waits for another address than it has.
func lackingFamilies(wish *ipam.Request, held []ipam.Allocation) []ipam.Family {
	lacking := slices.DeleteFunc(slices.Clone(wish.Families), func(f ipam.Family) bool {
		return slices.ContainsFunc(held, func(a ipam.Allocation) bool {
			return ipam.FamilyOf(a.Address) == f && wish.SatisfiedBy(a)
		})
	})
	if len(lacking) == 0 {
		return wish.Families
	}
	return lacking
}

func (w *waiting) join(pool string, s *waiter) {
	if slices.Contains(s.pools, pool) {
		return
	}
	s.pools = append(s.pools, pool)
	if w.lines[pool] == nil {
		w.lines[pool] = &line{}
	}
	w.lines[pool].join(s)
}

// forAddress returns those who ask for an address that another Service gave
// up, or has on other terms now.
func (w *waiting) forAddress(addr netip.Addr) []ipam.ServiceKey {
	return w.addresses.inOrder(addr)
}

// forKey returns those whom an address held under a key of sharing may help.
func (w *waiting) forKey(key string) []ipam.ServiceKey {
	return w.keys.inOrder(key)
}

// inNamespace returns those whom a changed label of their namespace may help.
func (w *waiting) inNamespace(namespace string) []ipam.ServiceKey {
	return inOrder(maps.Values(w.services), func(s *waiter) bool {
		return s.key.Namespace == namespace && s.reason != ipam.InvalidRequest
	})
}

// misled returns those who were told of a pool, or named it, and cannot be
// served by it as it is now: what they were told is not true any more.
func (w *waiting) misled(pool string, couldServe func(*ipam.Request) bool) []ipam.ServiceKey {
	return inOrder(maps.Values(w.services), func(s *waiter) bool {
		told := slices.Contains(s.considered, pool) || slices.Contains(s.wish.Pools, pool)
		return told && !couldServe(&s.wish)
	})
}

// poolChanged says that a pool is new or not what it was: whom it could serve
// now stands in its line, which is called from the first on.
func (w *waiting) poolChanged(pool string, couldServe func(*ipam.Request) bool) {
	for _, s := range w.services {
		if s.reason != ipam.InvalidRequest && couldServe(&s.wish) {
			w.join(pool, s)
		}
	}
	if l := w.lines[pool]; l != nil {
		l.begin(cause{changed: true})
	}
}

// roomMade says that a pool can give an address that it could not give before,
// and that the Services of a namespace hold less of it, "" for none.
func (w *waiting) roomMade(pool, namespace string) {
	if l := w.lines[pool]; l != nil {
		l.begin(cause{namespaces: []string{namespace}})
	}
}

// call returns the next Service in the line of a pool whom it may help, false
// if there is none. Until that was looked at, nobody else of the line is
// called.
func (w *waiting) call(pool string, usage ipam.Usage) (ipam.ServiceKey, bool) {
	l := w.lines[pool]
	if l == nil || l.calling {
		return ipam.ServiceKey{}, false
	}
	s := l.next(usage)
	if s == nil {
		return ipam.ServiceKey{}, false
	}
	w.called[s.key] = append(w.called[s.key], pool)
	return s.key, true
}

// lookedAt ends a Service's turn, and returns the pools in whose lines the next
// is to be called.
func (w *waiting) lookedAt(key ipam.ServiceKey) (pools []string) {
	pools = w.called[key]
	delete(w.called, key)
	for _, pool := range pools {
		if l := w.lines[pool]; l != nil {
			l.calling = false
			w.dropIdle(pool)
		}
	}
	return pools
}

func (w *waiting) dropIdle(pool string) {
	if l := w.lines[pool]; l != nil && len(l.waiters) == 0 && !l.calling {
		delete(w.lines, pool)
	}
}

// index finds waiters by something that they wait for; the zero value of K is
// nothing.
type index[K comparable] map[K]map[*waiter]struct{}

func (x index[K]) add(at K, s *waiter) {
	var nothing K
	if at == nothing {
		return
	}
	if x[at] == nil {
		x[at] = map[*waiter]struct{}{}
	}
	x[at][s] = struct{}{}
}

func (x index[K]) remove(at K, s *waiter) {
	if delete(x[at], s); len(x[at]) == 0 {
		delete(x, at)
	}
}

func (x index[K]) inOrder(at K) []ipam.ServiceKey {
	return inOrder(maps.Keys(x[at]), func(*waiter) bool { return true })
}

func inOrder(all func(func(*waiter) bool), keep func(*waiter) bool) []ipam.ServiceKey {
	var kept []*waiter
	for s := range all {
		if keep(s) {
			kept = append(kept, s)
		}
	}
	slices.SortFunc(kept, byAge)
	keys := make([]ipam.ServiceKey, len(kept))
	for i, s := range kept {
		keys[i] = s.key
	}
	return keys
}

func byAge(a, b *waiter) int {
	return cmp.Or(a.created.Compare(b.created), cmp.Compare(a.key.Namespace, b.key.Namespace), cmp.Compare(a.key.Name, b.key.Name))
}
