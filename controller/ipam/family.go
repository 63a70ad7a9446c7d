package ipam

import "net/netip"

// Family is an IP address family.
type Family string

// The families, spelled as in a Service's spec.ipFamilies.
const (
	IPv4 Family = "IPv4"
	IPv6 Family = "IPv6"
)

// FamilyOf returns the family of an address.
func FamilyOf(addr netip.Addr) Family {
	if addr.Is4() {
		return IPv4
	}
	return IPv6
}

// bothFamilies returns the families in the order in which a Service that has
// no preference is given them.
func bothFamilies() []Family {
	return []Family{IPv4, IPv6}
}

// DualStack is how many families a Service wants addresses of.
type DualStack string

// The values, spelled as in a Service's spec.ipFamilyPolicy.
const (
	// SingleStack wants one address.
	SingleStack DualStack = "SingleStack"
	// PreferDualStack wants one of each family, or of one if the other is
	// not to be had.
	PreferDualStack DualStack = "PreferDualStack"
	// RequireDualStack wants one of each family and takes none before it
	// can have both.
	RequireDualStack DualStack = "RequireDualStack"
)
