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
		"exclusive":     func(l life) { l.SetPool(poolOf("eip", "10.0.0.0/30", exclusive, boundTo("other"))) },
		"limited":       func(l life) { l.SetPool(poolOf("eip", "10.0.0.0/30", boundTo("ns"), limit("*", 0))) },
		"of protocol":   func(l life) { l.SetPool(poolOf("eip", "10.0.0.0/30", boundTo("ns"), protocol("layer2"))) },
		"for others":    func(l life) { l.SetPool(poolOf("eip", "10.0.0.0/30", boundTo("ns"), selectingServices("a=b"))) },
		"rotating":      func(l life) { l.SetPool(poolOf("eip", "10.0.0.0/30", boundTo("ns"), rotating)) },
		"grown":         func(l life) { l.SetPool(poolOf("eip", "10.0.0.0/30 9.0.0.1", boundTo("ns"))) },
		"being deleted": func(l life) { l.SetPool(poolOf("eip", "10.0.0.0/30", deleting)) },
		"full": func(l life) {
			for _, other := range []string{"o/1", "o/2", "o/3"} {
				l.Assign(req(other))
			}
		},
		"another pool preferred": func(l life) { l.SetPool(poolOf("better", "10.1.0.0/30", boundTo("ns"), priority(-1))) },
	} {
		t.Run(name, func(t *testing.T) {
			l := newLife(t, start)
			l.assign("10.0.0.1 eip ByNamespace", auto)
			happens(l)
			for range 3 {
				l.assign("10.0.0.1 eip ByNamespace", auto)
			}
			// The same after a restart, in which only the Service's status
			// and label remember.
			l.restarted(auto).assign("10.0.0.1 eip Adopted", auto)
		})
	}
}

// An address that is in no pool any more is kept, and its owner hears of it.
func TestAddressOutsideItsPool(t *testing.T) {
	auto := req("ns/svc")
	for name, happens := range map[string]func(life){
		"edited":   func(l life) { l.SetPool(poolOf("eip", "10.9.0.0/30", isDefault)) },
		"excluded": func(l life) { l.SetPool(poolOf("eip", "10.0.0.0/30 !10.0.0.1", isDefault)) },
		"deleted":  func(l life) { l.RemovePool("eip") },
	} {
		t.Run(name, func(t *testing.T) {
			l := newLife(t, poolOf("eip", "10.0.0.0/30", isDefault))
			l.assign("10.0.0.1 eip Default", auto)
			happens(l)
			for range 3 {
				l.assign("kept 10.0.0.1: NotInPool", auto)
			}
			l = l.restarted(auto)
			l.assign("kept 10.0.0.1: NotInPool", auto)
			l.SetPool(poolOf("eip", "10.0.0.0/30", isDefault))
			l.assign("10.0.0.1 eip Adopted", auto)
		})
	}
}

// A request that cannot be met leaves the Service with what it has.
func TestRefusedChangeKeepsAddress(t *testing.T) {
	l := newLife(t, poolOf("eip", "10.0.0.0/30"), poolOf("full", "10.1.0.1"), poolOf("off", "10.2.0.0/30", disabled), poolOf("six", "2001:db8::/64"))
	l.assign("10.1.0.1 full ByName", req("ns/other", named("full")))
	l.assign("10.0.0.1 eip ByName", req("ns/svc", named("eip"), families(IPv4)))
	for _, test := range []struct {
		want string
		req  Request
	}{
		{"kept 10.0.0.1: PoolNotFound", req("ns/svc", named("typo"))},
		{"kept 10.0.0.1: PoolExhausted", req("ns/svc", named("full", "typo"))},
		{"kept 10.0.0.1: PoolDisabled", req("ns/svc", named("off"))},
		{"kept 10.0.0.1: FamilyMismatch", req("ns/svc", named("six"), families(IPv4))},
		{"kept 10.0.0.1: FamilyMismatch", req("ns/svc", asking("2001:db8::1"), families(IPv4))},
		{"kept 10.0.0.1: AddressOutOfRange", req("ns/svc", named("eip"), asking("10.9.9.9"))},
		{"kept 10.0.0.1: AddressOutOfRange", req("ns/svc", asking("10.9.9.9"))},
		{"kept 10.0.0.1: AddressInUse", req("ns/svc", asking("10.1.0.1"))},
	} {
		l.assign(test.want, test.req)
		l.usage("eip", "1/2")
	}
	l.assign("10.0.0.1 eip ByName", req("ns/svc", named("eip"), families(IPv4)))
	l.holds("ns/other=10.1.0.1@full", "ns/svc=10.0.0.1@eip")
}

// The owner's changed request moves the Service; what is no longer asked for
// does not.
func TestOwnerMovesAddress(t *testing.T) {
	l := newLife(t, poolOf("eip1", "10.1.0.0/24"), poolOf("eip", "10.0.0.0/24", isDefault))
	l.assign("10.1.0.1 eip1 ByName", req("ns/svc", named("eip1")))
	l.assign("10.0.0.1 eip ByName", req("ns/svc", named("eip")))
	l.usage("eip1", "0/254")
	l.assign("10.0.0.1 eip ByName", req("ns/svc", named("eip1", "eip"))) // any of them will do
	l.assign("10.0.0.1 eip ByName", req("ns/svc"))                       // the annotation is removed
	l.assign("10.0.0.100 eip ByAddress", req("ns/svc", asking("10.0.0.100")))
	l.assign("10.0.0.110 eip ByAddress", req("ns/svc", asking("10.0.0.110")))
	l.assign("10.0.0.110 eip ByAddress", req("ns/svc"))
	l.assign("10.0.0.110 eip ByAddress", req("ns/svc", asking("10.0.0.110")))
	l.usage("eip", "1/254")
	l.assign("10.0.0.110 eip ByAddress", req("ns/svc", over("vip"), key("k"), ports(80), serviceLabelled("a", "b")))
}

// While a Service moves, its old address is nobody else's; it may go back.
func TestOldAddressIsReservedUntilSettled(t *testing.T) {
	l := newLife(t, poolOf("eip", "10.0.0.0-10.0.0.1"))
	l.Assign(req("ns/svc", asking("10.0.0.0")))
	l.Assign(req("ns/svc", asking("10.0.0.1")))
	for _, other := range []Request{req("ns/other", asking("10.0.0.0")), req("ns/other", asking("10.0.0.0"), key("k")), req("ns/other", named("eip"))} {
		if out := l.Assign(other); out.Refusal == nil {
			t.Fatalf("the address that ns/svc is leaving is given to %s", requestText(other))
		}
	}
	if out := l.Assign(req("ns/svc", asking("10.0.0.0"))); outcomeText(out) != "10.0.0.0 eip ByAddress" {
		t.Fatalf("a change of mind gives %s", outcomeText(out))
	}
	if left := l.Settle(service("ns/svc")); allocationsText(left) != "10.0.0.1@eip" {
		t.Fatalf("Settle gives up %v, want 10.0.0.1", left)
	}
	l.assign("10.0.0.1 eip ByAddress", req("ns/other", asking("10.0.0.1")))
	if left := l.Settle(service("ns/svc")); len(left) != 0 {
		t.Fatalf("a second Settle gives up %v", left)
	}
}

// All that a Service has goes when it is released, also in the middle of a
// move, and releasing again is harmless.
func TestRelease(t *testing.T) {
	l := newLife(t, poolOf("eip", "10.0.0.0-10.0.0.1 2001:db8::1"))
	l.Assign(req("ns/svc", asking("10.0.0.0")))
	l.Assign(req("ns/svc", asking("10.0.0.1", "2001:db8::1"), dual(RequireDualStack)))
	if left := l.Release(service("ns/svc")); allocationsText(left) != "10.0.0.0@eip+10.0.0.1@eip+2001:db8::1@eip" {
		t.Fatalf("Release gives up %v", left)
	}
	l.usage("eip", "0/3")
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
	l.Adopt(req("ns/older"), []netip.Addr{addr("10.0.0.0")}, "eip")
	l.Adopt(req("ns/younger"), []netip.Addr{addr("10.0.0.0")}, "eip")
	l.assign("10.0.0.0 eip Adopted", req("ns/older"))
	l.assign("kept 10.0.0.0: AddressInUse", req("ns/younger"))
	l.holds("ns/older=10.0.0.0@eip", "ns/younger=10.0.0.0@eip")
	l.usage("eip", "1/2")
	if h := l.Holders("eip"); len(h) != 1 || !slices.Equal(h[0].Services, []ServiceKey{service("ns/older"), service("ns/younger")}) {
		t.Fatalf("holders are %v", h)
	}
	l.sameKeys("tenants", l.Tenants(addr("10.0.0.0")), "ns/older", "ns/younger")
	l.assign("refused AddressInUse", req("ns/third", asking("10.0.0.0")))
	l.Release(service("ns/older"))
	l.assign("10.0.0.0 eip Adopted", req("ns/younger"))
	l.usage("eip", "1/2")
	l.assign("10.0.0.1 eip ByName", req("ns/third", named("eip")))
	l.Release(service("ns/younger"))
	l.assign("10.0.0.0 eip ByName", req("ns/fourth", named("eip")))
}

// Either owner can settle such a conflict by moving, and the other hears of
// it.
func TestClaimantsMoveAway(t *testing.T) {
	for _, mover := range []string{"ns/older", "ns/younger"} {
		l := newLife(t, poolOf("eip", "10.0.0.0"), poolOf("more", "10.0.0.1"))
		l.Adopt(req("ns/older"), []netip.Addr{addr("10.0.0.0")}, "eip")
		l.Adopt(req("ns/younger"), []netip.Addr{addr("10.0.0.0")}, "eip")
		out := l.assign("10.0.0.1 more ByName", req(mover, named("more")))
		other := map[string]string{"ns/older": "ns/younger", "ns/younger": "ns/older"}[mover]
		l.sameKeys("to be rechecked", out.Recheck, other)
		l.assign("10.0.0.0 eip Adopted", req(other))
		l.usage("eip", "1/1")
	}
}

// A claimant that asks for another pool with the address gets one of its own.
func TestYoungerClaimantChangesPool(t *testing.T) {
	l := newLife(t, poolOf("eip", "10.0.0.0-10.0.0.1"), poolOf("twin", "10.0.0.0-10.0.0.1"))
	l.Adopt(req("ns/older"), addrs("10.0.0.0"), "eip")
	l.Adopt(req("ns/younger"), addrs("10.0.0.0"), "eip")
	l.assign("10.0.0.1 twin ByName", req("ns/younger", named("twin")))
	l.assign("10.0.0.0 twin ByName", req("ns/older", named("twin")))
}

// Adoption takes the first address of each family, and trusts the label only
// for what the pool contains.
func TestAdopt(t *testing.T) {
	l := newLife(t, poolOf("four", "10.0.0.0/24"), poolOf("six", "2001:db8::/64"))
	found := []netip.Addr{addr("10.0.0.7"), addr("10.0.0.8"), addr("2001:db8::7"), {}}
	got := l.Adopt(req("ns/svc", families(IPv6, IPv4), dual(PreferDualStack), families(IPv6, IPv4)), found, "four")
	if text := allocationsText(got); text != "2001:db8::7@six+10.0.0.7@four" {
		t.Fatalf("adopted %s", text)
	}
	if got = l.Adopt(req("ns/svc"), []netip.Addr{addr("10.0.0.9")}, "four"); len(got) != 2 {
		t.Fatalf("adopted again: %v", got)
	}
	if got = l.Adopt(req("ns/none"), nil, "four"); len(got) != 0 || len(l.services) != 1 {
		t.Fatalf("adopted nothing: %v", got)
	}
	l.usage("four", "1/254")
}

// An address outside every pool is kept, counts nowhere, and becomes a
// pool's own when one comes that contains it.
func TestForeignAddress(t *testing.T) {
	l := newLife(t, poolOf("eip", "10.0.0.0/30"))
	l.Adopt(req("ns/svc"), []netip.Addr{addr("172.16.0.1")}, "")
	l.assign("kept 172.16.0.1: NotInPool", req("ns/svc"))
	l.usage("eip", "0/2")
	_, affected := l.SetPool(poolOf("new", "172.16.0.0/24", isDefault))
	l.sameKeys("affected", affected, "ns/svc")
	l.holds("ns/svc=172.16.0.1@new")
	l.usage("new", "1/254")
	l.assign("172.16.0.2 new Default", req("ns/b"))
	l.assign("172.16.0.3 new Default", req("ns/c"))
}

// A pool that was deleted and made again under its name or another gets its
// Services back, and moves none.
func TestPoolMadeAgain(t *testing.T) {
	l := newLife(t, poolOf("eip", "10.0.0.0/30"))
	l.assign("10.0.0.1 eip ByName", req("ns/named", named("eip")))
	l.assign("10.0.0.2 eip ByAddress", req("ns/free", asking("10.0.0.2")))
	l.sameKeys("affected", l.RemovePool("eip"), "ns/free", "ns/named")
	l.sameKeys("affected by nothing", l.RemovePool("eip"))
	l.holds("ns/named=10.0.0.1@eip", "ns/free=10.0.0.2@eip")
	_, affected := l.SetPool(poolOf("again", "10.0.0.0/30"))
	l.sameKeys("affected", affected, "ns/free", "ns/named")
	l.holds("ns/named=10.0.0.1@eip", "ns/free=10.0.0.2@again") // the first still asks for "eip"
	l.assign("10.0.0.1 eip ByName", req("ns/named", named("eip")))
	l.usage("again", "2/2")
	l.SetPool(poolOf("eip", "10.7.0.0/30"))
	l.assign("10.0.0.1 eip ByName", req("ns/named", named("eip")))
	l.RemovePool("again")
	l.SetPool(poolOf("eip", "10.0.0.0/30"))
	l.holds("ns/named=10.0.0.1@eip", "ns/free=10.0.0.2@eip")
	l.usage("eip", "2/2")
}

// A Service that named a pool which does not contain its address any more,
// and names none now, has it from the pool that does.
func TestNameOfPoolFollowsTheRequest(t *testing.T) {
	l := newLife(t, poolOf("eip", "10.0.0.0/30"))
	l.assign("10.0.0.1 eip ByName", req("ns/svc", named("eip")))
	l.RemovePool("eip")
	l.SetPool(poolOf("again", "10.0.0.0/30"))
	l.assign("10.0.0.1 eip ByName", req("ns/svc", named("eip")))
	l.assign("10.0.0.1 again ByName", req("ns/svc"))
}

// A pool that is deleted by force moves its Services where their requests
// allow it, and takes their addresses else.
func TestRehome(t *testing.T) {
	l := newLife(t, poolOf("old", "10.0.0.0/24 2001:db8::/64", isDefault), poolOf("new", "10.1.0.0/24"))
	requests := []Request{req("ns/auto"), req("ns/named", named("old")), req("ns/either", named("old", "new")), req("ns/dual", dual(RequireDualStack)), req("ns/elsewhere", named("new"))}
	for _, r := range requests {
		l.Assign(r)
	}
	l.SetPool(poolOf("new", "10.1.0.0/24", isDefault))
	_, affected := l.SetPool(poolOf("old", "10.0.0.0/24 2001:db8::/64", isDefault, deleting))
	l.sameKeys("affected by deletion", affected)
	for _, r := range requests[:4] {
		if out := l.Assign(r); out.Refusal != nil || out.Held[0].Pool != "old" {
			t.Fatalf("deletion moves %s: %s", r.Service, outcomeText(out))
		}
	}
	_, affected = l.SetPool(poolOf("old", "10.0.0.0/24 2001:db8::/64", isDefault, rehoming))
	l.sameKeys("affected by force", affected, "ns/auto", "ns/dual", "ns/either", "ns/named")
	l.assign("10.1.0.2 new Default", requests[0])
	out := l.Assign(requests[1])
	held, leaving := l.Lookup(service("ns/named"))
	if outcomeText(out) != "refused PoolDeleting" || len(held) != 0 || allocationsText(leaving) != "10.0.0.2@old" || !l.InUse(addr("10.0.0.2")) {
		t.Fatalf("the Service that names the pool: %s, leaving %v", outcomeText(out), leaving)
	}
	if out := l.Assign(requests[1]); outcomeText(out) != "refused PoolDeleting" {
		t.Fatalf("again: %s", outcomeText(out))
	}
	l.Settle(service("ns/named"))
	l.assign("10.1.0.3 new ByName", requests[2])
	l.assign("kept 10.1.0.4: FamilyMismatch", requests[3])
	l.usage("old", "0/18446744073709551870")
	l.assign("refused PoolDeleting", requests[1])
	l.RemovePool("old")
	l.assign("refused PoolNotFound", requests[1])
}

// Where another pool contains the address, the Service keeps it.
func TestRehomeToOverlappingPool(t *testing.T) {
	l := newLife(t, poolOf("old", "10.0.0.0/24", isDefault))
	l.assign("10.0.0.1 old Default", req("ns/svc"))
	l.assign("10.0.0.2 old Default", req("ns/other"))
	l.SetPool(poolOf("new", "10.0.0.0/24", isDefault))
	l.SetPool(poolOf("old", "10.0.0.0/24", rehoming))
	l.assign("10.0.0.2 new Default", req("ns/other"))
	l.assign("10.0.0.1 new Default", req("ns/svc"))
	l.usage("old", "0/254, 252 free")
}

// A pool that is only told again is not changed.
func TestSetPoolTellsChanges(t *testing.T) {
	all := []func(*Pool){boundTo("ns"), selecting("a", "b"), selectingServices("a=b"), disabled, deleting, rehoming, isDefault, exclusive, priority(1), protocol("vip"), rotating, quarantine(1), sharingAmong("*"), limit("a", 1)}
	l := newLife(t)
	for i := range all {
		p := poolOf("eip", "10.0.0.0/30", all[:i+1]...)
		again := poolOf("eip", "10.0.0.0/30", all[:i+1]...)
		if changed, _ := l.SetPool(p); !changed {
			t.Errorf("change %d is not noticed", i)
		}
		if changed, _ := l.SetPool(again); changed {
			t.Errorf("change %d is noticed twice", i)
		}
	}
	for _, p := range []Pool{poolOf("eip", "10.0.0.0/29", all...), poolOf("eip", "10.0.0.0/29 known", all...), poolOf("new", "10.0.0.0/29")} {
		if changed, _ := l.SetPool(p); !changed {
			t.Errorf("%s of %s is not noticed", p.Space, p.Name)
		}
	}
	if names := l.Overlaps("eip"); !slices.Equal(names, []string{"new"}) {
		t.Errorf("eip overlaps %q", names)
	}
	l.SetPool(poolOf("new", "10.0.0.8-10.0.0.9"))
	if names := l.Overlaps("eip"); len(names) != 0 {
		t.Errorf("eip overlaps %q", names)
	}
}

// What a pool of a name that there is not is asked is answered.
func TestUnknownPool(t *testing.T) {
	l := newLife(t)
	if _, ok := l.Usage("no"); ok || l.Holders("no") != nil || l.OutOfPool("no") != nil || l.Quarantined("no") != nil || l.Contains("no", addr("10.0.0.1")) || l.Overlaps("no") != nil {
		t.Error("there is an unknown pool")
	}
	if name, ok := l.PoolContaining(addr("10.0.0.1")); ok {
		t.Errorf("10.0.0.1 is in %q", name)
	}
}
