package ipam

import (
	"fmt"
	"math/big"
	"net/netip"
	"slices"
	"strings"

	"go4.org/netipx"

	"github.com/fairway-lb/fairway/api/v1alpha2"
)

// Space is a set of addresses, some of which are reserved: they are given
// only to Services that ask for them. Its size costs nothing. It is not to be
// changed.
type Space struct {
	pieces []piece          // ascending, disjoint
	ranges []netipx.IPRange // the same addresses in as few ranges as possible
}

// NewSpace returns the addresses of the blocks without the excluded ones. An
// address is reserved if every block that contains it reserves it, which only
// IPv4 CIDRs up to /30 do, and not if usingKnownIPs.
func NewSpace(blocks, excluded []v1alpha2.Block, usingKnownIPs bool) Space {
	var ranges []netipx.IPRange
	for _, b := range slices.Concat(blocks, excluded) {
		ranges = append(ranges, b.IPRange)
	}
	var s Space
	for _, segment := range sweep(ranges) {
		if last := segment.members[len(segment.members)-1]; last >= len(blocks) {
			continue // excluded
		}
		p := piece{IPRange: segment.IPRange}
		if !usingKnownIPs {
			p.rule = ruleOf(blocks[segment.members[0]]).within(p.IPRange)
			for _, member := range segment.members[1:] {
				p.rule = p.rule.and(ruleOf(blocks[member]), p.IPRange)
			}
		}
		s.add(p)
	}
	return s
}

// add appends a piece above all others.
func (s *Space) add(p piece) {
	adjoins := false
	if last := len(s.ranges) - 1; last >= 0 {
		adjoins = s.ranges[last].To().Next() == p.From()
	}
	if !adjoins {
		s.pieces, s.ranges = append(s.pieces, p), append(s.ranges, p.IPRange)
		return
	}
	before := &s.ranges[len(s.ranges)-1]
	*before = netipx.IPRangeFrom(before.From(), p.To())
	if last := &s.pieces[len(s.pieces)-1]; last.rule == p.rule && p.rule.points == (rule{}).points {
		last.IPRange = netipx.IPRangeFrom(last.From(), p.To())
		return
	}
	s.pieces = append(s.pieces, p)
}

// Contains tells whether an address is in the space, reserved or not.
func (s Space) Contains(addr netip.Addr) bool {
	return s.pieceOf(addr) != nil
}

// Reserves tells whether an address is in the space and reserved.
func (s Space) Reserves(addr netip.Addr) bool {
	p := s.pieceOf(addr)
	return p != nil && p.rule.reserves(addr)
}

// gives tells whether an address is in the space and not reserved.
func (s Space) gives(addr netip.Addr) bool {
	p := s.pieceOf(addr)
	return p != nil && !p.rule.reserves(addr)
}

// Has tells whether the space has addresses of a family at all.
func (s Space) Has(family Family) bool {
	return len(s.of(family)) > 0
}

// Equal tells whether two spaces are the same.
func (s Space) Equal(o Space) bool {
	return slices.Equal(s.pieces, o.pieces)
}

// Bounds returns the lowest and the highest address, zero Addrs if there is
// none. IPv4 is below IPv6.
func (s Space) Bounds() (first, last netip.Addr) {
	if len(s.pieces) == 0 {
		return netip.Addr{}, netip.Addr{}
	}
	return s.pieces[0].From(), s.pieces[len(s.pieces)-1].To()
}

// String writes the space as a user would, the first parts if it has many.
func (s Space) String() string {
	if len(s.ranges) == 0 {
		return "no addresses"
	}
	var texts []string
	for i, r := range s.ranges {
		if i == maxNamed {
			texts = append(texts, fmt.Sprintf("and %d more ranges", len(s.ranges)-maxNamed))
			break
		}
		switch prefix, isPrefix := r.Prefix(); {
		case r.From() == r.To():
			texts = append(texts, r.From().String())
		case isPrefix:
			texts = append(texts, prefix.String())
		default:
			texts = append(texts, r.String())
		}
	}
	return strings.Join(texts, ", ")
}

// size returns how many addresses of a family are not reserved, exactly.
func (s Space) size(family Family) *big.Int {
	total := new(big.Int)
	for _, p := range s.of(family) {
		span := new(big.Int).Sub(number(p.To()), number(p.From()))
		total.Add(total, span.Add(span, big.NewInt(1)))
		total.Sub(total, new(big.Int).SetUint64(p.reserved()))
	}
	return total
}

// of returns the pieces of a family.
func (s Space) of(family Family) []piece {
	sixes, _ := slices.BinarySearchFunc(s.pieces, netip.IPv6Unspecified(), func(p piece, addr netip.Addr) int {
		return p.From().Compare(addr)
	})
	if family == IPv4 {
		return s.pieces[:sixes]
	}
	return s.pieces[sixes:]
}

func (s Space) pieceOf(addr netip.Addr) *piece {
	i, _ := slices.BinarySearchFunc(s.pieces, addr, func(p piece, addr netip.Addr) int {
		return p.To().Compare(addr)
	})
	if i < len(s.pieces) && !addr.Less(s.pieces[i].From()) {
		return &s.pieces[i]
	}
	return nil
}
