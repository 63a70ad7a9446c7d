package ipam

import (
	"net/netip"
	"slices"
	"testing"
)

// Nothing that happens to pools takes an address away or changes it, however
// often the Service is looked at again.
func TestAddressSurvivesWhateverHappensToItsPool(t *testing.T) {
	const svc = "ns/svc"
	auto := req(svc, labelled("team", "x"), families(IPv4))
	start := poolOf("eip", "10.0.0.0/30", boundTo("ns"), isDefault)
	for name, happens := range map[string]func(life){
		"disabled":      func(l life) { l.SetPool(poolOf("eip", "10.0.0.0/30", boundTo("ns"), disabled)) },
		"unbound":       func(l life) { l.SetPool(poolOf("eip", "10.0.0.0/30")) },
		"being deleted": func(l life) { l.SetPool(poolOf("eip", "10.0.0.0/30", deleting)) },
		"deleted":       func(l life) { l.RemovePool("eip") },
		"edited":        func(l life) { l.SetPool(poolOf("eip", "10.9.0.0/30", isDefault)) },
		"full": func(l life) {
			for _, other := range []string{"o/1", "o/2", "o/3"} {
				l.Assign(req(other))
			}
		},
		"another pool preferred": func(l life) { l.SetPool(poolOf("better", "10.1.0.0/30", boundTo("ns"), priority(-1))) },
	} {
		t.Run(name, func(t *testing.T) {
			l := newLife(t, start)
			l.assign("10.0.0.0 eip ByNamespace", auto)
			happens(l)
			for range 3 {
				l.assign("10.0.0.0 eip ByNamespace", auto)
			}
			// The same after a restart, in which only the Service's status
			// and label remember.
			restarted := newLife(t)
			for _, pool := range l.pools {
				restarted.SetPool(pool.Pool)
			}
			restarted.Adopt(auto, netip.MustParseAddr("10.0.0.0"), "eip")
			restarted.assign("10.0.0.0 eip Adopted", auto)
		})
	}
}

// A request that cannot be met leaves the Service with what it has.
func TestRefusedChangeKeepsAddress(t *testing.T) {
	l := newLife(t, poolOf("eip", "10.0.0.0/30"), poolOf("full", "10.1.0.1"), poolOf("off", "10.2.0.0/30", disabled), poolOf("six", "2001:db8::/64"))
	l.assign("10.1.0.1 full ByName", req("ns/other", named("full")))
	l.assign("10.0.0.0 eip ByName", req("ns/svc", named("eip"), families(IPv4)))
	for _, test := range []struct {
		want string
		req  Request
	}{
		{"kept 10.0.0.0: PoolNotFound", req("ns/svc", named("typo"))},
		{"kept 10.0.0.0: PoolExhausted", req("ns/svc", named("full"))},
		{"kept 10.0.0.0: PoolDisabled", req("ns/svc", named("off"))},
		{"kept 10.0.0.0: FamilyMismatch", req("ns/svc", named("six"), families(IPv4))},
		{"kept 10.0.0.0: AddressOutOfRange", req("ns/svc", named("eip"), asking("10.9.9.9"))},
		{"kept 10.0.0.0: AddressOutOfRange", req("ns/svc", asking("10.9.9.9"))},
		{"kept 10.0.0.0: AddressInUse", req("ns/svc", asking("10.1.0.1"))},
	} {
		l.assign(test.want, test.req)
		l.usage("eip", "1/4")
	}
	l.assign("10.0.0.0 eip ByName", req("ns/svc", named("eip"), families(IPv4)))
	l.holds("ns/other=10.1.0.1@full", "ns/svc=10.0.0.0@eip")
}

// The owner's changed request moves the Service; what is no longer asked for
// does not.
func TestOwnerMovesAddress(t *testing.T) {
	l := newLife(t, poolOf("eip1", "10.1.0.0/24"), poolOf("eip", "10.0.0.0/24", isDefault))
	l.assign("10.1.0.0 eip1 ByName", req("ns/svc", named("eip1")))
	l.assign("10.0.0.0 eip ByName", req("ns/svc", named("eip")))
	l.usage("eip1", "0/256")
	l.assign("10.0.0.0 eip ByName", req("ns/svc")) // the annotation is removed
	l.assign("10.0.0.100 eip ByAddress", req("ns/svc", asking("10.0.0.100")))
	l.assign("10.0.0.110 eip ByAddress", req("ns/svc", asking("10.0.0.110")))
	l.assign("10.0.0.110 eip ByAddress", req("ns/svc"))
	l.assign("10.0.0.110 eip ByAddress", req("ns/svc", asking("10.0.0.110")))
	l.usage("eip", "1/256")
}

// While a Service moves, its old address is nobody else's; it may go back.
func TestOldAddressIsReservedUntilSettled(t *testing.T) {
	a := New()
	a.SetPool(poolOf("eip", "10.0.0.0-10.0.0.1"))
	a.Assign(req("ns/svc", asking("10.0.0.0")))
	a.Assign(req("ns/svc", asking("10.0.0.1")))
	if _, refusal := a.Assign(req("ns/other", asking("10.0.0.0"))); refusal == nil || refusal.Reason != AddressInUse {
		t.Fatalf("the address that ns/svc is leaving: %v, want AddressInUse", refusal)
	}
	if got, _ := a.Assign(req("ns/svc", asking("10.0.0.0"))); got.Address.String() != "10.0.0.0" {
		t.Fatalf("a change of mind gives %s", got.Address)
	}
	if left := a.Settle(service("ns/svc")); len(left) != 1 || left[0].Address.String() != "10.0.0.1" {
		t.Fatalf("Settle gives up %v, want 10.0.0.1", left)
	}
	if _, refusal := a.Assign(req("ns/other", asking("10.0.0.1"))); refusal != nil {
		t.Fatalf("after Settle: %v", refusal)
	}
	if left := a.Settle(service("ns/svc")); len(left) != 0 {
		t.Fatalf("a second Settle gives up %v", left)
	}
}

// All that a Service has goes when it is released, also in the middle of a
// move, and releasing again is harmless.
func TestRelease(t *testing.T) {
	l := newLife(t, poolOf("eip", "10.0.0.0-10.0.0.1"))
	l.Assign(req("ns/svc", asking("10.0.0.0")))
	l.Assign(req("ns/svc", asking("10.0.0.1")))
	if left := l.Release(service("ns/svc")); len(left) != 2 {
		t.Fatalf("Release gives up %v", left)
	}
	l.usage("eip", "0/2")
	if left := l.Release(service("ns/svc")); len(left) != 0 {
		t.Fatalf("a second Release gives up %v", left)
	}
	if left := l.Release(service("no/such")); len(left) != 0 {
		t.Fatalf("Release of an unknown Service gives up %v", left)
	}
}

// Of two Services that are found with one address the first keeps it, the
// other keeps using it, and the address is free when both are gone.
func TestTwoClaimants(t *testing.T) {
	l := newLife(t, poolOf("eip", "10.0.0.0-10.0.0.1"))
	addr := netip.MustParseAddr("10.0.0.0")
	l.Adopt(req("ns/older"), addr, "eip")
	l.Adopt(req("ns/younger"), addr, "eip")
	if owner, conflict := l.Conflict(service("ns/younger")); !conflict || owner != service("ns/older") {
		t.Fatalf("the younger's conflict is %v, %t", owner, conflict)
	}
	if owner, conflict := l.Conflict(service("ns/older")); conflict {
		t.Fatalf("the older conflicts with %v", owner)
	}
	l.holds("ns/older=10.0.0.0@eip", "ns/younger=10.0.0.0@eip")
	l.usage("eip", "1/2")
	if h := l.Holders("eip"); len(h) != 1 || !slices.Equal(h[0].Services, []ServiceKey{service("ns/older"), service("ns/younger")}) {
		t.Fatalf("holders are %v", h)
	}
	l.assign("refused AddressInUse", req("ns/third", asking("10.0.0.0")))
	l.Release(service("ns/older"))
	if _, conflict := l.Conflict(service("ns/younger")); conflict {
		t.Fatal("the younger still conflicts when it is alone")
	}
	l.usage("eip", "1/2")
	l.assign("10.0.0.1 eip ByName", req("ns/third", named("eip")))
	l.Release(service("ns/younger"))
	l.assign("10.0.0.0 eip ByName", req("ns/fourth", named("eip")))
}

// The owner of the younger claim can settle the conflict by moving.
func TestYoungerClaimantMovesAway(t *testing.T) {
	l := newLife(t, poolOf("eip", "10.0.0.0-10.0.0.1"))
	l.Adopt(req("ns/older"), netip.MustParseAddr("10.0.0.0"), "eip")
	l.Adopt(req("ns/younger"), netip.MustParseAddr("10.0.0.0"), "eip")
	l.assign("10.0.0.1 eip ByAddress", req("ns/younger", asking("10.0.0.1")))
	l.holds("ns/older=10.0.0.0@eip", "ns/younger=10.0.0.1@eip")
	l.usage("eip", "2/2")
}

// An address outside every pool is kept, counts nowhere, and becomes a
// pool's own when one comes that contains it.
func TestForeignAddress(t *testing.T) {
	l := newLife(t, poolOf("eip", "10.0.0.0/30"))
	l.Adopt(req("ns/svc"), netip.MustParseAddr("172.16.0.1"), "")
	l.assign("172.16.0.1  Adopted", req("ns/svc"))
	l.usage("eip", "0/4")
	if _, renamed := l.SetPool(poolOf("new", "172.16.0.0/24", isDefault)); !slices.Equal(renamed, []ServiceKey{service("ns/svc")}) {
		t.Fatalf("renamed are %v", renamed)
	}
	l.holds("ns/svc=172.16.0.1@new")
	l.usage("new", "1/256")
	l.assign("172.16.0.0 new Default", req("ns/b"))
	l.assign("172.16.0.2 new Default", req("ns/c"))
}

// A pool that was deleted and made again under its name or another gets its
// Services back, and moves none.
func TestPoolMadeAgain(t *testing.T) {
	l := newLife(t, poolOf("eip", "10.0.0.0/30"))
	l.assign("10.0.0.0 eip ByName", req("ns/named", named("eip")))
	l.assign("10.0.0.1 eip ByAddress", req("ns/free", asking("10.0.0.1")))
	l.RemovePool("eip")
	l.holds("ns/named=10.0.0.0@eip", "ns/free=10.0.0.1@eip")
	l.SetPool(poolOf("again", "10.0.0.0/30"))
	l.holds("ns/named=10.0.0.0@eip", "ns/free=10.0.0.1@again") // the first still asks for "eip"
	l.usage("again", "2/4")
	l.SetPool(poolOf("eip", "10.7.0.0/30"))
	l.assign("10.0.0.0 eip ByName", req("ns/named", named("eip")))
	l.RemovePool("again")
	l.SetPool(poolOf("eip", "10.0.0.0/30"))
	l.holds("ns/named=10.0.0.0@eip", "ns/free=10.0.0.1@eip")
	l.usage("eip", "2/4")
}

// A pool that is only told again is not changed.
func TestSetPoolTellsChanges(t *testing.T) {
	l := newLife(t, poolOf("eip", "10.0.0.0/30", boundTo("ns")))
	for _, test := range []struct {
		pool Pool
		want bool
	}{
		{poolOf("eip", "10.0.0.0/30", boundTo("ns")), false},
		{poolOf("eip", "10.0.0.0/30", boundTo("ns"), disabled), true},
		{poolOf("eip", "10.0.0.0/30", boundTo("ns", "more")), true},
		{poolOf("eip", "10.0.0.0/30", boundTo("ns", "more"), selecting("a", "b")), true},
		{poolOf("eip", "10.0.0.0/29", boundTo("ns", "more"), selecting("a", "b")), true},
		{poolOf("new", "10.1.0.0/30"), true},
		{poolOf("new", "10.1.0.0/30"), false},
	} {
		if changed, _ := l.SetPool(test.pool); changed != test.want {
			t.Errorf("SetPool(%+v) = %t, want %t", test.pool, changed, test.want)
		}
	}
}
