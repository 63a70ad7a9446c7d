package plan

import "net/netip"

// Route is what a node announces for a prefix by BGP.
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
	// names of BgpPeers, sorted.
	AllPeers bool
	Peers    []string
}

// LargeCommunity is RFC 8092's.
type LargeCommunity struct{ Global, Local1, Local2 uint32 }
