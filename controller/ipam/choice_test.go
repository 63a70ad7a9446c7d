package ipam

import (
	"fmt"
	"strings"
	"testing"
)

// Which pool and which address a Service is given when it has none yet.
func TestFirstAddress(t *testing.T) {
	const svc = "default/testsvc"
	eip := func(changes ...func(*Pool)) Pool { return poolOf("eip", "192.168.1.0/24", changes...) }
	other := func(changes ...func(*Pool)) Pool { return poolOf("other", "10.0.0.0/30", changes...) }
	for _, test := range []struct {
		name  string
		pools []Pool
		req   Request
		want  string
	}{
		{"from the default pool", []Pool{eip(isDefault), other()}, req(svc), "192.168.1.0 eip Default"},
		{"from the pool named", []Pool{eip(), other(isDefault)}, req(svc, named("eip")), "192.168.1.0 eip ByName"},
		{"the address named, of the pool named", []Pool{eip()}, req(svc, named("eip"), asking("192.168.1.50")), "192.168.1.50 eip ByName"},
		{"the address named, of the pool that contains it", []Pool{eip(), other(isDefault)}, req(svc, asking("192.168.1.50")), "192.168.1.50 eip ByAddress"},
		{"the last address of a block", []Pool{eip()}, req(svc, asking("192.168.1.255")), "192.168.1.255 eip ByAddress"},
		{"a bound pool by namespace name", []Pool{eip(boundTo("default"))}, req(svc), "192.168.1.0 eip ByNamespace"},
		{"a bound pool by namespace labels", []Pool{eip(selecting("label", "test"))}, req(svc, labelled("label", "test")), "192.168.1.0 eip ByNamespace"},
		{"the bound pool with the smallest priority", []Pool{eip(boundTo("default"), priority(20)), other(selecting("label", "test"), priority(10))}, req(svc, labelled("label", "test")), "10.0.0.0 other ByNamespace"},
		{"by name among bound pools of one priority", []Pool{other(boundTo("default")), eip(boundTo("default"))}, req(svc), "192.168.1.0 eip ByNamespace"},
		{"a bound pool before the default", []Pool{eip(isDefault), other(boundTo("default"))}, req(svc), "10.0.0.0 other ByNamespace"},
		{"a disabled bound pool falls through", []Pool{eip(isDefault), other(boundTo("default"), disabled)}, req(svc), "192.168.1.0 eip Default"},
		{"a bound pool being deleted falls through", []Pool{eip(isDefault), other(boundTo("default"), deleting)}, req(svc), "192.168.1.0 eip Default"},
		{"a bound pool of the wrong family falls through", []Pool{eip(isDefault), poolOf("six", "2001:db8::/64", boundTo("default"))}, req(svc, families(IPv4)), "192.168.1.0 eip Default"},
		{"a binding does not matter to a Service that names the pool", []Pool{eip(boundTo("elsewhere"))}, req(svc, named("eip")), "192.168.1.0 eip ByName"},
		{"IPv6", []Pool{poolOf("six", "2001:db8::/64", isDefault)}, req(svc, families(IPv6)), "2001:db8:: six Default"},
		{"either family for a dual-stack Service", []Pool{poolOf("six", "2001:db8::/64", isDefault)}, req(svc, families(IPv4, IPv6)), "2001:db8:: six Default"},

		{"nothing named, nothing bound, no default", []Pool{eip(), other(boundTo("elsewhere"))}, req(svc), "refused NoEligiblePool"},
		{"no pools at all", nil, req(svc), "refused NoEligiblePool"},
		{"an empty selector binds nothing", []Pool{eip(func(p *Pool) { p.NamespaceSelector = map[string]string{} })}, req(svc), "refused NoEligiblePool"},
		{"a missing pool", []Pool{eip(isDefault)}, req(svc, named("typo")), "refused PoolNotFound"},
		{"a disabled pool", []Pool{eip(disabled)}, req(svc, named("eip")), "refused PoolDisabled"},
		{"a disabled pool, by address", []Pool{eip(disabled)}, req(svc, asking("192.168.1.1")), "refused PoolDisabled"},
		{"a pool being deleted", []Pool{eip(deleting)}, req(svc, named("eip")), "refused PoolDeleting"},
		{"an address outside the pool named", []Pool{eip(), other()}, req(svc, named("eip"), asking("10.0.0.1")), "refused AddressOutOfRange"},
		{"an address in no pool", []Pool{eip()}, req(svc, asking("172.16.0.1")), "refused AddressOutOfRange"},
		{"a pool of the wrong family", []Pool{eip()}, req(svc, named("eip"), families(IPv6)), "refused FamilyMismatch"},
		{"an address of the wrong family", []Pool{eip()}, req(svc, asking("192.168.1.1"), families(IPv6)), "refused FamilyMismatch"},
		{"only disabled pools", []Pool{eip(isDefault, disabled), other(boundTo("default"), disabled)}, req(svc), "refused PoolDisabled"},
	} {
		t.Run(test.name, func(t *testing.T) {
			newLife(t, test.pools...).assign(test.want, test.req)
		})
	}
}

// The lowest free address is given, those that end in .0 and .255 included,
// and a freed one is the next.
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

// An address taken by name is passed over, freed and given again in order,
// wherever the search has got to.
func TestAddressesTakenByName(t *testing.T) {
	l := newLife(t, poolOf("eip", "10.0.0.0/29"))
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

// An address that is taken by name and freed again and again is remembered
// once.
func TestFreeListDoesNotGrow(t *testing.T) {
	l := newLife(t, poolOf("eip", "10.0.0.0/29"))
	l.assign("10.0.0.0 eip ByName", req("a/1", named("eip")))
	l.assign("10.0.0.1 eip ByName", req("a/2", named("eip")))
	for range 100 {
		l.Release(service("a/1"))
		l.assign("10.0.0.0 eip ByAddress", req("a/1", asking("10.0.0.0")))
	}
	if n := len(l.pools["eip"].free[IPv4].freed); n > 1 {
		t.Errorf("%d addresses wait to be given again", n)
	}
}

// Where pools overlap, against all advice, no address is given twice.
func TestOverlappingPools(t *testing.T) {
	l := newLife(t, poolOf("a", "10.0.0.0-10.0.0.1"), poolOf("b", "10.0.0.1-10.0.0.2"))
	l.assign("10.0.0.0 a ByName", req("n/1", named("a")))
	l.assign("10.0.0.1 a ByName", req("n/2", named("a")))
	l.assign("10.0.0.2 b ByName", req("n/3", named("b")))
	l.assign("refused PoolExhausted", req("n/4", named("b")))
	l.usage("b", "1/2")
	l.assign("10.0.0.1 b ByName", req("n/2", named("b"), asking("10.0.0.1"))) // the pool alone changes
	l.usage("a", "1/2")
	l.usage("b", "2/2")
	l.Release(service("n/2"))
	l.assign("10.0.0.1 b ByName", req("n/4", named("b")))
}

// A full pool falls through, to the next bound one and then to the default.
func TestFullPoolsFallThrough(t *testing.T) {
	l := newLife(t,
		poolOf("first", "10.0.1.1", boundTo("ns"), priority(1)),
		poolOf("second", "10.0.2.1", boundTo("ns"), priority(2)),
		poolOf("fallback", "10.0.3.1", isDefault))
	l.assign("10.0.1.1 first ByNamespace", req("ns/1"))
	l.assign("10.0.2.1 second ByNamespace", req("ns/2"))
	l.assign("10.0.3.1 fallback Default", req("ns/3"))
	l.assign("refused PoolExhausted", req("ns/4"))
	l.Release(service("ns/2"))
	l.assign("10.0.2.1 second ByNamespace", req("ns/4"))
}

// How many pools a namespace can use: with a default pool, one selected by
// two namespaces and one bound to the first, three, two and one.
func TestPoolsOfNamespaces(t *testing.T) {
	for _, test := range []struct {
		withDefault bool
		want        map[string]int
	}{
		{true, map[string]int{"ns1": 3, "ns2": 2, "ns3": 1}},
		{false, map[string]int{"ns1": 2, "ns2": 1, "ns3": 0}},
	} {
		for namespace, want := range test.want {
			l := newLife(t, poolOf("selector", "10.0.1.1", selecting("team", "x")), poolOf("bound", "10.0.2.1", boundTo("ns1")))
			if test.withDefault {
				l.SetPool(poolOf("default", "10.0.3.1", isDefault))
			}
			r := req(namespace + "/x")
			if namespace != "ns3" {
				r.NamespaceLabels = map[string]string{"team": "x"}
			}
			given := 0
			for ; ; given++ {
				r.Service.Name = fmt.Sprint(given)
				if _, refusal := l.Assign(r); refusal != nil {
					break
				}
			}
			if given != want {
				t.Errorf("default %t: %s was given %d addresses, want %d", test.withDefault, namespace, given, want)
			}
		}
	}
}

// A refusal names the object, the field and what would help.
func TestRefusalTexts(t *testing.T) {
	l := newLife(t,
		poolOf("eip", "10.0.0.1-10.0.0.2", boundTo("ns")), poolOf("off", "10.1.0.0/30", disabled, boundTo("ns")),
		poolOf("six", "2001:db8::/64"))
	l.assign("10.0.0.1 eip ByName", req("x/1", named("eip")))
	l.assign("10.0.0.2 eip ByName", req("x/2", named("eip")))
	for _, test := range []struct {
		req  Request
		want []string
	}{
		{req("ns/s"), []string{`"ns"`, `"eip" is full`, `"off" is disabled`}},
		{req("other/s"), []string{`"other"`, "spec.namespaces", "is-default-eip"}},
		{req("ns/s", named("typo")), []string{`"typo"`, "eip.openelb.kubesphere.io/v1alpha2", "does not exist"}},
		{req("ns/s", named("eip")), []string{`"eip"`, "full", "2 addresses"}},
		{req("ns/s", named("off")), []string{`"off"`, "spec.disable"}},
		{req("ns/s", asking("10.0.0.1")), []string{"10.0.0.1", "x/1"}},
		{req("ns/s", named("eip"), asking("10.9.9.9")), []string{"10.9.9.9", `"eip"`, "10.0.0.1-10.0.0.2"}},
		{req("ns/s", asking("10.9.9.9")), []string{"10.9.9.9", "no Eip"}},
		{req("ns/s", named("six"), families(IPv4)), []string{`"six"`, "2001:db8::/64", "IPv4", "spec.ipFamilies"}},
	} {
		_, refusal := l.Assign(test.req)
		if refusal == nil {
			t.Errorf("Assign(%s) was not refused", requestText(test.req))
			continue
		}
		for _, part := range test.want {
			if !strings.Contains(refusal.Error(), part) {
				t.Errorf("Assign(%s): %q does not mention %q", requestText(test.req), refusal, part)
			}
		}
	}
}

// A message that lists pools stays within what an event may carry.
func TestRefusalTextOfManyPools(t *testing.T) {
	l := newLife(t)
	for i := range 100 {
		l.SetPool(poolOf(fmt.Sprintf("%s-%d", strings.Repeat("x", 55), i), "10.0.0.0/24", boundTo("ns"), disabled))
	}
	_, refusal := l.Assign(req("ns/s"))
	if refusal == nil || len(refusal.Message) > 1024 || !strings.Contains(refusal.Message, "and 96 more") {
		t.Errorf("refusal of %d characters: %v", len(refusal.Error()), refusal)
	}
}
