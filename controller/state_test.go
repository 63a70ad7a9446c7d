package controller

import (
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"

	"k8s.io/client-go/tools/events"

	"github.com/fairway-lb/fairway/controller/ipam"
)

// Those who wait are looked at again in order of age, and only for what can
// help them.
func TestWaiting(t *testing.T) {
	key := func(namespace, name string) ipam.ServiceKey { return ipam.ServiceKey{Namespace: namespace, Name: name} }
	one, two := netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.0.2")
	inX := func(pool string) bool { return pool == "x" }
	inNone := func(string) bool { return false }
	w := newWaiting()
	for key, s := range map[ipam.ServiceKey]waiter{
		key("b", "full"):    {created: time.Unix(3, 0), reason: ipam.PoolExhausted},
		key("c", "full"):    {created: time.Unix(4, 0), reason: ipam.PoolExhausted, wish: ipam.Request{Pool: "x"}},
		key("a", "taken"):   {created: time.Unix(1, 0), reason: ipam.AddressInUse, holds: true, wish: ipam.Request{Address: one}},
		key("a", "nopool"):  {created: time.Unix(2, 0), reason: ipam.NoEligiblePool},
		key("a", "invalid"): {created: time.Unix(0, 0), reason: ipam.InvalidRequest},
		key("a", "twin"):    {created: time.Unix(3, 0), reason: ipam.PoolExhausted},
	} {
		w.add(key, s)
	}
	for name, test := range map[string]struct{ got, want []ipam.ServiceKey }{
		"a pool":      {w.all(), []ipam.ServiceKey{key("a", "taken"), key("a", "nopool"), key("a", "twin"), key("b", "full"), key("c", "full")}},
		"one of x":    {w.forAddress(one, inX), []ipam.ServiceKey{key("a", "taken"), key("a", "twin"), key("b", "full"), key("c", "full")}},
		"two of x":    {w.forAddress(two, inX), []ipam.ServiceKey{key("a", "twin"), key("b", "full"), key("c", "full")}},
		"two of none": {w.forAddress(two, inNone), []ipam.ServiceKey{key("a", "twin"), key("b", "full")}},
		"a namespace": {w.inNamespace("b"), []ipam.ServiceKey{key("b", "full")}},
	} {
		if !reflect.DeepEqual(test.got, test.want) {
			t.Errorf("%s helps %v, want %v", name, test.got, test.want)
		}
	}
	if w.withoutAddress != 5 {
		t.Errorf("%d have no address, want 5", w.withoutAddress)
	}
	w.add(key("b", "full"), waiter{reason: ipam.PoolNotFound, holds: true})
	w.remove(key("a", "taken"))
	w.remove(key("a", "twin"))
	w.remove(key("a", "unknown"))
	if w.withoutAddress != 3 {
		t.Errorf("%d have no address after changes, want 3", w.withoutAddress)
	}
}

// A version older than the one written is passed over once.
func TestWritten(t *testing.T) {
	req := requestForEip("eip")
	w := written{}
	for i, step := range []struct {
		write, read string
		stale       bool
	}{
		{"", "5", false},
		{"10", "9", true},
		{"", "9", false}, // it does not come
		{"10", "10", false},
		{"10", "100", false},
		{"", "9", false},
		{"10", "garbage", false},
	} {
		if step.write != "" {
			w[req] = step.write
		}
		if got := w.stale(req, step.read); got != step.stale {
			t.Errorf("step %d: stale = %t", i, got)
		}
	}
	if len(w) != 0 {
		t.Errorf("left behind: %v", w)
	}
}

// A warning is written once, and again when it is another one or was over in
// the meantime.
func TestWarningsAreNotRepeated(t *testing.T) {
	recorder := events.NewFakeRecorder(100)
	e := newReporter(recorder)
	svc := loadBalancer()
	full := &ipam.Refusal{Reason: ipam.PoolExhausted, Message: "full"}
	missing := &ipam.Refusal{Reason: ipam.NoEligiblePool, Message: "none"}
	e.refused(svc, ipam.Allocation{}, full)
	e.refused(svc, ipam.Allocation{}, full)
	e.refused(svc, ipam.Allocation{}, missing)
	e.refused(svc, ipam.Allocation{}, missing)
	e.refused(svc, allocations("10.0.0.1")[0], full)
	e.satisfied(svc)
	e.refused(svc, allocations("10.0.0.1")[0], full)
	e.assignFailed(svc, allocations("10.0.0.1")[0], errors.New("refused by the server"))
	e.assignFailed(svc, allocations("10.0.0.1")[0], errors.New("refused by the server"))
	e.assignFailed(svc, allocations("10.0.0.1")[0], fmt.Errorf("wrapped: %w", errBehind))
	anew := svc.DeepCopy()
	anew.UID = "another"
	e.assignFailed(anew, allocations("10.0.0.1")[0], errors.New("refused by the server"))
	e.assigned(svc, allocations("10.0.0.1")[0])
	close(recorder.Events)
	var got []string
	for event := range recorder.Events {
		got = append(got, event)
	}
	want := []string{
		"Warning AssignIPFailed No address assigned: full",
		"Warning ConstructRequest No address assigned: none",
		"Warning AssignIPFailed The Service keeps 10.0.0.1: full",
		"Warning AssignIPFailed The Service keeps 10.0.0.1: full",
		"Warning UpdateServiceStatus Address 10.0.0.1 is reserved for the Service, but cannot be written into it. This is tried again until it succeeds. The last error was: refused by the server",
		"Warning UpdateServiceStatus Address 10.0.0.1 is reserved for the Service, but cannot be written into it. This is tried again until it succeeds. The last error was: refused by the server",
		`Normal AssignIP Assigned 10.0.0.1 from Eip "eip", from which the Service had it before`,
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("events:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}
