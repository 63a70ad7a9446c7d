package plan

import (
	"cmp"
	"net/netip"
	"slices"
)

// Route is what a node announces for a prefix by BGP. It is not changed once it
// was made.
type Route struct {
	Prefix netip.Prefix
	// NextHops are third-party next hops, sorted; none means the node itself.
	NextHops         []netip.Addr
	Communities      []uint32         // sorted
	LargeCommunities []LargeCommunity // sorted
	LocalPref, MED   *uint32          // nil: not said
	// Prepend is how many more times than once the AS number is in the path.
	Prepend int
	// AllPeers announces the route to every peer, otherwise to Peers, which are
	// names of BgpPeers, sorted; none means to nobody.
	AllPeers bool
	Peers    []string
}

// LargeCommunity is RFC 8092's.
type LargeCommunity struct{ Global, Local1, Local2 uint32 }

// Compare orders large communities by their parts.
func (c LargeCommunity) Compare(other LargeCommunity) int {
	return cmp.Or(
		cmp.Compare(c.Global, other.Global),
		cmp.Compare(c.Local1, other.Local1),
		cmp.Compare(c.Local2, other.Local2),
	)
}

// Equal tells whether two routes are announced alike. A nil Route, which is a
// withdrawal, equals only itself.
func (r *Route) Equal(other *Route) bool {
	if r == nil || other == nil {
		return r == other
	}
	return r.Prefix == other.Prefix &&
		slices.Equal(r.NextHops, other.NextHops) &&
		slices.Equal(r.Communities, other.Communities) &&
		slices.Equal(r.LargeCommunities, other.LargeCommunities) &&
		equal(r.LocalPref, other.LocalPref) &&
		equal(r.MED, other.MED) &&
		r.Prepend == other.Prepend &&
		r.AllPeers == other.AllPeers &&
		slices.Equal(r.Peers, other.Peers)
}

func equal(a, b *uint32) bool {
	if a == nil || b == nil {
		return a == b
	}
	return *a == *b
}
