package ipam

import (
	"maps"
	"net/netip"
	"slices"
	"time"
)

// origin is the pool that an address of a Service is said to be from.
func (m *model) origin(key ServiceKey, addr netip.Addr) string {
	s := m.services[key]
	for _, x := range slices.Concat(s.held, s.leaving) {
		if x.Address == addr {
			return x.Pool
		}
	}
	return ""
}

// home is the pool that an address in use counts in: its owner's, if that
// contains it.
func (m *model) home(addr netip.Addr) *modelPool {
	keys := m.tenants[addr]
	if len(keys) == 0 {
		return nil
	}
	if p := m.pools[m.origin(keys[0], addr)]; p != nil && p.members[addr] != "" {
		return p
	}
	return m.homeOfFirst(addr)
}

// homeOfFirst is the first pool, by name, that contains an address.
func (m *model) homeOfFirst(addr netip.Addr) *modelPool {
	for _, name := range slices.Sorted(maps.Keys(m.pools)) {
		if m.pools[name].members[addr] != "" {
			return m.pools[name]
		}
	}
	return nil
}

// rehomed tells whether an address is to be given up because the pool that has
// it, or that it was cut from, is to go by force.
func (m *model) rehomed(x Allocation) bool {
	home := m.pools[x.Pool]
	if home == nil || home.members[x.Address] == "" {
		if first := m.homeOfFirst(x.Address); first != nil {
			home = first
		}
	}
	return home != nil && home.Rehome
}

func (m *model) restingNow(p *modelPool) map[netip.Addr]time.Time {
	resting := map[netip.Addr]time.Time{}
	for addr, until := range p.resting {
		if until.After(m.clock) {
			resting[addr] = until
		}
	}
	return resting
}

// candidates are the pools that may serve a family of a request, the first to
// be tried first.
func (m *model) candidates(r Request, f Family) (found []*modelPool) {
	add := func(p *modelPool) {
		if p != nil && !slices.Contains(found, p) {
			found = append(found, p)
		}
	}
	names := slices.Sorted(maps.Keys(m.pools))
	if len(r.Pools) > 0 {
		for _, name := range r.Pools {
			add(m.pools[name])
		}
		return found
	}
	asked := r.asked(f)
	for _, name := range names {
		for _, addr := range r.Addresses {
			if m.pools[name].members[addr] != "" && (!asked.IsValid() || asked == addr) {
				add(m.pools[name])
			}
		}
	}
	if asked.IsValid() {
		return found
	}
	bound := func(p *modelPool) bool {
		for key, value := range p.NamespaceSelector {
			if r.NamespaceLabels[key] == value {
				return true
			}
		}
		if len(p.Namespaces) == 0 && len(p.NamespaceSelector) == 0 && p.ServiceSelector != nil {
			return true
		}
		return slices.Contains(p.Namespaces, r.Service.Namespace)
	}
	fits := func(p *modelPool) bool {
		return (p.ServiceSelector == nil || p.ServiceSelector.Matches(r.labelSet())) &&
			(r.Protocol == "" || r.Protocol == p.Protocol || r.Protocol == "bgp" && p.Protocol == "")
	}
	for priority := range 3 {
		for _, name := range names {
			if p := m.pools[name]; p.Priority == priority && bound(p) && fits(p) {
				add(p)
			}
		}
	}
	for _, name := range names {
		if p := m.pools[name]; p.Default && fits(p) && (!p.Exclusive || bound(p)) {
			add(p)
		}
	}
	return found
}

// may tells whether a Service may be given an address of a pool by its
// request, beside what it is to have else.
func (m *model) may(r Request, p *modelPool, addr netip.Addr, beside []Allocation) bool {
	asked := r.asked(FamilyOf(addr))
	if p.members[addr] == "" || p.Disabled || p.Deleting || asked.IsValid() && asked != addr {
		return false
	}
	if p.Exclusive && !p.Binds(r.Service.Namespace, r.NamespaceLabels) {
		return false
	}
	others := m.others(r.Service, addr)
	for _, other := range others {
		if !m.holds(other, addr) || !m.compatible(r, m.services[other].req, addr) {
			return false
		}
	}
	own := m.services[r.Service] != nil && m.holds(r.Service, addr)
	if len(others) == 0 && !asked.IsValid() && !own {
		_, rests := m.restingNow(p)[addr]
		if p.members[addr] != "gives" || rests || m.tenants[addr] != nil {
			return false
		}
	}
	if len(others) > 0 && !asked.IsValid() && !own && r.ShareKey == "" {
		return false
	}
	return m.underLimit(r, p, addr, beside)
}

// underLimit tells whether the namespace may have one more.
func (m *model) underLimit(r Request, p *modelPool, addr netip.Addr, beside []Allocation) bool {
	namespace := r.Service.Namespace
	if len(m.others(r.Service, addr)) > 0 {
		p = m.home(addr)
	}
	limit, ok := p.NamespaceLimits[namespace]
	if !ok {
		if limit, ok = p.NamespaceLimits["*"]; !ok {
			return true
		}
	}
	ofOthers := func(addr netip.Addr) bool {
		return slices.ContainsFunc(m.others(r.Service, addr), func(k ServiceKey) bool { return k.Namespace == namespace })
	}
	if ofOthers(addr) {
		return true
	}
	count := 0
	for other := range m.tenants {
		if m.home(other) == p && ofOthers(other) {
			count++
		}
	}
	for _, x := range beside {
		home := m.pools[x.Pool]
		if home == nil || home.members[x.Address] == "" {
			home = m.homeOfFirst(x.Address)
		}
		if home == p && !ofOthers(x.Address) {
			count++
		}
	}
	return count < limit
}

// compatible tells whether two Services may share an address.
func (m *model) compatible(x, y Request, addr netip.Addr) bool {
	byKey := x.ShareKey != "" && x.ShareKey == y.ShareKey
	byAsking := x.ShareKey == "" && y.ShareKey == "" && slices.Contains(x.Addresses, addr) && slices.Contains(y.Addresses, addr)
	if !byKey && !byAsking {
		return false
	}
	if x.Service.Namespace != y.Service.Namespace {
		home := m.home(addr)
		if home == nil {
			return false
		}
		for _, namespace := range []string{x.Service.Namespace, y.Service.Namespace} {
			if !slices.Contains(home.SharingNamespaces, "*") && !slices.Contains(home.SharingNamespaces, namespace) {
				return false
			}
		}
	}
	for _, port := range x.Ports {
		if slices.Contains(y.Ports, port) {
			return false
		}
	}
	return !x.Local && !y.Local || x.Selector == y.Selector && x.Selector != ""
}

// inConflict tells whether a Service holds an address that an older one holds
// with whom it could not share it.
func (m *model) inConflict(key ServiceKey) bool {
	s := m.services[key]
	for _, x := range s.held {
		for _, senior := range m.tenants[x.Address] {
			if senior == key {
				break
			}
			if m.holds(senior, x.Address) && !m.compatible(s.req, m.services[senior].req, x.Address) {
				return true
			}
		}
	}
	return false
}

// conflicts are all Services for which inConflict is true.
func (m *model) conflicts() map[ServiceKey]bool {
	found := map[ServiceKey]bool{}
	for key := range m.services {
		if m.inConflict(key) {
			found[key] = true
		}
	}
	return found
}

func (m *model) holds(key ServiceKey, addr netip.Addr) bool {
	return hasAddress(m.services[key].held, addr)
}

func (m *model) others(key ServiceKey, addr netip.Addr) []ServiceKey {
	return slices.DeleteFunc(slices.Clone(m.tenants[addr]), func(k ServiceKey) bool { return k == key })
}

// options are the pools and addresses that a family may be had from, the
// first pool first. An address that is shared by its key comes before all.
func (m *model) options(r Request, f Family, beside []Allocation) (options []Allocation) {
	candidates := m.candidates(r, f)
	if len(beside) > 0 {
		slices.SortStableFunc(candidates, func(x, y *modelPool) int {
			switch partner := beside[0].Pool; {
			case x.Name == partner && y.Name != partner:
				return -1
			case y.Name == partner && x.Name != partner:
				return 1
			default:
				return 0
			}
		})
	}
	for _, sharing := range []bool{true, false} {
		for _, p := range candidates {
			for _, addr := range m.universe {
				shared := r.ShareKey != "" && !r.asked(f).IsValid() && len(m.others(r.Service, addr)) > 0 && !slices.Contains(m.tenants[addr], r.Service)
				if FamilyOf(addr) == f && shared == sharing && m.may(r, p, addr, beside) {
					options = append(options, Allocation{Address: addr, Pool: p.Name})
				}
			}
		}
	}
	return options
}

// nextOf is the address that a pool is to give next of those that it can, as
// far as its policy promises; the zero Addr if it has given none.
func (m *model) promised(p *modelPool, f Family, given netip.Addr) bool {
	resting := m.restingNow(p)
	for addr, kind := range p.members {
		if _, rests := resting[addr]; rests || kind != "gives" || FamilyOf(addr) != f || m.tenants[addr] != nil || addr == given {
			continue
		}
		if !p.Rotate {
			if addr.Less(given) {
				return false
			}
			continue
		}
		before, wasUsed := p.freed[addr]
		of, givenWasUsed := p.freed[given]
		if givenWasUsed && (!wasUsed || before.at.Before(of.at) || before.at.Equal(of.at) && before.number < of.number) {
			return false
		}
	}
	return true
}
