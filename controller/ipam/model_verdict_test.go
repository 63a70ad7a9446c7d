package ipam

import (
	"net/netip"
	"slices"
)

// judge looks at what could be given before a request is made, and returns
// what judges the outcome by it.
func (m *model) judge(r Request, before modelService) func(Outcome) {
	wanted, unusable, _ := r.wanted()
	keeps := map[Family]Allocation{} // what is as it should be
	for _, x := range slices.Concat(before.held, before.leaving) {
		f := FamilyOf(x.Address)
		if _, ok := keeps[f]; !ok && slices.Contains(wanted, f) && m.satisfies(r, x, before) {
			keeps[f] = x
		}
	}
	var kept []Allocation
	for _, f := range wanted {
		if x, ok := keeps[f]; ok {
			kept = append(kept, x)
		}
	}
	if r.single() && len(kept) > 1 {
		kept = kept[:1]
	}
	beside := kept
	if r.single() {
		beside = nil
	}
	options := map[Family][]Allocation{}
	for _, f := range wanted {
		options[f] = m.options(r, f, beside)
	}
	pairs := false
	if !r.single() && len(wanted) == 2 && len(kept) == 0 {
		for _, x := range options[wanted[0]] {
			pairs = pairs || len(m.options(r, wanted[1], []Allocation{x})) > 0
		}
	}
	promises := map[Allocation]bool{}
	for _, ofFamily := range options {
		for _, x := range ofFamily {
			p := m.pools[x.Pool]
			if m.tenants[x.Address] == nil {
				promises[x] = m.promised(p, FamilyOf(x.Address), x.Address)
			}
		}
	}
	return func(out Outcome) {
		if unusable != nil {
			if out.Refusal == nil || out.Refusal.Reason != FamilyMismatch {
				m.Fatalf("%s asks for a family that it cannot use, and gets %s", requestText(r), outcomeText(out))
			}
			return
		}
		var fresh []Allocation
		for _, x := range out.Held {
			if f := FamilyOf(x.Address); !sameAs(keeps[f], x) && !sameAs(heldOf(before, f), x) {
				fresh = append(fresh, x)
			}
		}
		m.judgeFresh(r, out, fresh, options, promises, len(kept) == 0)
		missing := 0
		for _, f := range wanted {
			if keeps[f].Address.IsValid() || slices.ContainsFunc(out.Held, func(x Allocation) bool { return FamilyOf(x.Address) == f && r.SatisfiedBy(x) }) {
				continue
			}
			missing++
			if !r.single() && len(options[f]) > 0 && len(wanted) == 2 && len(kept) == 1 {
				m.Fatalf("%s: %s, but %s can be had: %v", requestText(r), outcomeText(out), f, options[f])
			}
		}
		switch {
		case r.single() && missing == len(wanted) && len(kept) == 0:
			for _, f := range wanted {
				if len(options[f]) > 0 {
					m.Fatalf("%s: %s, but %s can be had: %v", requestText(r), outcomeText(out), f, options[f])
				}
			}
		case !r.single() && missing > 0 && pairs:
			m.Fatalf("%s: %s, but both can be had: %v", requestText(r), outcomeText(out), options)
		case r.DualStack == PreferDualStack && missing == len(wanted) && len(wanted) > 0:
			for _, f := range wanted {
				if len(options[f]) > 0 {
					m.Fatalf("%s: %s, but one can be had: %v", requestText(r), outcomeText(out), options)
				}
			}
		}
	}
}

// judgeFresh looks at addresses that were not held before.
func (m *model) judgeFresh(r Request, out Outcome, fresh []Allocation, options map[Family][]Allocation, promises map[Allocation]bool, alone bool) {
	for i, x := range fresh {
		f := FamilyOf(x.Address)
		at := slices.IndexFunc(options[f], func(o Allocation) bool { return sameAs(o, x) && o.Pool == x.Pool })
		if at < 0 {
			m.Fatalf("%s is given %s, want one of %v", requestText(r), outcomeText(out), options[f])
		}
		if keeps, ok := promises[options[f][at]]; ok && !keeps && !r.asked(f).IsValid() {
			m.Fatalf("%s is given %s out of order", requestText(r), outcomeText(out))
		}
		if i > 0 {
			beside := fresh[:1]
			if !slices.ContainsFunc(m.options(r, f, beside), func(o Allocation) bool { return sameAs(o, x) }) &&
				!slices.ContainsFunc(m.options(r, FamilyOf(beside[0].Address), []Allocation{x}), func(o Allocation) bool { return sameAs(o, beside[0]) }) {
				m.Fatalf("%s is given %s, which is not to be had together", requestText(r), outcomeText(out))
			}
		}
		first := options[f][0].Pool
		if (r.single() || !alone) && (x.Choice == ChosenBySharing) != (len(m.others(r.Service, options[f][0].Address)) > 0 && !r.asked(f).IsValid() && r.ShareKey != "") {
			m.Fatalf("%s: %s, where %v comes first", requestText(r), outcomeText(out), options[f][0])
		}
		if single := r.single() && len(r.families()) == 1 || !r.single() && !alone; single && x.Pool != first {
			m.Fatalf("%s is given %s, but %s comes first", requestText(r), outcomeText(out), first)
		}
	}
	if len(fresh) == 2 && fresh[0].Pool != fresh[1].Pool && len(r.Addresses) == 0 && fresh[0].Choice != ChosenBySharing && fresh[1].Choice != ChosenBySharing {
		for name := range m.pools {
			inPool := func(o Allocation) bool { return o.Pool == name }
			i := slices.IndexFunc(options[IPv4], inPool)
			if i < 0 || !slices.ContainsFunc(options[IPv6], inPool) {
				continue
			}
			if slices.ContainsFunc(m.options(r, IPv6, options[IPv4][i:i+1]), inPool) {
				m.Fatalf("%s is given %s, but %s has both", requestText(r), outcomeText(out), name)
			}
		}
	}
}

// judgeKept makes sure that nothing is lost but by the owner's will.
func (m *model) judgeKept(r Request, before modelService, out Outcome) {
	wanted, _, _ := r.wanted()
	seen := map[Family]bool{}
	for _, x := range out.Held {
		if seen[FamilyOf(x.Address)] {
			m.Fatalf("%s has two of a family: %s", r.Service, outcomeText(out))
		}
		seen[FamilyOf(x.Address)] = true
	}
	if r.single() && len(out.Held) > 1 {
		m.Fatalf("%s wants one: %s", r.Service, outcomeText(out))
	}
	if r.DualStack == RequireDualStack && len(before.held) == 0 && len(out.Held) == 1 && len(wanted) == 2 {
		m.Fatalf("%s takes both or none: %s", r.Service, outcomeText(out))
	}
	for _, x := range before.held {
		f := FamilyOf(x.Address)
		switch {
		case hasAddress(out.Held, x.Address):
		case hasFamily(out.Held, f):
			if m.satisfies(r, x, before) {
				m.Fatalf("%s moves from %v unasked: %s", r.Service, x, outcomeText(out))
			}
		case m.rehomed(x):
		case len(out.Held) == 0:
			m.Fatalf("%s loses %v: %s", r.Service, x, outcomeText(out))
		case slices.Contains(wanted, f) && !r.single():
			m.Fatalf("%s loses %v: %s", r.Service, x, outcomeText(out))
		}
	}
}

// judgeMet makes sure that what is not refused is as asked for.
func (m *model) judgeMet(r Request, out Outcome) {
	wanted, _, _ := r.wanted()
	for _, x := range out.Held {
		if !r.SatisfiedBy(x) || !r.accepts(FamilyOf(x.Address)) || m.homeOfFirst(x.Address) == nil {
			m.Fatalf("%s is content with %s", requestText(r), outcomeText(out))
		}
	}
	want := len(wanted)
	if r.single() || r.DualStack == PreferDualStack && out.Lacks != nil {
		want = 1
	}
	if len(out.Held) < want {
		m.Fatalf("%s is content with %s", requestText(r), outcomeText(out))
	}
	for i := 1; i < len(out.Held); i++ {
		if slices.Index(r.families(), FamilyOf(out.Held[i-1].Address)) > slices.Index(r.families(), FamilyOf(out.Held[i].Address)) {
			m.Fatalf("%s: the order is %s", requestText(r), outcomeText(out))
		}
	}
	var implicit []ServiceKey
	for _, x := range out.Held {
		for _, other := range m.others(r.Service, x.Address) {
			if m.holds(other, x.Address) && r.ShareKey == "" && m.services[other].req.ShareKey == "" &&
				slices.Contains(r.Addresses, x.Address) && slices.Contains(m.services[other].req.Addresses, x.Address) {
				implicit = append(implicit, other)
			}
		}
	}
	if !slices.Equal(out.Implicit, implicit) {
		m.Fatalf("%s shares implicitly with %v, want %v", requestText(r), out.Implicit, implicit)
	}
}

// satisfies tells whether an address that a Service has, or is about to give
// up, is what it asks for.
func (m *model) satisfies(r Request, x Allocation, before modelService) bool {
	if m.rehomed(x) {
		return false
	}
	if asked := r.asked(FamilyOf(x.Address)); asked.IsValid() && asked != x.Address {
		return false
	}
	if len(r.Pools) > 0 && !slices.Contains(r.Pools, m.a.origin(x.Address, x.Pool, r.Pools)) {
		return false
	}
	if hasAddress(before.held, x.Address) {
		return true
	}
	return !slices.ContainsFunc(m.others(r.Service, x.Address), func(other ServiceKey) bool {
		return m.holds(other, x.Address) && !m.compatible(r, m.services[other].req, x.Address)
	})
}

func heldOf(s modelService, f Family) Allocation {
	for _, x := range s.held {
		if FamilyOf(x.Address) == f {
			return x
		}
	}
	return Allocation{}
}

func sameAs(x, y Allocation) bool {
	return x.Address == y.Address && x.Address != netip.Addr{}
}
