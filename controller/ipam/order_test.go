package ipam

import (
	"fmt"
	"slices"
	"testing"
	"time"
)

// The lowest free address is given, and a freed one is the next. In a range,
// those that end in .0 and .255 are like others.
func TestLowestFreeAddress(t *testing.T) {
	l := newLife(t, poolOf("eip", "10.0.0.254-10.0.1.1"))
	l.assign("10.0.0.254 eip ByName", req("a/1", named("eip")))
	l.assign("10.0.0.255 eip ByName", req("a/2", named("eip")))
	l.assign("10.0.1.0 eip ByName", req("a/3", named("eip")))
	l.Release(service("a/2"))
	l.usage("eip", "2/4")
	l.assign("10.0.0.255 eip ByName", req("a/4", named("eip")))
	l.assign("10.0.1.1 eip ByName", req("a/5", named("eip")))
	l.assign("refused PoolExhausted", req("a/6", named("eip")))
	l.usage("eip", "4/4")
	l.Release(service("a/1"))
	l.assign("10.0.0.254 eip ByName", req("a/6", named("eip")))
}

// Reserved addresses are given by name only, and count while they are in use.
func TestReservedAddresses(t *testing.T) {
	l := newLife(t, poolOf("eip", "10.0.0.0/30"), poolOf("known", "10.1.0.0/30 known"))
	l.usage("eip", "0/2")
	l.assign("10.0.0.1 eip ByName", req("a/1", named("eip")))
	l.assign("10.0.0.2 eip ByName", req("a/2", named("eip")))
	l.assign("refused PoolExhausted", req("a/3", named("eip")))
	l.assign("10.0.0.0 eip ByAddress", req("a/3", asking("10.0.0.0")))
	l.assign("10.0.0.3 eip ByAddress", req("a/4", asking("10.0.0.3")))
	l.usage("eip", "4/4")
	l.Release(service("a/3"))
	l.usage("eip", "3/3")
	l.assign("refused PoolExhausted", req("a/3", named("eip")))
	l.SetPool(poolOf("eip", "10.0.0.0/30 known"))
	l.usage("eip", "3/4")
	l.assign("10.0.0.0 eip ByName", req("a/3", named("eip")))
	l.SetPool(poolOf("eip", "10.0.0.0/30"))
	l.usage("eip", "4/4")
	l.assign("10.1.0.0 known ByName", req("a/5", named("known")))
	l.usage("known", "1/4")
}

// The frontier crosses reserved and excluded addresses and the gaps between
// blocks.
func TestOrderAcrossBlocks(t *testing.T) {
	l := newLife(t, poolOf("eip", "10.0.1.0/24 10.0.0.0/24 10.0.5.7 10.0.0.0/29 !10.0.0.2-10.0.0.253 !10.0.1.2-10.0.1.254", isDefault))
	for i, want := range []string{"10.0.0.1", "10.0.0.254", "10.0.1.1", "10.0.5.7"} {
		l.assign(want+" eip Default", req(fmt.Sprintf("a/%d", i)))
	}
	l.assign("refused PoolExhausted", req("a/9"))
}

// An address taken by name is passed over, freed and given again in order,
// wherever the search has got to.
func TestAddressesTakenByName(t *testing.T) {
	l := newLife(t, poolOf("eip", "10.0.0.0-10.0.0.7"))
	l.assign("10.0.0.1 eip ByAddress", req("a/named", asking("10.0.0.1")))
	l.assign("10.0.0.0 eip ByName", req("a/1", named("eip")))
	l.assign("10.0.0.2 eip ByName", req("a/2", named("eip")))
	for range 3 { // freed, taken by name and freed again
		l.Release(service("a/named"))
		l.assign("10.0.0.1 eip ByAddress", req("a/named", asking("10.0.0.1")))
	}
	l.assign("10.0.0.3 eip ByName", req("a/3", named("eip")))
	l.Release(service("a/named"))
	l.assign("10.0.0.1 eip ByName", req("a/4", named("eip")))
	l.assign("10.0.0.4 eip ByName", req("a/5", named("eip")))
}

// An address that is freed again and again is remembered once.
func TestFreeListDoesNotGrow(t *testing.T) {
	for _, policy := range []func(*Pool){func(*Pool) {}, rotating, quarantine(time.Hour)} {
		l := newLife(t, poolOf("eip", "10.0.0.0-10.0.0.7", policy))
		for range 100 {
			l.assign("10.0.0.5 eip ByAddress", req("a/1", asking("10.0.0.5")))
			l.Release(service("a/1"))
		}
		if list := l.pools["eip"].stocks[IPv4].list; len(list.freed.items)+len(list.resting.items) != 1 {
			t.Errorf("%d and %d addresses wait to be given again", len(list.freed.items), len(list.resting.items))
		}
	}
}

// Rotate gives what was never used, then what has been free for the longest
// time.
func TestRotate(t *testing.T) {
	l := newLife(t, poolOf("eip", "10.0.0.1-10.0.0.4", rotating, isDefault))
	l.assign("10.0.0.1 eip Default", req("a/1"))
	l.assign("10.0.0.3 eip ByAddress", req("a/3", asking("10.0.0.3")))
	l.Release(service("a/3"))
	l.wait(time.Second)
	l.Release(service("a/1"))
	l.assign("10.0.0.2 eip Default", req("a/2"))
	l.assign("10.0.0.4 eip Default", req("a/4"))
	l.wait(time.Second)
	l.Release(service("a/2"))
	l.assign("10.0.0.3 eip Default", req("b/3"))
	l.assign("10.0.0.1 eip Default", req("b/1"))
	l.assign("10.0.0.2 eip Default", req("b/2"))
	l.assign("refused PoolExhausted", req("b/4"))
}

// After a restart it goes on above the highest address in use, comes round to
// what it does not know to be used, and only then to what was freed since.
func TestRotateAfterRestart(t *testing.T) {
	l := newLife(t, poolOf("eip", "10.0.0.1-10.0.0.6", rotating, isDefault))
	for i := range 4 {
		l.assign(fmt.Sprintf("10.0.0.%d eip Default", i+1), req(fmt.Sprintf("a/%d", i+1)))
	}
	l.Release(service("a/1"))
	l.Release(service("a/3"))
	l = l.restarted(req("a/4"), req("a/2"))
	l.Release(service("a/4"))
	for i, want := range []string{"10.0.0.5", "10.0.0.6", "10.0.0.1", "10.0.0.3", "10.0.0.4"} {
		l.assign(want+" eip Default", req(fmt.Sprintf("b/%d", i)))
	}
	l.assign("refused PoolExhausted", req("b/9"))
}

// A change of the policy or the space of a pool in use keeps what is known:
// Rotate goes on where it is, Lowest begins below.
func TestPolicyChanges(t *testing.T) {
	l := newLife(t, poolOf("eip", "10.0.0.1-10.0.0.6", isDefault))
	l.assign("10.0.0.1 eip Default", req("a/1"))
	l.assign("10.0.0.2 eip Default", req("a/2"))
	l.Release(service("a/1"))
	l.SetPool(poolOf("eip", "10.0.0.1-10.0.0.6", isDefault, rotating))
	l.assign("10.0.0.3 eip Default", req("a/3"))
	l.SetPool(poolOf("eip", "10.0.0.0-10.0.0.5 10.0.0.8", isDefault, rotating))
	l.assign("10.0.0.4 eip Default", req("a/4"))
	l.assign("10.0.0.5 eip Default", req("a/5"))
	l.assign("10.0.0.8 eip Default", req("a/8"))
	l.assign("10.0.0.0 eip Default", req("a/0"))
	l.assign("10.0.0.1 eip Default", req("a/1"))
	l.Release(service("a/4"))
	l.wait(time.Second)
	l.Release(service("a/3"))
	l.SetPool(poolOf("eip", "10.0.0.0-10.0.0.5 10.0.0.8", isDefault))
	l.assign("10.0.0.3 eip Default", req("b/3"))
	l.Release(service("b/3"))
	l.SetPool(poolOf("eip", "10.0.0.0-10.0.0.5 10.0.0.8", isDefault, rotating))
	l.assign("10.0.0.4 eip Default", req("b/4"))
}

// A freed address rests; by name it is given at once.
func TestQuarantine(t *testing.T) {
	l := newLife(t, poolOf("eip", "10.0.0.1-10.0.0.2", isDefault, quarantine(10*time.Minute)))
	l.assign("10.0.0.1 eip Default", req("a/1"))
	l.assign("10.0.0.2 eip Default", req("a/2"))
	l.Release(service("a/1"))
	l.usage("eip", "1/2, 0 free, 1 resting")
	r := l.refusedWith(req("a/3"), `"eip"`, "10.0.0.1", "2026-01-02T03:10:00Z", "by name")
	if r.Reason != PoolExhausted || !r.RetryAt.Equal(l.clock.Add(10*time.Minute)) || !slices.Equal(r.Pools, []string{"eip"}) {
		t.Errorf("refused with %+v", r)
	}
	l.assign("10.0.0.1 eip ByAddress", req("a/named", asking("10.0.0.1")))
	l.usage("eip", "2/2")
	l.Release(service("a/named"))
	l.wait(10*time.Minute - 1)
	l.assign("refused PoolExhausted", req("a/3"))
	l.wait(1)
	l.usage("eip", "1/2")
	l.assign("10.0.0.1 eip Default", req("a/3"))
}

// An address that nobody is given unless by name does not rest, one in use
// neither.
func TestQuarantineOfReservedAddress(t *testing.T) {
	l := newLife(t, poolOf("eip", "10.0.0.0/30", isDefault, quarantine(time.Minute)))
	l.assign("10.0.0.0 eip ByAddress", req("a/0", asking("10.0.0.0")))
	l.Release(service("a/0"))
	l.usage("eip", "0/2")
	l.assign("10.0.0.1 eip Default", req("a/1"))
	l.Rest("eip", addr("10.0.0.1"), l.clock.Add(time.Minute))
	l.Rest("eip", addr("10.0.0.3"), l.clock.Add(time.Minute))
	l.Rest("eip", addr("10.9.9.9"), l.clock.Add(time.Minute))
	l.Rest("none", addr("10.0.0.2"), l.clock.Add(time.Minute))
	l.Rest("eip", addr("10.0.0.2"), *l.clock)
	l.usage("eip", "1/2")
}

// Quarantine survives a restart and changes of the pool, and ends when the
// pool has none or a shorter one.
func TestQuarantineIsKept(t *testing.T) {
	l := newLife(t, poolOf("eip", "10.0.0.1-10.0.0.3", isDefault, quarantine(10*time.Minute)))
	for i := range 3 {
		l.assign(fmt.Sprintf("10.0.0.%d eip Default", i+1), req(fmt.Sprintf("a/%d", i+1)))
	}
	l.Release(service("a/1"))
	l.wait(5 * time.Minute)
	l.Release(service("a/2"))
	l = l.restarted(req("a/3"))
	l.usage("eip", "1/3, 0 free, 2 resting")
	l.SetPool(poolOf("eip", "10.0.0.1-10.0.0.4", isDefault, rotating, quarantine(time.Hour)))
	l.usage("eip", "1/4, 1 free, 2 resting")
	l.wait(5 * time.Minute)
	l.usage("eip", "1/4, 2 free, 1 resting")
	l.SetPool(poolOf("eip", "10.0.0.1-10.0.0.4", isDefault, rotating, quarantine(2*time.Minute)))
	l.wait(2*time.Minute - 1)
	l.usage("eip", "1/4, 2 free, 1 resting")
	l.wait(1)
	l.usage("eip", "1/4")
	for i, want := range []string{"10.0.0.4", "10.0.0.1", "10.0.0.2"} {
		l.assign(want+" eip Default", req(fmt.Sprintf("b/%d", i)))
	}
	l.Release(service("b/1"))
	l.usage("eip", "3/4, 0 free, 1 resting")
	l.SetPool(poolOf("eip", "10.0.0.1-10.0.0.4", isDefault))
	l.usage("eip", "3/4")
}

// Where pools overlap, a freed address rests in each as long as it says.
func TestQuarantineOfOverlappingPools(t *testing.T) {
	l := newLife(t, poolOf("long", "10.0.0.1", quarantine(time.Hour)), poolOf("short", "10.0.0.1", quarantine(time.Minute)), poolOf("none", "10.0.0.1"))
	l.assign("10.0.0.1 long ByName", req("a/1", named("long")))
	l.Release(service("a/1"))
	l.usage("none", "0/1")
	l.usage("short", "0/1, 0 free, 1 resting")
	l.wait(time.Minute)
	l.usage("short", "0/1")
	l.usage("long", "0/1, 0 free, 1 resting")
	l.assign("10.0.0.1 none ByName", req("a/1", named("none")))
	l.usage("long", "0/1, 0 free")
}

// Growing and shrinking a pool counts exactly and moves nobody.
func TestPoolGrowsAndShrinks(t *testing.T) {
	l := newLife(t, poolOf("eip", "10.0.0.1-10.0.0.2", isDefault))
	l.assign("10.0.0.1 eip Default", req("a/1"))
	l.assign("10.0.0.2 eip Default", req("a/2"))
	l.assign("refused PoolExhausted", req("a/3"))
	l.SetPool(poolOf("eip", "10.0.0.1-10.0.0.2 2001:db8::/126 10.0.0.0", isDefault))
	l.usage("eip", "2/7")
	l.assign("10.0.0.0 eip Default", req("a/3"))
	l.assign("2001:db8:: eip Default", req("a/4"))
	u, _ := l.Usage("eip")
	if u.Families[IPv4].Total.Int64() != 3 || u.Families[IPv4].Free.Int64() != 0 || u.Families[IPv4].InUse != 3 ||
		u.Families[IPv6].Total.Int64() != 4 || u.Families[IPv6].Free.Int64() != 3 || u.Families[IPv6].InUse != 1 ||
		u.First != addr("10.0.0.0") || u.Last != addr("2001:db8::3") {
		t.Errorf("usage is %+v", u)
	}
	_, affected := l.SetPool(poolOf("eip", "10.0.0.1-10.0.0.2 !10.0.0.2", isDefault))
	l.sameKeys("cut off", affected, "a/2", "a/3", "a/4")
	l.usage("eip", "1/1")
	l.holds("a/1=10.0.0.1@eip", "a/2=10.0.0.2@eip", "a/3=10.0.0.0@eip", "a/4=2001:db8::@eip")
	l.assign("kept 10.0.0.2: NotInPool", req("a/2"))
	var out []string
	for _, holder := range l.OutOfPool("eip") {
		out = append(out, fmt.Sprintf("%s %s", holder.Address, holder.Services))
	}
	if want := []string{"10.0.0.0 [a/3]", "10.0.0.2 [a/2]", "2001:db8:: [a/4]"}; !slices.Equal(out, want) {
		t.Errorf("out of the pool are %q, want %q", out, want)
	}
	l.Release(service("a/2"))
	_, affected = l.SetPool(poolOf("eip", "10.0.0.0-10.0.0.2", isDefault))
	l.sameKeys("back", affected, "a/3")
	l.usage("eip", "2/3")
	l.assign("10.0.0.2 eip Default", req("a/2"))
}

// A pool with all addresses that there are costs no more than another.
func TestHugePools(t *testing.T) {
	l := newLife(t, poolOf("four", "0.0.0.0/0"), poolOf("six", "::/0"))
	l.assign("0.0.0.1 four ByName", req("a/1", named("four")))
	l.assign(":: six ByName", req("a/2", named("six")))
	l.assign("255.255.255.254 four ByAddress", req("a/3", asking("255.255.255.254")))
	l.assign("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff six ByAddress", req("a/4", asking("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff")))
	l.SetPool(poolOf("four", "0.0.0.0/0", rotating))
	l.SetPool(poolOf("six", "::/0", rotating))
	l = l.restarted(req("a/3"), req("a/4"))
	l.assign("0.0.0.1 four ByName", req("a/1", named("four"))) // above the highest there is none but reserved ones
	l.assign(":: six ByName", req("a/2", named("six")))
	if u, _ := l.Usage("six"); u.Free.String() != "340282366920938463463374607431768211454" {
		t.Errorf("free: %s", u.Free)
	}
}
