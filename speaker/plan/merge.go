package plan

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// Fields of spec.bgp that Eips which share a route may disagree in.
const (
	fieldCommunities = "communities"
	fieldLocalPref   = "localPref"
	fieldMED         = "med"
	fieldPrepend     = "asPathPrepend"
	fieldPeers       = "peers"
)

// defaultLocalPref is what a neighbor takes a route for that says none.
const defaultLocalPref = 100

// gracefulShutdown is the community GRACEFUL_SHUTDOWN, 65535:0 (RFC 8326).
const gracefulShutdown = 0xffff0000

// Conflict is a route that Eips share, whose addresses overlap, and in which
// they disagree. The stricter value counts for each field: all communities,
// the lowest local preference, the highest MED, the longest path, the peers
// that all name.
type Conflict struct {
	Prefix netip.Prefix
	Eips   []string // sorted
	// Fields are those of spec.bgp, sorted.
	Fields []string
}

// String says it in a sentence.
func (c Conflict) String() string {
	return fmt.Sprintf("Eips %s announce %s together and disagree in spec.bgp.%s: the stricter value counts, make them equal or take the overlap out of one",
		strings.Join(c.Eips, ", "), c.Prefix, strings.Join(c.Fields, ", spec.bgp."))
}

// alike tells whether the same Eips disagree in the same fields.
func (c Conflict) alike(other Conflict) bool {
	return slices.Equal(c.Eips, other.Eips) && slices.Equal(c.Fields, other.Fields)
}

func (c *Conflict) add(field string) {
	if i, found := slices.BinarySearch(c.Fields, field); !found {
		c.Fields = slices.Insert(c.Fields, i, field)
	}
}

// route returns a route with the attributes of an advertisement, which it
// shares.
func (a *Advertisement) route(prefix netip.Prefix) *Route {
	return &Route{
		Prefix:           prefix,
		Communities:      a.Communities,
		LargeCommunities: a.LargeCommunities,
		LocalPref:        a.LocalPref,
		MED:              a.MED,
		Prepend:          a.Prepend,
		AllPeers:         a.AllPeers,
		Peers:            a.Peers,
	}
}

// restrict makes a route as strict as another advertisement as well, in a way
// that does not depend on which comes first. It returns the fields of which
// there was more than one value.
func (r *Route) restrict(a *Advertisement) (fields []string) {
	differ := func(field string, different bool) {
		if different {
			fields = append(fields, field)
		}
	}
	if !slices.Equal(r.Communities, a.Communities) || !slices.Equal(r.LargeCommunities, a.LargeCommunities) {
		differ(fieldCommunities, true)
		r.Communities = union(r.Communities, a.Communities, cmp.Compare)
		r.LargeCommunities = union(r.LargeCommunities, a.LargeCommunities, LargeCommunity.Compare)
	}
	preferences := cmp.Compare(value(r.LocalPref, defaultLocalPref), value(a.LocalPref, defaultLocalPref))
	differ(fieldLocalPref, preferences != 0)
	if preferences > 0 || preferences == 0 && r.LocalPref == nil {
		r.LocalPref = a.LocalPref
	}
	// A route without MED is preferred as one of 0 is (RFC 4271, 9.1.2.2).
	discriminators := cmp.Compare(value(r.MED, 0), value(a.MED, 0))
	differ(fieldMED, discriminators != 0)
	if discriminators < 0 || discriminators == 0 && r.MED == nil {
		r.MED = a.MED
	}
	differ(fieldPrepend, r.Prepend != a.Prepend)
	r.Prepend = max(r.Prepend, a.Prepend)
	differ(fieldPeers, r.AllPeers != a.AllPeers || !slices.Equal(r.Peers, a.Peers))
	switch {
	case a.AllPeers:
	case r.AllPeers:
		r.AllPeers, r.Peers = false, a.Peers
	default:
		r.Peers = intersection(r.Peers, a.Peers)
	}
	return fields
}

// drain asks the neighbors to prefer any other route (RFC 8326, 4.1).
func (r *Route) drain() {
	r.Communities = union(r.Communities, []uint32{gracefulShutdown}, cmp.Compare)
	r.LocalPref = new(uint32)
}

// union returns what is in one of two sorted slices, sorted.
func union[T comparable](a, b []T, compare func(a, b T) int) []T {
	both := slices.Concat(a, b)
	slices.SortFunc(both, compare)
	return slices.Compact(both)
}

// intersection returns what is in both of two sorted slices, sorted.
func intersection(a, b []string) (both []string) {
	for _, text := range a {
		if _, found := slices.BinarySearch(b, text); found {
			both = append(both, text)
		}
	}
	return both
}

// value returns what a pointer points to, or else what absent stands for.
func value(p *uint32, absent uint32) uint32 {
	if p == nil {
		return absent
	}
	return *p
}
