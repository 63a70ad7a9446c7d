package e2e

import (
	"fmt"
	"testing"

	"github.com/fairway-lb/fairway/api/v1alpha2"
)

// TestAllocation goes through the ways to ask for an address and to give it
// up, in one cluster without nodes.
func TestAllocation(t *testing.T) {
	c := newCluster(t, 0)
	c.kubectl("create", "namespace", "dev")
	c.startController()
	c.apply(eip("eip-pool", "192.168.93.231-192.168.93.238"))
	c.apply(eip("small", "10.0.0.1-10.0.0.2"))
	c.apply(eip("six", "2001:db8::/64"))

	patch := func(kind, name, patch string) {
		t.Helper()
		args := []string{"patch", kind, name, "--type=merge", "-p", patch}
		if kind == "svc" {
			args = append(args, "-n", "dev")
		}
		c.kubectl(args...)
	}
	// released waits until nothing of ours is on a Service.
	released := func(name string) {
		t.Helper()
		c.eventually(name+" is released", func() string {
			svc := c.service("dev", name)
			if len(svc.Finalizers) > 0 || svc.Labels[v1alpha2.LabelPool] != "" || externalIPs(svc) != "" {
				return fmt.Sprintf("finalizers %v, labels %v, addresses %q", svc.Finalizers, svc.Labels, externalIPs(svc))
			}
			return ""
		})
	}

	c.run("a named pool, lowest address first", func(t *testing.T) {
		c.apply(loadBalancer("a", "x", fromPool("eip-pool")))
		c.hasIP("dev", "a", "192.168.93.231")
		svc := c.service("dev", "a")
		if svc.Labels[v1alpha2.LabelPool] != "eip-pool" || len(svc.Finalizers) != 1 || svc.Finalizers[0] != v1alpha2.FinalizerService {
			t.Errorf("labels %v, finalizers %v", svc.Labels, svc.Finalizers)
		}
	})
	c.run("without a pool it waits for a default one", func(t *testing.T) {
		c.apply(loadBalancer("b", "x"))
		c.hasEvent("Service", "dev", "b", "Warning", "default")
		c.hasIP("dev", "b", "")
		c.kubectl("annotate", "eip", "eip-pool", v1alpha2.AnnotationDefaultEip+"=True")
		c.hasIP("dev", "b", "192.168.93.232")
	})
	c.run("loadBalancerClass opts in", func(t *testing.T) {
		c.apply(`
apiVersion: v1
kind: Service
metadata: {name: class, namespace: dev}
spec: {type: LoadBalancer, loadBalancerClass: network.kubesphere.io/eip, ports: [{port: 80}]}`)
		c.hasIP("dev", "class", "192.168.93.233")
		c.apply(`
apiVersion: v1
kind: Service
metadata: {name: foreign, namespace: dev, annotations: {lb.kubesphere.io/v1alpha1: openelb}}
spec: {type: LoadBalancer, loadBalancerClass: example.com/other, ports: [{port: 80}]}`)
	})
	c.run("a requested address, by annotation and by field", func(t *testing.T) {
		c.apply(loadBalancer("by-annotation", "x", wantsAddress("192.168.93.238")))
		c.hasIP("dev", "by-annotation", "192.168.93.238")
		c.apply(loadBalancer("by-field", "x", fromPool("eip-pool")) + "  loadBalancerIP: 192.168.93.237\n")
		c.hasIP("dev", "by-field", "192.168.93.237")
		c.apply(loadBalancer("annotation-wins", "x", wantsAddress("192.168.93.236")) + "  loadBalancerIP: 192.168.93.235\n")
		c.hasIP("dev", "annotation-wins", "192.168.93.236")
		c.apply(loadBalancer("six", "x", fromPool("six"), wantsAddress("2001:DB8:0::00ff")) + "  ipFamilies: [IPv6]\n  ipFamilyPolicy: SingleStack\n")
		c.hasIP("dev", "six", "2001:db8::ff")
	})
	c.run("a requested address that cannot be given", func(t *testing.T) {
		c.apply(loadBalancer("taken", "x", wantsAddress("192.168.93.238")))
		c.hasEvent("Service", "dev", "taken", "Warning", "192.168.93.238", "dev/by-annotation")
		c.apply(loadBalancer("junk", "x", fromPool("eip-pool"), wantsAddress("192.168.93.x")))
		c.hasEvent("Service", "dev", "junk", "Warning", "192.168.93.x", v1alpha2.AnnotationAddress)
		c.apply(loadBalancer("family", "x", fromPool("six")))
		c.hasEvent("Service", "dev", "family", "Warning", "six", "spec.ipFamilies")
		for _, name := range []string{"taken", "junk", "family"} {
			c.hasIP("dev", name, "")
		}
		c.kubectl("delete", "svc", "-n", "dev", "by-annotation")
		c.hasIP("dev", "taken", "192.168.93.238") // freed, and it waited
	})
	c.run("a full pool", func(t *testing.T) {
		for i := range 3 {
			c.apply(loadBalancer(fmt.Sprintf("small-%d", i), "x", fromPool("small")))
			if i < 2 {
				c.hasIP("dev", fmt.Sprintf("small-%d", i), fmt.Sprintf("10.0.0.%d", i+1))
			}
		}
		c.hasEvent("Service", "dev", "small-2", "Warning AssignIPFailed", "small")
		c.eventually("the Eip says so", func() string {
			if out := c.kubectl("get", "eip", "small", "-o", "jsonpath={.status.occupied} {.status.usage} {.status.firstIP} {.status.lastIP} {.status.v4} {.status.ready}"); out != "true 2 10.0.0.1 10.0.0.2 true true" {
				return out
			}
			return ""
		})
		c.kubectl("delete", "svc", "-n", "dev", "small-0")
		c.hasIP("dev", "small-2", "10.0.0.1")
	})
	c.run("an address is kept whatever happens to the pool", func(t *testing.T) {
		patch("eip", "eip-pool", `{"spec":{"disable":true}}`)
		c.kubectl("annotate", "eip", "eip-pool", v1alpha2.AnnotationDefaultEip+"-")
		c.kubectl("annotate", "svc", "-n", "dev", "a", "b", "class", "example.com/touched=1")
		c.apply(loadBalancer("too-late", "x", fromPool("eip-pool")))
		c.hasEvent("Service", "dev", "too-late", "Warning", "eip-pool", "disable")
		for name, ip := range map[string]string{"a": "192.168.93.231", "b": "192.168.93.232", "class": "192.168.93.233"} {
			c.hasIP("dev", name, ip)
		}
		patch("eip", "eip-pool", `{"spec":{"disable":false}}`)
		c.hasIP("dev", "too-late", "192.168.93.234")
	})
	c.run("a changed request moves the address, a bad one does not", func(t *testing.T) {
		c.apply(loadBalancer("a", "x", fromPool("eip-pool"), wantsAddress("10.9.9.9")))
		c.hasEvent("Service", "dev", "a", "Warning", "10.9.9.9")
		c.hasIP("dev", "a", "192.168.93.231")
		c.apply(loadBalancer("a", "x", fromPool("eip-pool"), wantsAddress("192.168.93.235")))
		c.hasIP("dev", "a", "192.168.93.235")
	})
	c.run("it survives a restart", func(t *testing.T) {
		before := c.addresses()
		if err := c.controller.Stop(t.Context()); err != nil {
			t.Fatal(err)
		}
		c.kubectl("delete", "svc", "-n", "dev", "small-1", "--wait=false") // freed while nobody looks
		c.startController()
		c.apply(loadBalancer("small-3", "x", fromPool("small")))
		c.hasIP("dev", "small-3", "10.0.0.2")
		for name, ip := range c.addresses() {
			if old, had := before[name]; had && old != ip {
				t.Errorf("%s had %s, and has %s now", name, old, ip)
			}
		}
	})
	c.run("released on another type", func(t *testing.T) {
		patch("svc", "b", `{"spec":{"type":"ClusterIP"}}`)
		released("b")
		c.hasEvent("Service", "dev", "b", "Normal ReleaseIP", "192.168.93.232")
	})
	c.run("released when the annotation is removed, also the last one", func(t *testing.T) {
		patch("svc", "too-late", `{"metadata":{"annotations":null}}`)
		released("too-late")
		patch("svc", "taken", `{"metadata":{"annotations":{"lb.kubesphere.io/v1alpha1":"other"}}}`)
		released("taken")
	})
	c.run("released on deletion", func(t *testing.T) {
		c.kubectl("delete", "svc", "-n", "dev", "class", "--timeout=20s")
		c.apply(loadBalancer("next", "x", fromPool("eip-pool")))
		c.hasIP("dev", "next", "192.168.93.231")
	})
	c.run("an Eip in use waits for its Services", func(t *testing.T) {
		c.kubectl("delete", "eip", "small", "--wait=false")
		c.hasEvent("Eip", "", "small", "Warning", "dev/small-2")
		c.hasIP("dev", "small-2", "10.0.0.1")
		c.kubectl("delete", "svc", "-n", "dev", "small-2", "small-3", "--timeout=20s")
		c.kubectl("wait", "--for=delete", "eip/small", "--timeout=20s")
	})
	c.run("a foreign class was not touched", func(t *testing.T) { c.untouched("dev", "foreign") })
}

// TestNamespacePools: who is served without naming a pool, and from which.
func TestNamespacePools(t *testing.T) {
	c := newCluster(t, 0)
	c.kubectl("create", "namespace", "dev")
	c.startController()
	c.apply(eip("by-name", "10.1.0.1", "namespaces: [dev]", "priority: 20"))
	c.apply(eip("by-label", "10.2.0.1", "namespaceSelector: {team: web}", "priority: 10"))
	c.apply(eip("default", "10.3.0.1-10.3.0.9"))
	c.kubectl("annotate", "eip", "default", v1alpha2.AnnotationDefaultEip+"=true")

	c.run("the pool bound to the namespace, then the default", func(t *testing.T) {
		c.apply(loadBalancer("a", "x"))
		c.hasIP("dev", "a", "10.1.0.1")
		c.apply(loadBalancer("b", "x"))
		c.hasIP("dev", "b", "10.3.0.1")
	})
	c.run("a full pool goes on with the next, and a label of the namespace helps", func(t *testing.T) {
		c.kubectl("annotate", "eip", "default", v1alpha2.AnnotationDefaultEip+"-")
		c.apply(loadBalancer("c", "x"))
		c.hasEvent("Service", "dev", "c", "Warning AssignIPFailed", "by-name")
		c.hasIP("dev", "c", "")
		c.kubectl("label", "namespace", "dev", "team=web")
		c.hasIP("dev", "c", "10.2.0.1")
		for name, ip := range map[string]string{"a": "10.1.0.1", "b": "10.3.0.1"} {
			c.hasIP("dev", name, ip)
		}
	})
	c.run("the smallest priority first", func(t *testing.T) {
		c.kubectl("delete", "svc", "-n", "dev", "a", "c", "--timeout=20s")
		c.apply(loadBalancer("d", "x"))
		c.hasIP("dev", "d", "10.2.0.1")
		c.apply(loadBalancer("e", "x"))
		c.hasIP("dev", "e", "10.1.0.1")
	})
	c.run("--default-load-balancer serves those that ask for nothing", func(t *testing.T) {
		c.kubectl("annotate", "eip", "default", v1alpha2.AnnotationDefaultEip+"=true")
		c.apply("apiVersion: v1\nkind: Service\nmetadata: {name: plain, namespace: dev}\nspec: {type: LoadBalancer, ports: [{port: 80}]}")
		c.apply("apiVersion: v1\nkind: Service\nmetadata: {name: foreign, namespace: dev}\nspec: {type: LoadBalancer, loadBalancerClass: example.com/other, ports: [{port: 80}]}")
		c.apply(loadBalancer("f", "x"))
		c.hasIP("dev", "f", "10.3.0.2")
		c.untouched("dev", "plain")
		if err := c.controller.Stop(t.Context()); err != nil {
			t.Fatal(err)
		}
		c.startController("--default-load-balancer")
		c.hasIP("dev", "plain", "10.3.0.3")
		c.untouched("dev", "foreign")
	})
}
