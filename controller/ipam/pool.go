package ipam

import (
	"maps"
	"net/netip"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/labels"

	"github.com/fairway-lb/fairway/api/v1alpha2"
)

// Pool is a named set of addresses and who may have them.
type Pool struct {
	Name  string
	Space Space
	// Protocol that announces the addresses, "" means BGP.
	Protocol string
	// Disabled pools give no new addresses.
	Disabled bool
	// Deleting pools give no new addresses and go once none is held. With
	// Rehome, the Services that hold addresses of it are to move, or to go
	// without one.
	Deleting, Rehome bool
	// Default pools serve Services that name nothing and for which no
	// bound pool has an address.
	Default bool
	// Exclusive pools refuse Services of namespaces that they are not bound
	// to, whatever these ask for.
	Exclusive bool
	// Priority orders the pools bound to a namespace, the smallest first.
	Priority int
	// Namespaces that the pool is bound to, by name,
	Namespaces []string
	// NamespaceSelector and by labels, all of which the namespace must
	// carry. An empty selector selects nothing.
	NamespaceSelector map[string]string
	// ServiceSelector holds the automatic choice to Services with such
	// labels, nil does not. A pool with nothing but this selector is bound
	// to every namespace.
	ServiceSelector labels.Selector
	// Rotate gives the address that was never used, or else the one that
	// has been free for the longest time, instead of the lowest.
	Rotate bool
	// Quarantine is how long a freed address is not given but to Services
	// that ask for it.
	Quarantine time.Duration
	// SharingNamespaces are those whose Services may share an address with
	// one another, v1alpha2.AnyNamespace for all. Those of one namespace
	// always may.
	SharingNamespaces []string
	// NamespaceLimits bound the addresses that a namespace may hold, those
	// not named by v1alpha2.AnyNamespace. None means no bound.
	NamespaceLimits map[string]int
}

// Contains tells whether an address is in the pool.
func (p *Pool) Contains(addr netip.Addr) bool {
	return p.Space.Contains(addr)
}

// Has tells whether the pool has addresses of a family at all.
func (p *Pool) Has(family Family) bool {
	return p.Space.Has(family)
}

// Binds tells whether the pool is bound to a namespace with such labels.
func (p *Pool) Binds(namespace string, namespaceLabels map[string]string) bool {
	if slices.Contains(p.Namespaces, namespace) {
		return true
	}
	if len(p.NamespaceSelector) == 0 {
		return len(p.Namespaces) == 0 && p.ServiceSelector != nil
	}
	for key, want := range p.NamespaceSelector {
		if got, ok := namespaceLabels[key]; !ok || got != want {
			return false
		}
	}
	return true
}

// admits tells whether the pool gives addresses to Services of a namespace
// at all.
func (p *Pool) admits(req *Request) bool {
	return !p.Exclusive || p.Binds(req.Service.Namespace, req.NamespaceLabels)
}

// offers tells whether the pool gives addresses to a Service that names
// nothing, and why.
func (p *Pool) offers(req *Request) (Choice, bool) {
	if p.ServiceSelector != nil && !p.ServiceSelector.Matches(req.labelSet()) {
		return "", false
	}
	bound := p.Binds(req.Service.Namespace, req.NamespaceLabels)
	switch {
	case bound && len(p.Namespaces) == 0 && len(p.NamespaceSelector) == 0:
		return ChosenByLabels, true
	case bound:
		return ChosenByNamespace, true
	default:
		return ChosenAsDefault, p.Default && !p.Exclusive
	}
}

// announcedBy returns the pool's protocol.
func (p *Pool) announcedBy() string {
	if p.Protocol == "" {
		return v1alpha2.ProtocolBGP
	}
	return p.Protocol
}

// limit returns how many addresses a namespace may hold, false if the pool
// does not say.
func (p *Pool) limit(namespace string) (int, bool) {
	if n, ok := p.NamespaceLimits[namespace]; ok {
		return n, true
	}
	n, ok := p.NamespaceLimits[v1alpha2.AnyNamespace]
	return n, ok
}

// mayShare tells whether Services of two namespaces may share an address.
func (p *Pool) mayShare(x, y string) bool {
	all := slices.Contains(p.SharingNamespaces, v1alpha2.AnyNamespace)
	return all || slices.Contains(p.SharingNamespaces, x) && slices.Contains(p.SharingNamespaces, y)
}

// equal tells whether two pools are the same in every respect.
func (p *Pool) equal(o *Pool) bool {
	return p.Name == o.Name && p.Space.Equal(o.Space) && p.Protocol == o.Protocol &&
		p.Disabled == o.Disabled && p.Deleting == o.Deleting && p.Rehome == o.Rehome &&
		p.Default == o.Default && p.Exclusive == o.Exclusive && p.Priority == o.Priority &&
		slices.Equal(p.Namespaces, o.Namespaces) && maps.Equal(p.NamespaceSelector, o.NamespaceSelector) &&
		sameSelector(p.ServiceSelector, o.ServiceSelector) &&
		p.Rotate == o.Rotate && p.Quarantine == o.Quarantine &&
		slices.Equal(p.SharingNamespaces, o.SharingNamespaces) && maps.Equal(p.NamespaceLimits, o.NamespaceLimits)
}

// sameSelector compares selectors by their text, which is canonical. That of
// the one which selects nothing is the same as of the one for everything.
func sameSelector(x, y labels.Selector) bool {
	if x == nil || y == nil {
		return x == nil && y == nil
	}
	return x.String() == y.String() && x.Empty() == y.Empty()
}
