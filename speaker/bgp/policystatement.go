package bgp

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"github.com/osrg/gobgp/v3/pkg/config/oc"
	"github.com/osrg/gobgp/v3/pkg/packet/bgp"
)

// conditions checks what a statement asks of a route.
func (c policyCheck) conditions(cond *oc.Conditions) error {
	b := &cond.BgpConditions
	switch {
	case cond.CallPolicy != "", cond.MatchTagSet != oc.MatchTagSet{}, cond.InstallProtocolEq != "":
		return errors.New("call-policy, match-tag-set and install-protocol-eq have no effect in GoBGP, remove them")
	case b.MedEq != 0, b.LocalPrefEq != 0:
		return errors.New("med-eq and local-pref-eq have no effect in GoBGP, remove them")
	}
	for _, match := range []struct {
		kind, set string
		option    error
	}{
		{prefixSet, cond.MatchPrefixSet.PrefixSet, oneOf(cond.MatchPrefixSet.MatchSetOptions)},
		{neighborSet, cond.MatchNeighborSet.NeighborSet, oneOf(cond.MatchNeighborSet.MatchSetOptions)},
		{asPathSet, b.MatchAsPathSet.AsPathSet, oneOf(b.MatchAsPathSet.MatchSetOptions)},
		{communitySet, b.MatchCommunitySet.CommunitySet, oneOf(b.MatchCommunitySet.MatchSetOptions)},
		{extCommunitySet, b.MatchExtCommunitySet.ExtCommunitySet, oneOf(b.MatchExtCommunitySet.MatchSetOptions)},
		{largeCommunitySet, b.MatchLargeCommunitySet.LargeCommunitySet, oneOf(b.MatchLargeCommunitySet.MatchSetOptions)},
	} {
		if match.option != nil {
			return fmt.Errorf("match-%s.match-set-options: %w", match.kind, match.option)
		}
		if match.set != "" && !c.sets[match.kind+" "+match.set] {
			return fmt.Errorf("match-%s: %s %q is not in defined-sets", match.kind, match.kind, match.set)
		}
	}
	if err := checkComparison(b.CommunityCount.Operator, b.CommunityCount.Value); err != nil {
		return fmt.Errorf("community-count: %w", err)
	}
	if err := checkComparison(b.AsPathLength.Operator, b.AsPathLength.Value); err != nil {
		return fmt.Errorf("as-path-length: %w", err)
	}
	if err := cmp.Or(oneOf(b.OriginEq), oneOf(b.RouteType), oneOf(b.RpkiValidationResult)); err != nil {
		return fmt.Errorf("origin-eq, route-type or rpki-validation-result: %w", err)
	}
	for _, family := range b.AfiSafiInList {
		if _, ok := bgp.AddressFamilyValueMap[string(family)]; !ok || family.Validate() != nil {
			return fmt.Errorf("afi-safi-in-list: %q is no address family: write one such as ipv4-unicast", string(family))
		}
	}
	return checkEach("next-hop-in-list", b.NextHopInList, checkAddressOrPrefix)
}

// checkComparison checks an operator, which a value needs.
func checkComparison(operator oc.AttributeComparison, value uint32) error {
	if operator == "" && value != 0 {
		return fmt.Errorf("value %d has no operator: write eq, ge or le", value)
	}
	return oneOf(operator)
}

// checkActions checks what a statement does with a route, and writes it as GoBGP
// reads it.
func checkActions(a *oc.Actions) error {
	if a.IgpActions != (oc.IgpActions{}) {
		return errors.New("igp-actions have no effect in GoBGP, remove them")
	}
	if err := oneOf(a.RouteDisposition); err != nil {
		return fmt.Errorf("route-disposition: %w", err)
	}
	b := &a.BgpActions
	if b.SetCommunity.SetCommunityMethod.CommunitySetRef != "" || b.SetExtCommunity.SetExtCommunityMethod.ExtCommunitySetRef != "" {
		return errors.New("community-set-ref and ext-community-set-ref have no effect in GoBGP, use communities-list")
	}
	large := string(b.SetLargeCommunity.Options)
	for _, set := range []struct {
		field             string
		option            *string
		list              []string
		value, expression func(string) error
	}{
		{"set-community", &b.SetCommunity.Options, b.SetCommunity.SetCommunityMethod.CommunitiesList, checkCommunity, checkCommunityExpression},
		{"set-ext-community", &b.SetExtCommunity.Options, b.SetExtCommunity.SetExtCommunityMethod.CommunitiesList, checkExtCommunity, checkExtCommunityExpression},
		{"set-large-community", &large, b.SetLargeCommunity.SetLargeCommunityMethod.CommunitiesList, checkLargeCommunity, checkAnchored},
	} {
		if err := checkCommunities(set.option, set.list, set.value, set.expression); err != nil {
			return fmt.Errorf("%s: %w", set.field, err)
		}
	}
	b.SetLargeCommunity.Options = oc.BgpSetCommunityOptionType(large)
	if err := cmp.Or(oneOf(b.SetRouteOrigin), checkMED(string(b.SetMed)), checkPrepend(b.SetAsPathPrepend)); err != nil {
		return err
	}
	b.SetNextHop = oc.BgpNextHopType(strings.ToLower(string(b.SetNextHop)))
	switch b.SetNextHop {
	case "", "self", "peer-address", "unchanged":
		return nil
	}
	if addr, err := netip.ParseAddr(string(b.SetNextHop)); err != nil || addr.Zone() != "" || addr.Is4In6() {
		return fmt.Errorf("set-next-hop %q: write self, peer-address, unchanged or an IP address", string(b.SetNextHop))
	}
	return nil
}

// checkCommunities checks one of the set-community actions.
func checkCommunities(option *string, list []string, value, expression func(string) error) error {
	*option = strings.ToLower(*option)
	switch oc.BgpSetCommunityOptionType(*option) {
	case "":
		if len(list) > 0 {
			return errors.New("options is missing: write add, remove or replace")
		}
		return nil
	case oc.BGP_SET_COMMUNITY_OPTION_TYPE_ADD, oc.BGP_SET_COMMUNITY_OPTION_TYPE_REPLACE:
	case oc.BGP_SET_COMMUNITY_OPTION_TYPE_REMOVE:
		value = expression
	default:
		return fmt.Errorf("options %q: write add, remove or replace", *option)
	}
	if len(list) == 0 {
		return errors.New("communities-list is missing or empty")
	}
	return checkEach("communities-list", list, value)
}

func checkCommunity(text string) error {
	high, low, ok := strings.Cut(text, ":")
	if isUint(text, 32) || isWellKnown(text) || (ok && isUint(high, 16) && isUint(low, 16)) {
		return nil
	}
	return errors.New("is not a community: write one such as 65000:100, or the name of a well-known one such as no-export")
}

func checkExtCommunity(text string) error {
	invalid := errors.New("is not an extended community: write one such as rt:65000:100")
	kind, value, ok := strings.Cut(text, ":")
	if !ok {
		if kind == "valid" || kind == "not-found" || kind == "invalid" {
			return nil // RFC 8097
		}
		return invalid
	}
	var subtype bgp.ExtendedCommunityAttrSubType
	switch strings.ToLower(kind) {
	case "rt", "soo":
		subtype = bgp.EC_SUBTYPE_ROUTE_TARGET
	case "lb":
		subtype = bgp.EC_SUBTYPE_LINK_BANDWIDTH
	case "encap":
		subtype = bgp.EC_SUBTYPE_ENCAPSULATION
	default:
		return invalid
	}
	read, err := bgp.ParseExtendedCommunity(subtype, value)
	if err != nil {
		return invalid
	}
	// GoBGP caps numbers that are too large.
	if subtype != bgp.EC_SUBTYPE_ENCAPSULATION && !strings.EqualFold(read.String(), value) {
		return fmt.Errorf("would be read as %s:%s", kind, read)
	}
	return nil
}

func checkLargeCommunity(text string) error {
	if _, err := bgp.ParseLargeCommunity(text); err != nil {
		return errors.New("is not a large community: write one such as 65000:1:2")
	}
	return nil
}

func checkMED(text string) error {
	if text == "" {
		return nil
	}
	number := strings.TrimLeft(text[:1], "+-") + text[1:]
	if n, err := strconv.ParseUint(number, 10, 32); err != nil || (n == 0 && number != text) {
		return fmt.Errorf("set-med %q: write a number to set, or one to add or subtract such as +10 or -10", text)
	}
	return nil
}

func checkPrepend(p oc.SetAsPathPrepend) error {
	switch {
	case p.As == "" && p.RepeatN == 0, p.As == "last-as", isUint(p.As, 32):
		return nil
	}
	return fmt.Errorf("set-as-path-prepend.as %q: write an AS number, or last-as", p.As)
}
