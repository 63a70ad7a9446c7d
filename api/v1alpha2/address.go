package v1alpha2

import (
	"errors"
	"net/netip"
	"strings"

	"go4.org/netipx"
)

// ErrAddressFormat is returned for a pool address that is not an address, a
// CIDR or a range. Its text is the one that OpenELB's admission gave.
var ErrAddressFormat = errors.New("invalid eip address format")

// ParseAddress reads EipSpec.Address: an address, a CIDR, whose host bits are
// ignored and whose whole block is meant, or a range of two addresses of one
// family, the lower first. Zones and IPv4-mapped IPv6 addresses are refused.
// The error is ErrAddressFormat.
func ParseAddress(s string) (netipx.IPRange, error) {
	if from, to, ok := strings.Cut(s, "-"); ok {
		first, last := parseIP(from), parseIP(to)
		if r := netipx.IPRangeFrom(first, last); r.IsValid() {
			return r, nil
		}
		return netipx.IPRange{}, ErrAddressFormat
	}
	if strings.Contains(s, "/") {
		prefix, err := netip.ParsePrefix(s)
		if err != nil || prefix.Addr().Is4In6() {
			return netipx.IPRange{}, ErrAddressFormat
		}
		return netipx.RangeOfPrefix(prefix), nil
	}
	if addr := parseIP(s); addr.IsValid() {
		return netipx.IPRangeFrom(addr, addr), nil
	}
	return netipx.IPRange{}, ErrAddressFormat
}

// parseIP returns the zero Addr for what is not a plain address.
func parseIP(s string) netip.Addr {
	addr, err := netip.ParseAddr(s)
	if err != nil || addr.Zone() != "" || addr.Is4In6() {
		return netip.Addr{}
	}
	return addr
}
