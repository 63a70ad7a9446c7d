package e2e

import (
	"fmt"
	"testing"

	"github.com/fairway-lb/fairway/api/v1alpha2"
)

// TestInterference: what users, and those who write to the same Services, do
// at a bad moment costs nobody an address.
func TestInterference(t *testing.T) {
	c := newCluster(t, 0)
	c.kubectl("create", "namespace", "dev")
	c.startController()
	c.apply(eip("one", "10.1.0.1-10.1.0.9"))
	c.apply(eip("two", "10.2.0.1-10.2.0.9"))
	c.apply(loadBalancer("kept", "x", fromPool("one")))
	c.hasIP("dev", "kept", "10.1.0.1")
	// marked waits until a Service carries our marks.
	marked := func(name, pool string) {
		t.Helper()
		c.eventually(name+" is marked", func() string {
			if svc := c.service("dev", name); svc.Labels[v1alpha2.LabelPool] != pool || len(svc.Finalizers) != 1 {
				return fmt.Sprintf("labels %v, finalizers %v", svc.Labels, svc.Finalizers)
			}
			return ""
		})
	}
	patchStatus := func(name, ingress string) {
		t.Helper()
		c.kubectl("patch", "svc", "-n", "dev", name, "--subresource=status", "--type=merge", "-p", `{"status":{"loadBalancer":{"ingress":`+ingress+`}}}`)
	}

	c.run("created anew under the same name", func(t *testing.T) {
		create := func(pool string) {
			t.Helper()
			c.eventually("the name is free", func() string {
				if _, err := c.Kubectl(t.Context(), loadBalancer("anew", "x", fromPool(pool)), "create", "-f", "-"); err != nil {
					return err.Error()
				}
				return ""
			})
		}
		create("one")
		for i := range 6 {
			pool, ip := "one", "10.1.0.2"
			if i%2 == 1 {
				pool, ip = "two", "10.2.0.1"
			}
			c.hasIP("dev", "anew", ip)
			marked("anew", pool)
			if i%3 == 2 { // as impatient users do
				c.kubectl("patch", "svc", "-n", "dev", "anew", "--type=merge", "-p", `{"metadata":{"finalizers":null}}`)
			}
			c.kubectl("delete", "svc", "-n", "dev", "anew", "--wait=false")
			create([]string{"two", "one"}[i%2])
		}
		c.hasIP("dev", "anew", "10.1.0.2")
		c.kubectl("delete", "svc", "-n", "dev", "anew", "--timeout=20s")
	})
	c.run("what is taken off a Service comes back", func(t *testing.T) {
		c.kubectl("label", "svc", "-n", "dev", "kept", v1alpha2.LabelPool+"-")
		marked("kept", "one")
		c.kubectl("label", "svc", "-n", "dev", "kept", v1alpha2.LabelPool+"=two", "--overwrite")
		marked("kept", "one")
		c.kubectl("patch", "svc", "-n", "dev", "kept", "--type=merge", "-p", `{"metadata":{"finalizers":null}}`)
		marked("kept", "one")
		patchStatus("kept", "[]")
		c.hasIP("dev", "kept", "10.1.0.1")
		patchStatus("kept", `[{"ip":"10.1.0.7"}]`)
		c.hasIP("dev", "kept", "10.1.0.1")
	})
	c.run("also while no controller runs", func(t *testing.T) {
		if err := c.controller.Stop(t.Context()); err != nil {
			t.Fatal(err)
		}
		c.kubectl("patch", "svc", "-n", "dev", "kept", "--type=merge", "-p", `{"metadata":{"finalizers":null,"labels":null}}`)
		c.apply(loadBalancer("later", "x", fromPool("one")))
		c.startController()
		marked("kept", "one")
		c.hasIP("dev", "later", "10.1.0.2")
		c.hasIP("dev", "kept", "10.1.0.1")
	})
	c.run("an address of another Service is not taken over", func(t *testing.T) {
		plain := func(annotations string) string {
			return "apiVersion: v1\nkind: Service\nmetadata: {name: claims, namespace: dev, annotations: {" + annotations + "}}\nspec: {type: LoadBalancer, ports: [{port: 80}]}"
		}
		c.apply(plain(""))
		patchStatus("claims", `[{"ip":"10.1.0.1"}]`)
		c.apply(plain(`lb.kubesphere.io/v1alpha1: openelb, "eip.openelb.kubesphere.io/v1alpha2": one`))
		c.hasIP("dev", "claims", "10.1.0.3")
		c.hasIP("dev", "kept", "10.1.0.1")
	})
	c.run("an Eip created anew under the same name", func(t *testing.T) {
		c.kubectl("delete", "eip", "two", "--timeout=20s") // unused
		c.apply(eip("two", "10.3.0.1"))
		c.apply(loadBalancer("three", "x", fromPool("two")))
		c.hasIP("dev", "three", "10.3.0.1")
	})
}

// TestTakeOver: Services that OpenELB left behind keep their addresses, and
// nothing is written to them.
func TestTakeOver(t *testing.T) {
	c := newCluster(t, 0)
	c.kubectl("create", "namespace", "dev")
	c.apply(eip("pool", "10.1.0.1-10.1.0.9"))
	c.kubectl("patch", "eip", "pool", "--type=merge", "-p", `{"metadata":{"finalizers":["`+v1alpha2.FinalizerEip+`"]}}`)
	c.kubectl("patch", "eip", "pool", "--subresource=status", "--type=merge", "-p",
		`{"status":{"occupied":false,"usage":2,"poolSize":9,"firstIP":"10.1.0.1","lastIP":"10.1.0.9","v4":true,"used":{"10.1.0.2":"dev/left","10.1.0.5":"dev/left-too"}}}`)
	versions := map[string]string{}
	for name, ip := range map[string]string{"left": "10.1.0.2", "left-too": "10.1.0.5"} {
		c.apply(loadBalancer(name, "x", fromPool("pool")))
		c.kubectl("patch", "svc", "-n", "dev", name, "--type=merge", "-p",
			`{"metadata":{"labels":{"`+v1alpha2.LabelPool+`":"pool"},"finalizers":["`+v1alpha2.FinalizerService+`"]}}`)
		c.kubectl("patch", "svc", "-n", "dev", name, "--subresource=status", "--type=merge", "-p", `{"status":{"loadBalancer":{"ingress":[{"ip":"`+ip+`"}]}}}`)
		versions[name] = c.service("dev", name).ResourceVersion
	}
	for i := range 3 {
		c.apply(loadBalancer(fmt.Sprintf("new-%d", i), "x", fromPool("pool")))
	}
	c.startController()
	for i := range 3 {
		name := fmt.Sprintf("new-%d", i)
		c.eventually(name+" has an address", func() string {
			if ip := externalIPs(c.service("dev", name)); ip == "" || ip == "10.1.0.2" || ip == "10.1.0.5" {
				return fmt.Sprintf("it has %q", ip)
			}
			return ""
		})
	}
	for name, version := range versions {
		if svc := c.service("dev", name); svc.ResourceVersion != version {
			t.Errorf("%s was written to: labels %v, finalizers %v, addresses %q", name, svc.Labels, svc.Finalizers, externalIPs(svc))
		}
	}
	c.eventually("the Eip counts all", func() string {
		if out := c.kubectl("get", "eip", "pool", "-o", "jsonpath={.status.usage} {.status.used.10\\.1\\.0\\.2} {.status.used.10\\.1\\.0\\.5}"); out != "5 dev/left dev/left-too" {
			return out
		}
		return ""
	})
	c.kubectl("delete", "svc", "-n", "dev", "left", "--timeout=20s")
}
