package e2e

import (
	"fmt"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fairway-lb/fairway/api/v1alpha2"
)

// TestControllerKilled kills the controller with SIGKILL in the middle of 200
// allocations. After a restart there are 200 Services with 200 different
// addresses, and none that was there before has changed.
func TestControllerKilled(t *testing.T) {
	const services = 200
	c := newCluster(t, 0)
	c.kubectl("create", "namespace", "dev")
	c.apply(eip("big", "10.77.0.0/24"))
	c.startController()
	c.apply(loadBalancer("first", "nginx", fromPool("big"))) // the controller leads and allocates
	c.hasIP("dev", "first", "10.77.0.0")

	for i := range services {
		svc := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "dev", Name: fmt.Sprintf("svc-%d", i), Annotations: map[string]string{
			v1alpha2.AnnotationLoadBalancer: v1alpha2.LoadBalancerValue, v1alpha2.AnnotationPool: "big",
		}}}
		svc.Spec.Type = corev1.ServiceTypeLoadBalancer
		svc.Spec.Ports = []corev1.ServicePort{{Port: 80}}
		if err := c.api.Create(t.Context(), svc); err != nil {
			t.Fatalf("creating Service %s: %v", svc.Name, err)
		}
		if i == services/2 {
			if err := c.controller.Kill(); err != nil {
				t.Fatal(err)
			}
		}
	}
	before := c.addresses()
	if len(before) == 0 || len(before) > services {
		t.Fatalf("%d of %d addresses were assigned when the controller was killed: not in the middle", len(before), services)
	}
	c.startController()
	c.eventually("all Services have an address", func() string {
		if n := len(c.addresses()); n != services+1 {
			return fmt.Sprintf("%d of %d have", n, services+1)
		}
		return ""
	})
	after := c.addresses()
	holder := map[string]string{}
	for name, ip := range after {
		if other, taken := holder[ip]; taken {
			t.Errorf("%s and %s both have %s", name, other, ip)
		}
		holder[ip] = name
		if old, had := before[name]; had && old != ip {
			t.Errorf("%s had %s before the controller was killed, and has %s now", name, old, ip)
		}
	}
	c.eventually("the Eip counts them", func() string {
		var pool v1alpha2.Eip
		if err := c.api.Get(t.Context(), client.ObjectKey{Name: "big"}, &pool); err != nil {
			return err.Error()
		}
		if pool.Status.Usage != services+1 || len(pool.Status.Used) != services+1 {
			return fmt.Sprintf("usage %d, used %d", pool.Status.Usage, len(pool.Status.Used))
		}
		return ""
	})
}

// addresses returns the address of every Service of namespace dev that has one.
func (c *cluster) addresses() map[string]string {
	c.t.Helper()
	var list corev1.ServiceList
	if err := c.api.List(c.t.Context(), &list, client.InNamespace("dev")); err != nil {
		c.t.Fatalf("listing Services: %v", err)
	}
	addresses := map[string]string{}
	for i := range list.Items {
		if ip := externalIPs(&list.Items[i]); ip != "" {
			addresses[list.Items[i].Name] = ip
		}
	}
	return addresses
}

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

// TestGossipKey: the controller makes the Secret when there is none, and
// leaves one that is there alone.
func TestGossipKey(t *testing.T) {
	c := newCluster(t, 0)
	secret := func() []byte {
		var s corev1.Secret
		if err := c.api.Get(t.Context(), client.ObjectKey{Namespace: "fairway-system", Name: "fairway-memberlist"}, &s); err != nil {
			return nil
		}
		return s.Data["key"]
	}
	c.startController()
	c.eventually("the Secret is made", func() string {
		if n := len(secret()); n != 32 {
			return fmt.Sprintf("the key has %d bytes", n)
		}
		return ""
	})
	key := string(secret())
	if err := c.controller.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	c.startController()
	c.kubectl("create", "namespace", "dev")
	c.apply(eip("pool", "10.0.0.1"))
	c.apply(loadBalancer("a", "x", fromPool("pool")))
	c.hasIP("dev", "a", "10.0.0.1") // the controller leads
	if string(secret()) != key {
		t.Error("the key was replaced at a restart")
	}
}
