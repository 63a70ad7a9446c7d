package bgp

import (
	"math"
	"net/netip"

	api "github.com/osrg/gobgp/v3/api"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/fairway-lb/fairway/speaker/plan"
)

// tagAdmin is the Global Administrator of the large communities that mark routes
// inside this node: reserved, so that nobody has communities of it (RFC 8092, 6).
// The guard takes them off on the way out.
const tagAdmin = math.MaxUint32

// What a tag says, as its first Local Data Part.
const (
	tagClass   = 1 // who may have the route: the second part is a class's number
	tagPrepend = 2 // the second part is how many times more the AS is in the path
	tagSelf    = 3 // the next hop is the node itself
)

// unicast is IPv4 or IPv6 unicast.
func unicast(ipv6 bool) *api.Family {
	if ipv6 {
		return &api.Family{Afi: api.Family_AFI_IP6, Safi: api.Family_SAFI_UNICAST}
	}
	return &api.Family{Afi: api.Family_AFI_IP, Safi: api.Family_SAFI_UNICAST}
}

// pathOf is the path of a route by one next hop; the zero value is the node.
// identifier tells the paths of a prefix apart (RFC 7911).
func pathOf(r *plan.Route, nextHop netip.Addr, class, identifier uint32) (*api.Path, error) {
	ipv6 := r.Prefix.Addr().Is6()
	nlri, err := anypb.New(&api.IPAddressPrefix{Prefix: r.Prefix.Addr().String(), PrefixLen: uint32(r.Prefix.Bits())})
	if err != nil {
		return nil, err
	}
	path := &api.Path{Family: unicast(ipv6), Nlri: nlri, Identifier: identifier}
	tags := &api.LargeCommunitiesAttribute{}
	tag := func(kind, value uint32) {
		tags.Communities = append(tags.Communities, &api.LargeCommunity{GlobalAdmin: tagAdmin, LocalData1: kind, LocalData2: value})
	}
	tag(tagClass, class)
	if r.Prepend > 0 {
		tag(tagPrepend, prepends(r))
	}
	if !nextHop.IsValid() {
		tag(tagSelf, 0)
		nextHop = netip.IPv4Unspecified()
		if ipv6 {
			nextHop = netip.IPv6Unspecified()
		}
	}
	for _, c := range r.LargeCommunities {
		if c.Global != tagAdmin {
			tags.Communities = append(tags.Communities, &api.LargeCommunity{GlobalAdmin: c.Global, LocalData1: c.Local1, LocalData2: c.Local2})
		}
	}

	attributes := []proto.Message{&api.OriginAttribute{Origin: 0}} // IGP
	if nextHop.Is4() {
		attributes = append(attributes, &api.NextHopAttribute{NextHop: nextHop.String()})
	} else {
		attributes = append(attributes, &api.MpReachNLRIAttribute{Family: path.Family, NextHops: []string{nextHop.String()}, Nlris: []*anypb.Any{nlri}})
	}
	if r.MED != nil {
		attributes = append(attributes, &api.MultiExitDiscAttribute{Med: *r.MED})
	}
	if r.LocalPref != nil {
		attributes = append(attributes, &api.LocalPrefAttribute{LocalPref: *r.LocalPref})
	}
	if len(r.Communities) > 0 {
		attributes = append(attributes, &api.CommunitiesAttribute{Communities: r.Communities})
	}
	attributes = append(attributes, tags)
	for _, a := range attributes {
		value, err := anypb.New(a)
		if err != nil {
			return nil, err
		}
		path.Pattrs = append(path.Pattrs, value)
	}
	return path, nil
}

// prepends is how many times more a route's AS is prepended, at most as often as
// a policy action can.
func prepends(r *plan.Route) uint32 {
	return uint32(min(max(r.Prepend, 0), math.MaxUint8))
}
