package bgp

import (
	"errors"
	"fmt"
	"strings"

	"github.com/osrg/gobgp/v3/pkg/config/oc"
	"github.com/spf13/viper"
)

// PolicyKey is the key of the ConfigMap that holds the policy.
const PolicyKey = "gobgp.conf"

// ReservedPrefix begins the names that Fairway gives to policies, statements
// and sets of its own in GoBGP. An operator's may not begin with it.
const ReservedPrefix = "fairway-"

// maxPolicy bounds the text of a policy in bytes, and maxPolicyDepth how deep
// its tables and arrays are within each other: what reads them takes memory
// for each level. GoBGP's own need 8 levels.
const (
	maxPolicy      = 128 << 10
	maxPolicyDepth = 32
)

// Policy is the operator's routing policy, checked so that GoBGP takes it as
// it is. Two that mean the same are equal by reflect.DeepEqual. The methods of
// a nil Policy return what stands for none.
type Policy struct {
	imports, exports Assignment
	sets             oc.DefinedSets
	definitions      []oc.PolicyDefinition
}

// Assignment says which policies apply in one direction, in their order, and
// what becomes of a route that none of them decides on.
type Assignment struct {
	Policies []string
	Reject   bool
}

// Import is what applies to routes that enter the node's table, its own too.
func (p *Policy) Import() Assignment {
	if p == nil {
		return Assignment{}
	}
	return p.imports
}

// Export is what applies to routes that leave for a neighbor.
func (p *Policy) Export() Assignment {
	if p == nil {
		return Assignment{}
	}
	return p.exports
}

// policyFile is the part of GoBGP's configuration that is policy.
type policyFile struct {
	Global struct {
		ApplyPolicy struct {
			Config oc.ApplyPolicyConfig `mapstructure:"config"`
		} `mapstructure:"apply-policy"`
	} `mapstructure:"global"`
	DefinedSets       oc.DefinedSets        `mapstructure:"defined-sets"`
	PolicyDefinitions []oc.PolicyDefinition `mapstructure:"policy-definitions"`
}

// ParsePolicy reads a policy in GoBGP's TOML: global.apply-policy.config,
// defined-sets and policy-definitions. What it returns, GoBGP takes; so names
// that are not defined, prefixes, regular expressions and settings that GoBGP
// would drop without a word are errors here.
func ParsePolicy(text string) (*Policy, error) {
	p, err := parsePolicy(text)
	if err != nil {
		return nil, fmt.Errorf("key %s: %s", PolicyKey, cut(strings.Join(strings.Fields(err.Error()), " ")))
	}
	return p, nil
}

func parsePolicy(text string) (*Policy, error) {
	if len(text) > maxPolicy {
		return nil, fmt.Errorf("it has %d bytes, make it %d or less", len(text), maxPolicy)
	}
	if err := checkDepth(text); err != nil {
		return nil, err
	}
	v := viper.New()
	v.SetConfigType("toml")
	if err := v.ReadConfig(strings.NewReader(text)); err != nil {
		return nil, syntaxError(err)
	}
	var file policyFile
	if err := v.UnmarshalExact(&file); err != nil {
		return nil, fmt.Errorf("only global.apply-policy.config, defined-sets and policy-definitions are read, as GoBGP knows them: %w", err)
	}
	check := policyCheck{sets: make(map[string]bool), names: make(map[string]bool)}
	p := &Policy{sets: file.DefinedSets, definitions: file.PolicyDefinitions}
	var err error
	if err = check.definedSets(&p.sets); err != nil {
		return nil, err
	}
	if err = check.definitions(p.definitions); err != nil {
		return nil, err
	}
	p.imports, p.exports, err = check.assignments(&file.Global.ApplyPolicy.Config)
	if err != nil {
		return nil, err
	}
	return p, nil
}

// checkDepth goes through the brackets and the dots of keys that are neither in
// strings nor in comments. Strings of several lines, which no policy needs,
// would make that harder.
func checkDepth(text string) error {
	depth, dots := 0, 0
	for n, line := range strings.Split(text, "\n") {
		dots = 0
		for i := 0; i < len(line); i++ {
			switch c := line[i]; c {
			case '#':
				i = len(line)
			case '"', '\'':
				if strings.HasPrefix(line[i:], strings.Repeat(string(c), 3)) {
					return fmt.Errorf("line %d: strings of several lines are not read, write it in one", n+1)
				}
				i += stringEnd(line[i:])
			case '[', '{':
				depth++
			case ']', '}':
				depth = max(depth-1, 0)
			case '.':
				dots++
			}
			if depth+dots > maxPolicyDepth {
				return fmt.Errorf("line %d: tables and arrays are more than %d levels deep", n+1, maxPolicyDepth)
			}
		}
	}
	return nil
}

// stringEnd returns where the string that a line begins with ends.
func stringEnd(line string) int {
	quote := line[0]
	for i := 1; i < len(line); i++ {
		switch {
		case line[i] == quote:
			return i
		case line[i] == '\\' && quote == '"':
			i++
		}
	}
	return len(line)
}

// syntaxError names the line, which the TOML decoder keeps apart from its
// message.
func syntaxError(err error) error {
	var at interface{ Position() (row, column int) }
	if errors.As(err, &at) {
		row, column := at.Position()
		return fmt.Errorf("line %d, column %d: %w", row, column, err)
	}
	return err
}
