package controller

import (
	"fmt"
	"math/big"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/fairway-lb/fairway/controller/ipam"
)

// queueing is a set of waiters that a test lives through.
type queueing struct {
	*testing.T
	waiting
}

// wait has a Service "ns/name" of some age wait.
func (q *queueing) wait(name string, age int64, reason ipam.Reason, changes ...func(*ipam.Request, *ipam.Refusal)) {
	wish, refusal := ipam.Request{Service: serviceKey(name)}, &ipam.Refusal{Reason: reason}
	for _, change := range changes {
		change(&wish, refusal)
	}
	refusal.Considered = refusal.Pools
	q.add(time.Unix(age, 0), wish, refusal, nil)
}

func inLineOf(pools ...string) func(*ipam.Request, *ipam.Refusal) {
	return func(_ *ipam.Request, r *ipam.Refusal) { r.Pools = pools }
}

func forAddress(addr string) func(*ipam.Request, *ipam.Refusal) {
	return func(_ *ipam.Request, r *ipam.Refusal) { r.Address = netip.MustParseAddr(addr) }
}

func andForAddress(addr string) func(*ipam.Request, *ipam.Refusal) {
	return func(_ *ipam.Request, r *ipam.Refusal) { r.OtherAddress = netip.MustParseAddr(addr) }
}

func withKey(key string) func(*ipam.Request, *ipam.Refusal) {
	return func(w *ipam.Request, _ *ipam.Refusal) { w.ShareKey = key }
}

func serviceKey(text string) ipam.ServiceKey {
	namespace, name, _ := strings.Cut(text, "/")
	return ipam.ServiceKey{Namespace: namespace, Name: name}
}

func room(free int64) ipam.Usage {
	of := ipam.FamilyUsage{Free: big.NewInt(free)}
	return ipam.Usage{Free: big.NewInt(free), Families: map[ipam.Family]ipam.FamilyUsage{ipam.IPv4: of}}
}

// calls compares who is called in the line of a pool, one after the other,
// while so many addresses are free; each call takes one.
func (q *queueing) calls(pool string, free int64, want ...string) {
	q.Helper()
	var got []string
	for {
		key, ok := q.call(pool, room(free))
		if !ok {
			break
		}
		if again, ok := q.call(pool, room(free)); ok {
			q.Errorf("%s is called before %s was looked at", again, key)
		}
		got = append(got, key.String())
		free--
		q.remove(key) // it has got its address
		if pools := q.lookedAt(key); len(pools) != 1 || pools[0] != pool {
			q.Errorf("%s was called in the lines of %v", key, pools)
		}
	}
	q.same("called", got, want)
}

func (q *queueing) same(what string, got, want []string) {
	q.Helper()
	if fmt.Sprint(got) != fmt.Sprint(want) {
		q.Errorf("%s are %v, want %v", what, got, want)
	}
}

func texts(keys []ipam.ServiceKey) (all []string) {
	for _, key := range keys {
		all = append(all, key.String())
	}
	return all
}

// Room in a pool has the oldest looked at who wait for it, as many as there is
// room for, and nobody else.
func TestRoomIsOfferedInOrderOfAge(t *testing.T) {
	q := &queueing{t, newWaiting()}
	for i, name := range []string{"ns/c", "ns/a", "ns/d", "ns/b"} {
		q.wait(name, int64(10-i), ipam.PoolExhausted, inLineOf("x"))
	}
	q.wait("ns/elsewhere", 0, ipam.PoolExhausted, inLineOf("y"))
	q.calls("x", 4) // nothing has changed
	q.roomMade("x", "ns")
	q.calls("x", 1, "ns/b")
	q.roomMade("x", "ns")
	q.wait("ns/oldest", 1, ipam.PoolExhausted, inLineOf("x", "y"))
	q.calls("x", 9, "ns/oldest", "ns/d", "ns/a", "ns/c")
	q.roomMade("y", "ns")
	q.calls("y", 9, "ns/elsewhere")
	if len(q.lines)+len(q.services)+len(q.called) != 0 {
		t.Errorf("left behind: %v, %v, %v", q.lines, q.services, q.called)
	}
}

// One who cannot use the room does not keep it from those behind.
func TestRefusedAgainPassesRoomOn(t *testing.T) {
	q := &queueing{t, newWaiting()}
	q.wait("ns/a", 1, ipam.PoolExhausted, inLineOf("x"))
	q.wait("ns/b", 2, ipam.PoolExhausted, inLineOf("x"))
	q.roomMade("x", "ns")
	for _, want := range []string{"ns/a", "ns/b"} {
		key, _ := q.call("x", room(1))
		if key.String() != want {
			t.Fatalf("%s is called, want %s", key, want)
		}
		q.wait(want, 1, ipam.QuotaExceeded, inLineOf("x")) // refused, for another reason
		q.lookedAt(key)
	}
	q.calls("x", 1)
}

// What does not concern the pool's room is woken by what does concern it.
func TestWakesOnlyWhomItMayHelp(t *testing.T) {
	q := &queueing{t, newWaiting()}
	q.wait("a/quota", 1, ipam.QuotaExceeded, inLineOf("x"))
	q.wait("b/quota", 2, ipam.QuotaExceeded, inLineOf("x"))
	q.wait("b/taken", 3, ipam.AddressInUse, forAddress("10.0.0.1"))
	q.wait("b/shares", 4, ipam.SharingRefused, forAddress("10.0.0.1"), andForAddress("2001:db8::1"), withKey("k"))
	q.wait("b/junk", 0, ipam.InvalidRequest)
	q.wait("c/nopool", 5, ipam.NoEligiblePool)

	q.same("waiting for 10.0.0.1", texts(q.forAddress(netip.MustParseAddr("10.0.0.1"))), []string{"b/taken", "b/shares"})
	q.same("waiting for 10.0.0.2", texts(q.forAddress(netip.MustParseAddr("10.0.0.2"))), nil)
	q.same("waiting for 2001:db8::1", texts(q.forAddress(netip.MustParseAddr("2001:db8::1"))), []string{"b/shares"})
	q.same("waiting with key k", texts(q.forKey("k")), []string{"b/shares"})
	q.same("misled about x", texts(q.misled("x", func(wish *ipam.Request) bool { return wish.Service.Namespace == "b" })), []string{"a/quota"})
	q.same("waiting in b", texts(q.inNamespace("b")), []string{"b/quota", "b/taken", "b/shares"})
	if q.pending[ipam.QuotaExceeded] != 2 || q.pending[ipam.NoEligiblePool] != 1 {
		t.Errorf("pending are %v", q.pending)
	}

	q.roomMade("x", "b") // a Service of b holds less, and the address is not free yet
	q.calls("x", 0, "b/quota")
	q.poolChanged("x", func(wish *ipam.Request) bool { return wish.Service.Namespace != "b" })
	q.calls("x", 5, "a/quota", "c/nopool")
	q.poolChanged("x", func(*ipam.Request) bool { return true })
	q.calls("x", 0, "b/taken", "b/shares") // no room, but they do not wait for any
	if q.pending[ipam.QuotaExceeded] != 0 || q.pending[ipam.InvalidRequest] != 1 {
		t.Errorf("pending are %v", q.pending)
	}
}
