package plan

import (
	"cmp"
	"errors"
	"fmt"

	"github.com/fairway-lb/fairway/api/v1alpha2"
)

// Advertisement is how the addresses of an Eip are announced by BGP: its
// spec.bgp, read. It is not changed once it was made.
type Advertisement struct {
	Communities      []uint32         // sorted
	LargeCommunities []LargeCommunity // sorted
	LocalPref, MED   *uint32          // nil: not said
	// Prepend is how many more times than once the AS number is in the path.
	Prepend int
	// Length4 and Length6 are the prefix lengths of the routes: 32 and 128
	// announce each address on its own.
	Length4, Length6 int
	// AllPeers announces to every peer, otherwise to Peers, which are names of
	// BgpPeers, sorted.
	AllPeers bool
	Peers    []string
}

// ParseAdvertisement reads spec.bgp of an Eip, which may be nil. selected are
// the names of the BgpPeers that its peerSelector selects. The error joins one
// for each value that cannot be used and names its field; the Advertisement is
// made of the others all the same, so that no typo withdraws an address.
func ParseAdvertisement(spec *v1alpha2.BgpAdvertisement, selected []string) (*Advertisement, error) {
	a := &Advertisement{Length4: 32, Length6: 128, AllPeers: true}
	if spec == nil {
		return a, nil
	}
	errs := []error{a.readCommunities(spec.Communities)}
	if spec.LocalPref != nil {
		a.LocalPref = new(uint32(*spec.LocalPref))
	}
	if spec.MED != nil {
		a.MED = new(uint32(*spec.MED))
	}
	// The bounds are those of the fields' schema.
	errs = append(errs,
		readNumber("asPathPrepend", &spec.ASPathPrepend, 0, 10, &a.Prepend),
		readNumber("aggregationLength", spec.AggregationLength, 8, 32, &a.Length4),
		readNumber("aggregationLengthV6", spec.AggregationLengthV6, 8, 128, &a.Length6))
	if len(spec.Peers) > 0 || spec.PeerSelector != nil {
		a.AllPeers = false
		a.Peers = union(spec.Peers, selected, cmp.Compare)
	}
	return a, errors.Join(errs...)
}

func (a *Advertisement) readCommunities(texts []string) error {
	var errs []error
	for i, text := range texts {
		switch community, err := v1alpha2.ParseCommunity(text); {
		case err != nil:
			errs = append(errs, fmt.Errorf("spec.bgp.communities[%d] %w", i, err))
		case community.IsLarge:
			large := community.Large
			a.LargeCommunities = append(a.LargeCommunities, LargeCommunity{large[0], large[1], large[2]})
		default:
			a.Communities = append(a.Communities, community.Standard)
		}
	}
	a.Communities = union(a.Communities, nil, cmp.Compare)
	a.LargeCommunities = union(a.LargeCommunities, nil, LargeCommunity.Compare)
	return errors.Join(errs...)
}

// readNumber stores a value within bounds, and leaves the default where there
// is none.
func readNumber(field string, value *int32, least, most int32, to *int) error {
	switch {
	case value == nil:
	case *value < least || *value > most:
		return fmt.Errorf("spec.bgp.%s %d: needs a number from %d to %d", field, *value, least, most)
	default:
		*to = int(*value)
	}
	return nil
}
