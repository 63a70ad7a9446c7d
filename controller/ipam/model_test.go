package ipam

import (
	"fmt"
	"maps"
	"math/big"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"
)

// model is what must be true of an allocator, kept in the simplest way there
// is, while it lives through random operations. Its rules are in
// model_rules_test.go, what it does in model_steps_test.go, how it judges
// outcomes in model_verdict_test.go, and who waits in model_waiting_test.go.
type model struct {
	*testing.T
	rnd      *rand.Rand
	clock    time.Time
	a        *Allocator
	universe []netip.Addr // all addresses that may be in a pool
	overlap  bool         // pools may have common addresses
	pools    map[string]*modelPool
	services map[ServiceKey]*modelService
	tenants  map[netip.Addr][]ServiceKey // who has an address, those who leave included, in order of age
	waiting  map[ServiceKey]*waiter
	number   int
	log      []string
}

type modelPool struct {
	Pool
	members map[netip.Addr]string // "gives" or "reserves"
	resting map[netip.Addr]time.Time
	freed   map[netip.Addr]freedOrder // what was in use since the pool is known
}

type freedOrder struct {
	at     time.Time
	number int
}

type modelService struct {
	req     Request
	held    []Allocation
	leaving []Allocation
}

// Thousands of random operations on pools and Services, in small pools so
// that they fill up, with restarts in between. After each, everything that is
// promised holds, and is counted anew in the simplest way.
func TestModel(t *testing.T) {
	seeds, steps := uint64(16), 1200
	if testing.Short() {
		seeds, steps = 4, 300
	}
	for seed := range seeds {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			newModel(t, seed).live(steps)
		})
	}
}

func newModel(t *testing.T, seed uint64) *model {
	m := &model{
		T: t, rnd: rand.New(rand.NewPCG(seed, 2)), clock: time.Unix(1_800_000_000, 0), overlap: seed%3 == 0,
		pools: map[string]*modelPool{}, services: map[ServiceKey]*modelService{}, tenants: map[netip.Addr][]ServiceKey{}, waiting: map[ServiceKey]*waiter{},
	}
	m.a = New(func() time.Time { return m.clock })
	for i := range byte(4) {
		for _, ends := range []byte{0, 250} {
			for n := range byte(6) {
				m.universe = append(m.universe, netip.AddrFrom4([4]byte{10, i, 0, ends + n}))
			}
		}
		m.universe = append(m.universe, netip.AddrFrom4([4]byte{10, i, 1, 0}), netip.AddrFrom4([4]byte{10, i, 1, 1}))
		for n := range byte(6) {
			m.universe = append(m.universe, netip.AddrFrom16([16]byte{0x20, 1, 0xd, 0xb8, 0, i, 15: n}))
		}
	}
	return m
}

func (m *model) live(steps int) {
	defer func() {
		if m.Failed() {
			m.Logf("the last steps were:")
			for _, line := range m.log[max(0, len(m.log)-12):] {
				m.Log(line)
			}
		}
	}()
	for range steps {
		switch n := m.rnd.IntN(100); {
		case n < 55:
			m.assign()
		case n < 65:
			m.settle()
		case n < 77:
			m.release()
		case n < 90:
			m.changePool()
		case n < 93:
			m.removePool()
		case n < 98:
			m.wait()
		default:
			m.restart()
		}
		m.check()
	}
}

func (m *model) say(format string, args ...any) {
	m.log = append(m.log, fmt.Sprintf(format, args...))
}

// check compares everything that can be asked.
func (m *model) check() {
	m.checkServices()
	for name, p := range m.pools {
		m.checkUsage(name, p)
		m.checkHolders(name, p)
		if got, want := m.a.Quarantined(name), m.restingNow(p); !maps.EqualFunc(got, want, time.Time.Equal) {
			m.Fatalf("%s: %v rest, want %v", name, got, want)
		}
	}
	m.checkOrigins()
	m.checkWaiting()
}

// checkServices looks for addresses that were lost, moved or doubled.
func (m *model) checkServices() {
	for service, s := range m.services {
		held, leaving := m.a.Lookup(service)
		if !slices.Equal(addressesOf(held), addressesOf(s.held)) || !sameAddresses(leaving, s.leaving) {
			m.Fatalf("%s holds %v and leaves %v, want %v and %v", service, held, leaving, s.held, s.leaving)
		}
		s.held, s.leaving = held, leaving // the names of pools may follow the pools
	}
	if len(m.a.services) != len(m.services) || len(m.a.tenants) != len(m.tenants) {
		m.Fatalf("%d Services, %d addresses, want %d, %d", len(m.a.services), len(m.a.tenants), len(m.services), len(m.tenants))
	}
	for addr, keys := range m.tenants {
		if got := m.a.Tenants(addr); !slices.Equal(got, keys) {
			m.Fatalf("%s is held by %v, want %v", addr, got, keys)
		}
	}
}

// checkUsage counts a pool.
func (m *model) checkUsage(name string, p *modelPool) {
	got, _ := m.a.Usage(name)
	total, free, inUse := map[Family]int64{}, map[Family]int64{}, map[Family]int{}
	resting := m.restingNow(p)
	for addr, kind := range p.members {
		f := FamilyOf(addr)
		counts := m.home(addr) == p
		if counts {
			inUse[f]++
		}
		if kind == "gives" || counts {
			total[f]++
		}
		if _, rests := resting[addr]; kind == "gives" && m.tenants[addr] == nil && !rests {
			free[f]++
		}
	}
	for _, f := range bothFamilies() {
		u, ok := got.Families[f]
		if ok != p.Has(f) {
			m.Fatalf("%s has %s: %t", name, f, ok)
		}
		if ok && (u.Total.Cmp(big.NewInt(total[f])) != 0 || u.Free.Cmp(big.NewInt(free[f])) != 0 || u.InUse != inUse[f]) {
			m.Fatalf("%s: %s of %s, %s free, %d in use, want %d, %d, %d", name, u.Total, f, u.Free, u.InUse, total[f], free[f], inUse[f])
		}
	}
	if got.Total.Int64() != total[IPv4]+total[IPv6] || got.Free.Int64() != free[IPv4]+free[IPv6] || got.InUse != inUse[IPv4]+inUse[IPv6] || got.Quarantined != len(resting) {
		m.Fatalf("%s: the sum is %+v", name, got)
	}
}

// checkHolders compares the lists of a pool.
func (m *model) checkHolders(name string, p *modelPool) {
	var inside, outside []netip.Addr
	for addr, keys := range m.tenants {
		if m.home(addr) == p {
			inside = append(inside, addr)
		}
		if p.members[addr] == "" && slices.ContainsFunc(keys, func(key ServiceKey) bool { return m.origin(key, addr) == name }) {
			outside = append(outside, addr)
		}
	}
	for what, test := range map[string]struct {
		got  []Holder
		want []netip.Addr
	}{"holders": {m.a.Holders(name), inside}, "out of pool": {m.a.OutOfPool(name), outside}} {
		slices.SortFunc(test.want, netip.Addr.Compare)
		var got []netip.Addr
		for _, h := range test.got {
			got = append(got, h.Address)
		}
		if !slices.Equal(got, test.want) {
			m.Fatalf("%s of %s: %v, want %v", what, name, got, test.want)
		}
	}
}

// checkOrigins makes sure that a pool which does not contain an address is
// named only where no other can be.
func (m *model) checkOrigins() {
	for service, s := range m.services {
		for _, x := range slices.Concat(s.held, s.leaving) {
			if p := m.pools[x.Pool]; p != nil && p.members[x.Address] != "" {
				continue
			}
			if home := m.homeOfFirst(x.Address); home != nil && !slices.Contains(s.req.Pools, x.Pool) {
				m.Fatalf("%s is said to have %s from %q, which is in %q", service, x.Address, x.Pool, home.Name)
			}
		}
	}
}

func addressesOf(allocations []Allocation) (addrs []netip.Addr) {
	for _, x := range allocations {
		addrs = append(addrs, x.Address)
	}
	return addrs
}

func sameAddresses(x, y []Allocation) bool {
	a, b := addressesOf(x), addressesOf(y)
	slices.SortFunc(a, netip.Addr.Compare)
	slices.SortFunc(b, netip.Addr.Compare)
	return slices.Equal(a, b)
}
