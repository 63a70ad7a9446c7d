package ipam

import (
	"math/big"
	"net/netip"
)

// Usage is how much of a pool is in use. Its numbers are not to be changed.
type Usage struct {
	// Total is the number of addresses that can be given, those in use
	// included, exact.
	Total *big.Int
	// Free is the number of addresses that can be given now without being
	// asked for by name, exact.
	Free *big.Int
	// InUse is the number of addresses that Services hold.
	InUse int
	// First and Last are the pool's lowest and highest address.
	First, Last netip.Addr
	// Families has the same per family that the pool has addresses of.
	Families map[Family]FamilyUsage
	// Quarantined is the number of addresses that rest after their use.
	Quarantined int
}

// FamilyUsage is how much of one family of a pool is in use.
type FamilyUsage struct {
	Total, Free *big.Int
	InUse       int
}

// Full tells whether no address is left.
func (u Usage) Full() bool {
	return u.Total.Cmp(big.NewInt(int64(u.InUse))) <= 0
}
