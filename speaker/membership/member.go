package membership

import (
	"net/netip"
	"slices"

	"github.com/hashicorp/memberlist"
)

// Member is a live member of the cluster.
type Member struct {
	Name string
	// Addr is where its gossip is reached.
	Addr   netip.AddrPort
	served []scopeHash // ascending
}

// Serves tells whether the member can serve the layer-2 addresses of a scope.
// All nodes come to the same answer once gossip has settled.
func (m Member) Serves(scope string) bool {
	_, ok := slices.BinarySearch(m.served, hashScope(scope))
	return ok
}

func newMember(node *memberlist.Node) Member {
	addr, _ := netip.AddrFromSlice(node.Addr)
	return Member{
		Name:   node.Name,
		Addr:   netip.AddrPortFrom(addr.Unmap(), node.Port),
		served: decodeMeta(node.Meta),
	}
}
