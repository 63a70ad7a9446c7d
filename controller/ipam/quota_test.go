package ipam

import (
	"slices"
	"testing"
)

// A namespace holds no more addresses of a pool than it may. Other pools are
// tried then.
func TestQuota(t *testing.T) {
	l := newLife(t, poolOf("eip", "10.0.0.0/24", isDefault, limit("*", 2), limit("big", 3), limit("none", 0)), poolOf("more", "10.1.0.0/24"))
	l.assign("10.0.0.1 eip Default", req("a/1"))
	l.assign("10.0.0.2 eip Default", req("a/2"))
	l.assign("refused QuotaExceeded", req("a/3"))
	l.assign("refused QuotaExceeded", req("a/3", asking("10.0.0.9")))
	l.assign("10.1.0.1 more ByName", req("a/3", named("eip", "more")))
	l.assign("refused QuotaExceeded", req("none/1"))
	for _, name := range []string{"big/1", "big/2", "big/3"} {
		l.Assign(req(name))
	}
	if r := l.refusedWith(req("big/4"), `"big"`, "3 addresses", `"eip"`, "spec.namespaceLimits"); !slices.Equal(r.Pools, []string{"eip"}) {
		t.Errorf("pools that could help: %q", r.Pools)
	}
	l.Release(service("a/1"))
	l.assign("10.0.0.1 eip Default", req("a/4"))
}

// Lowering a limit takes nothing away, and what came from adoption counts.
func TestQuotaIsNotRetroactive(t *testing.T) {
	l := newLife(t, poolOf("eip", "10.0.0.0/24", isDefault))
	for _, name := range []string{"a/1", "a/2", "a/3"} {
		l.Assign(req(name))
	}
	l.SetPool(poolOf("eip", "10.0.0.0/24", isDefault, limit("a", 1)))
	l.assign("10.0.0.2 eip Default", req("a/2"))
	l = l.restarted(req("a/1"), req("a/2"), req("a/3"))
	l.assign("10.0.0.2 eip Adopted", req("a/2"))
	l.assign("refused QuotaExceeded", req("a/4"))
	l.Release(service("a/1"))
	l.Release(service("a/2"))
	l.assign("refused QuotaExceeded", req("a/4"))
	l.Release(service("a/3"))
	l.assign("10.0.0.1 eip Default", req("a/4"))
}

// A move within the pool is possible at the limit, and another Service gets
// nothing while it lasts.
func TestMoveAtTheLimit(t *testing.T) {
	l := newLife(t, poolOf("eip", "10.0.0.0/24", isDefault, limit("*", 1)))
	l.assign("10.0.0.1 eip Default", req("a/1"))
	l.Assign(req("a/1", asking("10.0.0.7")))
	l.holds("a/1=10.0.0.7@eip")
	l.assign("refused QuotaExceeded", req("a/2"))
	l.Assign(req("a/1", asking("10.0.0.1"))) // a change of mind
	l.holds("a/1=10.0.0.1@eip")
	l.Settle(service("a/1"))
	l.assign("10.0.0.8 eip ByAddress", req("a/1", asking("10.0.0.8")))
	l.assign("refused QuotaExceeded", req("a/2"))
}

// A shared address counts once for each namespace.
func TestQuotaOfSharedAddress(t *testing.T) {
	l := newLife(t, poolOf("eip", "10.0.0.0/24", isDefault, limit("*", 1), sharingAmong("a", "b")))
	l.assign("10.0.0.1 eip Default", req("a/1", key("k"), ports(1)))
	l.assign("10.0.0.1 eip Sharing", req("a/2", key("k"), ports(2)))
	l.assign("10.0.0.1 eip Sharing", req("b/1", key("k"), ports(3)))
	l.assign("refused QuotaExceeded", req("a/3", key("k"), ports(1)))
	l.assign("refused QuotaExceeded", req("b/2", ports(4)))
	l.Release(service("a/1"))
	l.assign("refused QuotaExceeded", req("a/3"))
	l.Release(service("a/2"))
	l.assign("10.0.0.2 eip Default", req("a/3"))
	l.assign("refused QuotaExceeded", req("a/4", key("k"), ports(9))) // sharing with b/1 makes it two
}

// Two addresses of one pool count as two.
func TestQuotaOfDualStack(t *testing.T) {
	both := func(n int) Pool { return poolOf("eip", "10.0.0.0/24 2001:db8::/64", isDefault, limit("*", n)) }
	l := newLife(t, both(1))
	l.assign("refused QuotaExceeded", req("a/1", dual(RequireDualStack)))
	l.assign("10.0.0.1 eip Default lacks QuotaExceeded", req("a/1", dual(PreferDualStack)))
	l.assign("kept 10.0.0.1: QuotaExceeded", req("a/1", dual(RequireDualStack)))
	l.SetPool(both(2))
	l.assign("10.0.0.1 eip Default + 2001:db8:: eip Default", req("a/1", dual(RequireDualStack)))
	l.assign("10.0.0.9 eip ByAddress + 2001:db8::9 eip ByAddress", req("a/1", dual(RequireDualStack), asking("10.0.0.9", "2001:db8::9")))
	l.assign("refused QuotaExceeded", req("a/2"))
}

// Leaving an address that another Service of the namespace holds makes no
// room.
func TestMoveFromSharedAddress(t *testing.T) {
	l := newLife(t, poolOf("eip", "10.0.0.0/24", isDefault, limit("*", 1)))
	l.assign("10.0.0.1 eip Default", req("a/1", key("k"), ports(1)))
	l.assign("10.0.0.1 eip Sharing", req("a/2", key("k"), ports(2)))
	l.assign("kept 10.0.0.1: QuotaExceeded", req("a/2", key("k"), ports(2), asking("10.0.0.9")))
	l.Release(service("a/1"))
	l.assign("10.0.0.9 eip ByAddress", req("a/2", key("k"), ports(2), asking("10.0.0.9")))
}

// An address that is shared through an overlapping pool counts where it
// counted before.
func TestQuotaOfOverlappingPools(t *testing.T) {
	l := newLife(t, poolOf("eip", "10.0.0.0/24", limit("b", 0), sharingAmong("*")), poolOf("twin", "10.0.0.0/24", limit("a", 0)))
	l.assign("10.0.0.1 eip ByName", req("a/1", named("eip"), key("k"), ports(1)))
	l.assign("refused QuotaExceeded", req("b/1", named("twin"), asking("10.0.0.1"), key("k"), ports(2)))
	l.assign("10.0.0.1 twin ByName", req("a/2", named("twin"), asking("10.0.0.1"), key("k"), ports(3)))
	l.assign("10.0.0.1 twin ByName", req("c/1", named("twin"), asking("10.0.0.1"), key("k"), ports(4)))
}

// Which shared address a dual-stack Service is given may depend on what is
// left for its other family.
func TestQuotaOfSharedDualStack(t *testing.T) {
	l := newLife(t, poolOf("p", "10.0.0.1 2001:db8::1", isDefault, limit("b", 1), sharingAmong("*")), poolOf("q", "10.1.0.1", isDefault, sharingAmong("*")))
	l.assign("10.0.0.1 p ByName", req("a/1", named("p"), key("k"), ports(1)))
	l.assign("10.1.0.1 q ByName", req("a/2", named("q"), key("k"), ports(1)))
	l.assign("10.1.0.1 q Sharing + 2001:db8::1 p Default", req("b/1", dual(RequireDualStack), key("k"), ports(2)))
}
