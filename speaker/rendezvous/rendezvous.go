// Package rendezvous ranks nodes for an address by highest random weight
// hashing (Thaler and Ravishankar, 1998): every node computes the same order
// alone, and a node that comes or goes moves only the addresses that it wins
// or held.
package rendezvous

import (
	"bytes"
	"crypto/sha256"
	"net/netip"
)

// Rank is a node's place for one address: the smallest is first.
type Rank [sha256.Size]byte

// Of returns a node's rank for an address, sha256(node + "#" + address). The
// formula is OpenELB's and MetalLB's, so a migration from either moves no
// address to another node.
func Of(addr netip.Addr, node string) Rank {
	buf := make([]byte, 0, 128) // on the stack for names of usual length
	buf = append(buf, node...)
	buf = append(buf, '#')
	buf = addr.AppendTo(buf)
	return sha256.Sum256(buf)
}

// Before tells whether r comes before other.
func (r Rank) Before(other Rank) bool {
	return bytes.Compare(r[:], other[:]) < 0
}

// First returns the node that comes first for an address, "" if there is none.
func First(addr netip.Addr, nodes []string) string {
	var first string
	var best Rank
	for i, node := range nodes {
		if rank := Of(addr, node); i == 0 || rank.Before(best) {
			first, best = node, rank
		}
	}
	return first
}
