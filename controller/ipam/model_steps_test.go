package ipam

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/labels"

	"github.com/fairway-lb/fairway/api/v1alpha2"
)

func (m *model) oneIn(n int) bool { return m.rnd.IntN(n) == 0 }

func pick[T any](m *model, of ...T) T { return of[m.rnd.IntN(len(of))] }

func (m *model) randomPool() *modelPool {
	i := m.rnd.IntN(4)
	base := i
	if m.overlap && m.oneIn(3) {
		base = m.rnd.IntN(4)
	}
	blocks := m.randomBlocks(base, 1+m.rnd.IntN(3))
	var excluded []v1alpha2.Block
	if m.oneIn(3) {
		excluded = m.randomBlocks(base, 1)
	}
	known := m.oneIn(4)
	p := &modelPool{
		Pool: Pool{
			Name: fmt.Sprintf("p%d", i), Space: NewSpace(blocks, excluded, known), Protocol: pick(m, "", "", "layer2"),
			Disabled: m.oneIn(8), Deleting: m.oneIn(12), Default: m.oneIn(3), Exclusive: m.oneIn(8), Priority: m.rnd.IntN(3),
			Rotate: m.oneIn(2), Quarantine: time.Duration(max(0, m.rnd.IntN(6)-2)) * time.Minute,
			SharingNamespaces: pick(m, nil, nil, []string{"ns0", "ns1"}, []string{"*"}),
			NamespaceLimits:   pick(m, nil, nil, map[string]int{"*": 2}, map[string]int{"ns0": 1}, map[string]int{"ns0": 3, "*": 0}),
			Namespaces:        pick(m, nil, []string{"ns0"}, []string{"ns0", "ns1"}),
			NamespaceSelector: pick(m, nil, nil, map[string]string{"team": "x"}),
			ServiceSelector:   pick(m, nil, nil, nil, labels.Selector(labels.SelectorFromSet(labels.Set{"tier": "gold"}))),
		},
		members: map[netip.Addr]string{}, resting: map[netip.Addr]time.Time{}, freed: map[netip.Addr]freedOrder{},
	}
	p.Rehome = p.Deleting && m.oneIn(2)
	for _, addr := range m.universe {
		if kind := naiveMembership(blocks, excluded, known, addr); kind != "out" {
			p.members[addr] = kind
		}
	}
	return p
}

func (m *model) randomBlocks(base, n int) (blocks []v1alpha2.Block) {
	for range n {
		text := strings.ReplaceAll(pick(m, "10.X.0.0/30", "10.X.0.0/31", "10.X.0.1-10.X.0.5", "10.X.0.3", "10.X.0.252/30", "10.X.0.254-10.X.1.1",
			"10.X.0.252/31", "2001:db8:X::/126", "2001:db8:X::2-2001:db8:X::5", "2001:db8:X::4"), "X", fmt.Sprint(base))
		spec := v1alpha2.EipSpec{Address: text}
		parsed, _, err := spec.Blocks()
		if err != nil {
			m.Fatal(err)
		}
		blocks = append(blocks, parsed...)
	}
	return blocks
}

func (m *model) randomRequest() Request {
	r := req(fmt.Sprintf("ns%d/s%d", m.rnd.IntN(3), m.rnd.IntN(5)))
	if r.Service.Namespace == "ns2" {
		r.NamespaceLabels = map[string]string{"team": "x"}
	}
	if s := m.services[r.Service]; s != nil && m.oneIn(3) {
		return s.req // looked at again
	}
	r.ServiceLabels = pick(m, nil, map[string]string{"tier": "gold"})
	for range m.rnd.IntN(3) * m.rnd.IntN(2) {
		r.Pools = append(r.Pools, fmt.Sprintf("p%d", m.rnd.IntN(5))) // p4 never exists
	}
	for range pick(m, 0, 0, 0, 1, 1, 2) {
		addr := pick(m, m.universe...)
		if !r.asked(FamilyOf(addr)).IsValid() {
			r.Addresses = append(r.Addresses, addr)
		}
	}
	r.Protocol = pick(m, "", "", "bgp", "layer2")
	r.DualStack = pick(m, "", SingleStack, PreferDualStack, RequireDualStack)
	r.Families = pick(m, nil, []Family{IPv4}, []Family{IPv6}, []Family{IPv4, IPv6}, []Family{IPv6, IPv4})
	r.ShareKey = pick(m, "", "", "k", "l")
	for range m.rnd.IntN(3) {
		r.Ports = append(r.Ports, Port{pick(m, "TCP", "UDP"), uint16(m.rnd.IntN(4))})
	}
	r.Local, r.Selector = m.oneIn(5), pick(m, "a", "b", "")
	return r
}

// assign asks for what a random request wants, and judges the outcome.
func (m *model) assign() {
	r := m.randomRequest()
	s := m.services[r.Service]
	if s == nil {
		s = &modelService{}
	}
	conflicts := m.conflicts()
	before := *s
	s.req = r // others are judged by what it asks for now
	if len(before.held)+len(before.leaving) > 0 {
		m.services[r.Service] = s
	}
	possible := m.judge(r, before)
	out := m.a.Assign(r)
	m.say("assign %s local=%t: %s", requestText(r), r.Local, outcomeText(out))
	m.judgeKept(r, before, out)
	possible(out)

	m.follow(r, out)
	m.take(s, out.Held)
	for _, x := range out.Held {
		m.callForAddress(x.Address, false)
	}
	m.call(func(w *waiter, _ *Refusal) bool { return r.ShareKey != "" && w.req.ShareKey == r.ShareKey })
	if got := m.conflicts(); out.Refusal == nil && got[r.Service] {
		m.Fatalf("%s: %s is not told that it conflicts", requestText(r), outcomeText(out))
	} else {
		delete(conflicts, r.Service)
		m.noticed("Assign", out.Recheck, conflicts, got, r.Service)
	}
	if out.Refusal == nil {
		m.judgeMet(r, out)
	}
	if m.oneIn(2) && len(s.leaving) > 0 {
		m.settleOf(r.Service)
	}
}

// take follows an outcome.
func (m *model) take(s *modelService, held []Allocation) {
	key := s.req.Service
	for _, x := range s.held {
		if !hasAddress(held, x.Address) {
			s.leaving = append(slices.Clip(s.leaving), x)
		}
	}
	s.leaving = slices.DeleteFunc(slices.Clone(s.leaving), func(x Allocation) bool { return hasAddress(held, x.Address) })
	s.held = held
	if len(s.held)+len(s.leaving) > 0 {
		m.services[key] = s
	}
	for _, x := range held {
		if slices.Contains(m.tenants[x.Address], key) {
			continue
		}
		m.tenants[x.Address] = append(m.tenants[x.Address], key)
		for _, p := range m.pools {
			delete(p.resting, x.Address)
			delete(p.freed, x.Address)
		}
	}
}

// free ends a tenancy.
func (m *model) free(key ServiceKey, gone []Allocation) {
	for _, x := range gone {
		m.callForAddress(x.Address, true)
		m.tenants[x.Address] = m.others(key, x.Address)
		if len(m.tenants[x.Address]) > 0 {
			continue
		}
		delete(m.tenants, x.Address)
		m.number++
		for _, p := range m.pools {
			if p.members[x.Address] != "gives" {
				continue
			}
			p.freed[x.Address] = freedOrder{m.clock, m.number}
			if p.Quarantine > 0 {
				p.resting[x.Address] = m.clock.Add(p.Quarantine)
			}
		}
	}
}

func (m *model) randomService() (ServiceKey, bool) {
	if len(m.services) == 0 {
		return ServiceKey{}, false
	}
	keys := slices.SortedFunc(maps.Keys(m.services), func(a, b ServiceKey) int { return strings.Compare(a.String(), b.String()) })
	return pick(m, keys...), true
}

func (m *model) settle() {
	if key, ok := m.randomService(); ok {
		m.settleOf(key)
	}
}

func (m *model) settleOf(key ServiceKey) {
	s := m.services[key]
	left := m.a.Settle(key)
	m.say("settle %s: %v", key, left)
	if !sameAddresses(left, s.leaving) {
		m.Fatalf("Settle(%s) gives up %v, want %v", key, left, s.leaving)
	}
	m.free(key, left)
	if s.leaving = nil; len(s.held) == 0 {
		delete(m.services, key)
	}
}

func (m *model) release() {
	key, ok := m.randomService()
	if !ok {
		return
	}
	s := m.services[key]
	left := m.a.Release(key)
	m.say("release %s: %v", key, left)
	if !sameAddresses(left, slices.Concat(s.held, s.leaving)) {
		m.Fatalf("Release(%s) gives up %v, want %v and %v", key, left, s.held, s.leaving)
	}
	m.free(key, left)
	delete(m.services, key)
	delete(m.waiting, key)
}

func (m *model) wait() {
	d := time.Duration(m.rnd.IntN(120)) * time.Second
	m.clock = m.clock.Add(d)
	m.say("wait %s", d)
}

func (m *model) changePool() {
	p := m.randomPool()
	old := m.pools[p.Name]
	if old != nil && m.oneIn(2) { // policies only
		p.Space, p.members = old.Space, old.members
	}
	if old != nil {
		for addr, order := range old.freed {
			if p.members[addr] == "gives" {
				p.freed[addr] = order
			}
		}
		for addr, until := range m.restingNow(old) {
			if p.members[addr] != "gives" {
				continue
			}
			if end := m.clock.Add(p.Quarantine); until.After(end) {
				until = end
			}
			p.resting[addr] = until
		}
	}
	m.changed(p.Name, func() []ServiceKey {
		m.pools[p.Name] = p
		_, affected := m.a.SetPool(p.Pool)
		m.say("set %s to %s: %+v affects %v", p.Name, p.Space, p.Pool, affected)
		return affected
	})
}

func (m *model) removePool() {
	name := fmt.Sprintf("p%d", m.rnd.IntN(4))
	m.changed(name, func() []ServiceKey {
		delete(m.pools, name)
		affected := m.a.RemovePool(name)
		m.say("remove %s affects %v", name, affected)
		return affected
	})
}

// changed makes sure that all whom the change of a pool concerns are told.
func (m *model) changed(name string, change func() []ServiceKey) {
	conflicts := m.conflicts()
	type place struct {
		names   string
		inPools string
		rehome  bool
	}
	places := func() map[ServiceKey]place {
		found := map[ServiceKey]place{}
		for key, s := range m.services {
			held, leaving := m.a.Lookup(key)
			s.held, s.leaving = held, leaving // follow the names
			var where []string
			var at place
			for _, x := range held {
				home := m.home(x.Address)
				where = append(where, fmt.Sprint(home != nil))
				at.rehome = at.rehome || m.rehomed(x)
			}
			at.names, at.inPools = allocationsText(held), strings.Join(where, ",")
			found[key] = at
		}
		return found
	}
	before := places()
	affected := change()
	after := places()
	for key := range m.services {
		if before[key] != after[key] && !(before[key].rehome && !after[key].rehome && before[key].names == after[key].names) && !slices.Contains(affected, key) {
			m.Fatalf("the change of %s makes %s %+v of %+v, and affects %v only", name, key, after[key], before[key], affected)
		}
	}
	for key, w := range m.waiting {
		w.called = w.called || slices.Contains(affected, key) || m.a.CouldServe(name, &w.req)
	}
	m.noticed("the change of "+name, affected, conflicts, m.conflicts(), ServiceKey{})
}

// noticed makes sure that those who came into a conflict or out of one are to
// be looked at again.
func (m *model) noticed(what string, told []ServiceKey, before, after map[ServiceKey]bool, except ServiceKey) {
	for key := range m.services {
		if key != except && before[key] != after[key] && !slices.Contains(told, key) {
			m.Fatalf("%s: %s was in conflict %t and is %t, and only %v are told", what, key, before[key], after[key], told)
		}
	}
}

// restart forgets everything but pools, what stands in the Services, in any
// order of age, and which addresses rest.
func (m *model) restart() {
	m.say("restart")
	m.a, m.waiting = New(func() time.Time { return m.clock }), map[ServiceKey]*waiter{}
	for _, p := range m.pools {
		m.a.SetPool(p.Pool)
		p.freed = map[netip.Addr]freedOrder{}
		p.resting = m.restingNow(p)
	}
	keys := slices.SortedFunc(maps.Keys(m.services), func(a, b ServiceKey) int { return strings.Compare(a.String(), b.String()) })
	m.rnd.Shuffle(len(keys), func(i, j int) { keys[i], keys[j] = keys[j], keys[i] })
	m.tenants = map[netip.Addr][]ServiceKey{}
	for _, key := range keys {
		s := m.services[key]
		label := ""
		if len(s.held) > 0 {
			label = s.held[0].Pool
		}
		held := m.a.Adopt(s.req, addressesOf(s.held), label)
		if !sameAddresses(held, s.held) {
			m.Fatalf("%s had %v, and %v is adopted", key, s.held, held)
		}
		s.held, s.leaving = held, nil
		if len(held) == 0 {
			delete(m.services, key)
		}
		for _, x := range held {
			m.tenants[x.Address] = append(m.tenants[x.Address], key)
		}
	}
	for name, p := range m.pools {
		for _, addr := range m.universe {
			until, ok := p.resting[addr]
			if !ok {
				continue
			}
			m.a.Rest(name, addr, until)
			if m.tenants[addr] != nil {
				delete(p.resting, addr)
				continue
			}
			m.number++
			p.freed[addr] = freedOrder{until.Add(-p.Quarantine), m.number}
		}
	}
}
