package ipam

import (
	"fmt"
	"testing"
	"time"
)

// Who disagrees with ns/web on the nodes that announce 10.0.0.1, which all of
// them hold.
func TestPolicyConflict(t *testing.T) {
	const none = "on []: policy [], selector []"
	b, c := "ns/b", "ns/c"
	for _, test := range []struct {
		name   string
		web    Request
		others []Request
		want   string
	}{
		{"alone, local", req("ns/web", local("app=web")), nil, none},
		{"both cluster, of two selectors", req("ns/web", cluster("app=web")), []Request{req(b, cluster("app=b"))}, none},
		{"both local, of one selector", req("ns/web", local("app=web")), []Request{req(b, local("app=web"))}, none},
		{"local and cluster", req("ns/web", local("app=web")), []Request{req(b, cluster("app=web"))}, "on [10.0.0.1]: policy [ns/b], selector []"},
		{"cluster and local", req("ns/web", cluster("app=web")), []Request{req(b, local("app=web"))}, "on [10.0.0.1]: policy [ns/b], selector []"},
		{"local to two selectors", req("ns/web", local("app=web")), []Request{req(b, local("app=b"))}, "on [10.0.0.1]: policy [], selector [ns/b]"},
		{"local without selectors", req("ns/web", local("")), []Request{req(b, local(""))}, "on [10.0.0.1]: policy [], selector [ns/b]"},
		{"several, in another order", req("ns/web", local("app=web")), []Request{req("ns/d", local("app=d")), req(c, cluster("app=web")), req(b, cluster("app=web"))}, "on [10.0.0.1]: policy [ns/b ns/c], selector [ns/d]"},
	} {
		t.Run(test.name, func(t *testing.T) {
			a := New(time.Now)
			for _, r := range append(test.others, test.web) {
				a.Adopt(r, addrs("10.0.0.1"), "")
			}
			got := a.PolicyConflict(service("ns/web"))
			if text := fmt.Sprintf("on %v: policy %v, selector %v", got.Addresses, got.OtherPolicy, got.OtherSelector); text != test.want {
				t.Errorf("there is a conflict %s, want %s", text, test.want)
			}
			if got.Any() != (test.want != none) || len(got.With()) != len(got.OtherPolicy)+len(got.OtherSelector) || got.Local != test.web.Local {
				t.Errorf("conflict %+v", got)
			}
		})
	}
	if New(time.Now).PolicyConflict(service("ns/unknown")).Any() {
		t.Error("a Service that holds nothing has a conflict")
	}
}

// Of two families, those addresses count that are shared, and each Service
// once.
func TestPolicyConflictOfTwoFamilies(t *testing.T) {
	a := New(time.Now)
	a.Adopt(req("ns/web", local("app=web")), addrs("10.0.0.1", "2001:db8::1"), "")
	a.Adopt(req("ns/six", cluster("app=web")), addrs("2001:db8::1"), "")
	if got := a.PolicyConflict(service("ns/web")); fmt.Sprint(got.Addresses, got.With()) != "[2001:db8::1] [ns/six]" {
		t.Errorf("one family: %+v", got)
	}
	a.Adopt(req("ns/both", cluster("app=web")), addrs("10.0.0.1", "2001:db8::1"), "")
	if got := a.PolicyConflict(service("ns/web")); fmt.Sprint(got.Addresses, got.With()) != "[10.0.0.1 2001:db8::1] [ns/both ns/six]" {
		t.Errorf("both families: %+v", got)
	}
}
