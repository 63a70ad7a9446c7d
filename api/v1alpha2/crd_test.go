package v1alpha2_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"sigs.k8s.io/yaml"

	"github.com/fairway-lb/fairway/api/v1alpha2"
)

// The samples are what OpenELB's users apply: nothing in them may be refused,
// and our Go types must hold all of it.
func TestSamplesAreAccepted(t *testing.T) {
	server := newAPIServer(t)
	files, err := filepath.Glob("../../config/samples/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("samples %v, %v", files, err)
	}
	kinds := map[string]int{}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for i, document := range strings.Split(string(text), "\n---\n") {
			obj := toObject(t, document)
			if obj["apiVersion"] != v1alpha2.GroupVersion.String() {
				continue
			}
			kinds[obj["kind"].(string)]++
			t.Run(fmt.Sprintf("%s/%d", filepath.Base(file), i), func(t *testing.T) {
				if err := server.admit(obj, nil); err != nil {
					t.Error(err)
				}
				if err := server.writeBack(t, obj); err != nil {
					t.Error(err)
				}
			})
		}
	}
	if len(kinds) != 3 {
		t.Errorf("samples of %v only", kinds)
	}
}

// writeBack reads an object of the API server into our Go type, as the
// controller does, and returns why it could not be written back.
func (s *apiServer) writeBack(t *testing.T, obj object) error {
	t.Helper()
	typed := map[string]any{"Eip": &v1alpha2.Eip{}, "BgpConf": &v1alpha2.BgpConf{}, "BgpPeer": &v1alpha2.BgpPeer{}}[obj["kind"].(string)]
	stored, err := json.Marshal(obj)
	if err != nil {
		t.Fatal(err)
	}
	if err := yaml.UnmarshalStrict(stored, typed); err != nil {
		return fmt.Errorf("read: %w", err)
	}
	written, err := yaml.Marshal(typed)
	if err != nil {
		return fmt.Errorf("write: %w", err)
	}
	if err := s.admit(toObject(t, string(written)), obj); err != nil {
		return fmt.Errorf("written back: %w", err)
	}
	return nil
}

// objectCase is an element of testdata/invalid_objects.yaml and of
// testdata/unusual_objects.yaml.
type objectCase struct {
	Name     string
	Existing json.RawMessage // the object before the update; absent for a new one
	Object   json.RawMessage
	Message  string // part of what the API server says, if it refuses it
}

func objectCases(t *testing.T, file string) []objectCase {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var cases []objectCase
	if err := yaml.UnmarshalStrict(text, &cases); err != nil {
		t.Fatal(err)
	}
	return cases
}

func TestInvalidObjectsAreRefused(t *testing.T) {
	server := newAPIServer(t)
	for _, c := range objectCases(t, "testdata/invalid_objects.yaml") {
		t.Run(c.Name, func(t *testing.T) {
			var existing object
			if c.Existing != nil {
				existing = toObject(t, string(c.Existing))
				if err := server.admit(existing, nil); err != nil {
					t.Fatalf("existing object: %v", err)
				}
			}
			err := server.admit(toObject(t, string(c.Object)), existing)
			// The list of unknown fields is the one thing worded by the test's server.
			want := strings.Replace(c.Message, `unknown field "`, `unknown field ["`, 1)
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("got %v\nwant %s", err, want)
			}
		})
	}
}

func TestEveryRuleHasAnInvalidObject(t *testing.T) {
	var messages []string
	for _, c := range objectCases(t, "testdata/invalid_objects.yaml") {
		messages = append(messages, c.Message)
	}
	for kind, crd := range newAPIServer(t).crds {
		walkRules(version(crd).Schema.OpenAPIV3Schema, kind, func(path string, rule apiextensionsv1.ValidationRule) {
			for _, message := range messages {
				_, said, ok := strings.Cut(message, "Invalid value: ")
				if !ok {
					said = message
				}
				if strings.Contains(rule.Message+rule.MessageExpression, said) {
					return
				}
			}
			t.Errorf("%s: no case for %s", path, rule.Rule)
		})
	}
}

func walkRules(s *apiextensionsv1.JSONSchemaProps, path string, visit func(string, apiextensionsv1.ValidationRule)) {
	for _, rule := range s.XValidations {
		visit(path, rule)
	}
	for name, property := range s.Properties {
		walkRules(&property, path+"."+name, visit)
	}
	if s.Items != nil && s.Items.Schema != nil {
		walkRules(s.Items.Schema, path+"[]", visit)
	}
	if s.AdditionalProperties != nil && s.AdditionalProperties.Schema != nil {
		walkRules(s.AdditionalProperties.Schema, path+"{}", visit)
	}
}

func TestUnusualObjectsAreAccepted(t *testing.T) {
	server := newAPIServer(t)
	for _, c := range objectCases(t, "testdata/unusual_objects.yaml") {
		t.Run(c.Name, func(t *testing.T) {
			obj := toObject(t, string(c.Object))
			if err := server.admit(obj, nil); err != nil {
				t.Fatal(err)
			}
			if err := server.writeBack(t, obj); err != nil {
				t.Error(err)
			}
		})
	}
}

// Objects that OpenELB's CRDs let in and ours would not must stay updatable in
// other fields, or their finalizers could never be removed.
func TestStoredInvalidObjectsStayUpdatable(t *testing.T) {
	server := newAPIServer(t)
	for name, text := range map[string]string{
		"Eip without spec":         `{kind: Eip, metadata: {name: pool}}`,
		"Eip without address":      `{kind: Eip, metadata: {name: pool}, spec: {}}`,
		"Eip with a bad address":   `{kind: Eip, metadata: {name: pool}, spec: {address: 10.0.0.2-10.0.0.1}}`,
		"Eip without interface":    `{kind: Eip, metadata: {name: pool}, spec: {address: 10.0.0.1, protocol: layer2}}`,
		"Eip with a bad interface": `{kind: Eip, metadata: {name: pool}, spec: {address: 10.0.0.1, interface: "regex:eth"}}`,
		"Eip with a long name":     `{kind: Eip, metadata: {name: pool-of-64-characters-0123456789-0123456789-0123456789-012345678}, spec: {address: 10.0.0.1}}`,
		"BgpConf with a bad AS":    `{kind: BgpConf, metadata: {name: default}, spec: {as: -5}}`,
		"BgpPeer without spec":     `{kind: BgpPeer, metadata: {name: router}}`,
		"BgpPeer without neighbor": `{kind: BgpPeer, metadata: {name: router}, spec: {}}`,
		"BgpPeer with a bad timer": `{kind: BgpPeer, metadata: {name: router}, spec: {conf: {neighborAddress: 10.0.0.1}, timers: {config: {holdTime: 30s}}}}`,
	} {
		t.Run(name, func(t *testing.T) {
			stored, updated := toObject(t, text), toObject(t, text)
			stored["metadata"].(object)["finalizers"] = []any{v1alpha2.FinalizerEip}
			updated["status"] = object{}
			if err := server.admit(updated, stored); err != nil {
				t.Error(err)
			}
		})
	}
}

// Whatever bounds a schema sets, an object that keeps to them must not be
// refused because the API server spends too long on it.
func TestLargestEipIsAccepted(t *testing.T) {
	blocks := make([]any, 64)
	for i := range blocks {
		blocks[i] = fmt.Sprintf("2001:0db8:0000:0000:0000:ffff:ffff:%04x-2001:0db8:0000:0000:0000:ffff:ffff:ff%02x", i, i)
	}
	namespaces, limits := make([]any, 1024), object{}
	for i := range namespaces {
		namespaces[i] = fmt.Sprintf("%063d", i)
	}
	for i := range 512 {
		limits[fmt.Sprintf("%063d", i)] = int64(i)
	}
	labels, expressions := object{}, make([]any, 1000)
	for i := range expressions {
		labels[fmt.Sprintf("example.com/%063d", i)] = strings.Repeat("v", 63)
		expressions[i] = object{"key": fmt.Sprintf("example.com/%063d", i), "operator": "In", "values": []any{strings.Repeat("v", 63), "w"}}
	}
	eip := object{
		"apiVersion": v1alpha2.GroupVersion.String(), "kind": "Eip", "metadata": object{"name": "pool"},
		"spec": object{
			"address": blocks[0], "addresses": blocks, "exclude": blocks,
			"sharing": object{"namespaces": namespaces}, "namespaceLimits": limits,
			"serviceSelector": object{"matchLabels": labels, "matchExpressions": expressions},
		},
	}
	server := newAPIServer(t)
	if err := server.admit(eip, nil); err != nil {
		t.Fatal(err)
	}
	if err := server.writeBack(t, eip); err != nil {
		t.Error(err)
	}
}

func TestPoolsGrowAndShrink(t *testing.T) {
	const pool = `{apiVersion: network.kubesphere.io/v1alpha2, kind: Eip, metadata: {name: pool}, spec: {address: 10.0.0.1, %s}}`
	server := newAPIServer(t)
	was := toObject(t, fmt.Sprintf(pool, ""))
	for _, spec := range []string{
		`addresses: [10.0.1.0/24]`,
		`addresses: [10.0.1.0/24, "2001:db8::/64"], exclude: [10.0.1.0-10.0.1.9]`,
		`addresses: ["2001:db8::/64"], exclude: [10.0.1.0-10.0.1.99, 10.0.0.1]`,
		`addresses: []`,
		``,
	} {
		is := toObject(t, fmt.Sprintf(pool, spec))
		if err := server.admit(is, was); err != nil {
			t.Errorf("%s: %v", spec, err)
		}
		was = is
	}
}

// An Eip with a text that time.ParseDuration refuses would make the list of
// all Eips unreadable for the controller.
func TestQuarantine(t *testing.T) {
	server := newAPIServer(t)
	for _, text := range []string{
		"10m", "0s", "0", "24h", "1h30m", "1.5h", "23h59m59.999999999s", "1440m", "86400s", ".5s", "1.s", "500ms", "1us", "1µs", "1μs", "1ns", "00010m", "0h0m0s",
	} {
		if err := server.admitQuarantine(t, text); err != nil {
			t.Errorf("%q: %v", text, err)
		}
	}
	for _, text := range []string{
		"", " ", "10", "1d", "1w", "-5m", "+5m", "-0s", "5", "m", "1", ".", ".s", "10 m", " 10m", "10m ", "10m\n", "10M", "10min", "10minutes", "ten minutes", "1h-5m", "1,5h", "1e3s", "0x1s", "1h 30m", "PT10M", "00:10:00",
		"infinite", "null", "24h1ns", "25h", "1441m", "999999999h", "99999h", "99999999999999999999s", "9223372036854775807ns", "9223372036854775808ns", "1.0000000001s", "１m", "1m1m1m1m1m1m1m", "10m\x00",
		"000000000000000000000000000000000000000000000000000000000000000010m",
	} {
		err := server.admitQuarantine(t, text)
		if err == nil {
			t.Errorf("%q is accepted", text)
		} else if said := err.Error(); !strings.Contains(said, "quarantine must be a duration of 0s to 24h with a unit, such as 10m") && !strings.Contains(said, "Too long") {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func FuzzQuarantine(f *testing.F) {
	for _, text := range []string{"10m", "1h30m", "", "10", "-5m", "1.5h", ".s", "25h", "99999h99999h", "1µs"} {
		f.Add(text)
	}
	server := newAPIServer(f)
	f.Fuzz(func(t *testing.T, text string) {
		if !utf8.ValidString(text) || server.admitQuarantine(t, text) != nil {
			return
		}
		if d, err := time.ParseDuration(text); err != nil || d < 0 || d > 24*time.Hour {
			t.Fatalf("%q is accepted, and is %v, %v", text, d, err)
		}
		if err := server.writeBack(t, quarantined(text)); err != nil {
			t.Errorf("%q: %v", text, err)
		}
	})
}

func (s *apiServer) admitQuarantine(t *testing.T, text string) error {
	t.Helper()
	return s.admit(quarantined(text), nil)
}

func quarantined(text string) object {
	return object{
		"apiVersion": v1alpha2.GroupVersion.String(), "kind": "Eip", "metadata": object{"name": "pool"},
		"spec": object{"address": "10.0.0.1", "quarantine": text},
	}
}

// Keys of namespaceLimits and entries of sharing.namespaces are checked by two
// rules that have to agree.
func TestNamesOfNamespaces(t *testing.T) {
	server := newAPIServer(t)
	long := strings.Repeat("a", 63)
	for name, good := range map[string]bool{
		"*": true, "a": true, "0": true, "a-b": true, "a--b": true, "0a": true, long: true,
		"": false, "**": false, "a*": false, "-": false, "-a": false, "a-": false, "A": false, "a.b": false, "a_b": false, "a/b": false, "a b": false, " a": false,
		"a\n": false, "\n": false, "é": false, "`": false, "{": false, ":": false, "/": false, "@": false, long + "a": false, long[:62] + "-": false, strings.Repeat("a", 5000): false,
	} {
		for field, value := range map[string]any{"namespaceLimits": object{"first": int64(1), name: int64(1)}, "sharing": object{"namespaces": []any{"first", name}}} {
			err := server.admit(object{
				"apiVersion": v1alpha2.GroupVersion.String(), "kind": "Eip", "metadata": object{"name": "pool"},
				"spec": object{"address": "10.0.0.1", field: value},
			}, nil)
			if (err == nil) != good {
				t.Errorf("%s of %q: %v", field, name, err)
			}
		}
	}
}

func TestAddressRulesAgreeWithParseAddress(t *testing.T) {
	server := newAPIServer(t)
	t.Run("cases", func(t *testing.T) {
		for _, c := range addressCases(t) {
			server.compareAddress(t, c.Input, c.Message)
		}
	})
	t.Run("malformed", func(t *testing.T) {
		for _, text := range malformedAddresses(t) {
			server.compareAddress(t, text, v1alpha2.ErrAddressFormat.Error())
		}
	})
	// One pair of addresses for every bit that can decide, both ways round.
	// All lower bits speak for the other order.
	t.Run("order", func(t *testing.T) {
		for _, base := range []string{"10.77.0.255", "2001:db8::ffff:0:1"} {
			addr := netip.MustParseAddr(base)
			for bit := range addr.BitLen() {
				low, high := around(addr, bit)
				server.compareAddress(t, fmt.Sprintf("%v-%v", low, high), "")
				server.compareAddress(t, fmt.Sprintf("%v-%v", high, low), v1alpha2.ErrAddressFormat.Error())
				if _, err := v1alpha2.ParseAddress(fmt.Sprintf("%v-%v", low, high)); err != nil {
					t.Errorf("%v-%v: %v", low, high, err)
				}
			}
		}
	})
}

func FuzzAddressRules(f *testing.F) {
	for _, c := range addressCases(f) {
		f.Add(c.Input)
	}
	for _, text := range malformedAddresses(f) {
		f.Add(text)
	}
	server := newAPIServer(f)
	f.Fuzz(func(t *testing.T, text string) {
		if utf8.ValidString(text) && len(text) <= 128 {
			server.compareAddress(t, text, v1alpha2.ErrAddressFormat.Error())
		}
	})
}

// FuzzRangeRules is FuzzAddressRules for ranges only, which the fuzzer hardly
// finds by itself.
func FuzzRangeRules(f *testing.F) {
	f.Add([]byte{10, 0, 0, 1}, []byte{10, 0, 0, 2})
	f.Add(netip.MustParseAddr("2001:db8::1").AsSlice(), netip.MustParseAddr("2001:db8::2").AsSlice())
	server := newAPIServer(f)
	f.Fuzz(func(t *testing.T, from, to []byte) {
		first, ok := netip.AddrFromSlice(from)
		last, ok2 := netip.AddrFromSlice(to)
		if ok && ok2 {
			server.compareAddress(t, fmt.Sprintf("%v-%v", first, last), v1alpha2.ErrAddressFormat.Error())
		}
	})
}

// compareAddress fails the test if the API server and ParseAddress differ on
// text in any field that holds addresses, or if a refusal does not say message.
func (s *apiServer) compareAddress(t *testing.T, text, message string) {
	t.Helper()
	_, err := v1alpha2.ParseAddress(text)
	for field, spec := range map[string]object{
		"spec.address":      {"address": text},
		"spec.addresses[1]": {"address": "10.0.0.1", "addresses": []any{"10.0.0.2", text}},
		"spec.exclude[0]":   {"address": "10.0.0.1", "exclude": []any{text, "10.0.0.2"}},
	} {
		refused := s.admit(object{"apiVersion": v1alpha2.GroupVersion.String(), "kind": "Eip", "metadata": object{"name": "pool"}, "spec": spec}, nil)
		if (err == nil) != (refused == nil) {
			t.Errorf("%s %q: the API server says %v, ParseAddress %v", field, text, refused, err)
		}
		if refused != nil && (!strings.Contains(refused.Error(), message) || !strings.HasPrefix(refused.Error(), field+":")) {
			t.Errorf("%s %q: got %v, want %s", field, text, refused, message)
		}
	}
}

// around returns the addresses that share addr's bits before bit, the first of
// which goes on with 0111..., the second with 1000....
func around(addr netip.Addr, bit int) (low, high netip.Addr) {
	lower, upper := addr.AsSlice(), addr.AsSlice()
	for i := bit; i < addr.BitLen(); i++ {
		mask := byte(0x80 >> (i % 8))
		if i == bit {
			lower[i/8] &^= mask
			upper[i/8] |= mask
		} else {
			lower[i/8] |= mask
			upper[i/8] &^= mask
		}
	}
	low, _ = netip.AddrFromSlice(lower)
	high, _ = netip.AddrFromSlice(upper)
	return low, high
}

func TestPrinterColumnsAndNames(t *testing.T) {
	server := newAPIServer(t)
	eip := server.crds["Eip"].Spec
	columns := []apiextensionsv1.CustomResourceColumnDefinition{
		{Name: "cidr", Type: "string", JSONPath: ".spec.address"},
		{Name: "usage", Type: "integer", JSONPath: ".status.usage"},
		{Name: "total", Type: "integer", JSONPath: ".status.poolSize"},
	}
	if got := version(server.crds["Eip"]).AdditionalPrinterColumns; !reflect.DeepEqual(got, columns) {
		t.Errorf("columns of Eip: %+v", got)
	}
	if got := eip.Names.Categories; !reflect.DeepEqual(got, []string{"networking"}) {
		t.Errorf("categories of Eip: %v", got)
	}
	for kind, crd := range server.crds {
		if crd.Spec.Scope != apiextensionsv1.ClusterScoped || len(crd.Spec.Names.ShortNames) > 0 {
			t.Errorf("%s: scope %s, short names %v", kind, crd.Spec.Scope, crd.Spec.Names.ShortNames)
		}
		if version(crd).Subresources.Status == nil {
			t.Errorf("%s has no status subresource", kind)
		}
		if kind != "Eip" && (len(crd.Spec.Names.Categories) > 0 || len(version(crd).AdditionalPrinterColumns) > 0) {
			t.Errorf("%s has columns or categories", kind)
		}
		if schema, err := json.Marshal(version(crd).Schema); err != nil || bytes.Contains(schema, []byte(`"default":`)) {
			t.Errorf("%s: a field has a default (%v)", kind, err)
		}
	}
}
