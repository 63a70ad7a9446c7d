package v1alpha2_test

import (
	"bytes"
	"encoding/json"
	"fmt"
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
		"BgpConf with bad fields":  `{kind: BgpConf, metadata: {name: default}, spec: {asPerRack: {"a b": 1}, listenAddresses: [node1], policy: a/b, gracefulRestart: {restartTime: 4294967295}}}`,
		"BgpPeer with bad fields": `{kind: BgpPeer, metadata: {name: router}, spec: {
			conf: {neighborAddress: "fe80::1", neighborInterface: too-long-for-an-interface, allowOwnAs: 256}, ebgpMultihop: {multihopTtl: 256},
			timers: {config: {connectRetry: "100000", keepaliveInterval: "90"}}, transport: {remoteAddress: 10.0.0.2, remotePort: 65536, tcpMss: 1},
			afiSafis: [{config: {family: {afi: ipv4}}, addPaths: {config: {sendMax: 256}}}], nodeSelector: {matchExpressions: [{key: a, operator: Is}]}}}`,
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

func TestPrinterColumnsAndNames(t *testing.T) {
	server := newAPIServer(t)
	eip := server.crds["Eip"].Spec
	age := apiextensionsv1.CustomResourceColumnDefinition{Name: "age", Type: "date", JSONPath: ".metadata.creationTimestamp"}
	columns := map[string][]apiextensionsv1.CustomResourceColumnDefinition{
		"Eip": {
			{Name: "cidr", Type: "string", JSONPath: ".spec.address"},
			{Name: "usage", Type: "integer", JSONPath: ".status.usage"},
			{Name: "total", Type: "integer", JSONPath: ".status.poolSize"},
		},
		"BgpConf": {
			{Name: "as", Type: "integer", JSONPath: ".spec.as"},
			{Name: "port", Type: "integer", JSONPath: ".spec.listenPort"},
			{Name: "policy", Type: "string", Priority: 1, JSONPath: ".spec.policy"},
			age,
		},
		"BgpPeer": {
			{Name: "as", Type: "integer", JSONPath: ".spec.conf.peerAs"},
			{Name: "neighbor", Type: "string", JSONPath: ".spec.conf.neighborAddress"},
			{Name: "interface", Type: "string", Priority: 1, JSONPath: ".spec.conf.neighborInterface"},
			age,
		},
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
		if got := version(crd).AdditionalPrinterColumns; !reflect.DeepEqual(got, columns[kind]) {
			t.Errorf("columns of %s: %+v", kind, got)
		}
		if kind != "Eip" && len(crd.Spec.Names.Categories) > 0 {
			t.Errorf("%s has categories", kind)
		}
		// A default would come back to users in what they did not write. The
		// status is ours.
		spec := version(crd).Schema.OpenAPIV3Schema.Properties["spec"]
		if schema, err := json.Marshal(spec); err != nil || bytes.Contains(schema, []byte(`"default":`)) {
			t.Errorf("%s: a field of the spec has a default (%v)", kind, err)
		}
	}
}
