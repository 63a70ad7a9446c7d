package v1alpha2

import (
	"errors"
	"fmt"
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

// Block is one entry of a pool.
//
// +kubebuilder:object:generate=false
type Block struct {
	netipx.IPRange
	// Prefix is the block as a CIDR, if it was written as one; else it is
	// the zero Prefix.
	Prefix netip.Prefix
}

// parseBlock is ParseAddress for a reader who needs to know a CIDR as such.
func parseBlock(s string) (Block, error) {
	r, err := ParseAddress(s)
	if err != nil {
		return Block{}, err
	}
	b := Block{IPRange: r}
	if strings.Contains(s, "/") {
		b.Prefix, _ = r.Prefix()
	}
	return b, nil
}

// Blocks reads the entries of the pool: Address and Addresses, and Exclude.
// They may overlap. The error names the field and wraps ErrAddressFormat.
func (s *EipSpec) Blocks() (blocks, excluded []Block, err error) {
	first, err := parseBlock(s.Address)
	if err != nil {
		return nil, nil, fmt.Errorf("spec.address %q: %w", s.Address, err)
	}
	if blocks, err = parseBlocks("spec.addresses", s.Addresses); err != nil {
		return nil, nil, err
	}
	if excluded, err = parseBlocks("spec.exclude", s.Exclude); err != nil {
		return nil, nil, err
	}
	return append([]Block{first}, blocks...), excluded, nil
}

func parseBlocks(field string, texts []PoolAddress) ([]Block, error) {
	blocks := make([]Block, 0, len(texts))
	for i, text := range texts {
		b, err := parseBlock(string(text))
		if err != nil {
			return nil, fmt.Errorf("%s[%d] %q: %w", field, i, text, err)
		}
		blocks = append(blocks, b)
	}
	return blocks, nil
}

// AddressSet returns all addresses of the pool. The error is that of Blocks.
func (s *EipSpec) AddressSet() (*netipx.IPSet, error) {
	blocks, excluded, err := s.Blocks()
	if err != nil {
		return nil, err
	}
	var set netipx.IPSetBuilder
	for _, b := range blocks {
		set.AddRange(b.IPRange)
	}
	for _, b := range excluded {
		set.RemoveRange(b.IPRange)
	}
	return set.IPSet()
}
