package ipam

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

// A refusal names the object, the field and what would help.
func TestRefusalTexts(t *testing.T) {
	l := newLife(t,
		poolOf("eip", "10.0.0.1-10.0.0.2", boundTo("ns")), poolOf("off", "10.1.0.0/30", disabled, boundTo("ns")),
		poolOf("six", "2001:db8::/64"), poolOf("vip", "10.2.0.0/24", protocol("vip"), boundTo("v")),
		poolOf("own", "10.3.0.0/24", exclusive, boundTo("v")), poolOf("going", "10.4.0.0/24", deleting),
		poolOf("few", "10.5.0.0/24", limit("*", 1)), poolOf("mixed", "10.6.0.1 2001:db8:6::/64"))
	l.assign("10.0.0.1 eip ByName", req("x/1", named("eip")))
	l.assign("10.0.0.2 eip ByName", req("x/2", named("eip"), key("k"), ports(80, -53), local("a=b")))
	l.assign("10.5.0.1 few ByName", req("ns/1", named("few")))
	l.assign("10.6.0.1 mixed ByName", req("ns/2", named("mixed")))
	l.Adopt(req("ns/foreign"), addrs("172.16.0.1"), "")
	l.Adopt(req("ns/cut"), addrs("172.16.0.2"), "eip")
	for _, test := range []struct {
		req  Request
		want []string
	}{
		{req("ns/s"), []string{`"ns"`, `"eip" is full`, `"off" is disabled`}},
		{req("other/s"), []string{`"other"`, "spec.namespaces", "is-default-eip"}},
		{req("ns/s", named("typo")), []string{`"typo"`, "eip.openelb.kubesphere.io/v1alpha2", "does not exist"}},
		{req("ns/s", named("typo", "off")), []string{"eip.openelb.kubesphere.io/v1alpha2", `"typo" does not exist`, `"off" is disabled`}},
		{req("ns/s", named("eip")), []string{`"eip"`, "full", "2 addresses"}},
		{req("ns/s", named("mixed"), families(IPv4)), []string{`"mixed"`, "1 IPv4 addresses"}},
		{req("ns/s", named("off")), []string{`"off"`, "spec.disable"}},
		{req("ns/s", named("going")), []string{`"going"`, "being deleted"}},
		{req("ns/s", named("own")), []string{`"own"`, "exclusive", `"ns"`, "spec.namespaces"}},
		{req("ns/s", named("few")), []string{`"few"`, `"ns"`, "1 address", "spec.namespaceLimits"}},
		{req("ns/s", asking("10.0.0.1")), []string{"10.0.0.1", "x/1", "allow-shared-ip"}},
		{req("x/s", asking("10.0.0.2"), key("other")), []string{"10.0.0.2", "x/2", "allow-shared-ip", "same key"}},
		{req("ns/s", asking("10.0.0.2"), key("k")), []string{"10.0.0.2", "x/2", "spec.sharing.namespaces", `"eip"`}},
		{req("x/s", asking("10.0.0.2"), key("k"), ports(443, 80)), []string{"port 80/TCP of address 10.0.0.2 belongs to Service x/2"}},
		{req("x/s", asking("10.0.0.2"), key("k"), ports(-53)), []string{"port 53/UDP of address 10.0.0.2 belongs to Service x/2"}},
		{req("x/s", asking("10.0.0.2"), key("k"), cluster("c=d")), []string{"10.0.0.2", "x/2", "externalTrafficPolicy Local", "spec.selector"}},
		{req("ns/s", named("eip"), asking("10.9.9.9")), []string{"10.9.9.9", `"eip"`, "10.0.0.1-10.0.0.2"}},
		{req("ns/s", asking("10.9.9.9")), []string{"10.9.9.9", "no Eip"}},
		{req("ns/s", named("six"), families(IPv4)), []string{`"six"`, "2001:db8::/64", "IPv4", "spec.ipFamilies"}},
		{req("ns/s", asking("10.9.9.9"), families(IPv6)), []string{"10.9.9.9 is IPv4", "spec.ipFamilies is IPv6"}},
		{req("v/s", over("layer2")), []string{"protocol.openelb.kubesphere.io/v1alpha1", `"layer2"`, `"vip" is of vip`, "spec.protocol"}},
		{req("ns/foreign"), []string{"172.16.0.1", "in no Eip"}},
		{req("ns/cut", named("eip")), []string{"172.16.0.2", `"eip" does not contain`, "spec.addresses"}},
		{req("ns/s", named("six"), dual(RequireDualStack)), []string{"IPv4", "RequireDualStack", `"six"`}},
	} {
		l.refusedWith(test.req, test.want...)
	}
	out := l.Assign(req("ns/s", named("six"), dual(PreferDualStack)))
	if out.Lacks == nil || !strings.Contains(out.Lacks.Message, "no IPv4 address") || !strings.Contains(out.Lacks.Message, "PreferDualStack") {
		t.Errorf("lacks: %v", out.Lacks)
	}
}

// What a refusal says to wait for.
func TestRefusalsSayWhatToWaitFor(t *testing.T) {
	l := newLife(t, poolOf("a", "10.0.0.1", isDefault, quarantine(time.Hour)), poolOf("b", "10.0.1.1", isDefault, quarantine(time.Minute)),
		poolOf("c", "10.0.2.1", isDefault), poolOf("d", "10.0.3.1", isDefault, disabled), poolOf("e", "10.0.4.1", isDefault, limit("*", 0)))
	for _, name := range []string{"n/1", "n/2", "n/3"} {
		l.Assign(req(name))
	}
	l.Release(service("n/1"))
	l.Release(service("n/2"))
	r := l.refusedWith(req("n/4"), `"a" is full until 2026-01-02T04:00:00Z`, `"b" is full until 2026-01-02T03:01:00Z`)
	if r.Reason != PoolExhausted || !slices.Equal(r.Pools, []string{"a", "b", "c", "e"}) || !r.RetryAt.Equal(l.clock.Add(time.Minute)) || r.Address.IsValid() {
		t.Errorf("%+v", r)
	}
	if r = l.refusedWith(req("n/4", asking("10.0.2.1"))); len(r.Pools) != 0 || r.Address != addr("10.0.2.1") || !r.RetryAt.IsZero() {
		t.Errorf("%+v", r)
	}
	if r = l.refusedWith(req("n/4", asking("10.0.3.1"))); len(r.Pools) != 0 || r.Address.IsValid() {
		t.Errorf("%+v", r)
	}
}

// A Service that can use either family waits for both.
func TestRefusalOfEitherFamily(t *testing.T) {
	l := newLife(t, poolOf("eip", "10.0.0.1 2001:db8::1", isDefault, quarantine(time.Hour)))
	l.assign("2001:db8::1 eip Default", req("n/6", families(IPv6)))
	l.Release(service("n/6"))
	l.wait(time.Minute)
	l.assign("10.0.0.1 eip Default", req("n/4", families(IPv4)))
	l.Release(service("n/4"))
	for _, either := range [][]Family{nil, {IPv4, IPv6}, {IPv6, IPv4}} {
		if r := l.refusedWith(req("n/s", families(either...)), `"eip"`); !r.RetryAt.Equal(l.clock.Add(59 * time.Minute)) {
			t.Errorf("%v: retry at %s", either, r.RetryAt)
		}
	}
}

// Two addresses asked for may both be in the way.
func TestRefusalOfTwoAddresses(t *testing.T) {
	l := newLife(t, four(), six())
	l.assign("10.0.0.1 four ByName + 2001:db8::1 six ByName", req("n/1", dual(RequireDualStack), named("four", "six")))
	r := l.refusedWith(req("n/2", dual(PreferDualStack), asking("10.0.0.1", "2001:db8::1")), "10.0.0.1")
	if r.Address != addr("10.0.0.1") || r.OtherAddress != addr("2001:db8::1") {
		t.Errorf("%+v", r)
	}
}

// A message stays within what an event may carry, whatever is in it.
func TestRefusalTextsAreBounded(t *testing.T) {
	hostile := strings.Repeat("\x00\xff\"é", 1000)
	long := strings.Repeat("x", 253)
	l := newLife(t)
	var names []string
	for i := range 100 {
		names = append(names, fmt.Sprintf("%s-%d", long, i))
		l.SetPool(poolOf(names[i], "10.0.0.0/24", boundTo("ns"), disabled))
	}
	l.SetPool(poolOf(long, "2001:db8:1111:2222:3333:4444:5555:1-2001:db8:1111:2222:3333:4444:5555:2", sharingAmong("*")))
	l.Assign(Request{Service: ServiceKey{long, long}, Pools: []string{long}, ShareKey: "k", Ports: []Port{{"SCTP", 1}}, Families: []Family{IPv6}})
	six := addrs("2001:db8:1111:2222:3333:4444:5555:1")
	for _, r := range []Request{
		req("ns/s"), req("ns/s", named(names...)), req("ns/s", named(hostile)), req("ns/s", named(hostile, hostile+"2", long+"2")), req("ns/s", over(hostile)),
		{Service: ServiceKey{long, "b"}, Addresses: six, ShareKey: "k", Ports: []Port{{"SCTP", 1}}},
		{Service: ServiceKey{long, "b"}, Addresses: six, DualStack: RequireDualStack},
		{Service: ServiceKey{hostile, hostile}},
	} {
		refusal := l.Assign(r).Refusal
		if refusal == nil || len(refusal.Message) > maxMessage || !utf8.ValidString(refusal.Message) || strings.ContainsRune(refusal.Message, 0) {
			t.Errorf("refusal of %d bytes: %v", len(refusal.Error()), refusal)
		}
	}
	if r := l.refusedWith(req("ns/s", named(names...)), "and 96 more", "name another"); r.Reason != PoolDisabled {
		t.Errorf("reason %s", r.Reason)
	}
}
