package ipam

import (
	"math"
	"math/big"
	"net/netip"
)

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
