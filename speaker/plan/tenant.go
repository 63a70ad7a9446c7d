package plan

import (
	"cmp"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/fairway-lb/fairway/dataplane/service"
)

// Tenant is a Service that has an address, alone or together with others.
type Tenant struct {
	Service types.NamespacedName
	// Created is the Service's creation time stamp.
	Created time.Time
	// LocalPolicy is true for externalTrafficPolicy: Local.
	LocalPolicy bool
	// Endpoints of the Service in the family of the address.
	Endpoints service.Endpoints
}

// Seniority orders tenants by age, then by namespace and name.
func Seniority(a, b Tenant) int {
	return cmp.Or(
		a.Created.Compare(b.Created),
		cmp.Compare(a.Service.Namespace, b.Service.Namespace),
		cmp.Compare(a.Service.Name, b.Service.Name),
	)
}

// ready parts the Services that have an address into those that have
// endpoints, the senior first, and those that cannot be reached anywhere.
func ready(tenants []Tenant) (ready []Tenant, unreached []Unreached) {
	if !slices.IsSortedFunc(tenants, Seniority) {
		tenants = slices.SortedFunc(slices.Values(tenants), Seniority)
	}
	if !slices.ContainsFunc(tenants, func(t Tenant) bool { return !t.Endpoints.Any() }) {
		return tenants, nil
	}
	for _, t := range tenants {
		if t.Endpoints.Any() {
			ready = append(ready, t)
		} else {
			unreached = append(unreached, Unreached{t.Service, ReasonNoEndpoint})
		}
	}
	return ready, unreached
}

// agree returns the nodes among those able from which all tenants are reached.
// If there is none, the senior goes first: the nodes are those from which the
// oldest that can be reached at all is, of them those that reach the next as
// well, and so on. Who is left out is unreached.
func agree(able []string, tenants []Tenant) (candidates []string, reached []Tenant, unreached []Unreached) {
	candidates = able
	for _, t := range tenants {
		nodes := t.among(candidates)
		switch {
		case len(nodes) > 0:
			candidates = nodes
			reached = append(reached, t)
		case len(t.among(able)) > 0:
			unreached = append(unreached, Unreached{t.Service, ReasonNotTogether})
		default:
			unreached = append(unreached, Unreached{t.Service, ReasonNoLocalCandidate})
		}
	}
	if len(reached) == 0 {
		return nil, nil, nil
	}
	return candidates, reached, unreached
}

// among returns the nodes from which a tenant is reached.
func (t Tenant) among(nodes []string) []string {
	if !t.LocalPolicy {
		return nodes
	}
	var with []string
	for _, node := range nodes {
		if t.Endpoints.OnNode(node) {
			with = append(with, node)
		}
	}
	return with
}
