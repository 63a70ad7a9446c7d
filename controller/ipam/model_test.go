package ipam

import (
	"cmp"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
)

// model is what must be true of an allocator, kept in the simplest way there
// is, while it lives through random operations.
type model struct {
	*testing.T
	rnd   *rand.Rand
	a     *Allocator
	pools map[string]Pool
	held  map[ServiceKey]Allocation
	asked map[ServiceKey]Request
	born  []ServiceKey // holders in order of age
}

// Thousands of random operations, on small pools so that they fill up, with
// restarts in between: no address is held by two Services, none changes
// without its owner's request, the lowest free one is given, and the counts
// are exact.
func TestModel(t *testing.T) {
	for seed := range uint64(8) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			m := &model{T: t, rnd: rand.New(rand.NewPCG(seed, 2)), a: New(), pools: map[string]Pool{}, held: map[ServiceKey]Allocation{}, asked: map[ServiceKey]Request{}}
			for range 3000 {
				switch n := m.rnd.IntN(20); {
				case n < 12:
					m.assign()
				case n < 16:
					m.release()
				case n < 18:
					m.changePool()
				case n < 19:
					m.removePool()
				default:
					m.restart()
				}
				m.check()
			}
		})
	}
}

func (m *model) randomPool() Pool {
	i := m.rnd.IntN(4)
	p := poolOf(fmt.Sprintf("p%d", i), fmt.Sprintf("10.0.%d.0-10.0.%d.%d", i, i, 2+m.rnd.IntN(6)))
	p.Disabled = m.rnd.IntN(4) == 0
	p.Default = m.rnd.IntN(3) == 0
	p.Priority = m.rnd.IntN(3)
	if m.rnd.IntN(2) == 0 {
		p.Namespaces = []string{fmt.Sprintf("ns%d", m.rnd.IntN(2))}
	}
	return p
}

func (m *model) randomRequest() Request {
	r := req(fmt.Sprintf("ns%d/s%d", m.rnd.IntN(2), m.rnd.IntN(12)))
	if m.rnd.IntN(2) == 0 {
		r.Pool = fmt.Sprintf("p%d", m.rnd.IntN(5)) // p4 never exists
	}
	if m.rnd.IntN(3) == 0 {
		r.Address = netip.AddrFrom4([4]byte{10, 0, byte(m.rnd.IntN(4)), byte(m.rnd.IntN(9))})
	}
	return r
}

func (m *model) assign() {
	r := m.randomRequest()
	before, had := m.held[r.Service]
	got, refusal := m.a.Assign(r)
	m.asked[r.Service] = r
	switch {
	case refusal != nil:
		if got.Address != before.Address {
			m.Fatalf("a refused %s changes %v to %v", requestText(r), before, got)
		}
		if !had && r.Pool == "" && !r.Address.IsValid() {
			m.noPoolFits(r)
		}
		return
	case r.Address.IsValid() && got.Address != r.Address, r.Pool != "" && got.Pool != r.Pool:
		m.Fatalf("%s is given %v", requestText(r), got)
	case had && got.Address != before.Address:
		if (r.Pool == "" || r.Pool == before.Pool) && (!r.Address.IsValid() || r.Address == before.Address) {
			m.Fatalf("%s moves %v to %v unasked", requestText(r), before, got)
		}
		m.a.Settle(r.Service)
	}
	if !had || got.Address != before.Address {
		p := m.pools[got.Pool]
		if p.Disabled || !p.Contains(got.Address) {
			m.Fatalf("%s is given %v of pool %+v", requestText(r), got, p)
		}
		if free := m.lowestFree(p); !r.Address.IsValid() && free != got.Address && !(had && before.Address.Less(got.Address)) {
			m.Fatalf("%s is given %s, the lowest free address is %s", requestText(r), got.Address, free)
		}
	}
	if !had {
		m.born = append(m.born, r.Service)
	}
	m.held[r.Service] = got
}

// noPoolFits checks that no pool could have served an automatic request.
func (m *model) noPoolFits(r Request) {
	for _, p := range m.pools {
		if (p.Default || p.Binds(r.Service.Namespace, nil)) && !p.Disabled && m.lowestFree(p).IsValid() {
			m.Fatalf("%s is refused while %q has %s", requestText(r), p.Name, m.lowestFree(p))
		}
	}
}

func (m *model) lowestFree(p Pool) netip.Addr {
	for addr := p.Ranges[0].From(); p.Contains(addr); addr = addr.Next() {
		if !slices.ContainsFunc(slices.Collect(maps.Values(m.held)), func(h Allocation) bool { return h.Address == addr }) {
			return addr
		}
	}
	return netip.Addr{}
}

func (m *model) release() {
	if len(m.born) == 0 {
		return
	}
	i := m.rnd.IntN(len(m.born))
	service := m.born[i]
	m.born = slices.Delete(m.born, i, i+1)
	if left := m.a.Release(service); len(left) != 1 || left[0].Address != m.held[service].Address {
		m.Fatalf("Release(%s) gives up %v, want %v", service, left, m.held[service])
	}
	delete(m.held, service)
}

func (m *model) changePool() {
	p := m.randomPool()
	m.pools[p.Name] = p
	m.a.SetPool(p)
	m.follow()
}

func (m *model) removePool() {
	p := m.randomPool()
	delete(m.pools, p.Name)
	m.a.RemovePool(p.Name)
	m.follow()
}

// restart forgets everything but pools and what stands in the Services.
func (m *model) restart() {
	m.a = New()
	for _, p := range m.pools {
		m.a.SetPool(p)
	}
	for _, service := range m.born {
		m.a.Adopt(m.asked[service], m.held[service].Address, m.held[service].Pool)
	}
	m.follow()
}

// follow takes over the names of pools, which may change with the pools, and
// with them no address.
func (m *model) follow() {
	for service, held := range m.held {
		got, _ := m.a.Lookup(service)
		if got.Address != held.Address {
			m.Fatalf("%s held %s, now %s", service, held.Address, got.Address)
		}
		m.held[service] = got
	}
}

func (m *model) check() {
	owners := map[netip.Addr]ServiceKey{}
	for service, held := range m.held {
		if got, leaving := m.a.Lookup(service); got.Address != held.Address || len(leaving) != 0 {
			m.Fatalf("%s holds %v and %v, want %v", service, got, leaving, held)
		}
		if other, ok := owners[held.Address]; ok {
			m.Fatalf("%s is held by %s and %s", held.Address, service, other)
		}
		owners[held.Address] = service
	}
	if len(m.a.services) != len(m.held) || len(m.a.tenants) != len(m.held) {
		m.Fatalf("%d Services, %d addresses, want %d", len(m.a.services), len(m.a.tenants), len(m.held))
	}
	for name, p := range m.pools {
		want := 0
		for addr := range owners {
			if p.Contains(addr) {
				want++
			}
		}
		u, _ := m.a.Usage(name)
		if u.InUse != want || cmp.Compare(u.InUse, len(m.a.Holders(name))) != 0 || u.Full() != !m.lowestFree(p).IsValid() {
			m.Fatalf("%s: %d in use (full: %t), want %d", name, u.InUse, u.Full(), want)
		}
	}
}
