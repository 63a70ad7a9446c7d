package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"

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

// TestLeaderHandover: when the controller that works is told to stop, one
// that waits takes over long before the Lease would have run out.
func TestLeaderHandover(t *testing.T) {
	const leaseDuration = 15 * time.Second // controller-runtime's
	c := newCluster(t, 0)
	c.kubectl("create", "namespace", "dev")
	c.apply(eip("pool", "10.1.0.1-10.1.0.9"))
	c.startController()
	c.apply(loadBalancer("a", "x", fromPool("pool")))
	c.hasIP("dev", "a", "10.1.0.1")
	first := c.controller
	c.startController("--metrics-addr=0", "--readiness-addr=:50064")
	c.eventually("the second controller is ready", func() string {
		if _, err := c.ControlPlane().Get(t.Context(), "http://127.0.0.1:50064/readyz"); err != nil {
			return err.Error()
		}
		return ""
	})
	stopped := time.Now()
	if err := first.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	c.apply(loadBalancer("b", "x", fromPool("pool")))
	c.hasIP("dev", "b", "10.1.0.2")
	if took := time.Since(stopped); took > leaseDuration*2/3 {
		t.Errorf("the second controller took over after %v", took)
	}
	c.hasIP("dev", "a", "10.1.0.1")
}

// TestManifests: a real API server accepts what users install.
func TestManifests(t *testing.T) {
	c := newCluster(t, 0)
	out := c.kubectl("apply", "--dry-run=server", "-k", "config/default")
	for _, object := range []string{"namespace/fairway-system", "deployment.apps/fairway-controller created", "daemonset.apps/fairway-speaker created"} {
		if !strings.Contains(out, object) {
			t.Errorf("%q is missing in\n%s", object, out)
		}
	}
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
