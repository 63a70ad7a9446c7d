package e2e

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fairway-lb/fairway/api/v1alpha1"
	"github.com/fairway-lb/fairway/api/v1alpha2"
)

// webhookClient is a client that keeps the warnings that it is shown.
type webhookClient struct {
	client.Client
	mu       sync.Mutex
	warnings []string
}

func (w *webhookClient) HandleWarningHeader(code int, _, text string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.warnings = append(w.warnings, text)
}

// take returns the warnings since the last time.
func (w *webhookClient) take() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	taken := w.warnings
	w.warnings = nil
	return taken
}

func (c *cluster) newWebhookClient() *webhookClient {
	c.t.Helper()
	config, err := c.RESTConfig()
	if err != nil {
		c.t.Fatal(err)
	}
	w := &webhookClient{}
	config.WarningHandler = w
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{clientgoscheme.AddToScheme, v1alpha1.AddToScheme, v1alpha2.AddToScheme, apiextensionsv1.AddToScheme} {
		if err := add(scheme); err != nil {
			c.t.Fatal(err)
		}
	}
	if w.Client, err = client.New(config, client.Options{Scheme: scheme}); err != nil {
		c.t.Fatal(err)
	}
	return w
}

// TestWebhook: a controller that runs answers the API server about admission
// and conversion, with rights and manifests as in a real cluster.
func TestWebhook(t *testing.T) {
	c := newCluster(t, 1)
	c.kubectl("create", "namespace", "dev")
	api := c.newWebhookClient()

	c.run("nothing waits for it", func(t *testing.T) {
		c.apply(eip("early", "10.50.0.1"))
	})
	c.startController()
	c.run("the API server trusts it", func(t *testing.T) { c.webhookTrusted(api) })
	c.run("rules", func(t *testing.T) { c.webhookRules(api) })
	c.run("addresses in use", func(t *testing.T) { c.webhookAddressesInUse(api) })
	c.run("warnings", func(t *testing.T) { c.webhookWarnings(api) })
	c.run("v1alpha1", func(t *testing.T) { c.webhookConversion(api) })
	c.run("a manifest applied again keeps the trust", func(t *testing.T) {
		before := c.webhookBundles(api)
		c.kubectl("apply", "-k", "config/crd")
		c.kubectl("apply", "-k", "config/webhook")
		if after := c.webhookBundles(api); !slices.Equal(before, after) {
			t.Errorf("the CA was %.60q and is %.60q", before, after)
		}
	})
	c.run("two controllers, and a new certificate", func(t *testing.T) {
		first := c.controller
		// The port is in use on this host: this one goes on without.
		c.startController("--metrics-addr=0", "--readiness-addr=0")
		before := c.webhookBundles(api)
		if err := api.Delete(t.Context(), &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "fairway-system", Name: "fairway-webhook-cert"}}); err != nil {
			t.Fatal(err)
		}
		c.eventually("another CA is trusted", func() string {
			if after := c.webhookBundles(api); slices.Contains(after, before[0]) || slices.Contains(after, "") {
				return "the CA is the one before"
			}
			return ""
		})
		c.webhookTrusted(api)
		if err := first.Stop(t.Context()); err != nil {
			t.Fatal(err)
		}
		c.webhookTrusted(api)
	})
}

// TestWebhookAbsent: without an answer from the controller everything that is
// stored goes on, at once.
func TestWebhookAbsent(t *testing.T) {
	c := newCluster(t, 0)
	c.kubectl("create", "namespace", "dev")
	api := c.newWebhookClient()
	c.startController()
	c.webhookTrusted(api)
	legacy := &v1alpha1.Eip{ObjectMeta: metav1.ObjectMeta{Name: "legacy"}, Spec: v1alpha1.EipSpec{Address: "10.60.0.1"}}
	if err := api.Create(t.Context(), legacy); err != nil {
		t.Fatal(err)
	}
	// Once the controller has seen it, the API server need not convert it.
	c.eventually("the managed fields are v1alpha2's", func() string {
		if out := c.kubectl("get", "eip", "legacy", "--show-managed-fields", "-o", "jsonpath={.metadata.managedFields[*].apiVersion}"); strings.Contains(out, "v1alpha1") {
			return out
		}
		return ""
	})
	if err := c.controller.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	c.kubectl("annotate", "eip", "legacy", "example.com/touched=1")
	if _, err := c.Kubectl(t.Context(), "apiVersion: network.kubesphere.io/v1alpha2\nkind: Eip\nmetadata: {name: legacy, labels: {a: b}}\nspec: {address: 10.60.0.1}", "apply", "--server-side", "-f", "-"); err != nil {
		t.Errorf("server-side apply of what was written in v1alpha1: %v", err)
	}
	c.apply(eip("pool", "10.61.0.1"))
	c.apply(eip("overlapping", "10.61.0.1"))
	c.apply(loadBalancer("web", "web", fromPool("pool")))
	c.kubectl("patch", "eip", "legacy", "--type=merge", "-p", `{"spec":{"disable":true}}`)
	if out := c.kubectl("get", "eip", "-o", "name"); !strings.Contains(out, "legacy") || !strings.Contains(out, "overlapping") {
		t.Errorf("the API server lists %s", out)
	}
	// A controller that has no right to anything that webhooks need works.
	c.revokeWebhookRights()
	c.startController()
	c.hasIP("dev", "web", "10.61.0.1")
	c.kubectl("delete", "eip", "legacy", "--timeout=30s")
	if !c.controller.Running() {
		t.Error("the controller ended")
	}
	if err := c.controller.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	// And so does one that serves none.
	c.startController("--webhook-port=0")
	c.apply(eip("more", "10.62.0.1"))
	c.apply(loadBalancer("more", "web", fromPool("more")))
	c.hasIP("dev", "more", "10.62.0.1")
}

// revokeWebhookRights takes from the controller all rights that only webhooks
// need.
func (c *cluster) revokeWebhookRights() {
	c.t.Helper()
	needed := func(rules []rbacv1.PolicyRule) []rbacv1.PolicyRule {
		return slices.DeleteFunc(rules, func(rule rbacv1.PolicyRule) bool {
			return slices.Contains(rule.ResourceNames, "fairway-webhook-cert") || slices.ContainsFunc(rule.Resources, func(resource string) bool {
				return slices.Contains([]string{"nodes", "customresourcedefinitions", "validatingwebhookconfigurations"}, resource)
			})
		})
	}
	var cluster rbacv1.ClusterRole
	var role rbacv1.Role
	for _, read := range []struct {
		key  client.ObjectKey
		into client.Object
	}{
		{client.ObjectKey{Name: "fairway-controller"}, &cluster},
		{client.ObjectKey{Namespace: "fairway-system", Name: "fairway-controller"}, &role},
	} {
		if err := c.api.Get(c.t.Context(), read.key, read.into); err != nil {
			c.t.Fatal(err)
		}
	}
	cluster.Rules, role.Rules = needed(cluster.Rules), needed(role.Rules)
	for _, object := range []client.Object{&cluster, &role} {
		if err := c.api.Update(c.t.Context(), object); err != nil {
			c.t.Fatal(err)
		}
	}
}

// webhookTrusted waits until the webhook answers.
func (c *cluster) webhookTrusted(api *webhookClient) {
	c.t.Helper()
	c.eventually("everything trusts one CA", func() string {
		bundles := c.webhookBundles(api)
		if slices.Contains(bundles, "") || len(slices.Compact(bundles)) != 1 {
			return fmt.Sprintf("there are %.60q", bundles)
		}
		return ""
	})
	bad := &v1alpha2.Eip{ObjectMeta: metav1.ObjectMeta{Name: "probe"}, Spec: v1alpha2.EipSpec{Address: "10.0.0.1", Exclude: []v1alpha2.PoolAddress{"10.0.0.1"}}}
	c.eventually("the webhook answers", func() string {
		api.take()
		if err := api.Create(c.t.Context(), bad.DeepCopy(), client.DryRunAll); err != nil {
			return err.Error()
		}
		if len(api.take()) == 0 {
			return "there is no warning"
		}
		return ""
	})
	c.eventually("v1alpha1 is served", func() string {
		if err := api.List(c.t.Context(), &v1alpha1.EipList{}); err != nil {
			return err.Error()
		}
		return ""
	})
}

// webhookBundles returns the CAs that the API server is told to trust.
func (c *cluster) webhookBundles(api *webhookClient) []string {
	c.t.Helper()
	var configuration admissionregistrationv1.ValidatingWebhookConfiguration
	if err := api.Get(c.t.Context(), client.ObjectKey{Name: "fairway-admission"}, &configuration); err != nil {
		c.t.Fatal(err)
	}
	var bundles []string
	for _, webhook := range configuration.Webhooks {
		bundles = append(bundles, string(webhook.ClientConfig.CABundle))
	}
	for _, name := range []string{"eips", "bgpconfs", "bgppeers"} {
		var crd apiextensionsv1.CustomResourceDefinition
		if err := api.Get(c.t.Context(), client.ObjectKey{Name: name + ".network.kubesphere.io"}, &crd); err != nil {
			c.t.Fatal(err)
		}
		bundles = append(bundles, string(crd.Spec.Conversion.Webhook.ClientConfig.CABundle))
	}
	return bundles
}

// webhookRules is the table of what OpenELB's admission refuses, in both
// versions.
func (c *cluster) webhookRules(api *webhookClient) {
	c.apply(eip("first", "10.51.0.100-10.51.0.200"))
	isDefault := map[string]string{v1alpha2.AnnotationDefaultEip: "true"}
	other := map[string]string{v1alpha2.AnnotationDefaultEip: "True"}
	create := func(version, name, address, protocol string, annotations map[string]string) error {
		meta := metav1.ObjectMeta{Name: name, Annotations: annotations}
		if version == "v1alpha1" {
			return api.Create(c.t.Context(), &v1alpha1.Eip{ObjectMeta: meta, Spec: v1alpha1.EipSpec{Address: v1alpha2.PoolAddress(address), Protocol: protocol}})
		}
		return api.Create(c.t.Context(), &v1alpha2.Eip{ObjectMeta: meta, Spec: v1alpha2.EipSpec{Address: address, Protocol: protocol}})
	}
	if err := create("v1alpha2", "default", "10.51.1.1", "", isDefault); err != nil {
		c.t.Fatal(err)
	}
	// The caches of the webhook have both.
	c.eventually("the webhook knows the Eips", func() string {
		for _, address := range []string{"10.51.0.100", "10.51.1.1"} {
			if err := api.Create(c.t.Context(), &v1alpha2.Eip{ObjectMeta: metav1.ObjectMeta{Name: "probe"}, Spec: v1alpha2.EipSpec{Address: address}}, client.DryRunAll); err == nil {
				return "it accepts " + address
			}
		}
		return ""
	})
	for _, version := range []string{"v1alpha1", "v1alpha2"} {
		for _, test := range []struct {
			what, address, protocol string
			annotations             map[string]string
			message                 string
		}{
			{"an address that is none", "10.51.2.1-10.51.1.1", "", nil, "invalid eip address format"},
			{"another that is none", "10.51.0.0/33", "", nil, "invalid eip address format"},
			{"layer2 without an interface", "10.51.2.1", "layer2", nil, "if protocol is layer2 or vip, interface should not be empty"},
			{"the end of another", "10.51.0.1-10.51.0.100", "", nil, "eip address overlap with first"},
			{"the start of another", "10.51.0.200-10.51.0.250", "", nil, "eip address overlap with first"},
			{"a second default", "10.51.2.1", "", other, "already exists a default EIP"},
			{"a name that is too long", "10.51.2.1", "", nil, "metadata.name is too long"},
		} {
			name := "second"
			if strings.Contains(test.message, "too long") {
				name = strings.Repeat("x", 64)
			}
			err := create(version, name, test.address, test.protocol, test.annotations)
			if err == nil || !strings.Contains(err.Error(), test.message) {
				c.t.Errorf("%s in %s: %v, want %q", test.what, version, err, test.message)
			}
		}
		name := "beside-" + version
		if err := create(version, name, "10.51.0.1-10.51.0.99", "", nil); err != nil {
			c.t.Fatalf("%s: %v", version, err)
		}
		for change, message := range map[string]string{
			`{"metadata":{"annotations":{"` + v1alpha2.AnnotationDefaultEip + `":"TRUE"}}}`: "already exists a default EIP",
			`{"spec":{"address":"10.51.0.1-10.51.0.98"}}`:                                   "the address field is not allowed to be modified",
			`{"spec":{"protocol":"layer2"}}`:                                                "if protocol is layer2 or vip, interface should not be empty",
		} {
			_, err := c.Kubectl(c.t.Context(), "", "patch", "eip."+version+".network.kubesphere.io", name, "--type=merge", "-p", change)
			if err == nil || !strings.Contains(err.Error(), message) {
				c.t.Errorf("%s in %s: %v, want %q", change, version, err, message)
			}
		}
		for _, change := range []string{`{"spec":{"disable":true}}`, `{"metadata":{"annotations":{"a":"b"}}}`} {
			c.kubectl("patch", "eip."+version+".network.kubesphere.io", name, "--type=merge", "-p", change)
		}
		c.kubectl("delete", "eip", name)
	}
	api.take()
	if err := create("v1alpha1", "second", "10.51.2.1", "layer2", nil); err == nil || !strings.Contains(strings.Join(api.take(), "\n"), "v1alpha1 has no field for the interface") {
		c.t.Errorf("nothing says where the interface goes (%v)", err)
	}
	for message, object := range map[string]string{
		"routerID must be an IPv4 address":           `{apiVersion: network.kubesphere.io/v1alpha1, kind: BgpConf, metadata: {name: default}, spec: {as: 1, port: 179, routerID: "::1"}}`,
		"should be less than or equal":               `{apiVersion: network.kubesphere.io/v1alpha1, kind: BgpConf, metadata: {name: default}, spec: {as: 1, port: 65536}}`,
		"names no neighbor":                          `{apiVersion: network.kubesphere.io/v1alpha1, kind: BgpPeer, metadata: {name: p}, spec: {config: {peerAs: 1}}}`,
		"neighborAddress must be one IP":             `{apiVersion: network.kubesphere.io/v1alpha1, kind: BgpPeer, metadata: {name: p}, spec: {config: {neighborAddress: 10.0.0.0/8}}}`,
		"spec.address: Required value":               `{apiVersion: network.kubesphere.io/v1alpha1, kind: Eip, metadata: {name: p}, spec: {}}`,
		`Unsupported value: "arp"`:                   `{apiVersion: network.kubesphere.io/v1alpha1, kind: Eip, metadata: {name: p}, spec: {address: 10.0.0.1, protocol: arp}}`,
		"set spec.address, for example":              `{apiVersion: network.kubesphere.io/v1alpha1, kind: Eip, metadata: {name: p}}`,
		"spec.exclude[0] \"x\": invalid eip address": `{apiVersion: network.kubesphere.io/v1alpha1, kind: Eip, metadata: {name: p, annotations: {network.kubesphere.io/v1alpha2-spec: '{"exclude":["x"]}'}}, spec: {address: 10.0.0.1}}`,
	} {
		c.refuses(object, message)
	}
}

// webhookAddressesInUse: a pool never shrinks below what is in use.
func (c *cluster) webhookAddressesInUse(api *webhookClient) {
	c.apply(eip("used", "10.52.0.1-10.52.0.9"))
	c.apply(loadBalancer("web", "web", fromPool("used")))
	c.hasIP("dev", "web", "10.52.0.1")
	patch := func(spec string) error {
		_, err := c.Kubectl(c.t.Context(), "", "patch", "eip", "used", "--type=merge", "-p", `{"spec":`+spec+`}`)
		return err
	}
	c.eventually("cutting it off is refused", func() string {
		_, err := c.Kubectl(c.t.Context(), "", "patch", "eip", "used", "--type=merge", "--dry-run=server", "-p", `{"spec":{"exclude":["10.52.0.1"]}}`)
		if err == nil {
			return "it is accepted"
		}
		return ""
	})
	want := "would cut 10.52.0.1 from the pool, which Service dev/web holds"
	if err := patch(`{"exclude":["10.52.0.0/29"]}`); err == nil || !strings.Contains(err.Error(), want) {
		c.t.Errorf("got %v, want %q", err, want)
	}
	for _, spec := range []string{`{"addresses":["10.52.1.0/24"]}`, `{"exclude":["10.52.0.5"]}`, `{"addresses":[]}`} {
		if err := patch(spec); err != nil {
			c.t.Errorf("%s: %v", spec, err)
		}
	}
	// Its end is never held up by admission.
	c.kubectl("delete", "eip", "used", "--wait=false")
	if err := patch(`{"exclude":["10.52.0.0/29"]}`); err != nil {
		c.t.Errorf("while it is deleted: %v", err)
	}
	c.kubectl("delete", "service", "-n", "dev", "web", "--timeout=60s")
	c.eventually("the Eip goes", func() string {
		if err := api.Get(c.t.Context(), client.ObjectKey{Name: "used"}, &v1alpha2.Eip{}); err == nil {
			return "it is there"
		}
		return ""
	})
}

// webhookWarnings: what will not do what it seems to is accepted, with a word.
func (c *cluster) webhookWarnings(api *webhookClient) {
	service := func(annotations map[string]string, change func(*corev1.ServiceSpec)) *corev1.Service {
		svc := &corev1.Service{ObjectMeta: metav1.ObjectMeta{GenerateName: "w-", Namespace: "dev", Annotations: annotations}}
		svc.Spec = corev1.ServiceSpec{Type: corev1.ServiceTypeLoadBalancer, Ports: []corev1.ServicePort{{Port: 80}}}
		if change != nil {
			change(&svc.Spec)
		}
		return svc
	}
	class := "example.com/other"
	ours := v1alpha2.LoadBalancerClass
	for _, test := range []struct {
		what   string
		object client.Object
		want   string // "" for no warning
	}{
		{
			"a pool near no node", &v1alpha2.Eip{ObjectMeta: metav1.ObjectMeta{Name: "far"}, Spec: v1alpha2.EipSpec{Address: "10.53.0.1", Protocol: "layer2", Interface: "eth33"}},
			"no node's InternalIP is in the same /24",
		},
		{
			"a pool far away on purpose", &v1alpha2.Eip{ObjectMeta: metav1.ObjectMeta{Name: "meant"}, Spec: v1alpha2.EipSpec{Address: "10.53.1.1", Protocol: "layer2", Interface: "eth33", AllowOffSubnet: true}},
			"",
		},
		{"a pasted status", &v1alpha2.Eip{ObjectMeta: metav1.ObjectMeta{Name: "pasted"}, Spec: v1alpha2.EipSpec{Address: "10.53.2.1", Protocol: "layer2", Interface: "eth0", AllowOffSubnet: true}, Status: v1alpha2.EipStatus{Usage: 1, Used: map[string]string{"10.53.2.1": "a/b"}}}, ""},
		{"nobody announces by BGP", &v1alpha2.Eip{ObjectMeta: metav1.ObjectMeta{Name: "bgp"}, Spec: v1alpha2.EipSpec{Address: "10.53.2.1"}}, "there is no BgpConf named default and no BgpPeer"},
		{"a mark on another class", service(map[string]string{v1alpha2.AnnotationLoadBalancer: "openelb"}, func(s *corev1.ServiceSpec) { s.LoadBalancerClass = &class }), "leaves the Service to another load balancer"},
		{"a mark on a ClusterIP", service(map[string]string{v1alpha2.AnnotationLoadBalancer: "openelb"}, func(s *corev1.ServiceSpec) { s.Type = corev1.ServiceTypeClusterIP }), "set spec.type to LoadBalancer"},
		{"a pool that is not there", service(map[string]string{v1alpha2.AnnotationPool: "none"}, func(s *corev1.ServiceSpec) { s.LoadBalancerClass = &ours }), "names Eip none, which does not exist"},
		{"a typo", service(map[string]string{v1alpha2.AnnotationLoadBalancer: "openelb", "eip.openelb.kubesphere.io/v1alpah2": "x"}, nil), "did you mean eip.openelb.kubesphere.io/v1alpha2?"},
		{"no mark", service(map[string]string{v1alpha2.AnnotationPool: "first"}, nil), "add annotation lb.kubesphere.io/v1alpha1: openelb"},
		{"nothing of ours", service(map[string]string{"example.com/a": "b"}, nil), ""},
		{"nothing wrong", service(map[string]string{v1alpha2.AnnotationLoadBalancer: "openelb", v1alpha2.AnnotationPool: "first"}, nil), ""},
	} {
		api.take()
		if err := api.Create(c.t.Context(), test.object, client.DryRunAll); err != nil {
			c.t.Errorf("%s: %v", test.what, err)
			continue
		}
		got := strings.Join(api.take(), "\n")
		if !strings.Contains(got, test.want) || (test.want == "") != (got == "") {
			c.t.Errorf("%s: warned %q, want %q", test.what, got, test.want)
		}
	}

	// A change that is not about annotations or spec needs no word again.
	typo := service(map[string]string{v1alpha2.AnnotationLoadBalancer: "openelb", "layer2.openelb.kubesphere.io/v1alpha1": "n1", v1alpha2.AnnotationPool: "first"}, nil)
	if err := api.Create(c.t.Context(), typo); err != nil {
		c.t.Fatal(err)
	}
	if got := api.take(); len(got) != 1 || !strings.Contains(got[0], "Fairway chooses the node") {
		c.t.Errorf("warned %q", got)
	}
	for change, want := range map[string]int{`{"metadata":{"labels":{"a":"b"}}}`: 0, `{"metadata":{"annotations":{"a":"b"}}}`: 1, `{"spec":{"sessionAffinity":"ClientIP"}}`: 1} {
		if err := api.Patch(c.t.Context(), typo, client.RawPatch("application/merge-patch+json", []byte(change))); err != nil {
			c.t.Fatal(err)
		}
		if got := api.take(); len(got) != want {
			c.t.Errorf("%s: warned %q", change, got)
		}
	}
	c.hasIP("dev", typo.Name, "10.51.0.100")
	if err := api.Delete(c.t.Context(), typo); err != nil {
		c.t.Fatal(err)
	}
}
