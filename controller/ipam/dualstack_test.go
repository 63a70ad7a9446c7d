package ipam

import "testing"

func four(changes ...func(*Pool)) Pool { return poolOf("four", "10.0.0.1-10.0.0.9", changes...) }
func six(changes ...func(*Pool)) Pool  { return poolOf("six", "2001:db8::1-2001:db8::9", changes...) }
func both(changes ...func(*Pool)) Pool {
	return poolOf("both", "10.1.0.1-10.1.0.9 2001:db8:1::1-2001:db8:1::9", changes...)
}

// Where the first addresses of a dual-stack Service come from.
func TestFirstAddressesOfDualStack(t *testing.T) {
	const svc = "ns/svc"
	for _, test := range []struct {
		name  string
		pools []Pool
		req   Request
		want  string
	}{
		{"one pool with both", []Pool{both(isDefault)}, req(svc, dual(RequireDualStack)), "10.1.0.1 both Default + 2001:db8:1::1 both Default"},
		{"in the order of the families", []Pool{both(isDefault)}, req(svc, dual(RequireDualStack), families(IPv6, IPv4)), "2001:db8:1::1 both Default + 10.1.0.1 both Default"},
		{"two pools", []Pool{four(isDefault), six(isDefault)}, req(svc, dual(RequireDualStack)), "10.0.0.1 four Default + 2001:db8::1 six Default"},
		{"one with both before a better one with one", []Pool{four(boundTo("ns")), both(isDefault)}, req(svc, dual(RequireDualStack)), "10.1.0.1 both Default + 2001:db8:1::1 both Default"},
		{"two pools named", []Pool{four(), six(), both(isDefault)}, req(svc, dual(RequireDualStack), named("six", "four")), "10.0.0.1 four ByName + 2001:db8::1 six ByName"},
		{"addresses named", []Pool{four(), six()}, req(svc, dual(RequireDualStack), asking("2001:db8::5", "10.0.0.5")), "10.0.0.5 four ByAddress + 2001:db8::5 six ByAddress"},
		{"one address named, the other of the same pool", []Pool{six(isDefault), both()}, req(svc, dual(RequireDualStack), asking("10.1.0.5")), "10.1.0.5 both ByAddress + 2001:db8:1::1 both ByAddress"},
		{"one address named, the other of the default", []Pool{four(), six(isDefault)}, req(svc, dual(RequireDualStack), asking("10.0.0.5")), "10.0.0.5 four ByAddress + 2001:db8::1 six Default"},
		{"one address named, the other of no pool", []Pool{four(), six()}, req(svc, dual(RequireDualStack), asking("10.0.0.5")), "refused FamilyMismatch"},
		{"both or none", []Pool{four(isDefault)}, req(svc, dual(RequireDualStack)), "refused FamilyMismatch"},
		{"both or none, by name", []Pool{both(), six()}, req(svc, dual(RequireDualStack), named("six")), "refused FamilyMismatch"},
		{"none at all", []Pool{four()}, req(svc, dual(RequireDualStack)), "refused NoEligiblePool"},
		{"preferred, one pool with both", []Pool{four(boundTo("ns")), both(isDefault)}, req(svc, dual(PreferDualStack)), "10.1.0.1 both Default + 2001:db8:1::1 both Default"},
		{"preferred, one to be had", []Pool{four(isDefault)}, req(svc, dual(PreferDualStack)), "10.0.0.1 four Default lacks FamilyMismatch"},
		{"preferred, the second to be had", []Pool{six(isDefault), four(disabled, isDefault)}, req(svc, dual(PreferDualStack)), "2001:db8::1 six Default lacks FamilyMismatch"},
		{"preferred, one asked for that the Service cannot use", []Pool{four(), six()}, req(svc, dual(PreferDualStack), families(IPv4), asking("10.0.0.5", "2001:db8::5")), "10.0.0.5 four ByAddress lacks FamilyMismatch"},
		{"preferred in a cluster of one family", []Pool{both(isDefault)}, req(svc, dual(PreferDualStack), families(IPv4)), "10.1.0.1 both Default"},
		{"preferred, none", []Pool{four()}, req(svc, dual(PreferDualStack)), "refused NoEligiblePool"},
		{"preferred, one of those asked for is out of range", []Pool{four(), six()}, req(svc, dual(PreferDualStack), asking("10.0.0.5", "2001:db8:9::9")), "10.0.0.5 four ByAddress lacks AddressOutOfRange"},
		{"single stack takes one of both", []Pool{both(isDefault)}, req(svc, families(IPv6)), "2001:db8:1::1 both Default"},
	} {
		t.Run(test.name, func(t *testing.T) {
			newLife(t, test.pools...).assign(test.want, test.req)
		})
	}
}

// A Service gains its second address when there is one, from the pool of its
// first if it can.
func TestSecondAddressComesLater(t *testing.T) {
	l := newLife(t, four(isDefault))
	l.assign("10.0.0.1 four Default lacks FamilyMismatch", req("ns/svc", dual(PreferDualStack)))
	l.SetPool(six(isDefault))
	l.SetPool(poolOf("four", "10.0.0.1-10.0.0.9 2001:db8:4::1", isDefault))
	l.assign("10.0.0.1 four Default + 2001:db8:4::1 four Default", req("ns/svc", dual(PreferDualStack)))
	l.assign("10.0.0.2 four Default", req("ns/b", families(IPv4)))
	l.assign("10.0.0.2 four Default + 2001:db8::1 six Default", req("ns/b", dual(RequireDualStack)))
}

// A family that is dropped is released, and no other; the order follows the
// Service's.
func TestFamiliesChange(t *testing.T) {
	l := newLife(t, both(isDefault))
	two := req("ns/svc", dual(RequireDualStack))
	l.assign("10.1.0.1 both Default + 2001:db8:1::1 both Default", two)
	l.assign("2001:db8:1::1 both Default + 10.1.0.1 both Default", req("ns/svc", dual(RequireDualStack), families(IPv6, IPv4)))
	l.assign("10.1.0.1 both Default", req("ns/svc", families(IPv4)))
	l.usage("both", "1/18")
	l.assign("10.1.0.1 both Default + 2001:db8:1::1 both Default", two)
	l.assign("2001:db8:1::1 both Default", req("ns/svc", families(IPv6)))
	l.assign("10.1.0.1 both Default", req("ns/svc", families(IPv4))) // the new one first, then the old one goes
	l.SetPool(both(isDefault, disabled))
	l.assign("kept 10.1.0.1: PoolDisabled", req("ns/svc", families(IPv6)))
	l.assign("kept 10.1.0.1: PoolDisabled", two)
	l.assign("10.1.0.1 both Default lacks PoolDisabled", req("ns/svc", dual(PreferDualStack), named("both")))
}

// A dropped family can come back before it is settled.
func TestDroppedFamilyComesBack(t *testing.T) {
	l := newLife(t, both(isDefault))
	two := req("ns/svc", dual(RequireDualStack), named("both"))
	l.assign("10.1.0.1 both ByName + 2001:db8:1::1 both ByName", two)
	l.Assign(req("ns/svc", families(IPv4)))
	l.SetPool(both(isDefault, disabled))
	l.assign("10.1.0.1 both ByName + 2001:db8:1::1 both ByName", two)
}

// Each family moves for itself, the new address before the old one is given
// up; one that cannot move stays.
func TestDualStackMoves(t *testing.T) {
	l := newLife(t, both(isDefault), four(), six())
	l.assign("10.1.0.1 both Default + 2001:db8:1::1 both Default", req("ns/svc", dual(PreferDualStack)))
	l.assign("10.0.0.1 four ByName + 2001:db8::1 six ByName", req("ns/svc", dual(PreferDualStack), named("four", "six")))
	l.assign("10.0.0.1 four ByName + 2001:db8::7 six ByAddress", req("ns/svc", dual(PreferDualStack), asking("2001:db8::7")))
	l.assign("kept 10.0.0.1 + 2001:db8::7: FamilyMismatch", req("ns/svc", dual(PreferDualStack), named("four")))
	l.assign("kept 10.0.0.5 + 2001:db8::7: AddressOutOfRange", req("ns/svc", dual(RequireDualStack), asking("10.0.0.5", "2001:db8:9::9")))
	l.usage("four", "1/9")
	l.usage("six", "1/9")
	l.usage("both", "0/18")
}

// A Service that requires both families waits in all pools that could give it
// what it lacks.
func TestDualStackWaits(t *testing.T) {
	l := newLife(t, poolOf("four", "10.0.0.1", isDefault), poolOf("six", "2001:db8::1", isDefault))
	l.assign("10.0.0.1 four Default + 2001:db8::1 six Default", req("ns/a", dual(RequireDualStack)))
	r := l.refusedWith(req("ns/b", dual(RequireDualStack)), "IPv4", "RequireDualStack", `"four" is full`)
	if len(r.Pools) != 2 {
		t.Errorf("waits for %q", r.Pools)
	}
	out := l.Assign(req("ns/a", dual(PreferDualStack)))
	if out.Refusal != nil || out.Lacks != nil {
		t.Errorf("has all: %v, %v", out.Refusal, out.Lacks)
	}
}

// What an API server would not accept does no harm.
func TestOddFamilies(t *testing.T) {
	for _, odd := range [][]Family{{IPv4, IPv4}, {"IPv5"}, {"IPv5", IPv6, IPv4, IPv4}, {IPv6, IPv4, IPv6}} {
		for _, policy := range []DualStack{"", SingleStack, PreferDualStack, RequireDualStack, "Odd"} {
			l := newLife(t, both(isDefault))
			l.Assign(req("ns/svc", dual(policy), families(odd...)))
			l.Assign(req("ns/svc", dual(policy), families(odd...), asking("10.1.0.2", "10.1.0.3")))
			l.Release(service("ns/svc"))
			l.usage("both", "0/18")
		}
	}
}
