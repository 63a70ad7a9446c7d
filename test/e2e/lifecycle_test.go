package e2e

import (
	"fmt"
	"strings"
	"testing"

	"github.com/fairway-lb/fairway/api/v1alpha2"
)

// TestForceDelete: an Eip in use waits, and goes at once if it is told to.
func TestForceDelete(t *testing.T) {
	c := newCluster(t, 0)
	c.kubectl("create", "namespace", "dev")
	c.startController()
	c.apply(eip("old", "10.1.0.1-10.1.0.9"))
	c.kubectl("annotate", "eip", "old", v1alpha2.AnnotationDefaultEip+"=true")
	c.apply(loadBalancer("auto", "x"))
	c.apply(loadBalancer("named", "x", fromPool("old")))
	c.apply(loadBalancer("either", "x", fromPool("'old,new'")))
	for _, name := range []string{"auto", "named", "either"} {
		c.hasReason(name, "Allocated")
	}
	before := c.addresses()
	c.kubectl("delete", "eip", "old", "--wait=false")
	c.hasPoolCondition("old", "DeletionWaits", "True", "dev/auto", "dev/named", v1alpha2.AnnotationForceDelete)
	c.hasEvent("Eip", "", "old", "Warning DeletionWaits")
	c.apply(eip("new", "10.2.0.1-10.2.0.9"))
	c.kubectl("annotate", "eip", "new", v1alpha2.AnnotationDefaultEip+"=true")
	c.annotate("auto", "example.com/touched=1")
	for name, ip := range before {
		c.hasIP("dev", name, ip) // they keep them until the Eip goes
	}
	c.kubectl("annotate", "eip", "old", v1alpha2.AnnotationForceDelete+"=true")
	c.kubectl("wait", "--for=delete", "eip/old", "--timeout=30s")
	c.eventually("all are at home in the other Eip, or without", func() string {
		after := c.addresses()
		if len(after) != 2 || !strings.HasPrefix(after["auto"], "10.2.0.") || !strings.HasPrefix(after["either"], "10.2.0.") {
			return fmt.Sprint(after)
		}
		return ""
	})
	c.hasReason("named", "PoolNotFound", `"old"`)
	c.deleteServices("named", "auto", "either") // nothing is stuck
}

// TestLifecycle: what is given up is free, what is asked for anew is given,
// and nothing is stuck, whatever was left on a Service.
func TestLifecycle(t *testing.T) {
	c := newCluster(t, 0)
	c.kubectl("create", "namespace", "dev")
	c.startController()
	c.apply(eip("eip", "192.168.1.0/24") + eip("eip1", "10.1.0.1-10.1.0.9"))
	bare := func(name string) {
		t.Helper()
		c.eventually(name+" has nothing of ours", func() string {
			svc := c.service("dev", name)
			if len(svc.Finalizers) > 0 || svc.Labels[v1alpha2.LabelPool] != "" || externalIPs(svc) != "" || len(svc.Status.Conditions) > 0 {
				return fmt.Sprintf("finalizers %v, labels %v, status %+v", svc.Finalizers, svc.Labels, svc.Status)
			}
			return ""
		})
	}

	c.run("another pool is named", func(t *testing.T) {
		c.apply(loadBalancer("svc", "x", fromPool("eip1")))
		c.hasIP("dev", "svc", "10.1.0.1")
		c.annotate("svc", v1alpha2.AnnotationPool+"=eip")
		c.hasIP("dev", "svc", "192.168.1.1")
		c.hasNumbers("eip1", "0 9 9")
		c.hasNumbers("eip", "1 254 253")
		c.hasEvent("Service", "dev", "svc", "Normal ReleaseIP", "10.1.0.1", "192.168.1.1")
	})
	c.run("ClusterIP and back", func(t *testing.T) {
		c.kubectl("patch", "svc", "-n", "dev", "svc", "--type=merge", "-p", `{"spec":{"type":"ClusterIP"}}`)
		bare("svc")
		c.hasNumbers("eip", "0 254 254")
		c.kubectl("patch", "svc", "-n", "dev", "svc", "--type=merge", "-p", `{"spec":{"type":"LoadBalancer"}}`)
		c.hasIP("dev", "svc", "192.168.1.1")
	})
	c.run("all annotations are removed", func(t *testing.T) {
		c.kubectl("patch", "svc", "-n", "dev", "svc", "--type=merge", "-p", `{"metadata":{"annotations":null}}`)
		bare("svc")
	})
	c.run("a ClusterIP Service is left alone", func(t *testing.T) {
		c.apply(strings.Replace(loadBalancer("plain", "x"), "type: LoadBalancer", "type: ClusterIP", 1))
		c.apply(loadBalancer("after", "x", fromPool("eip")))
		c.hasIP("dev", "after", "192.168.1.1")
		c.untouched("dev", "plain")
	})
	c.run("pending, and released before it got anything", func(t *testing.T) {
		c.apply(loadBalancer("pending", "x", fromPool("missing")))
		c.hasReason("pending", "PoolNotFound")
		c.annotate("pending", v1alpha2.AnnotationLoadBalancer+"-")
		bare("pending")
	})
	c.run("deleted with marks that nobody knows of", func(t *testing.T) {
		c.apply(loadBalancer("stranger", "x"))
		c.hasReason("stranger", "NoEligiblePool")
		if err := c.controller.Stop(t.Context()); err != nil {
			t.Fatal(err)
		}
		c.kubectl("patch", "svc", "-n", "dev", "stranger", "--type=merge", "-p", `{"metadata":{"labels":{"`+v1alpha2.LabelPool+`":"gone"},"finalizers":["`+v1alpha2.FinalizerService+`"]}}`)
		c.kubectl("patch", "svc", "-n", "dev", "stranger", "--subresource=status", "--type=merge", "-p", `{"status":{"loadBalancer":{"ingress":[{"ip":"172.16.0.1"}]}}}`)
		c.kubectl("delete", "svc", "-n", "dev", "stranger", "--wait=false")
		c.startController()
		c.kubectl("wait", "--for=delete", "-n", "dev", "svc/stranger", "--timeout=30s")
	})
	c.run("Eips and Services are deleted together", func(t *testing.T) {
		c.kubectl("delete", "eip", "eip", "eip1", "--wait=false")
		c.kubectl("delete", "svc", "-n", "dev", "--all", "--timeout=30s")
		c.kubectl("wait", "--for=delete", "eip/eip", "eip/eip1", "--timeout=30s")
	})
}
