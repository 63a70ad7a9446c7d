package ipam

import (
	"math"
	"math/big"
	"net/netip"

	"go4.org/netipx"
)

// Size returns how many addresses the ranges have, exactly.
func Size(ranges []netipx.IPRange) *big.Int {
	total := new(big.Int)
	for _, r := range ranges {
		span := new(big.Int).Sub(number(r.To()), number(r.From()))
		total.Add(total, span.Add(span, big.NewInt(1)))
	}
	return total
}

// SaturatingInt returns n, or the largest int if n is larger.
func SaturatingInt(n *big.Int) int {
	if !n.IsInt64() || n.Int64() > math.MaxInt {
		return math.MaxInt
	}
	return int(n.Int64())
}

func number(addr netip.Addr) *big.Int {
	return new(big.Int).SetBytes(addr.AsSlice())
}
