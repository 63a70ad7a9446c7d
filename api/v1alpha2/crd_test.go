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
				typed := map[string]any{"Eip": &v1alpha2.Eip{}, "BgpConf": &v1alpha2.BgpConf{}, "BgpPeer": &v1alpha2.BgpPeer{}}[obj["kind"].(string)]
				if err := yaml.UnmarshalStrict([]byte(document), typed); err != nil {
					t.Fatal(err)
				}
				// A controller writes back what it read: that must be accepted too.
				written, err := yaml.Marshal(typed)
				if err != nil {
					t.Fatal(err)
				}
				if err := server.admit(toObject(t, string(written)), obj); err != nil {
					t.Errorf("written back: %v", err)
				}
			})
		}
	}
	if len(kinds) != 3 {
		t.Errorf("samples of %v only", kinds)
	}
}

// invalidObject is an element of testdata/invalid_objects.yaml.
type invalidObject struct {
	Name     string
	Existing json.RawMessage // the object before the update; absent for a new one
	Object   json.RawMessage
	Message  string // part of what the API server says
}

func invalidObjects(t *testing.T) []invalidObject {
	t.Helper()
	text, err := os.ReadFile("testdata/invalid_objects.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var cases []invalidObject
	if err := yaml.UnmarshalStrict(text, &cases); err != nil {
		t.Fatal(err)
	}
	return cases
}

func TestInvalidObjectsAreRefused(t *testing.T) {
	server := newAPIServer(t)
	for _, c := range invalidObjects(t) {
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
	for _, c := range invalidObjects(t) {
		messages = append(messages, c.Message)
	}
	for kind, crd := range newAPIServer(t).crds {
		walkRules(crd.Spec.Versions[0].Schema.OpenAPIV3Schema, kind, func(path string, rule apiextensionsv1.ValidationRule) {
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
	for name, text := range map[string]string{
		"name of 63 characters":       `{kind: Eip, metadata: {name: pool-of-63-characters-0123456789-0123456789-0123456789-01234567}, spec: {address: 10.0.0.1}}`,
		"bgp with an empty interface": `{kind: Eip, metadata: {name: pool}, spec: {address: 10.0.0.1, protocol: bgp, interface: ""}}`,
		"interface of 15 characters":  `{kind: Eip, metadata: {name: pool}, spec: {address: 10.0.0.1, protocol: layer2, interface: enp0s31f6.12345}}`,
		"interface by IPv6 route":     `{kind: Eip, metadata: {name: pool}, spec: {address: "fd00::1", protocol: layer2, interface: "can_reach:2001:db8::1"}}`,
		"largest numbers":             `{kind: BgpConf, metadata: {name: default}, spec: {as: 4294967295, asPerRack: {leaf1: 4294967295}, families: [4294967295], gracefulRestart: {restartTime: 4294967295}}}`,
		"zeros and empty text":        `{kind: BgpConf, metadata: {name: default}, spec: {as: 0, listenPort: 0, routerId: ""}}`,
		"no listener":                 `{kind: BgpConf, metadata: {name: default}, spec: {as: 50000, listenPort: -1}}`,
		"no spec":                     `{kind: BgpConf, metadata: {name: default}}`,
		"neighbor by interface":       `{kind: BgpPeer, metadata: {name: router}, spec: {conf: {neighborInterface: eth0}}}`,
		"link-local neighbor":         `{kind: BgpPeer, metadata: {name: router}, spec: {conf: {neighborAddress: "fe80::1%eth0"}}}`,
		"empty text in a peer":        `{kind: BgpPeer, metadata: {name: router}, spec: {conf: {neighborAddress: 10.0.0.1, removePrivateAs: ""}, timers: {config: {holdTime: ""}}, afiSafis: [{config: {family: {afi: "", safi: ""}}}]}}`,
	} {
		t.Run(name, func(t *testing.T) {
			obj := toObject(t, text)
			obj["apiVersion"] = v1alpha2.GroupVersion.String()
			if err := server.admit(obj, nil); err != nil {
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

func TestAddressRuleAgreesWithParseAddress(t *testing.T) {
	server := newAPIServer(t)
	check := func(t *testing.T, address, message string) {
		t.Helper()
		eip := object{
			"apiVersion": v1alpha2.GroupVersion.String(),
			"kind":       "Eip",
			"metadata":   object{"name": "pool"},
			"spec":       object{"address": address},
		}
		refused := server.admit(eip, nil)
		if _, err := v1alpha2.ParseAddress(address); (err == nil) != (refused == nil) {
			t.Errorf("%q: the API server says %v, ParseAddress %v", address, refused, err)
		}
		if refused != nil && !strings.Contains(refused.Error(), message) {
			t.Errorf("%q: got %v, want %s", address, refused, message)
		}
	}
	t.Run("cases", func(t *testing.T) {
		for _, c := range addressCases(t) {
			check(t, c.Input, c.Message)
		}
	})
	// One pair of addresses for every bit that can decide, both ways round.
	// All lower bits speak for the other order.
	t.Run("order", func(t *testing.T) {
		for _, base := range []string{"10.77.0.255", "2001:db8::ffff:0:1"} {
			addr := netip.MustParseAddr(base)
			for bit := range addr.BitLen() {
				low, high := around(addr, bit)
				check(t, fmt.Sprintf("%v-%v", low, high), "")
				check(t, fmt.Sprintf("%v-%v", high, low), v1alpha2.ErrAddressFormat.Error())
				if _, err := v1alpha2.ParseAddress(fmt.Sprintf("%v-%v", low, high)); err != nil {
					t.Errorf("%v-%v: %v", low, high, err)
				}
			}
		}
	})
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
	if got := eip.Versions[0].AdditionalPrinterColumns; !reflect.DeepEqual(got, columns) {
		t.Errorf("columns of Eip: %+v", got)
	}
	if got := eip.Names.Categories; !reflect.DeepEqual(got, []string{"networking"}) {
		t.Errorf("categories of Eip: %v", got)
	}
	for kind, crd := range server.crds {
		if crd.Spec.Scope != apiextensionsv1.ClusterScoped || len(crd.Spec.Names.ShortNames) > 0 {
			t.Errorf("%s: scope %s, short names %v", kind, crd.Spec.Scope, crd.Spec.Names.ShortNames)
		}
		if crd.Spec.Versions[0].Subresources.Status == nil {
			t.Errorf("%s has no status subresource", kind)
		}
		if kind != "Eip" && (len(crd.Spec.Names.Categories) > 0 || len(crd.Spec.Versions[0].AdditionalPrinterColumns) > 0) {
			t.Errorf("%s has columns or categories", kind)
		}
		if schema, err := json.Marshal(crd.Spec.Versions[0].Schema); err != nil || bytes.Contains(schema, []byte(`"default":`)) {
			t.Errorf("%s: a field has a default (%v)", kind, err)
		}
	}
}
