package e2e

import (
	"fmt"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fairway-lb/fairway/api/v1alpha2"
)

// leftByOpenELB is an object with the finalizer that OpenELB's manager, which is
// not there any more, would have removed, as a document; spec may be "".
func leftByOpenELB(kind, name, spec string) string {
	return fmt.Sprintf("---\napiVersion: network.kubesphere.io/v1alpha2\nkind: %s\nmetadata: {name: %s, finalizers: [%s]}\n%s\n", kind, name, v1alpha2.FinalizerService, spec)
}

// TestBGPObjectsLeftBehind: the controller tidies up what OpenELB and gone nodes
// have left in BgpConf and BgpPeers, also in those that nobody can read.
func TestBGPObjectsLeftBehind(t *testing.T) {
	c := newCluster(t, 1)
	c.storeUnchecked(leftByOpenELB("BgpPeer", "empty", "") +
		leftByOpenELB("BgpPeer", "no-neighbor", "spec: {}") +
		leftByOpenELB("BgpPeer", "unreadable", "spec: {conf: {neighborAddress: nowhere, peerAs: -7}, timers: {config: {holdTime: 30s}}}"))
	c.apply(leftByOpenELB("BgpConf", "default", "spec: {as: 50000}") +
		leftByOpenELB("BgpPeer", "router", "spec: {conf: {neighborAddress: 192.168.93.1, peerAs: 50001}}"))
	for _, node := range []string{"n1", "gone-1", "gone-2"} {
		c.writeEntries(node)
	}
	c.startController()

	c.run("entries of Nodes that went while nobody looked are removed", func(t *testing.T) {
		c.hasEntries("router", "n1")
	})
	c.run("those of a Node stay until it goes", func(t *testing.T) {
		node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n2"}}
		if err := c.api.Create(t.Context(), node); err != nil {
			t.Fatal(err)
		}
		c.writeEntries("n2")
		// The entry that is written after it shows that the controller has looked.
		c.writeEntries("gone-3")
		c.hasEntries("router", "n1", "n2")
		c.kubectl("delete", "node", "n2")
		c.hasEntries("router", "n1")
	})
	c.run("a speaker's last write comes after its Node went", func(t *testing.T) {
		c.writeEntries("n2")
		c.hasEntries("router", "n1")
	})
	c.run("OpenELB's finalizer keeps nothing from being deleted", func(t *testing.T) {
		for _, kind := range []string{"bgppeer", "bgpconf"} {
			c.kubectl("delete", kind, "--all", "--timeout=60s")
		}
	})
}

// storeUnchecked stores BgpPeers that the API server would refuse, as one did
// that had an older schema.
func (c *cluster) storeUnchecked(documents string) {
	c.t.Helper()
	api := c.newWebhookClient()
	key := client.ObjectKey{Name: "bgppeers.network.kubesphere.io"}
	var crd apiextensionsv1.CustomResourceDefinition
	setSchemas := func(schema func(i int) *apiextensionsv1.CustomResourceValidation) {
		c.t.Helper()
		if err := api.Get(c.t.Context(), key, &crd); err != nil {
			c.t.Fatal(err)
		}
		for i := range crd.Spec.Versions {
			crd.Spec.Versions[i].Schema = schema(i)
		}
		if err := api.Update(c.t.Context(), &crd); err != nil {
			c.t.Fatal(err)
		}
	}
	if err := api.Get(c.t.Context(), key, &crd); err != nil {
		c.t.Fatal(err)
	}
	strict := crd.DeepCopy().Spec.Versions
	setSchemas(func(int) *apiextensionsv1.CustomResourceValidation {
		return &apiextensionsv1.CustomResourceValidation{OpenAPIV3Schema: &apiextensionsv1.JSONSchemaProps{Type: "object", XPreserveUnknownFields: new(true)}}
	})
	c.eventually("the API server takes anything", func() string {
		if _, err := c.Kubectl(c.t.Context(), documents, "apply", "-f", "-"); err != nil {
			return err.Error()
		}
		return ""
	})
	setSchemas(func(i int) *apiextensionsv1.CustomResourceValidation { return strict[i].Schema })
	c.eventually("the API server checks again", func() string {
		probe := strings.ReplaceAll(documents, "metadata: {name: ", "metadata: {name: probe-")
		if _, err := c.Kubectl(c.t.Context(), probe, "create", "--dry-run=server", "-f", "-"); err == nil {
			return "it takes anything"
		}
		return ""
	})
}

// writeEntries writes a node's entries into the status of the BgpConf default and
// of the BgpPeer router, as its speaker does.
func (c *cluster) writeEntries(node string) {
	c.t.Helper()
	for _, object := range []struct{ kind, name, field string }{
		{"BgpConf", "default", "nodesConfStatus"},
		{"BgpPeer", "router", "nodesPeerStatus"},
	} {
		entry := fmt.Sprintf("apiVersion: network.kubesphere.io/v1alpha2\nkind: %s\nmetadata: {name: %s}\n"+
			"status: {%s: {%s: {conditions: [{type: Ready, status: 'True', reason: Ready, message: ready, lastTransitionTime: '2026-01-01T00:00:00Z'}]}}}",
			object.kind, object.name, object.field, node)
		if _, err := c.Kubectl(c.t.Context(), entry, "apply", "--server-side", "--subresource=status", "--field-manager=fairway-speaker-"+node, "-f", "-"); err != nil {
			c.t.Fatalf("writing the entry of %s: %v", node, err)
		}
	}
}
