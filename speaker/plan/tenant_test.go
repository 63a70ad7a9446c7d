package plan

import (
	"slices"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/types"
)

func key(name string) types.NamespacedName {
	return types.NamespacedName{Namespace: "dev", Name: name}
}

// cluster is a Service of a given age with externalTrafficPolicy: Cluster and
// endpoints on nodes.
func cluster(name string, created int64, nodes ...string) Tenant {
	return Tenant{Service: key(name), Created: time.Unix(created, 0), Endpoints: endpointsOn(nodes...)}
}

// local is the same with externalTrafficPolicy: Local.
func local(name string, created int64, nodes ...string) Tenant {
	t := cluster(name, created, nodes...)
	t.LocalPolicy = true
	return t
}

// TestSharedAddress: several Services on one address have one owner, from
// which as many of them as possible are reached, the oldest first.
func TestSharedAddress(t *testing.T) {
	all := []string{"n1", "n2", "n3"}
	for _, test := range []struct {
		name       string
		change     func(*state) // beside the tenants
		tenants    []Tenant
		candidates []string
		explain    map[string]string // of the Services that are not reached
	}{
		{"both Cluster", nil, []Tenant{cluster("a", 1, "n1"), cluster("b", 2, "n3")}, all, nil},
		{"Local on two nodes, of one selector", nil, []Tenant{local("a", 1, "n1", "n2"), local("b", 2, "n1", "n2")}, []string{"n1", "n2"}, nil},
		{"Local, where both are", nil, []Tenant{local("a", 1, "n1", "n2"), local("b", 2, "n2", "n3")}, []string{"n2"}, nil},
		{"one Local, one Cluster", nil, []Tenant{cluster("a", 1, "n1"), local("b", 2, "n3")}, []string{"n3"}, nil},
		{"three that meet on one node only", nil, []Tenant{local("a", 1, "n1", "n2"), local("b", 2, "n2", "n3"), local("c", 3, "n2")}, []string{"n2"}, nil},
		{"the older has no endpoint", nil, []Tenant{local("a", 1), local("b", 2, "n3")}, []string{"n3"},
			map[string]string{"a": "is announced for Service dev/b, but Service dev/a is not reached at it: the Service has no ready endpoint"}},
		{"the younger has no endpoint", nil, []Tenant{cluster("a", 1, "n1"), cluster("b", 2)}, all,
			map[string]string{"b": "is announced for Service dev/a, but Service dev/b is not reached at it: the Service has no ready endpoint"}},
		{"nobody has", nil, []Tenant{cluster("a", 1), cluster("b", 2)}, nil,
			map[string]string{"a": "is not announced: the Service has no ready endpoint", "b": "is not announced: the Service has no ready endpoint"}},
		{"Local, nowhere together", nil, []Tenant{local("a", 2, "n1"), local("b", 1, "n2", "n3")}, []string{"n2", "n3"},
			map[string]string{"a": "is announced for Service dev/b, but Service dev/a is not reached at it: externalTrafficPolicy is Local and no node has ready endpoints of all"}},
		{"of one age, nowhere together: by name", nil, []Tenant{local("b", 1, "n2"), local("a", 1, "n1")}, []string{"n1"},
			map[string]string{"b": "no node has ready endpoints of all"}},
		{"the oldest, and the next that agrees with it", nil, []Tenant{local("a", 1, "n1", "n2"), local("b", 2, "n3"), local("c", 3, "n2", "n3")}, []string{"n2"},
			map[string]string{"b": "no node has ready endpoints of all"}},
		{"the oldest is on an excluded node", func(s *state) { s.view.Nodes["n1"] = Node{Excluded: true} },
			[]Tenant{local("a", 1, "n1"), local("b", 2, "n2")}, []string{"n2"},
			map[string]string{"a": "is announced for Service dev/b, but Service dev/a is not reached at it: externalTrafficPolicy is Local and no node that can announce the address has a ready endpoint"}},
		{"all are on excluded nodes", func(s *state) { s.view.Nodes["n1"] = Node{Excluded: true} },
			[]Tenant{local("a", 1, "n1"), local("b", 2, "n1")}, nil,
			map[string]string{"a": "node n1 is labelled", "b": "node n3 has no ready endpoint and externalTrafficPolicy is Local"}},
		{"no node can announce it, and one has no endpoint", func(s *state) { s.view.Members = nil },
			[]Tenant{cluster("a", 1, "n1"), cluster("b", 2)}, nil,
			map[string]string{"a": "is not announced: no node can announce it", "b": "is not announced: the Service has no ready endpoint"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := newState()
			s.address.Tenants = test.tenants
			if test.change != nil {
				test.change(s)
			}
			d := s.expect(t, test.candidates...)
			for _, tenant := range test.tenants {
				text, want := d.Explain(tenant.Service), test.explain[tenant.Service.Name]
				if want == "" && text != "" || !strings.Contains(text, want) {
					t.Errorf("Service %s: %q, want %q", tenant.Service, text, want)
				}
			}
		})
	}
}

// A tenant that goes, or comes, leaves the address where it is as long as the
// others are reached there.
func TestOwnerStaysWhenTenantsChange(t *testing.T) {
	s := newState()
	web := local("web", 1, "n1", "n2")
	s.address.Tenants = []Tenant{web}
	owner := s.view.Layer2(s.address).Owner
	for _, others := range [][]Tenant{
		{local("older", 0, "n1", "n2")},
		{cluster("younger", 2, "n3")},
		{cluster("older", 0), local("younger", 2)},
		{local("younger", 2, "n3")},
	} {
		s.address.Tenants = append(slices.Clone(others), web)
		if d := s.view.Layer2(s.address); d.Owner != owner {
			t.Errorf("with %v the owner is %q, without %q", others, d.Owner, owner)
		}
	}
}
