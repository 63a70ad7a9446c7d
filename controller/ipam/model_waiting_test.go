package ipam

import (
	"cmp"
	"net/netip"
	"slices"
)

// waiter is a Service whose request was not met, or not wholly.
type waiter struct {
	req     Request
	refused *Refusal
	// called tells that something has happened since for which it is to be
	// looked at again.
	called bool
}

// follow notes whether a Service waits.
func (m *model) follow(r Request, out Outcome) {
	delete(m.waiting, r.Service)
	if refused := cmp.Or(out.Refusal, out.Lacks); refused != nil {
		m.waiting[r.Service] = &waiter{req: r, refused: refused}
	}
}

// call has those looked at again whom what has happened may help.
func (m *model) call(helps func(*waiter, *Refusal) bool) {
	for _, w := range m.waiting {
		w.called = w.called || helps(w, w.refused)
	}
}

// callForAddress is for an address that was given up, or is held on other
// terms.
func (m *model) callForAddress(addr netip.Addr, freed bool) {
	m.call(func(w *waiter, r *Refusal) bool {
		return r.Address == addr || r.OtherAddress == addr ||
			freed && slices.ContainsFunc(r.Pools, func(name string) bool { p := m.pools[name]; return p != nil && p.members[addr] != "" })
	})
}

// checkWaiting makes sure that nobody waits for what is to be had.
func (m *model) checkWaiting() {
	if m.overlap { // what is freed in a pool that nobody asked for may help there
		return
	}
	m.call(func(_ *waiter, r *Refusal) bool { return !r.RetryAt.IsZero() && !r.RetryAt.After(m.clock) })
	for key, w := range m.waiting {
		if !w.called && m.couldBeHelped(w.req) {
			m.Fatalf("%s waits because of %+v, and could be helped", key, *w.refused)
		}
	}
}

// couldBeHelped tells whether a request could be met better than it is.
func (m *model) couldBeHelped(r Request) bool {
	wanted, unusable, _ := r.wanted()
	if unusable != nil {
		return false
	}
	s := m.services[r.Service]
	if s == nil {
		s = &modelService{}
	}
	var kept []Allocation
	var lacking []Family
	for _, f := range wanted {
		if x := heldOf(*s, f); x.Address.IsValid() && m.satisfies(r, x, *s) {
			kept = append(kept, x)
		} else {
			lacking = append(lacking, f)
		}
	}
	if r.single() && len(kept) > 0 {
		return false
	}
	if r.DualStack == RequireDualStack && len(s.held) == 0 && len(lacking) == 2 {
		return slices.ContainsFunc(m.options(r, lacking[0], nil), func(x Allocation) bool {
			return len(m.options(r, lacking[1], []Allocation{x})) > 0
		})
	}
	return slices.ContainsFunc(lacking, func(f Family) bool { return len(m.options(r, f, kept)) > 0 })
}
