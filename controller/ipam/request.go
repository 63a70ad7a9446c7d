package ipam

import (
	"net/netip"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/labels"

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

// Port is what a Service needs of an address for itself.
type Port struct {
	Protocol string // TCP, UDP or SCTP
	Number   uint16
}

// Request is what a Service asks for. The allocator keeps it; its maps and
// slices are not to be changed any more.
type Request struct {
	Service ServiceKey
	// NamespaceLabels are those of the Service's namespace, for pools with
	// a namespace selector, and ServiceLabels the Service's own, for pools
	// with a Service selector.
	NamespaceLabels map[string]string
	ServiceLabels   map[string]string
	// Pools are the names of the pools wanted, the preferred first; none
	// for any that serves the Service, or the default.
	Pools []string
	// Addresses are those wanted, at most one of each family; none for any.
	Addresses []netip.Addr
	// Keeps tells that Addresses are what the Service has, and not what it
	// asks for: nobody may conclude from them that it would share.
	Keeps bool
	// Protocol holds the automatic choice to pools of this protocol, "" does
	// not. It has no effect where pools or addresses are named.
	Protocol string
	// Families are those that the Service can use, the preferred first.
	// None means that it does not matter.
	Families []Family
	// DualStack says whether one address will do. "" is SingleStack.
	DualStack DualStack
	// ShareKey is the key under which the Service shares an address, ""
	// if it does not.
	ShareKey string
	// Ports are what it needs of an address for itself.
	Ports []Port
	// Selector is the canonical text of the Service's selector, "" if it
	// has none. Local says that its traffic goes to local endpoints only;
	// then it shares with Services of the same selector only.
	Selector string
	Local    bool
}

// families returns those that the Service can use, the preferred first.
func (r *Request) families() []Family {
	switch {
	case len(r.Families) == 0:
		return bothFamilies()
	case slices.ContainsFunc(r.Families, unknown), len(r.Families) > 2, len(r.Families) == 2 && r.Families[0] == r.Families[1]:
		families := slices.DeleteFunc(slices.Clone(r.Families), unknown)
		return slices.Compact(families[:min(2, len(families))])
	default:
		return r.Families
	}
}

func unknown(f Family) bool {
	return f != IPv4 && f != IPv6
}

// accepts tells whether the Service can use addresses of a family.
func (r *Request) accepts(family Family) bool {
	return len(r.Families) == 0 || slices.Contains(r.Families, family)
}

// single tells whether the Service wants one address only.
func (r *Request) single() bool {
	return r.DualStack != PreferDualStack && r.DualStack != RequireDualStack
}

// asked returns the address of a family that the Service asks for, the zero
// Addr if it asks for none.
func (r *Request) asked(family Family) netip.Addr {
	for _, addr := range r.Addresses {
		if FamilyOf(addr) == family {
			return addr
		}
	}
	return netip.Addr{}
}

// SatisfiedBy tells whether an allocation is what is asked for. What is not
// asked for does not matter: neither taking away the name of a pool nor that
// of an address moves a Service.
func (r *Request) SatisfiedBy(held Allocation) bool {
	if len(r.Pools) > 0 && !slices.Contains(r.Pools, held.Pool) {
		return false
	}
	asked := r.asked(FamilyOf(held.Address))
	return !asked.IsValid() || asked == held.Address
}

// labelSet gives a Service's labels to a selector.
func (r *Request) labelSet() labels.Set {
	return labels.Set(r.ServiceLabels)
}

// ReadAddresses reads the addresses that a Service asks for in a field: one
// plain address, in any spelling, or one of each family, separated by a
// comma. The empty text asks for none.
func ReadAddresses(field, text string) ([]netip.Addr, *Refusal) {
	if text == "" {
		return nil, nil
	}
	var addrs []netip.Addr
	for part := range strings.SplitSeq(text, ",") {
		part = strings.TrimSpace(part)
		r, err := v1alpha2.ParseAddress(part)
		if err != nil || strings.ContainsAny(part, "-/") { // a range, a CIDR
			return nil, invalidAddress(field, text)
		}
		addr := r.From()
		if slices.ContainsFunc(addrs, func(other netip.Addr) bool { return FamilyOf(other) == FamilyOf(addr) }) {
			return nil, twoOfOneFamily(field, FamilyOf(addr))
		}
		addrs = append(addrs, addr)
	}
	return addrs, nil
}
