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
	c.hasIP("dev", "first", "10.77.0.1")

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
