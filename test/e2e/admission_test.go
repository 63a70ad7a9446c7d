package e2e

import (
	"fmt"
	"os"
	"strings"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"
)

// TestAdmission: the API server itself, with nothing of Fairway running,
// accepts what OpenELB's users write and refuses what is wrong, with a
// sentence. The cases are those of api/v1alpha2, whose tests run them without
// an API server.
func TestAdmission(t *testing.T) {
	c := newCluster(t, 0)

	c.run("pool addresses", func(t *testing.T) {
		var cases []struct {
			Input    string `json:"input"`
			Accepted bool   `json:"accepted"`
			Message  string `json:"message"`
		}
		c.read("api/v1alpha2/testdata/eip_address_cases.yaml", &cases)
		for _, test := range cases {
			c.expect(fmt.Sprintf("address %q", test.Input), c.dryRun(pool(map[string]any{"address": test.Input})), test.Accepted, test.Message)
		}
		var malformed []string
		c.read("api/v1alpha2/testdata/malformed_addresses.yaml", &malformed)
		for _, text := range malformed {
			c.expect(fmt.Sprintf("address %q", text), c.dryRun(pool(map[string]any{"address": text})), false, "invalid eip address format")
			c.expect(fmt.Sprintf("addresses %q", text), c.dryRun(pool(map[string]any{"address": "10.0.0.1", "addresses": []any{text}})), false, "invalid eip address format")
		}
	})
	c.run("unusual objects", func(t *testing.T) {
		var cases []struct {
			Name   string         `json:"name"`
			Object map[string]any `json:"object"`
		}
		c.read("api/v1alpha2/testdata/unusual_objects.yaml", &cases)
		for _, test := range cases {
			c.expect(test.Name, c.dryRun(test.Object), true, "")
		}
	})
	c.run("invalid objects", func(t *testing.T) {
		var cases []struct {
			Name     string         `json:"name"`
			Existing map[string]any `json:"existing"`
			Object   map[string]any `json:"object"`
			Message  string         `json:"message"`
		}
		c.read("api/v1alpha2/testdata/invalid_objects.yaml", &cases)
		for _, test := range cases {
			if test.Existing == nil {
				c.expect(test.Name, c.dryRun(test.Object), false, test.Message)
				continue
			}
			existing := &unstructured.Unstructured{Object: test.Existing}
			if err := c.api.Create(t.Context(), existing); err != nil {
				t.Errorf("%s: the object to change is refused: %v", test.Name, err)
				continue
			}
			changed := &unstructured.Unstructured{Object: test.Object}
			changed.SetResourceVersion(existing.GetResourceVersion())
			c.expect(test.Name, c.api.Update(t.Context(), changed, client.DryRunAll), false, test.Message)
			if err := c.api.Delete(t.Context(), existing); err != nil {
				t.Error(err)
			}
		}
	})
	c.run("objects as users have them", func(t *testing.T) {
		// kubectl validates strictly: an unknown field would be an error.
		c.kubectl("create", "namespace", "dev")
		for _, file := range []string{"layer2", "ingress-nginx", "eip-ipv6", "openelb", "dual-stack", "sharing", "tenant"} {
			if out := c.kubectl("apply", "-f", "config/samples/"+file+".yaml"); strings.Contains(out, "Warning") {
				t.Errorf("%s.yaml: %s", file, out)
			}
		}
	})
	c.run("everything else that is changed", func(t *testing.T) {
		for _, change := range []string{
			`{"disable":true}`, `{"priority":5}`, `{"namespaces":["a"]}`, `{"namespaceSelector":{"a":"b"}}`, `{"interface":"eth0"}`, `{"protocol":"bgp"}`,
			`{"addresses":["10.0.0.0/24"]}`, `{"addresses":["10.0.0.0/25","2001:db8::/64"],"exclude":["10.0.0.1-10.0.0.9"]}`, `{"addresses":[],"exclude":null}`,
			`{"usingKnownIPs":true}`, `{"allocationPolicy":"Rotate"}`, `{"quarantine":"10m"}`, `{"quarantine":null}`, `{"exclusive":true}`,
			`{"serviceSelector":{"matchLabels":{"app":"web"}}}`, `{"sharing":{"namespaces":["*"]}}`, `{"namespaceLimits":{"*":5}}`,
		} {
			c.kubectl("patch", "eip", "eip-pool", "--type=merge", "-p", `{"spec":`+change+`}`)
		}
	})
}

// pool is an Eip with a spec.
func pool(spec map[string]any) map[string]any {
	return map[string]any{
		"apiVersion": "network.kubesphere.io/v1alpha2", "kind": "Eip",
		"metadata": map[string]any{"name": "pool"}, "spec": spec,
	}
}

// read reads a YAML file of the repository.
func (c *cluster) read(file string, into any) {
	c.t.Helper()
	content, err := os.ReadFile("../../" + file)
	if err != nil {
		c.t.Fatal(err)
	}
	if err := yaml.Unmarshal(content, into); err != nil {
		c.t.Fatalf("%s: %v", file, err)
	}
}

// dryRun has the API server decide about an object without keeping it. Like
// kubectl, it does not let unknown fields pass.
func (c *cluster) dryRun(object map[string]any) error {
	return c.api.Create(c.t.Context(), &unstructured.Unstructured{Object: object}, client.DryRunAll, client.FieldValidation("Strict"))
}

// expect compares what the API server said with what it should say.
func (c *cluster) expect(what string, err error, accepted bool, message string) {
	c.t.Helper()
	switch {
	case accepted && err != nil:
		c.t.Errorf("%s: %v", what, err)
	case !accepted && !apierrors.IsInvalid(err) && !apierrors.IsBadRequest(err):
		c.t.Errorf("%s: %v, want it to be refused as invalid", what, err)
	case !accepted && !strings.Contains(err.Error(), message):
		c.t.Errorf("%s: %v, want it to say %q", what, err, message)
	}
}
