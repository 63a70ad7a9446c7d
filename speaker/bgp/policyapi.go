package bgp

import (
	"strconv"

	api "github.com/osrg/gobgp/v3/api"
	"github.com/osrg/gobgp/v3/pkg/config/oc"
	"github.com/osrg/gobgp/v3/pkg/packet/bgp"
)

// DefinedSets returns the sets as GoBGP's API has them, new at each call.
func (p *Policy) DefinedSets() []*api.DefinedSet {
	if p == nil {
		return nil
	}
	var sets []*api.DefinedSet
	for _, set := range p.sets.PrefixSets {
		defined := &api.DefinedSet{DefinedType: api.DefinedType_PREFIX, Name: set.PrefixSetName}
		for _, prefix := range set.PrefixList {
			// Checked when it was parsed.
			least, most, _ := maskLengths(prefix.MasklengthRange, 128)
			defined.Prefixes = append(defined.Prefixes, &api.Prefix{
				IpPrefix: prefix.IpPrefix, MaskLengthMin: uint32(least), MaskLengthMax: uint32(most),
			})
		}
		sets = append(sets, defined)
	}
	add := func(kind api.DefinedType, name string, list []string) {
		sets = append(sets, &api.DefinedSet{DefinedType: kind, Name: name, List: list})
	}
	for _, set := range p.sets.NeighborSets {
		add(api.DefinedType_NEIGHBOR, set.NeighborSetName, set.NeighborInfoList)
	}
	bgpSets := &p.sets.BgpDefinedSets
	for _, set := range bgpSets.AsPathSets {
		add(api.DefinedType_AS_PATH, set.AsPathSetName, set.AsPathList)
	}
	for _, set := range bgpSets.CommunitySets {
		add(api.DefinedType_COMMUNITY, set.CommunitySetName, set.CommunityList)
	}
	for _, set := range bgpSets.ExtCommunitySets {
		add(api.DefinedType_EXT_COMMUNITY, set.ExtCommunitySetName, set.ExtCommunityList)
	}
	for _, set := range bgpSets.LargeCommunitySets {
		add(api.DefinedType_LARGE_COMMUNITY, set.LargeCommunitySetName, set.LargeCommunityList)
	}
	return sets
}

// Policies returns the policies as GoBGP's API has them, new at each call.
func (p *Policy) Policies() []*api.Policy {
	if p == nil {
		return nil
	}
	policies := make([]*api.Policy, 0, len(p.definitions))
	for _, d := range p.definitions {
		policy := &api.Policy{Name: d.Name}
		for i := range d.Statements {
			st := &d.Statements[i]
			policy.Statements = append(policy.Statements, &api.Statement{
				Name: st.Name, Conditions: apiConditions(&st.Conditions), Actions: apiActions(&st.Actions),
			})
		}
		policies = append(policies, policy)
	}
	return policies
}

func apiConditions(c *oc.Conditions) *api.Conditions {
	b := &c.BgpConditions
	cond := &api.Conditions{
		PrefixSet:         matchSet(c.MatchPrefixSet.PrefixSet, string(c.MatchPrefixSet.MatchSetOptions)),
		NeighborSet:       matchSet(c.MatchNeighborSet.NeighborSet, string(c.MatchNeighborSet.MatchSetOptions)),
		AsPathSet:         matchSet(b.MatchAsPathSet.AsPathSet, string(b.MatchAsPathSet.MatchSetOptions)),
		CommunitySet:      matchSet(b.MatchCommunitySet.CommunitySet, string(b.MatchCommunitySet.MatchSetOptions)),
		ExtCommunitySet:   matchSet(b.MatchExtCommunitySet.ExtCommunitySet, string(b.MatchExtCommunitySet.MatchSetOptions)),
		LargeCommunitySet: matchSet(b.MatchLargeCommunitySet.LargeCommunitySet, string(b.MatchLargeCommunitySet.MatchSetOptions)),
		NextHopInList:     b.NextHopInList,
		Origin:            apiOrigin(b.OriginEq),
		RouteType:         api.Conditions_RouteType(max(b.RouteType.ToInt(), 0)),
		RpkiResult:        int32(max(b.RpkiValidationResult.ToInt(), 0)),
	}
	// GoBGP has two names for each comparison, three apart.
	if n := b.CommunityCount.Operator.ToInt(); n >= 0 {
		cond.CommunityCount = &api.CommunityCount{Type: api.CommunityCount_Type(n % 3), Count: b.CommunityCount.Value}
	}
	if n := b.AsPathLength.Operator.ToInt(); n >= 0 {
		cond.AsPathLength = &api.AsPathLength{Type: api.AsPathLength_Type(n % 3), Length: b.AsPathLength.Value}
	}
	for _, family := range b.AfiSafiInList {
		afi, safi := bgp.RouteFamilyToAfiSafi(bgp.AddressFamilyValueMap[string(family)])
		cond.AfiSafiIn = append(cond.AfiSafiIn, &api.Family{Afi: api.Family_Afi(afi), Safi: api.Family_Safi(safi)})
	}
	return cond
}

// matchSet returns nil where no set is named.
func matchSet(set, option string) *api.MatchSet {
	if set == "" {
		return nil
	}
	return &api.MatchSet{Name: set, Type: api.MatchSet_Type(oc.MatchSetOptionsType(option).ToInt())}
}

func apiOrigin(origin oc.BgpOriginAttrType) api.RouteOriginType {
	switch origin {
	case oc.BGP_ORIGIN_ATTR_TYPE_IGP:
		return api.RouteOriginType_ORIGIN_IGP
	case oc.BGP_ORIGIN_ATTR_TYPE_EGP:
		return api.RouteOriginType_ORIGIN_EGP
	case oc.BGP_ORIGIN_ATTR_TYPE_INCOMPLETE:
		return api.RouteOriginType_ORIGIN_INCOMPLETE
	}
	return api.RouteOriginType_ORIGIN_NONE
}

func apiActions(a *oc.Actions) *api.Actions {
	b := &a.BgpActions
	actions := &api.Actions{
		RouteAction:    apiRouteAction(a.RouteDisposition),
		Community:      communityAction(b.SetCommunity.Options, b.SetCommunity.SetCommunityMethod.CommunitiesList),
		ExtCommunity:   communityAction(b.SetExtCommunity.Options, b.SetExtCommunity.SetExtCommunityMethod.CommunitiesList),
		LargeCommunity: communityAction(string(b.SetLargeCommunity.Options), b.SetLargeCommunity.SetLargeCommunityMethod.CommunitiesList),
	}
	if text := string(b.SetMed); text != "" {
		actions.Med = &api.MedAction{Type: api.MedAction_REPLACE}
		if text[0] == '+' || text[0] == '-' {
			actions.Med.Type = api.MedAction_MOD
		}
		actions.Med.Value, _ = strconv.ParseInt(text, 10, 64) // checked when it was parsed
	}
	if b.SetLocalPref != 0 {
		actions.LocalPref = &api.LocalPrefAction{Value: b.SetLocalPref}
	}
	if as := b.SetAsPathPrepend.As; as != "" {
		n, _ := strconv.ParseUint(as, 10, 32) // last-as is no number
		actions.AsPrepend = &api.AsPrependAction{
			Asn: uint32(n), UseLeftMost: as == "last-as", Repeat: uint32(b.SetAsPathPrepend.RepeatN),
		}
	}
	switch hop := string(b.SetNextHop); hop {
	case "":
	case "self":
		actions.Nexthop = &api.NexthopAction{Self: true}
	case "peer-address":
		actions.Nexthop = &api.NexthopAction{PeerAddress: true}
	case "unchanged":
		actions.Nexthop = &api.NexthopAction{Unchanged: true}
	default:
		actions.Nexthop = &api.NexthopAction{Address: hop}
	}
	if origin := apiOrigin(b.SetRouteOrigin); origin != api.RouteOriginType_ORIGIN_NONE {
		actions.OriginAction = &api.OriginAction{Origin: origin}
	}
	return actions
}

func apiRouteAction(d oc.RouteDisposition) api.RouteAction {
	switch d {
	case oc.ROUTE_DISPOSITION_ACCEPT_ROUTE:
		return api.RouteAction_ACCEPT
	case oc.ROUTE_DISPOSITION_REJECT_ROUTE:
		return api.RouteAction_REJECT
	}
	return api.RouteAction_NONE
}

// communityAction returns nil where there is none.
func communityAction(option string, list []string) *api.CommunityAction {
	if option == "" {
		return nil
	}
	return &api.CommunityAction{
		Type:        api.CommunityAction_Type(oc.BgpSetCommunityOptionType(option).ToInt()),
		Communities: list,
	}
}
