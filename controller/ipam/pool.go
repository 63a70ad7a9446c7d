package ipam

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"

	"go4.org/netipx"
)

// Pool is a named set of addresses and who may have them.
type Pool struct {
	Name string
	// Ranges must not overlap one another.
	Ranges []netipx.IPRange
	// Disabled pools give no new addresses.
	Disabled bool
	// Deleting pools give no new addresses and go once none is held.
	Deleting bool
	// Default pools serve Services that name nothing and for which no
	// bound pool has an address.
	Default bool
	// Priority orders the pools bound to a namespace, the smallest first.
	Priority int
	// Namespaces that the pool is bound to, by name,
	Namespaces []string
	// NamespaceSelector and by labels, all of which the namespace must
	// carry. An empty selector selects nothing.
	NamespaceSelector map[string]string
}

// Contains tells whether an address is in the pool.
func (p *Pool) Contains(addr netip.Addr) bool {
	return slices.ContainsFunc(p.Ranges, func(r netipx.IPRange) bool { return r.Contains(addr) })
}

// Has tells whether the pool has addresses of a family at all.
func (p *Pool) Has(family Family) bool {
	return slices.ContainsFunc(p.Ranges, func(r netipx.IPRange) bool { return FamilyOf(r.From()) == family })
}

// Binds tells whether the pool is bound to a namespace with such labels.
func (p *Pool) Binds(namespace string, labels map[string]string) bool {
	if slices.Contains(p.Namespaces, namespace) {
		return true
	}
	for key, want := range p.NamespaceSelector {
		if got, ok := labels[key]; !ok || got != want {
			return false
		}
	}
	return len(p.NamespaceSelector) > 0
}

// equal tells whether two pools are the same in every respect.
func (p *Pool) equal(o *Pool) bool {
	return p.Name == o.Name && slices.Equal(p.Ranges, o.Ranges) &&
		p.Disabled == o.Disabled && p.Deleting == o.Deleting && p.Default == o.Default &&
		p.Priority == o.Priority && slices.Equal(p.Namespaces, o.Namespaces) &&
		maps.Equal(p.NamespaceSelector, o.NamespaceSelector)
}

// byPreference orders the pools bound to a namespace.
func byPreference(a, b *pool) int {
	return cmp.Or(cmp.Compare(a.Priority, b.Priority), cmp.Compare(a.Name, b.Name))
}
