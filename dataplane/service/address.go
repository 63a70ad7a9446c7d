package service

import (
	"net/netip"
	"strings"
)

// Family is an IP family.
type Family uint8

// The families, in the order in which everything is sorted.
const (
	IPv4 Family = iota
	IPv6
)

// String returns IPv4 or IPv6.
func (f Family) String() string {
	if f == IPv6 {
		return "IPv6"
	}
	return "IPv4"
}

// unspecified is the address that stands for every one of the node.
func (f Family) unspecified() netip.Addr {
	if f == IPv6 {
		return netip.IPv6Unspecified()
	}
	return netip.IPv4Unspecified()
}

// FamilyOf returns the family of an address.
func FamilyOf(addr netip.Addr) Family {
	if addr.Is4() {
		return IPv4
	}
	return IPv6
}

// flaw is why an address can be neither a frontend's nor an endpoint's.
type flaw uint8

const (
	flawNone flaw = iota
	flawSyntax
	flawFamily
	flawUnspecified
	flawLoopback
	flawLinkLocal
	flawMulticast
)

// String returns what the address is, as part of a sentence.
func (f flaw) String() string {
	switch f {
	case flawNone:
		return "an address"
	case flawFamily:
		return "of another IP family"
	case flawUnspecified:
		return "the unspecified address"
	case flawLoopback:
		return "a loopback address"
	case flawLinkLocal:
		return "a link-local address"
	case flawMulticast:
		return "a multicast address"
	}
	return "no IP address"
}

// readAddr parses an address and judges it. IPv4-mapped IPv6 addresses are
// IPv4.
func readAddr(text string) (netip.Addr, flaw) {
	addr, err := netip.ParseAddr(text)
	if err != nil {
		// The API server has let leading zeros pass, and means decimal.
		addr, err = netip.ParseAddr(withoutLeadingZeros(text))
	}
	addr = addr.Unmap()
	switch {
	case err != nil || addr.Zone() != "" && !addr.IsLinkLocalUnicast():
		return netip.Addr{}, flawSyntax
	case addr.IsUnspecified():
		return addr, flawUnspecified
	case addr.IsLoopback():
		return addr, flawLoopback
	case addr.IsMulticast():
		return addr, flawMulticast
	case addr.IsLinkLocalUnicast():
		return addr, flawLinkLocal
	}
	return addr, flawNone
}

// readPrefix parses a prefix in CIDR notation and takes its host bits off.
func readPrefix(text string) (netip.Prefix, bool) {
	prefix, err := netip.ParsePrefix(text)
	if err != nil {
		if prefix, err = netip.ParsePrefix(withoutLeadingZeros(text)); err != nil {
			return netip.Prefix{}, false
		}
	}
	if addr := prefix.Addr(); addr.Is4In6() {
		if prefix.Bits() < 96 {
			return netip.Prefix{}, false
		}
		prefix = netip.PrefixFrom(addr.Unmap(), prefix.Bits()-96)
	}
	return prefix.Masked(), true
}

// withoutLeadingZeros returns 010.0.0.01/08 as 10.0.0.1/8. IPv6, where they
// do no harm, stays as it is.
func withoutLeadingZeros(text string) string {
	if strings.Contains(text, ":") {
		return text
	}
	isDigit := func(i int) bool { return i < len(text) && '0' <= text[i] && text[i] <= '9' }
	var b strings.Builder
	number := false
	for i := range len(text) {
		if text[i] == '0' && !number && isDigit(i+1) {
			continue
		}
		number = isDigit(i)
		b.WriteByte(text[i])
	}
	return b.String()
}
