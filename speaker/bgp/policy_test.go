package bgp

import (
	"context"
	"fmt"
	"reflect"
	"strings"
	"testing"

	api "github.com/osrg/gobgp/v3/api"
	gobgplog "github.com/osrg/gobgp/v3/pkg/log"
	"github.com/osrg/gobgp/v3/pkg/server"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
)

// samplePolicy uses every section.
const samplePolicy = `
[global]
  [global.apply-policy.config]
    import-policy-list = ["in"]
    default-import-policy = "accept-route"
    export-policy-list = ["set-comm", "in"]
    default-export-policy = "reject-route"
[[defined-sets.prefix-sets]]
  prefix-set-name = "ps1"
  [[defined-sets.prefix-sets.prefix-list]]
    ip-prefix = "172.22.0.0/24"
    masklength-range = "24..32"
  [[defined-sets.prefix-sets.prefix-list]]
    ip-prefix = "10.1.2.3/8"
[[defined-sets.prefix-sets]]
  prefix-set-name = "ps6"
  [[defined-sets.prefix-sets.prefix-list]]
    ip-prefix = "2001:db8::/32"
    masklength-range = "128..128"
[[defined-sets.neighbor-sets]]
  neighbor-set-name = "ns"
  neighbor-info-list = ["192.168.0.5", "192.168.1.0/24", "2001:db8::5"]
[[defined-sets.bgp-defined-sets.community-sets]]
  community-set-name = "cs"
  community-list = ["65000:100", "no-export", "^65000:.*$", "4259840100", "NO_ADVERTISE"]
[[defined-sets.bgp-defined-sets.ext-community-sets]]
  ext-community-set-name = "es"
  ext-community-list = ["rt:65000:100", "soo:1.2.3.4:5", "lb:.*", "encap:8"]
[[defined-sets.bgp-defined-sets.large-community-sets]]
  large-community-set-name = "ls"
  large-community-list = ["65000:1:2", "^65000:.*:1$"]
[[defined-sets.bgp-defined-sets.as-path-sets]]
  as-path-set-name = "as"
  as-path-list = ["^65100_", "_65200$", "_65300_", "^65400$", "^6[0-9]+_65500"]
[[policy-definitions]]
  name = "in"
  [[policy-definitions.statements]]
    [policy-definitions.statements.actions]
      route-disposition = "accept-route"
[[policy-definitions]]
  name = "set-comm"
  [[policy-definitions.statements]]
    name = "s1"
    [policy-definitions.statements.conditions.match-prefix-set]
      prefix-set = "ps1"
      match-set-options = "any"
    [policy-definitions.statements.conditions.match-neighbor-set]
      neighbor-set = "ns"
      match-set-options = "invert"
    [policy-definitions.statements.conditions.bgp-conditions]
      origin-eq = "igp"
      route-type = "local"
      rpki-validation-result = "valid"
      next-hop-in-list = ["192.168.0.0/16", "10.0.0.1"]
      afi-safi-in-list = ["ipv4-unicast", "ipv6-unicast"]
      [policy-definitions.statements.conditions.bgp-conditions.match-as-path-set]
        as-path-set = "as"
      [policy-definitions.statements.conditions.bgp-conditions.match-community-set]
        community-set = "cs"
        match-set-options = "all"
      [policy-definitions.statements.conditions.bgp-conditions.match-ext-community-set]
        ext-community-set = "es"
      [policy-definitions.statements.conditions.bgp-conditions.match-large-community-set]
        large-community-set = "ls"
        match-set-options = "invert"
      [policy-definitions.statements.conditions.bgp-conditions.community-count]
        operator = "ge"
        value = 0
      [policy-definitions.statements.conditions.bgp-conditions.as-path-length]
        operator = "attribute-le"
        value = 3
    [policy-definitions.statements.actions]
      route-disposition = "none"
  [[policy-definitions.statements]]
    name = "s2"
    [policy-definitions.statements.actions]
      route-disposition = "accept-route"
    [policy-definitions.statements.actions.bgp-actions]
      set-med = "+10"
      set-local-pref = 200
      set-next-hop = "self"
      set-route-origin = "egp"
      [policy-definitions.statements.actions.bgp-actions.set-as-path-prepend]
        as = "last-as"
        repeat-n = 3
      [policy-definitions.statements.actions.bgp-actions.set-community]
        options = "ADD"
        [policy-definitions.statements.actions.bgp-actions.set-community.set-community-method]
          communities-list = ["65000:100", "no-export"]
      [policy-definitions.statements.actions.bgp-actions.set-ext-community]
        options = "replace"
        [policy-definitions.statements.actions.bgp-actions.set-ext-community.set-ext-community-method]
          communities-list = ["rt:65000:100", "soo:1.2.3.4:5", "encap:VXLAN", "lb:65000:100", "valid", "rt:1.2:3"]
      [policy-definitions.statements.actions.bgp-actions.set-large-community]
        options = "remove"
        [policy-definitions.statements.actions.bgp-actions.set-large-community.set-large-community-method]
          communities-list = ["65000:1:2", "^65000:.*$"]
`

// take gives a policy to a GoBGP server and applies it to a route of each
// family, as the speaker's driver does.
func take(t testing.TB, p *Policy) *server.BgpServer {
	t.Helper()
	ctx := context.Background()
	s := server.NewBgpServer(server.LoggerOption(silent{}))
	go s.Serve()
	t.Cleanup(func() {
		if err := s.StopBgp(ctx, &api.StopBgpRequest{}); err != nil {
			t.Errorf("stop GoBGP: %v", err)
		}
	})
	if err := s.StartBgp(ctx, &api.StartBgpRequest{Global: &api.Global{Asn: 65000, RouterId: "192.0.2.1", ListenPort: -1}}); err != nil {
		t.Fatalf("start GoBGP: %v", err)
	}
	if err := s.SetPolicies(ctx, &api.SetPoliciesRequest{DefinedSets: p.DefinedSets(), Policies: p.Policies()}); err != nil {
		t.Fatalf("GoBGP refuses the policy: %v", err)
	}
	for direction, a := range map[api.PolicyDirection]Assignment{api.PolicyDirection_IMPORT: p.Import(), api.PolicyDirection_EXPORT: p.Export()} {
		assignment := &api.PolicyAssignment{Name: "global", Direction: direction, DefaultAction: api.RouteAction_ACCEPT}
		if a.Reject {
			assignment.DefaultAction = api.RouteAction_REJECT
		}
		for _, name := range a.Policies {
			assignment.Policies = append(assignment.Policies, &api.Policy{Name: name})
		}
		if err := s.SetPolicyAssignment(ctx, &api.SetPolicyAssignmentRequest{Assignment: assignment}); err != nil {
			t.Fatalf("GoBGP refuses the assignment: %v", err)
		}
	}
	for _, path := range []*api.Path{path4(t), path6(t)} {
		if _, err := s.AddPath(ctx, &api.AddPathRequest{Path: path}); err != nil {
			t.Fatalf("add a path: %v", err)
		}
	}
	return s
}

func message(t testing.TB, m proto.Message) *anypb.Any {
	t.Helper()
	a, err := anypb.New(m)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func path4(t testing.TB) *api.Path {
	return &api.Path{
		Family: &api.Family{Afi: api.Family_AFI_IP, Safi: api.Family_SAFI_UNICAST},
		Nlri:   message(t, &api.IPAddressPrefix{Prefix: "172.22.0.2", PrefixLen: 32}),
		Pattrs: []*anypb.Any{
			message(t, &api.OriginAttribute{}),
			message(t, &api.NextHopAttribute{NextHop: "192.168.0.2"}),
			message(t, &api.CommunitiesAttribute{Communities: []uint32{65000<<16 | 100}}),
		},
	}
}

func path6(t testing.TB) *api.Path {
	family := &api.Family{Afi: api.Family_AFI_IP6, Safi: api.Family_SAFI_UNICAST}
	nlri := message(t, &api.IPAddressPrefix{Prefix: "2001:db8::2", PrefixLen: 128})
	return &api.Path{
		Family: family, Nlri: nlri,
		Pattrs: []*anypb.Any{
			message(t, &api.OriginAttribute{}),
			message(t, &api.MpReachNLRIAttribute{Family: family, NextHops: []string{"2001:db8:1::2"}, Nlris: []*anypb.Any{nlri}}),
		},
	}
}

// silent is a GoBGP logger that says nothing.
type silent struct{}

func (silent) Panic(string, gobgplog.Fields)    {}
func (silent) Fatal(string, gobgplog.Fields)    {}
func (silent) Error(string, gobgplog.Fields)    {}
func (silent) Warn(string, gobgplog.Fields)     {}
func (silent) Info(string, gobgplog.Fields)     {}
func (silent) Debug(string, gobgplog.Fields)    {}
func (silent) SetLevel(level gobgplog.LogLevel) {}
func (silent) GetLevel() gobgplog.LogLevel      { return gobgplog.ErrorLevel }

func TestParsePolicyIsWhatGoBGPRuns(t *testing.T) {
	p, err := ParsePolicy(samplePolicy)
	if err != nil {
		t.Fatal(err)
	}
	if want := (Assignment{Policies: []string{"in"}}); !reflect.DeepEqual(p.Import(), want) {
		t.Errorf("import: got %v, want %v", p.Import(), want)
	}
	if want := (Assignment{Policies: []string{"set-comm", "in"}, Reject: true}); !reflect.DeepEqual(p.Export(), want) {
		t.Errorf("export: got %v, want %v", p.Export(), want)
	}
	s := take(t, p)
	var got []string
	err = s.ListPolicy(context.Background(), &api.ListPolicyRequest{Name: "set-comm"}, func(p *api.Policy) {
		for _, st := range p.Statements {
			got = append(got, fmt.Sprintf("%s: %v -> %v", st.Name, st.Conditions, st.Actions))
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	text := strings.Join(strings.Fields(strings.Join(got, "\n")), " ")
	for _, want := range []string{
		`prefix_set:{name:"ps1"}`, `neighbor_set:{type:INVERT name:"ns"}`, `as_path_set:{name:"as"}`,
		`community_set:{type:ALL name:"cs"}`, `large_community_set:{type:INVERT name:"ls"}`, `as_path_length:{type:LE length:3}`,
		`next_hop_in_list:"192.168.0.0/16" next_hop_in_list:"10.0.0.1/32"`, `route_type:ROUTE_TYPE_LOCAL`, `rpki_result:2`,
		`communities:"65000:100" communities:"65535:65281"`, `med:{value:10}`, `local_pref:{value:200}`, `nexthop:{self:true}`,
		`as_prepend:{repeat:3 use_left_most:true}`,
		`communities:"rt:65000:100" communities:"soo:1.2.3.4:5"`, `communities:"lb:65000:100" communities:"valid" communities:"rt:1.2:3"`,
		`large_community:{type:REMOVE communities:`, `origin_action:{origin:ORIGIN_EGP}`, `route_action:ACCEPT`,
	} {
		if !strings.Contains(text, want) {
			t.Errorf("GoBGP runs it without %s:\n%s", want, text)
		}
	}
}

// What means the same is equal, so that no session sees a difference.
func TestParsePolicyEqual(t *testing.T) {
	parse := func(text string) *Policy {
		t.Helper()
		p, err := ParsePolicy(text)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	p := parse(samplePolicy)
	if same := parse("# a comment\n" + strings.ReplaceAll(samplePolicy, `"10.1.2.3/8"`, `"10.0.0.0/8" # the same`)); !reflect.DeepEqual(p, same) {
		t.Error("a comment makes another policy")
	}
	if other := parse(strings.ReplaceAll(samplePolicy, "65000:100", "65000:101")); reflect.DeepEqual(p, other) {
		t.Error("another community makes the same policy")
	}
	take(t, p)
	if !reflect.DeepEqual(p, parse(samplePolicy)) {
		t.Error("GoBGP changed the policy")
	}
}

func TestNilPolicyIsNone(t *testing.T) {
	var p *Policy
	if len(p.DefinedSets()) > 0 || len(p.Policies()) > 0 || !reflect.DeepEqual(p.Import(), Assignment{}) || !reflect.DeepEqual(p.Export(), Assignment{}) {
		t.Error("no policy is not empty")
	}
	take(t, p)
}

func TestParsePolicyRefuses(t *testing.T) {
	statement := func(body string) string {
		return "[[policy-definitions]]\nname = \"p\"\n[[policy-definitions.statements]]\n" + body
	}
	action := func(body string) string {
		return statement("[policy-definitions.statements.actions.bgp-actions]\n" + body)
	}
	condition := func(body string) string {
		return statement("[policy-definitions.statements.conditions.bgp-conditions]\n" + body)
	}
	prefixes := func(prefix, lengths string) string {
		return fmt.Sprintf("[[defined-sets.prefix-sets]]\nprefix-set-name = \"ps\"\n[[defined-sets.prefix-sets.prefix-list]]\nip-prefix = %q\nmasklength-range = %q\n", prefix, lengths)
	}
	for _, test := range []struct{ name, text, want string }{
		{"no TOML", "\n\n[[", "line 3"},
		{"another section", "[[neighbors]]\n[neighbors.config]\nneighbor-address = \"192.0.2.1\"", "only global.apply-policy.config, defined-sets and policy-definitions are read"},
		{"the router's section", "[global.config]\nas = 65000", "config"},
		{"zebra", "[zebra.config]\nenabled = true", "zebra"},
		{"an unknown key", statement("nam = \"s\""), "nam"},
		{"many unknown keys", strings.Repeat("x", 2000) + " = 1", "only global.apply-policy.config"},
		{"a wrong type", "[global.apply-policy.config]\nimport-policy-list = {a = 1}", "import-policy-list"},
		{"too long", "#" + strings.Repeat(" ", 300<<10), "make it 131072 or less"},
		{"too deep", "a = " + strings.Repeat("[", 100000), "levels deep"},
		{"too many dots", strings.Repeat("a.", 50000) + "a = 1", "levels deep"},

		{"strings of several lines", "a = [\"\"\"\n\"\"\", [[", "line 1: strings of several lines"},
		{"deep behind a string", `a = "\"#[" ` + strings.Repeat("[", 40), "levels deep"},

		{"policy not defined", "[global.apply-policy.config]\nexport-policy-list = [\"x\"]", `export-policy-list: policy "x" is not in policy-definitions`},
		{"policy applied twice", "[global.apply-policy.config]\nimport-policy-list = [\"p\", \"p\"]\n" + statement(""), "is there twice"},
		{"statement applied", "[global.apply-policy.config]\nimport-policy-list = [\"\\u0000p_stmt0\"]\n" + statement(""), "is not in policy-definitions"},
		{"default", "[global.apply-policy.config]\ndefault-export-policy = \"accept\"", `"accept" is none of GoBGP's values`},
		{"in-policy", "[global.apply-policy.config]\nin-policy-list = [\"x\"]", "route servers"},
		{"policy without name", "[[policy-definitions]]\n[[policy-definitions.statements]]\n", "policy has no name"},
		{"policy twice", statement("") + statement(""), "policy p is defined twice"},
		{"statement twice", statement("name = \"s\"\n[[policy-definitions.statements]]\nname = \"s\"\n"), "statement s is defined twice"},
		{"reserved policy", "[[policy-definitions]]\nname = \"fairway-x\"\n", "Fairway's own"},
		{"reserved statement", statement("name = \"fairway-x\""), "Fairway's own"},
		{"reserved set", "[[defined-sets.neighbor-sets]]\nneighbor-set-name = \"fairway-x\"", "Fairway's own"},

		{"set without name", "[[defined-sets.neighbor-sets]]\nneighbor-info-list = [\"192.0.2.1\"]", "has no name"},
		{"set twice", "[[defined-sets.neighbor-sets]]\nneighbor-set-name = \"a\"\n[[defined-sets.neighbor-sets]]\nneighbor-set-name = \"a\"\n", "defined twice"},
		{"tags", "[[defined-sets.tag-sets]]\ntag-set-name = \"a\"", "tag-sets"},
		{"no prefix", prefixes("172.22.0.0", "24..32"), "is not a prefix"},
		{"mapped prefix", prefixes("::ffff:172.22.0.0/120", ""), "is not a prefix"},
		{"range beyond the family", prefixes("172.22.0.0/24", "24..33"), `masklength-range "24..33"`},
		{"range backwards", prefixes("172.22.0.0/24", "32..24"), "is not a range"},
		{"range without end", prefixes("172.22.0.0/24", "24"), "is not a range"},
		{"two families", prefixes("172.22.0.0/24", "") + "[[defined-sets.prefix-sets.prefix-list]]\nip-prefix = \"2001:db8::/32\"", "a set for each"},
		{"no neighbor", "[[defined-sets.neighbor-sets]]\nneighbor-set-name = \"a\"\nneighbor-info-list = [\"router\"]", "neither an IP address nor a prefix"},
		{"no expression", "[[defined-sets.bgp-defined-sets.community-sets]]\ncommunity-set-name = \"a\"\ncommunity-list = [\"(\"]", "is not a regular expression"},
		{"community that is none", "[[defined-sets.bgp-defined-sets.community-sets]]\ncommunity-set-name = \"a\"\ncommunity-list = [\"1(2:3\"]", "is not a regular expression"},
		{"long expression", "[[defined-sets.bgp-defined-sets.community-sets]]\ncommunity-set-name = \"a\"\ncommunity-list = [\"" + strings.Repeat("1", 300) + "\"]", "300 bytes"},
		{"expression of many repetitions", "[[defined-sets.bgp-defined-sets.community-sets]]\ncommunity-set-name = \"a\"\ncommunity-list = [\"1{1000}\"]", "takes too much memory"},
		{"AS path", "[[defined-sets.bgp-defined-sets.as-path-sets]]\nas-path-set-name = \"a\"\nas-path-list = [\"_[_\"]", "is not a regular expression"},
		{"large AS number", "[[defined-sets.bgp-defined-sets.as-path-sets]]\nas-path-set-name = \"a\"\nas-path-list = [\"^4294967296_\"]", "more than 32 bits"},
		{"extended community", "[[defined-sets.bgp-defined-sets.ext-community-sets]]\next-community-set-name = \"a\"\next-community-list = [\"65000:1\"]", "does not begin with one of"},
		{"large community", "[[defined-sets.bgp-defined-sets.large-community-sets]]\nlarge-community-set-name = \"a\"\nlarge-community-list = [\"1:2:3)\"]", "is not a regular expression"},

		{"set not defined", statement("[policy-definitions.statements.conditions.match-prefix-set]\nprefix-set = \"x\""), `prefix-set "x" is not in defined-sets`},
		{"set of another kind", "[[defined-sets.neighbor-sets]]\nneighbor-set-name = \"a\"\n" + statement("[policy-definitions.statements.conditions.match-prefix-set]\nprefix-set = \"a\""), "is not in defined-sets"},
		{"option of a set", statement("[policy-definitions.statements.conditions.match-prefix-set]\nmatch-set-options = \"all\""), "match-set-options"},
		{"med-eq", condition("med-eq = 5"), "med-eq"},
		{"call-policy", statement("[policy-definitions.statements.conditions]\ncall-policy = \"p\""), "no effect in GoBGP"},
		{"route-type", condition("route-type = \"own\""), `"own" is none of`},
		{"origin", condition("origin-eq = \"me\""), `"me" is none of`},
		{"next hop list", condition("next-hop-in-list = [\"x\"]"), "next-hop-in-list"},
		{"family", condition("afi-safi-in-list = [\"ipv4\"]"), "is no address family"},
		{"operator missing", condition("as-path-length = {value = 3}"), "has no operator"},
		{"operator", condition("community-count = {operator = \"more\", value = 3}"), `"more"`},

		{"disposition", statement("[policy-definitions.statements.actions]\nroute-disposition = \"accept\""), "route-disposition"},
		{"med", action("set-med = \"10m\""), "set-med"},
		{"med sign alone", action("set-med = \"+\""), "set-med"},
		{"med of no change", action("set-med = \"-0\""), "set-med"},
		{"large med", action("set-med = \"4294967296\""), "set-med"},
		{"next hop", action("set-next-hop = \"me\""), "set-next-hop"},
		{"prepend nothing", action("set-as-path-prepend = {repeat-n = 3}"), "set-as-path-prepend"},
		{"option missing", action("set-community = {set-community-method = {communities-list = [\"1:2\"]}}"), "options is missing"},
		{"option", action("set-community = {options = \"put\"}"), `options "put"`},
		{"nothing to add", action("set-community = {options = \"add\"}"), "communities-list is missing"},
		{"set reference", action("set-community = {options = \"add\", set-community-method = {community-set-ref = \"a\"}}"), "use communities-list"},
		{"large half", action("set-community = {options = \"add\", set-community-method = {communities-list = [\"65536:2\"]}}"), "is not a community"},
		{"extended without value", action("set-ext-community = {options = \"add\", set-ext-community-method = {communities-list = [\"rt\"]}}"), "is not an extended community"},
		{"extended that is capped", action("set-ext-community = {options = \"add\", set-ext-community-method = {communities-list = [\"rt:70000:100\"]}}"), "would be read as rt:65535:100"},
		{"large with two parts", action("set-large-community = {options = \"add\", set-large-community-method = {communities-list = [\"1:2\"]}}"), "is not a large community"},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := ParsePolicy(test.text)
			if err == nil {
				t.Fatal("accepted")
			}
			if !strings.Contains(err.Error(), test.want) || !strings.HasPrefix(err.Error(), "key gobgp.conf: ") || strings.Contains(err.Error(), "\n") || len(err.Error()) > maxMessage+100 {
				t.Errorf("got %q, want it to name %q", err, test.want)
			}
		})
	}
}

// Many addresses on one line are no depth.
func TestParsePolicyOfLongLines(t *testing.T) {
	list := strings.Repeat(`"192.0.2.1", `, 1000)
	for _, text := range []string{
		"# " + strings.Repeat(".[", 100),
		"[[defined-sets.neighbor-sets]]\nneighbor-set-name = \"a\"\nneighbor-info-list = [" + list + "] # all [[[ of them",
		`[[defined-sets.bgp-defined-sets.community-sets]]
community-set-name = '"a'
community-list = ['(65000:[0-9]+)', "\"\\."]`,
	} {
		if _, err := ParsePolicy(text); err != nil {
			t.Errorf("%.60s: %v", text, err)
		}
	}
}

func FuzzParsePolicy(f *testing.F) {
	f.Add(samplePolicy)
	for _, section := range strings.SplitAfter(samplePolicy, "\n[[") {
		f.Add("[[" + section)
	}
	f.Fuzz(func(t *testing.T, text string) {
		p, err := ParsePolicy(text)
		if err != nil {
			return
		}
		// All policies, also those that the text applies nowhere, meet a route.
		p.imports.Policies = nil
		for _, d := range p.definitions {
			p.imports.Policies = append(p.imports.Policies, d.Name)
		}
		take(t, p)
	})
}
