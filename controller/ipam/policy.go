package ipam

import (
	"cmp"
	"net/netip"
	"slices"
)

// PolicyConflict is what Services that share addresses with one disagree with
// it on: which nodes their traffic may come to.
type PolicyConflict struct {
	// Local is the Service's own policy.
	Local bool
	// Addresses are those shared in disagreement.
	Addresses []netip.Addr
	// OtherPolicy are the Services of which one is local and this one is not,
	// or the reverse, in order.
	OtherPolicy []ServiceKey
	// OtherSelector are those that are local like this one, and whose endpoints
	// may be on other nodes, in order.
	OtherSelector []ServiceKey
}

// Any tells whether there is a conflict.
func (c PolicyConflict) Any() bool {
	return len(c.Addresses) > 0
}

// With returns all Services that there is a conflict with.
func (c PolicyConflict) With() []ServiceKey {
	return slices.Concat(c.OtherPolicy, c.OtherSelector)
}

// PolicyConflict returns the conflict that a Service has part in, the zero
// value if it has none. It depends on what the Services ask for alone, and
// not on the order in which they came.
func (a *Allocator) PolicyConflict(service ServiceKey) PolicyConflict {
	var c PolicyConflict
	h := a.services[service]
	if h == nil {
		return c
	}
	c.Local = h.claim.Local
	for _, x := range h.held {
		conflicts := false
		for _, other := range a.tenants[x.Address].others(h) {
			theirs := &other.claim
			switch {
			case !other.holds(x.Address):
				continue
			case theirs.Local != c.Local:
				c.OtherPolicy = append(c.OtherPolicy, other.key)
			case c.Local && !sameEndpoints(&h.claim, theirs):
				c.OtherSelector = append(c.OtherSelector, other.key)
			default:
				continue
			}
			conflicts = true
		}
		if conflicts {
			c.Addresses = append(c.Addresses, x.Address)
		}
	}
	c.OtherPolicy, c.OtherSelector = inOrder(c.OtherPolicy), inOrder(c.OtherSelector)
	return c
}

// sameEndpoints tells whether two Services are sure to have the same: without
// a selector, each has what somebody else gives it.
func sameEndpoints(x, y *Request) bool {
	return x.Selector == y.Selector && x.Selector != ""
}

// inOrder sorts Services, each once.
func inOrder(services []ServiceKey) []ServiceKey {
	slices.SortFunc(services, func(a, b ServiceKey) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
	})
	return slices.Compact(services)
}
