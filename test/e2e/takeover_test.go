package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"

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

// left is a Service as another implementation left it behind.
type left struct {
	name        string
	annotations string // of the document, one per line
	spec        string // more lines of the spec
	labels      string // JSON object
	finalizers  string // JSON array
	ip          string // in its status
}

// leave makes the Service and writes what the other implementation wrote.
func (c *cluster) leave(l left) {
	c.t.Helper()
	document := loadBalancer(l.name, l.name)
	document = strings.Replace(document, "    lb.kubesphere.io/v1alpha1: openelb\n", indent("    ", strings.Split(l.annotations, "\n")), 1)
	if l.spec != "" {
		document = with(document, strings.Split(l.spec, "\n")...)
	}
	c.apply(document)
	if l.labels == "" {
		l.labels = "{}"
	}
	if l.finalizers == "" {
		l.finalizers = "[]"
	}
	c.kubectl("patch", "svc", "-n", "dev", l.name, "--type=merge", "-p", `{"metadata":{"labels":`+l.labels+`,"finalizers":`+l.finalizers+`}}`)
	if l.ip != "" {
		c.kubectl("patch", "svc", "-n", "dev", l.name, "--subresource=status", "--type=merge", "-p", `{"status":{"loadBalancer":{"ingress":[{"ip":"`+l.ip+`"}]}}}`)
	}
}

// TestTakeOver: Services that OpenELB v0.4 to v0.6 left behind keep their
// addresses, also those of which only the Eip knows, and two that have one.
func TestTakeOver(t *testing.T) {
	c := newCluster(t, 0)
	c.kubectl("create", "namespace", "dev")
	c.apply(eip("pool", "10.1.0.1-10.1.0.29"))
	c.kubectl("patch", "eip", "pool", "--type=merge", "-p", `{"metadata":{"finalizers":["`+v1alpha2.FinalizerEip+`"]}}`)
	const (
		label     = `{"eip.openelb.kubesphere.io/v1alpha2":"pool"}`
		finalizer = `["finalizer.lb.kubesphere.io/v1alpha1"]`
		optIn     = "lb.kubesphere.io/v1alpha1: openelb"
	)
	services := []left{
		{name: "v06", annotations: optIn + "\neip.openelb.kubesphere.io/v1alpha2: pool", labels: label, finalizers: finalizer, ip: "10.1.0.2"},
		{name: "v06-auto", annotations: optIn, labels: label, finalizers: finalizer, ip: "10.1.0.5"},
		{name: "v06-by-ip", annotations: optIn + "\neip.openelb.kubesphere.io/v1alpha1: 10.1.0.7", labels: label, finalizers: finalizer, ip: "10.1.0.7"},
		{name: "v05", annotations: optIn + "\nprotocol.openelb.kubesphere.io/v1alpha1: layer2\nlayer2.openelb.kubesphere.io/v1alpha1: n1\neip.openelb.kubesphere.io/v1alpha2: pool", finalizers: finalizer, ip: "10.1.0.8"},
		{name: "v04-porter", annotations: "lb.kubesphere.io/v1alpha1: porter\nprotocol.porter.kubesphere.io/v1alpha1: layer2\neip.porter.kubesphere.io/v1alpha2: pool", finalizers: finalizer, ip: "10.1.0.9"},
		{name: "only-the-eip-knows", annotations: optIn + "\neip.openelb.kubesphere.io/v1alpha2: pool", ip: ""},
		{name: "older", annotations: optIn, labels: label, finalizers: finalizer, ip: "10.1.0.11"},
		{name: "younger", annotations: optIn, labels: label, finalizers: finalizer, ip: "10.1.0.11"},
		{name: "sharer-1", annotations: optIn, spec: "loadBalancerIP: 10.1.0.12", labels: label, finalizers: finalizer, ip: "10.1.0.12"},
	}
	// The age of Services decides; the API server keeps whole seconds.
	for _, l := range services {
		if l.name == "younger" {
			c.anotherSecond("older")
		}
		c.leave(l)
	}
	c.apply(onPort(with(loadBalancer("sharer-2", "sharer-1"), "loadBalancerIP: 10.1.0.12"), 81))
	c.kubectl("patch", "svc", "-n", "dev", "sharer-2", "--type=merge", "-p", `{"metadata":{"labels":`+label+`,"finalizers":`+finalizer+`}}`)
	c.kubectl("patch", "svc", "-n", "dev", "sharer-2", "--subresource=status", "--type=merge", "-p", `{"status":{"loadBalancer":{"ingress":[{"ip":"10.1.0.12"}]}}}`)
	c.kubectl("patch", "eip", "pool", "--subresource=status", "--type=merge", "-p", `{"status":{"occupied":false,"usage":9,"poolSize":29,"firstIP":"10.1.0.1","lastIP":"10.1.0.29","v4":true,
		"used":{"10.1.0.2":"dev/v06","10.1.0.5":"dev/v06-auto","10.1.0.10":"dev/only-the-eip-knows","10.1.0.11":"dev/older;dev/younger","10.1.0.12":"dev/sharer-1;dev/sharer-2","10.1.0.20":"dev/gone"}}}`)
	for i := range 3 {
		c.apply(loadBalancer(fmt.Sprintf("new-%d", i), "x", fromPool("pool")))
	}

	c.startController()
	for i, want := range []string{"10.1.0.1", "10.1.0.3", "10.1.0.4"} { // what nobody has
		c.hasIP("dev", fmt.Sprintf("new-%d", i), want)
	}
	for name, ip := range map[string]string{
		"v06": "10.1.0.2", "v06-auto": "10.1.0.5", "v06-by-ip": "10.1.0.7", "v05": "10.1.0.8", "v04-porter": "10.1.0.9",
		"only-the-eip-knows": "10.1.0.10", "older": "10.1.0.11", "younger": "10.1.0.11", "sharer-1": "10.1.0.12", "sharer-2": "10.1.0.12",
	} {
		c.hasIP("dev", name, ip)
		c.eventually(name+" is marked", func() string {
			if svc := c.service("dev", name); svc.Labels[v1alpha2.LabelPool] != "pool" || len(svc.Finalizers) != 1 {
				return fmt.Sprintf("labels %v, finalizers %v", svc.Labels, svc.Finalizers)
			}
			return ""
		})
		if name != "younger" {
			c.hasReason(name, "Allocated", ip)
		}
		for _, event := range c.events("Service", "dev", name) {
			if strings.Contains(event, "ReleaseIP") {
				t.Errorf("%s: %s", name, event)
			}
		}
	}
	c.hasReason("younger", "AddressInUse", "dev/older", "10.1.0.11")
	c.hasEvent("Service", "dev", "sharer-2", "Warning DeprecatedSharing", "dev/sharer-1")
	c.hasNumbers("pool", "11 29 18")
	if got := c.kubectl("get", "eip", "pool", "-o", `jsonpath={.status.used.10\.1\.0\.11} {.status.used.10\.1\.0\.20}`); got != "dev/older;dev/younger " {
		t.Errorf("used are %q", got)
	}
	c.run("nothing is stuck", func(t *testing.T) {
		names := []string{"v06", "v05", "v04-porter", "older", "sharer-1"}
		c.deleteServices(names...)
		c.hasReason("younger", "Allocated", "10.1.0.11") // alone now
		c.hasNumbers("pool", "8 29 21")
	})
}

// anotherSecond waits until the API server's clock shows another second than
// when a Service was made.
func (c *cluster) anotherSecond(service string) {
	c.t.Helper()
	made := c.service("dev", service).CreationTimestamp
	c.eventually("another second", func() string {
		name := "clock"
		c.apply("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: " + name + ", namespace: dev}")
		defer c.kubectl("delete", "configmap", "-n", "dev", name)
		if now := c.kubectl("get", "configmap", "-n", "dev", name, "-o", "jsonpath={.metadata.creationTimestamp}"); now == made.UTC().Format(time.RFC3339) {
			return "it is still " + now
		}
		return ""
	})
}

// TestTakeOverFromMetalLB: Services that MetalLB left behind keep their
// addresses, and what they ask for in its keys counts.
func TestTakeOverFromMetalLB(t *testing.T) {
	c := newCluster(t, 0)
	c.kubectl("create", "namespace", "dev")
	c.apply(eip("pool", "10.1.0.1-10.1.0.29") + eip("other", "10.2.0.1-10.2.0.9"))
	c.kubectl("annotate", "eip", "pool", v1alpha2.AnnotationDefaultEip+"=true")
	for _, l := range []left{
		{name: "auto", annotations: "metallb.io/ip-allocated-from-pool: first", ip: "10.1.0.5"},
		{name: "old-prefix", annotations: "metallb.universe.tf/ip-allocated-from-pool: pool\nmetallb.universe.tf/address-pool: pool", ip: "10.1.0.6"},
		{name: "by-ip", annotations: "metallb.io/loadBalancerIPs: 10.1.0.7\nmetallb.io/ip-allocated-from-pool: first", ip: "10.1.0.7"},
		{name: "shares", annotations: "metallb.io/allow-shared-ip: k\nmetallb.io/ip-allocated-from-pool: first", ip: "10.1.0.8"},
		{name: "in-no-eip", annotations: "metallb.io/ip-allocated-from-pool: forgotten", ip: "10.9.0.1"},
		{name: "waits", annotations: "metallb.io/address-pool: other"},
	} {
		c.leave(l)
	}
	c.apply(onPort(strings.Replace(loadBalancer("shares-too", "x"), "lb.kubesphere.io/v1alpha1: openelb", "metallb.io/allow-shared-ip: k", 1), 81))
	c.kubectl("patch", "svc", "-n", "dev", "shares-too", "--subresource=status", "--type=merge", "-p", `{"status":{"loadBalancer":{"ingress":[{"ip":"10.1.0.8"}]}}}`)

	c.startController("--default-load-balancer")
	for name, ip := range map[string]string{
		"auto": "10.1.0.5", "old-prefix": "10.1.0.6", "by-ip": "10.1.0.7", "shares": "10.1.0.8", "shares-too": "10.1.0.8", "waits": "10.2.0.1",
	} {
		c.hasReason(name, "Allocated", ip)
		c.hasIP("dev", name, ip)
	}
	c.hasReason("in-no-eip", "NotInPool", "10.9.0.1")
	c.hasIP("dev", "in-no-eip", "10.9.0.1")
	c.apply(eip("forgotten", "10.9.0.0/24"))
	c.hasReason("in-no-eip", "Allocated", `10.9.0.1 from Eip "forgotten"`)
}
