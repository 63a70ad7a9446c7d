package e2e

import (
	"fmt"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fairway-lb/fairway/api/v1alpha1"
	"github.com/fairway-lb/fairway/api/v1alpha2"
)

// webhookConversion: objects of all kinds look the same in one version after
// they were written in the other.
func (c *cluster) webhookConversion(api *webhookClient) {
	t := c.t
	quarantine := &metav1.Duration{Duration: 600e9}
	for _, test := range []struct {
		name        string
		hub, legacy client.Object
		change      string // made in v1alpha1
		changed     func(hub client.Object)
	}{
		{
			name: "Eip",
			hub: &v1alpha2.Eip{ObjectMeta: metav1.ObjectMeta{Name: "converted"}, Spec: v1alpha2.EipSpec{
				Address: "10.54.0.0/24", Protocol: "layer2", Interface: "eth33", AllowOffSubnet: true, Quarantine: quarantine,
				Addresses: []v1alpha2.PoolAddress{"10.54.1.0/24"}, NamespaceLimits: map[string]v1alpha2.AddressLimit{"*": 3},
			}},
			legacy:  &v1alpha1.Eip{},
			change:  `{"spec":{"disable":true}}`,
			changed: func(hub client.Object) { hub.(*v1alpha2.Eip).Spec.Disable = true },
		},
		{
			name: "BgpConf",
			hub: &v1alpha2.BgpConf{ObjectMeta: metav1.ObjectMeta{Name: "default"}, Spec: v1alpha2.BgpConfSpec{
				AS: 4200000000, ListenPort: 17900, AsPerRack: map[string]v1alpha2.Uint32{"a": 1}, GracefulRestart: &v1alpha2.GracefulRestart{Enabled: true},
			}},
			legacy:  &v1alpha1.BgpConf{},
			change:  `{"spec":{"port":179}}`,
			changed: func(hub client.Object) { hub.(*v1alpha2.BgpConf).Spec.ListenPort = 179 },
		},
		{
			name: "BgpPeer",
			hub: &v1alpha2.BgpPeer{ObjectMeta: metav1.ObjectMeta{Name: "peer"}, Spec: v1alpha2.BgpPeerSpec{
				Conf:      &v1alpha2.PeerConf{NeighborAddress: "10.0.0.1", PeerAS: 50001, AuthPassword: "secret"},
				Transport: &v1alpha2.Transport{PassiveMode: true, TCPMSS: 1400},
				AfiSafis: []v1alpha2.AfiSafi{
					{Config: &v1alpha2.AfiSafiConfig{Enabled: true}, AddPaths: &v1alpha2.AddPaths{Config: &v1alpha2.AddPathsConfig{SendMax: 4}}},
					{Config: &v1alpha2.AfiSafiConfig{Family: &v1alpha2.Family{Afi: "AFI_IP6", Safi: "SAFI_UNICAST"}}},
				},
			}},
			legacy:  &v1alpha1.BgpPeer{},
			change:  `{"spec":{"usingPortForward":true,"addPaths":{"sendMax":8}}}`,
			changed: func(hub client.Object) { hub.(*v1alpha2.BgpPeer).Spec.AfiSafis[0].AddPaths.Config.SendMax = 8 },
		},
	} {
		want := test.hub.DeepCopyObject().(client.Object)
		if err := api.Create(t.Context(), test.hub); err != nil {
			t.Fatalf("%s: %v", test.name, err)
		}
		key := client.ObjectKeyFromObject(test.hub)
		if err := api.Get(t.Context(), key, test.legacy); err != nil {
			t.Fatalf("%s in v1alpha1: %v", test.name, err)
		}
		if test.legacy.GetAnnotations()[v1alpha1.AnnotationV1alpha2Spec] == "" {
			t.Errorf("%s in v1alpha1 has annotations %v", test.name, test.legacy.GetAnnotations())
		}
		if err := api.Patch(t.Context(), test.legacy, client.RawPatch("application/merge-patch+json", []byte(test.change))); err != nil {
			t.Fatalf("%s, changed in v1alpha1: %v", test.name, err)
		}
		// Read, modify, write; apply of the whole; and the other version again.
		c.eventually("an update in v1alpha1", func() string {
			if err := api.Get(t.Context(), key, test.legacy); err != nil {
				return err.Error()
			}
			test.legacy.SetLabels(map[string]string{"updated": "true"})
			if err := api.Update(t.Context(), test.legacy); err != nil {
				return err.Error()
			}
			return ""
		})
		if err := api.Get(t.Context(), key, test.hub); err != nil {
			t.Fatal(err)
		}
		test.changed(want)
		if got, want := specsOf(test.hub), specsOf(want); !equality.Semantic.DeepEqual(got, want) {
			t.Errorf("%s became %+v, want %+v", test.name, got, want)
		}
		if test.hub.GetLabels()["updated"] != "true" || test.hub.GetAnnotations()[v1alpha1.AnnotationV1alpha2Spec] != "" {
			t.Errorf("%s has labels %v and annotations %v", test.name, test.hub.GetLabels(), test.hub.GetAnnotations())
		}
	}

	peer := &v1alpha1.BgpPeer{}
	if err := api.Get(t.Context(), client.ObjectKey{Name: "peer"}, peer); err != nil || !peer.Spec.UsingPortForward {
		t.Errorf("usingPortForward is lost (%v)", err)
	}
	c.run("manifests of v1alpha1", func(t *testing.T) {
		c.apply(`
apiVersion: network.kubesphere.io/v1alpha1
kind: Eip
metadata: {name: porter}
spec: {address: 10.55.0.1-10.55.0.2, protocol: bgp, usingKnownIPs: true}
---
apiVersion: network.kubesphere.io/v1alpha1
kind: BgpPeer
metadata: {name: porter}
spec:
  config: {neighborAddress: 10.0.0.9, peerAs: 50000}
  addPaths: {sendMax: 8}
  transport: {passiveMode: true, remotePort: 17900}
  usingPortForward: true
---
apiVersion: network.kubesphere.io/v1alpha1
kind: BgpConf
metadata: {name: porter}
spec: {as: 50001, routerID: 10.0.0.1, port: 17900}`)
		c.apply(loadBalancer("porter", "web", fromPool("porter")))
		c.hasIP("dev", "porter", "10.55.0.1")
		c.eventually("v1alpha1 shows the use", func() string {
			return differs(c.kubectl("get", "eip.v1alpha1.network.kubesphere.io", "porter", "-o", "jsonpath={.status.usage}/{.status.poolSize} {.spec.usingKnownIPs}"), "1/2 true")
		})
		if out := c.kubectl("get", "eip.v1alpha1.network.kubesphere.io"); !strings.Contains(out, "CIDR") || !strings.Contains(out, "10.55.0.1-10.55.0.2") {
			t.Errorf("kubectl get shows\n%s", out)
		}
		// Server-side apply in one version, then in the other.
		for _, version := range []string{"v1alpha1", "v1alpha2", "v1alpha1"} {
			c.kubectl("patch", "eip."+version+".network.kubesphere.io", "porter", "--type=merge", "-p", `{"metadata":{"labels":{"by":"`+version+`"}}}`)
			manifest := "apiVersion: network.kubesphere.io/" + version + "\nkind: Eip\nmetadata: {name: porter, labels: {applied: " + version + "}}\nspec: {address: 10.55.0.1-10.55.0.2, usingKnownIPs: true}\n"
			if _, err := c.Kubectl(t.Context(), manifest, "apply", "--server-side", "--force-conflicts", "-f", "-"); err != nil {
				t.Errorf("applied in %s: %v", version, err)
			}
		}
		if got := c.kubectl("get", "bgppeer.v1alpha2.network.kubesphere.io", "porter", "-o", "jsonpath={.spec.conf.neighborAddress} {.spec.afiSafis[0].addPaths.config.sendMax} {.spec.transport.remotePort}"); got != "10.0.0.9 8 17900" {
			t.Errorf("the BgpPeer is %s in v1alpha2", got)
		}
		if got := c.kubectl("get", "bgpconf.v1alpha2.network.kubesphere.io", "porter", "-o", "jsonpath={.spec.as} {.spec.routerId} {.spec.listenPort}"); got != "50001 10.0.0.1 17900" {
			t.Errorf("the BgpConf is %s in v1alpha2", got)
		}
	})
}

func differs(got, want string) string {
	if got == want {
		return ""
	}
	return fmt.Sprintf("it is %q, want %q", got, want)
}

func specsOf(object client.Object) any {
	switch o := object.(type) {
	case *v1alpha2.Eip:
		return o.Spec
	case *v1alpha2.BgpConf:
		return o.Spec
	case *v1alpha2.BgpPeer:
		return o.Spec
	}
	return nil
}
