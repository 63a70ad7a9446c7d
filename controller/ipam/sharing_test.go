package ipam

import (
	"net/netip"
	"testing"
)

// Who may share the address of ns/web, which has 10.0.0.1 with the key "k",
// TCP 80, UDP 53 and the selector "app=web".
func TestSharing(t *testing.T) {
	web := req("ns/web", named("eip"), key("k"), ports(80, -53), cluster("app=web"))
	localWeb := req("ns/web", named("eip"), key("k"), ports(80), local("app=web"))
	for _, test := range []struct {
		name string
		web  Request
		req  Request
		want string
	}{
		{"by key", web, req("ns/b", key("k"), ports(443)), "10.0.0.1 eip Sharing"},
		{"by key and pool", web, req("ns/b", key("k"), ports(443), named("eip")), "10.0.0.1 eip Sharing"},
		{"by key and address", web, req("ns/b", key("k"), ports(443), asking("10.0.0.1")), "10.0.0.1 eip ByAddress"},
		{"the same number of another protocol", web, req("ns/b", key("k"), ports(53, -80)), "10.0.0.1 eip Sharing"},
		{"without ports", web, req("ns/b", key("k")), "10.0.0.1 eip Sharing"},
		{"a port that is taken", web, req("ns/b", key("k"), ports(443, 80)), "10.0.0.2 eip Default"},
		{"a UDP port that is taken", web, req("ns/b", key("k"), ports(-53)), "10.0.0.2 eip Default"},
		{"a port that is taken of the address asked for", web, req("ns/b", key("k"), ports(80), asking("10.0.0.1")), "refused SharingRefused"},
		{"another key", web, req("ns/b", key("K"), ports(443)), "10.0.0.2 eip Default"},
		{"another key and the address", web, req("ns/b", key("K"), ports(443), asking("10.0.0.1")), "refused SharingRefused"},
		{"no key and the address", web, req("ns/b", ports(443), asking("10.0.0.1")), "refused AddressInUse"},
		{"another namespace", web, req("other/b", key("k"), ports(443)), "10.0.0.2 eip Default"},
		{"another namespace and the address", web, req("other/b", key("k"), ports(443), asking("10.0.0.1")), "refused SharingRefused"},
		{"another address", web, req("ns/b", key("k"), ports(443), asking("10.0.0.5")), "10.0.0.5 eip ByAddress"},
		{"another pool", web, req("ns/b", key("k"), ports(443), named("more")), "10.1.0.1 more ByName"},
		{"local to another selector", web, req("ns/b", key("k"), ports(443), local("app=b")), "10.0.0.2 eip Default"},
		{"local to the same selector", web, req("ns/b", key("k"), ports(443), local("app=web")), "10.0.0.1 eip Sharing"},
		{"with one that is local to another selector", localWeb, req("ns/b", key("k"), ports(443), asking("10.0.0.1"), cluster("app=b")), "refused SharingRefused"},
		{"with one that is local to the same selector", localWeb, req("ns/b", key("k"), ports(443), cluster("app=web")), "10.0.0.1 eip Sharing"},
		{"two without selector, one local", req("ns/web", named("eip"), key("k"), ports(80)), req("ns/b", key("k"), ports(443), asking("10.0.0.1"), local("")), "refused SharingRefused"},
	} {
		t.Run(test.name, func(t *testing.T) {
			l := newLife(t, poolOf("eip", "10.0.0.0/24", isDefault), poolOf("more", "10.1.0.0/24"))
			l.assign("10.0.0.1 eip ByName", test.web)
			l.assign(test.want, test.req)
			l.assign("10.0.0.1 eip ByName", test.web)
		})
	}
}

// An address to be shared is preferred to a fresh one over all candidates.
func TestSharingComesFirst(t *testing.T) {
	l := newLife(t, poolOf("eip", "10.0.0.0/24", isDefault), poolOf("bound", "10.1.0.0/24", boundTo("ns")))
	l.assign("10.0.0.1 eip ByName", req("ns/a", named("eip"), key("k"), ports(1)))
	l.assign("10.0.0.1 eip Sharing", req("ns/b", key("k"), ports(2)))
	l.assign("10.1.0.1 bound ByNamespace", req("ns/c", key("k"), ports(2)))
	l.assign("10.1.0.1 bound Sharing", req("ns/d", key("k"), ports(3))) // of two, the one of the better pool
	l.usage("eip", "1/254")
	l.Release(service("ns/a"))
	l.usage("eip", "1/254")
	l.Release(service("ns/b"))
	l.usage("eip", "0/254")
	l.assign("10.0.0.1 eip ByName", req("ns/e", named("eip"), key("k"), ports(9)))
}

// Sharing fills no room in a full pool and needs none, but the pool must
// serve the Service.
func TestSharingInPools(t *testing.T) {
	l := newLife(t, poolOf("eip", "10.0.0.1", isDefault))
	l.assign("10.0.0.1 eip Default", req("ns/a", key("k"), ports(1)))
	l.assign("10.0.0.1 eip Sharing", req("ns/b", key("k"), ports(2)))
	l.assign("refused PoolExhausted", req("ns/c", key("k"), ports(2)))
	l.SetPool(poolOf("eip", "10.0.0.1", isDefault, disabled))
	l.assign("refused PoolDisabled", req("ns/c", key("k"), ports(3)))
	l.SetPool(poolOf("eip", "10.0.0.1", exclusive, boundTo("x")))
	l.assign("refused NamespaceNotAllowed", req("ns/c", key("k"), ports(3), asking("10.0.0.1")))
	l.SetPool(poolOf("eip", "10.0.0.1"))
	l.assign("refused NoEligiblePool", req("ns/c", key("k"), ports(3)))
}

// Namespaces share where the pool allows it to both.
func TestSharingAmongNamespaces(t *testing.T) {
	for _, test := range []struct {
		among []string
		want  string
	}{
		{nil, "refused SharingRefused"},
		{[]string{"a"}, "refused SharingRefused"},
		{[]string{"b", "c"}, "refused SharingRefused"},
		{[]string{"a", "b"}, "10.0.0.1 eip ByAddress"},
		{[]string{"*"}, "10.0.0.1 eip ByAddress"},
	} {
		l := newLife(t, poolOf("eip", "10.0.0.0/24", sharingAmong(test.among...)))
		l.assign("10.0.0.1 eip ByName", req("a/1", named("eip"), key("k"), ports(1)))
		l.assign(test.want, req("b/1", asking("10.0.0.1"), key("k"), ports(2)))
	}
}

// Taking the permission back moves nobody; the junior hears of it.
func TestSharingNamespacesChange(t *testing.T) {
	pool := func(among ...string) Pool { return poolOf("eip", "10.0.0.0/24", isDefault, sharingAmong(among...)) }
	l := newLife(t, pool("*"))
	senior, junior := req("a/1", key("k"), ports(1)), req("b/1", key("k"), ports(2))
	l.assign("10.0.0.1 eip Default", senior)
	l.assign("10.0.0.1 eip Sharing", junior)
	l.assign("10.0.0.2 eip Default", req("a/2"))
	_, affected := l.SetPool(pool())
	l.sameKeys("affected", affected, "a/1", "b/1")
	l.assign("10.0.0.1 eip Default", senior)
	l.assign("kept 10.0.0.1: SharingRefused", junior)
	l.SetPool(pool("a", "b"))
	l.assign("10.0.0.1 eip Sharing", junior)
}

// OpenELB's way: both ask for the address.
func TestImplicitSharing(t *testing.T) {
	l := newLife(t, poolOf("eip", "192.168.1.0/24"))
	a, b := req("ns/a", asking("192.168.1.5"), ports(80)), req("ns/b", asking("192.168.1.5"), ports(443))
	l.sameKeys("alone", l.assign("192.168.1.5 eip ByAddress", a).Implicit)
	l.sameKeys("of b", l.assign("192.168.1.5 eip ByAddress", b).Implicit, "ns/a")
	l.sameKeys("of a", l.assign("192.168.1.5 eip ByAddress", a).Implicit, "ns/b")
	l.usage("eip", "1/254")
	l.sameKeys("tenants", l.Tenants(addr("192.168.1.5")), "ns/a", "ns/b")
	l.assign("refused SharingRefused", req("ns/c", asking("192.168.1.5"), ports(80)))
	l.assign("refused SharingRefused", req("other/c", asking("192.168.1.5"), ports(81)))
	l.Release(service("ns/a"))
	l.usage("eip", "1/254")
	l.assign("192.168.1.5 eip ByAddress", b)
	l.assign("refused SharingRefused", req("ns/d", asking("192.168.1.5"), key("k"), ports(81)))
}

// Tenants that cannot share any more, by an edit, keep the address. The
// junior is told, whoever was edited, and the other is looked at again.
func TestEditedTenants(t *testing.T) {
	start := func(t *testing.T) (life, Request, Request) {
		l := newLife(t, poolOf("eip", "10.0.0.0/24", isDefault))
		senior, junior := req("ns/a", key("k"), ports(1)), req("ns/b", key("k"), ports(2))
		l.assign("10.0.0.1 eip Default", senior)
		l.assign("10.0.0.1 eip Sharing", junior)
		return l, senior, junior
	}
	for name, edit := range map[string]func(*Request){
		"another key":  func(r *Request) { r.ShareKey = "other" },
		"no key":       func(r *Request) { r.ShareKey = "" },
		"more ports":   func(r *Request) { r.Ports = []Port{{"TCP", 1}, {"TCP", 2}} },
		"only locally": func(r *Request) { r.Local, r.Selector = true, "x=y" },
	} {
		t.Run(name, func(t *testing.T) {
			l, senior, junior := start(t)
			edited := senior
			edit(&edited)
			l.sameKeys("recheck", l.assign("10.0.0.1 eip Default", edited).Recheck, "ns/b")
			l.sameKeys("recheck", l.assign("kept 10.0.0.1: SharingRefused", junior).Recheck)
			l.sameKeys("recheck", l.assign("10.0.0.1 eip Default", senior).Recheck, "ns/b")
			l.assign("10.0.0.1 eip Sharing", junior)

			edited = junior
			edit(&edited)
			want := "kept 10.0.0.1: SharingRefused"
			if name == "no key" {
				want = "kept 10.0.0.1: AddressInUse"
			}
			l.sameKeys("recheck", l.assign(want, edited).Recheck, "ns/a")
			l.assign("10.0.0.1 eip Default", senior)
			l = l.restarted(senior, edited)
			l.assign(want, edited)
			l.assign("10.0.0.1 eip Adopted", senior)
			l.usage("eip", "1/254")
		})
	}
}

// When the senior leaves, the next is the owner.
func TestSeniorLeaves(t *testing.T) {
	l := newLife(t, poolOf("eip", "10.0.0.0/24", isDefault))
	for i, name := range []string{"ns/a", "ns/b", "ns/c"} { // found like this, a and b with one port
		l.Adopt(req(name, key("k"), ports(1+i/2)), []netip.Addr{addr("10.0.0.1")}, "eip")
	}
	l.assign("kept 10.0.0.1: SharingRefused", req("ns/b", key("k"), ports(1)))
	l.assign("10.0.0.1 eip Adopted", req("ns/c", key("k"), ports(2)))
	l.Release(service("ns/a"))
	l.assign("10.0.0.1 eip Adopted", req("ns/b", key("k"), ports(1)))
	l.assign("kept 10.0.0.1: SharingRefused", req("ns/c", key("k"), ports(1)))
	l.sameKeys("tenants", l.Tenants(addr("10.0.0.1")), "ns/b", "ns/c")
}

// A Service that moves away and comes back finds its port taken only if
// somebody else may have taken it meanwhile, which is not before it settles.
func TestSharerComesBack(t *testing.T) {
	l := newLife(t, poolOf("eip", "10.0.0.0/24", isDefault))
	l.assign("10.0.0.1 eip Default", req("ns/a", key("k"), ports(1)))
	l.assign("10.0.0.1 eip Sharing", req("ns/b", key("k"), ports(2)))
	l.Assign(req("ns/b", key("k"), ports(2), asking("10.0.0.9")))
	l.assign("10.0.0.2 eip Default", req("ns/c", key("k2"), ports(2)))
	l.assign("refused AddressInUse", req("ns/d", key("k"), ports(3), asking("10.0.0.1")))
	l.assign("10.0.0.1 eip Sharing", req("ns/b", key("k"), ports(2), asking("10.0.0.1")))
	l.Assign(req("ns/b", key("k"), ports(2), asking("10.0.0.9")))
	l.Assign(req("ns/a", key("k"), ports(1, 2)))
	if out := l.Assign(req("ns/b", key("k"), ports(2), asking("10.0.0.1"))); outcomeText(out) != "kept 10.0.0.9: SharingRefused" {
		t.Errorf("the way back: %s", outcomeText(out))
	}
}

// Both families are shared where both can be, and one follows the other.
func TestSharingOfDualStack(t *testing.T) {
	l := newLife(t, both(isDefault), poolOf("better", "10.2.0.0/24 2001:db8:2::/64", boundTo("ns")))
	l.assign("10.1.0.1 both ByName + 2001:db8:1::1 both ByName", req("ns/a", dual(RequireDualStack), named("both"), key("k"), ports(1)))
	l.assign("10.1.0.1 both Sharing + 2001:db8:1::1 both Sharing", req("ns/b", dual(RequireDualStack), key("k"), ports(2)))
	l.assign("2001:db8:1::1 both Sharing", req("ns/c", families(IPv6), key("k"), ports(3)))
	l.assign("10.1.0.1 both Sharing + 2001:db8:1::2 both Default", req("ns/d", dual(RequireDualStack), key("k"), ports(3)))
}
