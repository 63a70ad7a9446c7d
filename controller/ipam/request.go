package ipam

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/fairway-lb/fairway/api/v1alpha2"
)

// ServiceKey names a Service.
type ServiceKey struct {
	Namespace string
	Name      string
}

// String returns namespace/name.
func (k ServiceKey) String() string {
	return k.Namespace + "/" + k.Name
}

// Request is what a Service asks for.
type Request struct {
	Service ServiceKey
	// NamespaceLabels are those of the Service's namespace, for pools with
	// a namespace selector.
	NamespaceLabels map[string]string
	// Pool is the name of the pool wanted, "" for any that serves the
	// Service's namespace, or the default.
	Pool string
	// Address is the address wanted, the zero Addr for any.
	Address netip.Addr
	// Families are those that the Service can use, the preferred first.
	// None means that it does not matter.
	Families []Family
}

// accepts tells whether the Service can use addresses of a family.
func (r *Request) accepts(family Family) bool {
	return len(r.Families) == 0 || slices.Contains(r.Families, family)
}

// satisfiedBy tells whether an allocation is what is asked for. What is not
// asked for does not matter: neither taking away the name of a pool nor that
// of an address moves a Service.
func (r *Request) satisfiedBy(held Allocation) bool {
	return (r.Pool == "" || r.Pool == held.Pool) && (!r.Address.IsValid() || r.Address == held.Address)
}

// ReadAddress reads the address that a Service asks for in a field: one plain
// address, in any spelling. The empty text asks for none.
func ReadAddress(field, text string) (netip.Addr, *Refusal) {
	if text == "" {
		return netip.Addr{}, nil
	}
	r, err := v1alpha2.ParseAddress(text)
	if err != nil || strings.ContainsAny(text, "-/") { // a range, a CIDR
		return netip.Addr{}, invalidAddress(field, text)
	}
	return r.From(), nil
}
