package ipam

import (
	"fmt"
	"testing"
)

// Which pool and which address a Service is given when it has none yet.
func TestFirstAddress(t *testing.T) {
	const svc = "default/testsvc"
	eip := func(changes ...func(*Pool)) Pool { return poolOf("eip", "192.168.1.0/24", changes...) }
	other := func(changes ...func(*Pool)) Pool { return poolOf("other", "10.0.0.0/30", changes...) }
	six := func(changes ...func(*Pool)) Pool { return poolOf("six", "2001:db8::/120", changes...) }
	for _, test := range []struct {
		name  string
		pools []Pool
		req   Request
		want  string
	}{
		{"from the default pool", []Pool{eip(isDefault), other()}, req(svc), "192.168.1.1 eip Default"},
		{"from the pool named", []Pool{eip(), other(isDefault)}, req(svc, named("eip")), "192.168.1.1 eip ByName"},
		{"the address named, of the pool named", []Pool{eip()}, req(svc, named("eip"), asking("192.168.1.50")), "192.168.1.50 eip ByName"},
		{"the address named, of the pool that contains it", []Pool{eip(), other(isDefault)}, req(svc, asking("192.168.1.50")), "192.168.1.50 eip ByAddress"},
		{"the last address of a block, by name", []Pool{eip()}, req(svc, asking("192.168.1.255")), "192.168.1.255 eip ByAddress"},
		{"a bound pool by namespace name", []Pool{eip(boundTo("default"))}, req(svc), "192.168.1.1 eip ByNamespace"},
		{"a bound pool by namespace labels", []Pool{eip(selecting("label", "test"))}, req(svc, labelled("label", "test")), "192.168.1.1 eip ByNamespace"},
		{"the bound pool with the smallest priority", []Pool{eip(boundTo("default"), priority(20)), other(selecting("label", "test"), priority(10))}, req(svc, labelled("label", "test")), "10.0.0.1 other ByNamespace"},
		{"by name among bound pools of one priority", []Pool{other(boundTo("default")), eip(boundTo("default"))}, req(svc), "192.168.1.1 eip ByNamespace"},
		{"a bound pool before the default", []Pool{eip(isDefault), other(boundTo("default"))}, req(svc), "10.0.0.1 other ByNamespace"},
		{"a disabled bound pool falls through", []Pool{eip(isDefault), other(boundTo("default"), disabled)}, req(svc), "192.168.1.1 eip Default"},
		{"a bound pool being deleted falls through", []Pool{eip(isDefault), other(boundTo("default"), deleting)}, req(svc), "192.168.1.1 eip Default"},
		{"a bound pool of the wrong family falls through", []Pool{eip(isDefault), six(boundTo("default"))}, req(svc, families(IPv4)), "192.168.1.1 eip Default"},
		{"a bound pool with nothing left to give falls through", []Pool{eip(isDefault), poolOf("ends", "10.0.0.0/30 !10.0.0.1 !10.0.0.2", boundTo("default"))}, req(svc), "192.168.1.1 eip Default"},
		{"a binding does not matter to a Service that names the pool", []Pool{eip(boundTo("elsewhere"))}, req(svc, named("eip")), "192.168.1.1 eip ByName"},
		{"IPv6", []Pool{six(isDefault)}, req(svc, families(IPv6)), "2001:db8:: six Default"},
		{"IPv6 by address", []Pool{six()}, req(svc, asking("2001:db8::ff")), "2001:db8::ff six ByAddress"},
		{"either family", []Pool{six(isDefault)}, req(svc, families(IPv4, IPv6)), "2001:db8:: six Default"},
		{"the preferred family of a pool with both", []Pool{poolOf("both", "10.0.0.1 2001:db8::1", isDefault)}, req(svc, families(IPv6, IPv4)), "2001:db8::1 both Default"},
		{"the better pool rather than the preferred family", []Pool{eip(isDefault), six(boundTo("default"))}, req(svc, families(IPv4, IPv6)), "2001:db8:: six ByNamespace"},

		{"the first of several pools named", []Pool{eip(), other()}, req(svc, named("other", "eip")), "10.0.0.1 other ByName"},
		{"the next named if one is missing", []Pool{eip()}, req(svc, named("typo", "eip")), "192.168.1.1 eip ByName"},
		{"the next named if one is disabled", []Pool{eip(), other(disabled)}, req(svc, named("other", "eip")), "192.168.1.1 eip ByName"},
		{"not the default beyond those named", []Pool{eip(isDefault), other(disabled)}, req(svc, named("other", "typo")), "refused PoolDisabled"},
		{"an address of any pool named", []Pool{eip(), other()}, req(svc, named("eip", "other"), asking("10.0.0.2")), "10.0.0.2 other ByName"},
		{"an address of none of those named", []Pool{eip(), other(), six()}, req(svc, named("eip", "six"), asking("10.0.0.2")), "refused AddressOutOfRange"},

		{"the protocol is a filter", []Pool{eip(boundTo("default")), other(boundTo("default"), protocol("layer2"))}, req(svc, over("layer2")), "10.0.0.1 other ByNamespace"},
		{"a pool without protocol is of BGP", []Pool{eip(isDefault), other(boundTo("default"), protocol("vip"))}, req(svc, over("bgp")), "192.168.1.1 eip Default"},
		{"no pool of the protocol", []Pool{eip(isDefault), other(boundTo("default"))}, req(svc, over("vip")), "refused ProtocolMismatch"},
		{"the protocol does not matter to a Service that names the pool", []Pool{eip()}, req(svc, over("vip"), named("eip")), "192.168.1.1 eip ByName"},
		{"nor to one that names the address", []Pool{eip()}, req(svc, over("vip"), asking("192.168.1.9")), "192.168.1.9 eip ByAddress"},

		{"a pool for some Services of its namespaces", []Pool{eip(boundTo("default"), selectingServices("tier=gold")), other(isDefault)}, req(svc), "10.0.0.1 other Default"},
		{"a Service that it selects", []Pool{eip(boundTo("default"), selectingServices("tier=gold")), other(isDefault)}, req(svc, serviceLabelled("tier", "gold")), "192.168.1.1 eip ByNamespace"},
		{"a pool for some Services of every namespace", []Pool{eip(selectingServices("tier=gold")), other(isDefault)}, req(svc, serviceLabelled("tier", "gold")), "192.168.1.1 eip ByLabels"},
		{"a Service selected in another namespace", []Pool{eip(boundTo("elsewhere"), selectingServices("tier=gold"))}, req(svc, serviceLabelled("tier", "gold")), "refused NoEligiblePool"},
		{"a default for some Services", []Pool{eip(boundTo("elsewhere"), isDefault, selectingServices("tier=gold"))}, req(svc), "refused NoEligiblePool"},
		{"a default for this Service, whatever it is bound to", []Pool{eip(boundTo("elsewhere"), isDefault, selectingServices("tier=gold"))}, req(svc, serviceLabelled("tier", "gold")), "192.168.1.1 eip Default"},
		{"a Service selector does not matter to a Service that names the pool", []Pool{eip(selectingServices("tier=gold"))}, req(svc, named("eip")), "192.168.1.1 eip ByName"},

		{"an exclusive pool serves its namespaces", []Pool{eip(exclusive, boundTo("default"))}, req(svc), "192.168.1.1 eip ByNamespace"},
		{"and refuses others by name", []Pool{eip(exclusive, boundTo("elsewhere"))}, req(svc, named("eip")), "refused NamespaceNotAllowed"},
		{"and by address", []Pool{eip(exclusive, selecting("a", "b"))}, req(svc, asking("192.168.1.1")), "refused NamespaceNotAllowed"},
		{"and as default", []Pool{eip(exclusive, isDefault, boundTo("elsewhere"))}, req(svc), "refused NoEligiblePool"},
		{"an exclusive pool bound to nobody serves nobody", []Pool{eip(exclusive)}, req(svc, named("eip")), "refused NamespaceNotAllowed"},
		{"an exclusive pool that selects Services only is for every namespace", []Pool{eip(exclusive, selectingServices("tier=gold"))}, req(svc, named("eip")), "192.168.1.1 eip ByName"},

		{"nothing named, nothing bound, no default", []Pool{eip(), other(boundTo("elsewhere"))}, req(svc), "refused NoEligiblePool"},
		{"no pools at all", nil, req(svc), "refused NoEligiblePool"},
		{"an empty selector binds nothing", []Pool{eip(func(p *Pool) { p.NamespaceSelector = map[string]string{} })}, req(svc), "refused NoEligiblePool"},
		{"a missing pool", []Pool{eip(isDefault)}, req(svc, named("typo")), "refused PoolNotFound"},
		{"a disabled pool", []Pool{eip(disabled)}, req(svc, named("eip")), "refused PoolDisabled"},
		{"a disabled pool, by address", []Pool{eip(disabled)}, req(svc, asking("192.168.1.1")), "refused PoolDisabled"},
		{"a pool being deleted", []Pool{eip(deleting)}, req(svc, named("eip")), "refused PoolDeleting"},
		{"an address outside the pool named", []Pool{eip(), other()}, req(svc, named("eip"), asking("10.0.0.1")), "refused AddressOutOfRange"},
		{"an address in no pool", []Pool{eip()}, req(svc, asking("172.16.0.1")), "refused AddressOutOfRange"},
		{"an excluded address", []Pool{poolOf("eip", "192.168.1.0/24 !192.168.1.5")}, req(svc, asking("192.168.1.5")), "refused AddressOutOfRange"},
		{"a pool of the wrong family", []Pool{eip()}, req(svc, named("eip"), families(IPv6)), "refused FamilyMismatch"},
		{"an address of the wrong family", []Pool{eip()}, req(svc, asking("192.168.1.1"), families(IPv6)), "refused FamilyMismatch"},
		{"two addresses for one family", []Pool{eip(), six()}, req(svc, asking("192.168.1.1", "2001:db8::1"), families(IPv4)), "refused FamilyMismatch"},
		{"only disabled pools", []Pool{eip(isDefault, disabled), other(boundTo("default"), disabled)}, req(svc), "refused PoolDisabled"},
	} {
		t.Run(test.name, func(t *testing.T) {
			newLife(t, test.pools...).assign(test.want, test.req)
		})
	}
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

// A pool that is bound and the default is tried once, as bound.
func TestBoundDefault(t *testing.T) {
	l := newLife(t, poolOf("eip", "10.0.1.1", boundTo("ns"), isDefault), poolOf("other", "10.0.2.1", isDefault))
	l.assign("10.0.1.1 eip ByNamespace", req("ns/1"))
	l.assign("10.0.2.1 other Default", req("ns/2"))
	l.refusedWith(req("ns/3"), `"eip" is full, "other" is full.`)
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
				if out := l.Assign(r); out.Refusal != nil {
					break
				}
			}
			if given != want {
				t.Errorf("default %t: %s was given %d addresses, want %d", test.withDefault, namespace, given, want)
			}
		}
	}
}

// Where pools overlap, against all advice, no address is given twice.
func TestOverlappingPools(t *testing.T) {
	l := newLife(t, poolOf("a", "10.0.0.0-10.0.0.1"), poolOf("b", "10.0.0.1-10.0.0.2"))
	l.assign("10.0.0.0 a ByName", req("n/1", named("a")))
	l.assign("10.0.0.1 a ByName", req("n/2", named("a")))
	l.usage("b", "0/2, 1 free")
	l.assign("10.0.0.2 b ByName", req("n/3", named("b")))
	l.assign("refused PoolExhausted", req("n/4", named("b")))
	l.usage("b", "1/2, 0 free")
	l.assign("10.0.0.1 b ByName", req("n/2", named("b"))) // the pool alone changes
	l.usage("a", "1/2, 0 free")
	l.usage("b", "2/2")
	l.Release(service("n/2"))
	l.assign("10.0.0.1 b ByName", req("n/4", named("b")))
}

// Of the refusals of overlapping pools, the one is told that is the nearest
// to a way out.
func TestRefusalOfOverlappingPools(t *testing.T) {
	l := newLife(t, poolOf("a", "10.0.0.0/24", disabled), poolOf("b", "10.0.0.0/24", exclusive), poolOf("c", "10.0.0.0/24", limit("*", 1)))
	l.assign("10.0.0.1 c ByName", req("n/1", named("c")))
	if r := l.refusedWith(req("m/2", asking("10.0.0.1")), "10.0.0.1", "n/1"); r.Reason != AddressInUse || r.Address != addr("10.0.0.1") {
		t.Errorf("in use: %+v", r)
	}
	l.assign("refused QuotaExceeded", req("n/2", asking("10.0.0.2")))
	l.RemovePool("c")
	l.assign("refused PoolDisabled", req("m/2", asking("10.0.0.2")))
	l.RemovePool("a")
	l.assign("refused NamespaceNotAllowed", req("m/2", asking("10.0.0.2")))
}

// CouldServe knows which pools may help a Service that waits.
func TestCouldServe(t *testing.T) {
	const svc = "ns/svc"
	for _, test := range []struct {
		name string
		pool Pool
		req  Request
		want bool
	}{
		{"another name", poolOf("x", "10.0.0.1"), req(svc, named("eip")), false},
		{"bound", poolOf("eip", "10.0.0.1", boundTo("ns")), req(svc), true},
		{"bound elsewhere", poolOf("eip", "10.0.0.1", boundTo("other")), req(svc), false},
		{"selected", poolOf("eip", "10.0.0.1", selecting("a", "b")), req(svc, labelled("a", "b")), true},
		{"default", poolOf("eip", "10.0.0.1", isDefault), req(svc), true},
		{"unbound", poolOf("eip", "10.0.0.1"), req(svc), false},
		{"named", poolOf("eip", "10.0.0.1"), req(svc, named("x", "eip")), true},
		{"named and does not contain the address", poolOf("eip", "10.0.0.1"), req(svc, named("x", "eip"), asking("10.0.0.2")), false},
		{"contains the address", poolOf("eip", "10.0.0.1"), req(svc, asking("10.0.0.1")), true},
		{"bound and does not contain the address", poolOf("eip", "10.0.0.1", boundTo("ns")), req(svc, asking("10.0.0.2")), false},
		{"disabled", poolOf("eip", "10.0.0.1", boundTo("ns"), disabled), req(svc), false},
		{"deleting", poolOf("eip", "10.0.0.1", boundTo("ns"), deleting), req(svc), false},
		{"protocol", poolOf("eip", "10.0.0.1", boundTo("ns")), req(svc, over("layer2")), false},
		{"protocol of a named pool", poolOf("eip", "10.0.0.1"), req(svc, over("layer2"), named("eip")), true},
		{"family", poolOf("eip", "10.0.0.1", boundTo("ns")), req(svc, families(IPv6)), false},
		{"one of both families", poolOf("eip", "10.0.0.1", boundTo("ns")), req(svc, dual(RequireDualStack)), true},
		{"Service labels", poolOf("eip", "10.0.0.1", boundTo("ns"), selectingServices("a=b")), req(svc), false},
		{"exclusive", poolOf("eip", "10.0.0.1", exclusive), req(svc, named("eip")), false},
		{"address of a family that the Service cannot use", poolOf("eip", "10.0.0.1"), req(svc, named("eip"), asking("10.0.0.1"), families(IPv6)), false},
	} {
		l := newLife(t, test.pool)
		if got := l.CouldServe("eip", &test.req); got != test.want {
			t.Errorf("%s: %t", test.name, got)
		}
	}
	l := newLife(t, poolOf("four", "10.0.0.0/24", isDefault))
	r := req(svc, dual(PreferDualStack))
	l.assign("10.0.0.1 four Default lacks FamilyMismatch", r)
	l.SetPool(poolOf("six", "2001:db8::/64", isDefault))
	if l.CouldServe("four", &r) || !l.CouldServe("six", &r) {
		t.Error("a Service with an IPv4 address lacks one of IPv6 only")
	}
}
