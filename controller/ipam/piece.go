package ipam

import (
	"encoding/binary"
	"net/netip"

	"go4.org/netipx"

	"github.com/fairway-lb/fairway/api/v1alpha2"
)

// piece is a run of addresses with one rule of which are reserved: given to
// Services that ask for them only.
type piece struct {
	netipx.IPRange
	rule rule
}

// rule says which addresses are reserved. The zero rule reserves none.
type rule struct {
	// ends reserves every address that ends in .0 or .255.
	ends bool
	// points are reserved else, those that are valid.
	points [2]netip.Addr
}

// ruleOf returns what a block reserves: its network and broadcast address,
// and those that end in .0 or .255. A CIDR of /25 to /30 has no more of these
// than the first two, and one of /24 and shorter no other than these.
func ruleOf(b v1alpha2.Block) rule {
	switch {
	case !b.Prefix.IsValid() || !b.Prefix.Addr().Is4() || b.Prefix.Bits() > 30: // RFC 3021: a /31 has neither
		return rule{}
	case b.Prefix.Bits() <= 24:
		return rule{ends: true}
	default:
		return rule{points: [2]netip.Addr{b.From(), b.To()}}
	}
}

// reserves tells whether an address is reserved.
func (r rule) reserves(addr netip.Addr) bool {
	if r.ends {
		last := addr.As4()[3]
		return last == 0 || last == 255
	}
	return addr.IsValid() && (addr == r.points[0] || addr == r.points[1])
}

// and returns the rule that reserves in a range what both reserve.
func (r rule) and(o rule, within netipx.IPRange) rule {
	if r.ends && o.ends {
		return r
	}
	if r.ends {
		r, o = o, r
	}
	var both rule
	n := 0
	for _, point := range r.points {
		if point.IsValid() && within.Contains(point) && o.reserves(point) {
			both.points[n] = point
			n++
		}
	}
	return both
}

// within returns the rule without points outside a range.
func (r rule) within(bounds netipx.IPRange) rule {
	if r.ends {
		return r
	}
	return r.and(r, bounds)
}

// reserved returns how many addresses of the piece are reserved.
func (p piece) reserved() uint64 {
	if p.rule.ends {
		return endsBelow(number32(p.To())+1) - endsBelow(number32(p.From()))
	}
	var n uint64
	for _, point := range p.rule.points {
		if point.IsValid() {
			n++
		}
	}
	return n
}

// endsBelow returns how many of the n lowest IPv4 addresses end in .0 or .255.
func endsBelow(n uint64) uint64 {
	ends := n / 256 * 2
	if n%256 > 0 {
		ends++
	}
	return ends
}

func number32(addr netip.Addr) uint64 {
	bytes := addr.As4()
	return uint64(binary.BigEndian.Uint32(bytes[:]))
}

// first returns the lowest address that is not reserved, the zero Addr if
// there is none.
func (p piece) first() netip.Addr {
	addr := p.From()
	for p.rule.reserves(addr) { // two in a row at most
		if addr == p.To() {
			return netip.Addr{}
		}
		addr = addr.Next()
	}
	return addr
}
