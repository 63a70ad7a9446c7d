package conntrack

import (
	"net/netip"
	"slices"
)

// addressSet is a set of addresses. The zero value is empty.
type addressSet struct {
	single map[netip.Addr]struct{}
	wide   []netip.Prefix
}

// newAddressSet returns the set of all addresses in prefixes.
func newAddressSet(prefixes []netip.Prefix) addressSet {
	a := addressSet{single: make(map[netip.Addr]struct{}, len(prefixes))}
	for _, p := range prefixes {
		if p.IsSingleIP() {
			a.single[p.Addr()] = struct{}{}
		} else if p.IsValid() {
			a.wide = append(a.wide, p.Masked())
		}
	}
	return a
}

func (a *addressSet) has(addr netip.Addr) bool {
	if _, is := a.single[addr]; is {
		return true
	}
	return slices.ContainsFunc(a.wide, func(p netip.Prefix) bool { return p.Contains(addr) })
}

// intersect returns what is in both lists. Of two prefixes that overlap, one is
// in the other.
func intersect(as, bs []netip.Prefix) (both []netip.Prefix) {
	for _, a := range as {
		for _, b := range bs {
			switch {
			case !a.Overlaps(b):
			case a.Bits() >= b.Bits():
				both = append(both, a)
			default:
				both = append(both, b)
			}
		}
	}
	return both
}
