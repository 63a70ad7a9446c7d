package bgp

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"regexp/syntax"
	"slices"
	"strconv"
	"strings"

	"github.com/osrg/gobgp/v3/pkg/config/oc"
	"github.com/osrg/gobgp/v3/pkg/packet/bgp"
)

// policyCheck goes through a policy once, in the order sets, definitions,
// assignments, and finds what GoBGP would refuse or read as something else. It
// writes names and numbers in the one way in which GoBGP reads them.
type policyCheck struct {
	sets  map[string]bool // by kind and name
	names map[string]bool // of policies, and of statements after a slash
}

// Kinds of defined sets, as the conditions that refer to them are called.
const (
	prefixSet         = "prefix-set"
	neighborSet       = "neighbor-set"
	asPathSet         = "as-path-set"
	communitySet      = "community-set"
	extCommunitySet   = "ext-community-set"
	largeCommunitySet = "large-community-set"
)

// checkName checks one that the operator gave to something.
func checkName(what, n string) error {
	switch {
	case n == "":
		return fmt.Errorf("a %s has no name", what)
	case strings.HasPrefix(n, ReservedPrefix):
		return fmt.Errorf("%s %s: names that begin with %s are Fairway's own, choose another", what, n, ReservedPrefix)
	}
	return nil
}

// checkEach applies a check to the elements of a list.
func checkEach(what string, list []string, check func(string) error) error {
	for _, text := range list {
		if err := check(text); err != nil {
			return fmt.Errorf("%s: %q %w", what, text, err)
		}
	}
	return nil
}

// define makes a set known, after its elements were checked.
func (c policyCheck) define(kind, n string, list []string, check func(string) error) error {
	if err := checkName(kind, n); err != nil {
		return err
	}
	if c.sets[kind+" "+n] {
		return fmt.Errorf("%s %s is defined twice", kind, n)
	}
	c.sets[kind+" "+n] = true
	return checkEach(kind+" "+n, list, check)
}

func (c policyCheck) definedSets(sets *oc.DefinedSets) error {
	if len(sets.TagSets) > 0 {
		return errors.New("defined-sets.tag-sets: BGP routes have no tags, remove them")
	}
	for i := range sets.PrefixSets {
		set := &sets.PrefixSets[i]
		if err := c.define(prefixSet, set.PrefixSetName, nil, nil); err != nil {
			return err
		}
		if err := checkPrefixes(set.PrefixList); err != nil {
			return fmt.Errorf("%s %s: %w", prefixSet, set.PrefixSetName, err)
		}
	}
	for _, set := range sets.NeighborSets {
		if err := c.define(neighborSet, set.NeighborSetName, set.NeighborInfoList, checkAddressOrPrefix); err != nil {
			return err
		}
	}
	bgpSets := &sets.BgpDefinedSets
	for _, set := range bgpSets.AsPathSets {
		if err := c.define(asPathSet, set.AsPathSetName, set.AsPathList, checkASPathExpression); err != nil {
			return err
		}
	}
	for _, set := range bgpSets.CommunitySets {
		if err := c.define(communitySet, set.CommunitySetName, set.CommunityList, checkCommunityExpression); err != nil {
			return err
		}
	}
	for _, set := range bgpSets.ExtCommunitySets {
		if err := c.define(extCommunitySet, set.ExtCommunitySetName, set.ExtCommunityList, checkExtCommunityExpression); err != nil {
			return err
		}
	}
	for _, set := range bgpSets.LargeCommunitySets {
		if err := c.define(largeCommunitySet, set.LargeCommunitySetName, set.LargeCommunityList, checkAnchored); err != nil {
			return err
		}
	}
	return nil
}

// checkPrefixes checks a list of prefixes and writes out their ranges of lengths.
func checkPrefixes(list []oc.Prefix) error {
	for i := range list {
		prefix, err := netip.ParsePrefix(list[i].IpPrefix)
		if err != nil || prefix.Addr().Is4In6() {
			return fmt.Errorf("ip-prefix %q is not a prefix: write one such as 172.22.0.0/24", list[i].IpPrefix)
		}
		if i > 0 && prefix.Addr().Is4() == strings.Contains(list[0].IpPrefix, ":") {
			return errors.New("it has IPv4 and IPv6 prefixes: make a set for each")
		}
		least, most := prefix.Bits(), prefix.Bits()
		if text := list[i].MasklengthRange; text != "" {
			if least, most, err = maskLengths(text, prefix.Addr().BitLen()); err != nil {
				return fmt.Errorf("masklength-range %q of %s %w", text, prefix, err)
			}
		}
		list[i] = oc.Prefix{IpPrefix: prefix.Masked().String(), MasklengthRange: fmt.Sprintf("%d..%d", least, most)}
	}
	return nil
}

func maskLengths(text string, bits int) (least, most int, err error) {
	first, last, _ := strings.Cut(text, "..")
	least, err = strconv.Atoi(first)
	if err == nil {
		most, err = strconv.Atoi(last)
	}
	if err != nil || least < 0 || least > most || most > bits {
		return 0, 0, fmt.Errorf("is not a range of lengths from 0 to %d: write one such as 24..%d", bits, bits)
	}
	return least, most, nil
}

func checkAddressOrPrefix(text string) error {
	addr, err := netip.ParseAddr(text)
	if prefix, err2 := netip.ParsePrefix(text); err2 == nil {
		addr, err = prefix.Addr(), nil
	}
	if err != nil || addr.Zone() != "" || addr.Is4In6() {
		return errors.New("is neither an IP address nor a prefix")
	}
	return nil
}

func (c policyCheck) definitions(definitions []oc.PolicyDefinition) error {
	for i := range definitions {
		d := &definitions[i]
		if err := checkName("policy", d.Name); err != nil {
			return err
		}
		if c.names[d.Name] {
			return fmt.Errorf("policy %s is defined twice", d.Name)
		}
		c.names[d.Name] = true
		for j := range d.Statements {
			st := &d.Statements[j]
			if st.Name == "" {
				st.Name = fmt.Sprintf("%s_stmt%d", d.Name, j) // GoBGP's own
			}
			if err := checkName("statement", st.Name); err != nil {
				return fmt.Errorf("policy %s: %w", d.Name, err)
			}
			// A NUL keeps statements apart from policies.
			if c.names["\x00"+st.Name] {
				return fmt.Errorf("policy %s: statement %s is defined twice, GoBGP knows statements by name in all policies", d.Name, st.Name)
			}
			c.names["\x00"+st.Name] = true
			if err := c.conditions(&st.Conditions); err != nil {
				return fmt.Errorf("policy %s, statement %s: conditions: %w", d.Name, st.Name, err)
			}
			if err := checkActions(&st.Actions); err != nil {
				return fmt.Errorf("policy %s, statement %s: actions: %w", d.Name, st.Name, err)
			}
		}
	}
	return nil
}

// assignments checks that what is applied is defined.
func (c policyCheck) assignments(a *oc.ApplyPolicyConfig) (imports, exports Assignment, err error) {
	if len(a.InPolicyList) > 0 || a.DefaultInPolicy != "" {
		return imports, exports, errors.New("global.apply-policy.config: in-policy-list and default-in-policy are for route servers, remove them")
	}
	imports, err = c.assignment("import", a.ImportPolicyList, a.DefaultImportPolicy)
	if err == nil {
		exports, err = c.assignment("export", a.ExportPolicyList, a.DefaultExportPolicy)
	}
	return imports, exports, err
}

func (c policyCheck) assignment(direction string, policies []string, fallback oc.DefaultPolicyType) (Assignment, error) {
	for i, n := range policies {
		if !c.names[n] || strings.HasPrefix(n, "\x00") {
			return Assignment{}, fmt.Errorf("global.apply-policy.config.%s-policy-list: policy %q is not in policy-definitions", direction, n)
		}
		if slices.Contains(policies[:i], n) {
			return Assignment{}, fmt.Errorf("global.apply-policy.config.%s-policy-list: policy %s is there twice", direction, n)
		}
	}
	if err := oneOf(fallback); err != nil {
		return Assignment{}, fmt.Errorf("global.apply-policy.config.default-%s-policy: %w", direction, err)
	}
	return Assignment{Policies: policies, Reject: fallback == oc.DEFAULT_POLICY_TYPE_REJECT_ROUTE}, nil
}

// oneOf checks a value of one of GoBGP's enumerations; absent is fine.
func oneOf[T interface {
	~string
	Validate() error
}](value T) error {
	if value == "" {
		return nil
	}
	if value.Validate() != nil {
		return fmt.Errorf("%q is none of GoBGP's values for it", string(value))
	}
	return nil
}

// The forms in which an AS_PATH expression is compared as numbers.
const asPathNumber = `^[\^_]([0-9]+)[_$]$`

func checkASPathExpression(text string) error {
	if m := regexp.MustCompile(asPathNumber).FindStringSubmatch(text); m != nil {
		if _, err := strconv.ParseUint(m[1], 10, 32); err != nil {
			return errors.New("has an AS number of more than 32 bits")
		}
		return nil
	}
	// An underscore is a boundary between AS numbers, which is longer.
	return checkExpression(strings.ReplaceAll(text, "_", `(^|[,{}() ]|$)`))
}

// maxExpression bounds a regular expression in bytes, and maxGrowth what it may
// compile to: a few characters can stand for a thousand repetitions.
const (
	maxExpression = 256
	maxGrowth     = 8 // instructions for each byte
)

func checkExpression(text string) error {
	if len(text) > maxExpression {
		return fmt.Errorf("has %d bytes, and an expression may have %d", len(text), maxExpression)
	}
	parsed, err := syntax.Parse(text, syntax.Perl)
	if err != nil {
		return fmt.Errorf("is not a regular expression: %w", err)
	}
	program, err := syntax.Compile(parsed.Simplify())
	if err != nil {
		return fmt.Errorf("is not a regular expression: %w", err)
	}
	if len(program.Inst) > maxGrowth*(len(text)+maxGrowth) {
		return errors.New("takes too much memory, write it with fewer repetitions")
	}
	return nil
}

// checkCommunityExpression is one that routes are compared with.
func checkCommunityExpression(text string) error {
	if isUint(text, 32) || isWellKnown(strings.ReplaceAll(strings.ToLower(text), "_", "-")) {
		return nil
	}
	return checkAnchored(text)
}

func checkExtCommunityExpression(text string) error {
	kind, value, ok := strings.Cut(text, ":")
	if !ok || !slices.Contains(extCommunityKinds(), strings.ToLower(kind)) {
		return fmt.Errorf("does not begin with one of %s and a colon", strings.Join(extCommunityKinds(), ", "))
	}
	return checkCommunityExpression(value)
}

// checkAnchored is for expressions that GoBGP anchors if they look like a
// community, and leaves as they are if not.
func checkAnchored(text string) error {
	return cmp.Or(checkExpression(text), checkExpression("^"+text+"$"))
}

// extCommunityKinds are route target, site of origin, encapsulation and link
// bandwidth by GoBGP's names.
func extCommunityKinds() []string { return []string{"rt", "soo", "encap", "lb"} }

func isUint(text string, bits int) bool {
	_, err := strconv.ParseUint(text, 10, bits)
	return err == nil
}

func isWellKnown(text string) bool {
	for _, known := range bgp.WellKnownCommunityNameMap {
		if known == text {
			return true
		}
	}
	return false
}
