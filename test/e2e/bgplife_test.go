package e2e

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fairway-lb/fairway/test/lab"
)

// moveBound is the longest time from an EndpointSlice's change to the route's in
// the router's kernel: it takes milliseconds on a machine that has nothing else
// to do.
const moveBound = 2 * time.Second

// TestBGPRoutesFollowServices has one router see what becomes of Services and
// their pods.
func TestBGPRoutesFollowServices(t *testing.T) {
	c := newBGPServed(t, 3, birdRouter())
	r := c.Router("r1")

	c.run("a pod that becomes ready after the address was allocated is announced", func(t *testing.T) {
		c.apply(bgpService("late", "late", "bgp-eip", policyLocal))
		c.hasIP("dev", "late", "172.22.0.3")
		c.hasEvent("Service", "dev", "late", "Warning SetBalancer", "172.22.0.3 is not announced", "no ready endpoint")
		c.noRoute(r, "172.22.0.3/32")
		c.pod("dev", "late-1", map[string]string{"app": "late"}, "n2")
		c.hasRoute(r, "172.22.0.3/32", "n2")
		c.hasEvent("Service", "dev", "late", "Normal SetBalancer", "172.22.0.3 is announced by BGP from node n2")
		c.pod("dev", "late-2", map[string]string{"app": "late"}, "n3")
		c.hasRoute(r, "172.22.0.3/32", "n2", "n3")
		c.reachesFrom(r.Client(), "http://172.22.0.3/", "late-1", "late-2")
	})
	c.run("endpoint moves are followed", func(t *testing.T) {
		if err := c.Pod("dev", "late-1").SetReady(t.Context(), false); err != nil {
			t.Fatal(err)
		}
		c.hasRoute(r, "172.22.0.3/32", "n3")
		if err := c.Pod("dev", "late-2").Delete(t.Context()); err != nil {
			t.Fatal(err)
		}
		c.noRoute(r, "172.22.0.3/32")
		c.pod("dev", "late-3", map[string]string{"app": "late"}, "n1")
		c.hasRoute(r, "172.22.0.3/32", "n1")
		c.reachesFrom(r.Client(), "http://172.22.0.3/", "late-3")
	})
	c.run("a change of the traffic policy is followed, both ways", func(t *testing.T) {
		watch := c.watch(r, "172.22.0.3/32")
		for range 3 {
			c.kubectl("patch", "svc", "-n", "dev", "late", "-p", `{"spec":{"externalTrafficPolicy":"Cluster"}}`)
			c.hasRoute(r, "172.22.0.3/32", "n1", "n2", "n3")
			c.kubectl("patch", "svc", "-n", "dev", "late", "-p", `{"spec":{"externalTrafficPolicy":"Local"}}`)
			c.hasRoute(r, "172.22.0.3/32", "n1")
		}
		c.noGaps(watch, "172.22.0.3/32")
	})
	c.run("EndpointSlices decide, and at once", func(t *testing.T) { followSlices(t, c, r) })
	c.run("a Service without any endpoint has no route", func(t *testing.T) {
		c.apply(bgpService("empty", "nobody", "bgp-eip"))
		c.hasIP("dev", "empty", "172.22.0.5")
		c.hasEvent("Service", "dev", "empty", "Warning SetBalancer", "172.22.0.5 is not announced", "no ready endpoint")
		c.noRoute(r, "172.22.0.5/32")
	})
	c.run("a Service that becomes a ClusterIP, or is deleted, has no route", func(t *testing.T) {
		c.kubectl("patch", "svc", "-n", "dev", "late", "-p", `{"spec":{"type":"ClusterIP","externalTrafficPolicy":null}}`)
		c.noRoute(r, "172.22.0.3/32")
		c.kubectl("delete", "svc", "-n", "dev", "web")
		c.noRoute(r, "172.22.0.2/32")
	})
	c.run("an Eip moves between BGP and layer 2", func(t *testing.T) {
		c.apply(bgpEip("moving", "192.168.93.231-192.168.93.238", "interface: eth33", "protocol: bgp") + bgpService("moving", "nginx", "moving"))
		c.hasIP("dev", "moving", "192.168.93.231")
		for range 2 {
			c.hasRoute(r, "192.168.93.231/32", "n1", "n2", "n3")
			c.noOwner("192.168.93.231")
			c.reachesFrom(r.Client(), "http://192.168.93.231/", "nginx-n1", "nginx-n2", "nginx-n3")

			c.kubectl("patch", "eip", "moving", "--type=merge", "-p", `{"spec":{"protocol":"layer2"}}`)
			c.noRoute(r, "192.168.93.231/32")
			c.ownerOf("192.168.93.231")
			c.reaches("http://192.168.93.231/", "nginx-n1", "nginx-n2", "nginx-n3")

			c.kubectl("patch", "eip", "moving", "--type=merge", "-p", `{"spec":{"protocol":null}}`)
		}
		c.hasRoute(r, "192.168.93.231/32", "n1", "n2", "n3")
	})
}

// followSlices writes the EndpointSlice of a Service with policy Local by
// itself, and measures how soon the router's kernel follows.
func followSlices(t *testing.T, c *cluster, r *lab.Router) {
	prefix := netip.MustParsePrefix("172.22.0.4/32")
	c.apply(strings.Replace(bgpService("manual", "nobody", "bgp-eip", policyLocal), "  selector:\n    app: nobody\n", "", 1))
	c.hasIP("dev", "manual", "172.22.0.4")
	slice := &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Namespace: "dev", Name: "manual-1", Labels: map[string]string{discoveryv1.LabelServiceName: "manual"}},
		AddressType: discoveryv1.AddressTypeIPv4,
		Ports:       []discoveryv1.EndpointPort{{Port: new(int32(80))}},
	}
	if err := c.api.Create(t.Context(), slice); err != nil {
		t.Fatal(err)
	}
	ready := discoveryv1.EndpointConditions{Ready: new(true), Serving: new(true), Terminating: new(false)}
	leaving := discoveryv1.EndpointConditions{Ready: new(false), Serving: new(true), Terminating: new(true)}
	gone := discoveryv1.EndpointConditions{Ready: new(false), Serving: new(false), Terminating: new(true)}
	on := func(node string, conditions discoveryv1.EndpointConditions) discoveryv1.Endpoint {
		pod := c.Pod("dev", "nginx-"+node)
		return discoveryv1.Endpoint{Addresses: []string{pod.Addr4().String()}, NodeName: &node, Conditions: conditions}
	}
	watch := c.watch(r, prefix.String())
	// move replaces the endpoints and returns after what time the route led to
	// just these nodes.
	move := func(want []string, endpoints ...discoveryv1.Endpoint) time.Duration {
		t.Helper()
		before := client.MergeFrom(slice.DeepCopy())
		slice.Endpoints = endpoints
		begin := time.Now()
		if err := c.api.Patch(t.Context(), slice, before); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := contextWithTimeout(t)
		defer cancel()
		at, err := watch.Wait(ctx, prefix, c.hops(prefix, want)...)
		if err != nil {
			t.Fatal(err)
		}
		return at.Sub(begin)
	}
	move([]string{"n1"}, on("n1", ready))
	var times []time.Duration
	for i := range 30 {
		node := fmt.Sprintf("n%d", 1+(i+1)%3)
		times = append(times, move([]string{node}, on(node, ready)))
	}
	slices.Sort(times)
	t.Logf("from the write of an EndpointSlice to the router's kernel: median %v, longest %v", times[len(times)/2], times[len(times)-1])
	if longest := times[len(times)-1]; longest > moveBound {
		t.Errorf("a move of an endpoint took %v to reach the router, want at most %v", longest, moveBound)
	}

	// A terminating pod that still serves is the last resort.
	move([]string{"n1", "n2"}, on("n1", ready), on("n2", ready))
	move([]string{"n1"}, on("n1", ready), on("n2", leaving))
	move([]string{"n1", "n2"}, on("n1", leaving), on("n2", leaving))
	move([]string{"n2"}, on("n1", gone), on("n2", leaving))
	move([]string{"n3"}, on("n1", gone), on("n2", leaving), on("n3", ready))
	move(nil, on("n1", gone), on("n2", gone))
	move([]string{"n1"}, on("n1", ready))
	if err := watch.Err(); err != nil {
		t.Error(err)
	}
	c.kubectl("delete", "endpointslice", "-n", "dev", "manual-1")
	c.noRoute(r, prefix.String())
}

// TestBGPNodesThatCannotServe: a node that is not ready, excluded, without a
// speaker or without a Node object is no next hop, and comes back.
func TestBGPNodesThatCannotServe(t *testing.T) {
	bothRouters(t, func(t *testing.T, opts lab.RouterOptions) {
		c := newBGPServedWith(t, 3, []string{"--drain-time=1s"}, opts)
		r := c.Router("r1")
		const prefix = "172.22.0.2/32"
		all := func() {
			c.t.Helper()
			c.hasRoute(r, prefix, "n1", "n2", "n3")
			c.reachesFrom(r.Client(), "http://172.22.0.2/", "nginx-n1", "nginx-n2", "nginx-n3")
		}
		all()
		sessions := c.connections(r)
		c.run("not ready", func(t *testing.T) {
			c.setNodeReady("n1", corev1.ConditionFalse)
			c.hasRoute(r, prefix, "n2", "n3")
			c.setNodeReady("n2", corev1.ConditionUnknown)
			c.hasRoute(r, prefix, "n3")
			c.setNodeReady("n1", corev1.ConditionTrue)
			c.setNodeReady("n2", corev1.ConditionTrue)
			all()
		})
		c.run("excluded", func(t *testing.T) {
			c.exclude("n2")
			c.hasRoute(r, prefix, "n1", "n3")
			c.include("n2")
			all()
		})
		c.run("none left", func(t *testing.T) {
			c.exclude("n1", "n2", "n3")
			c.noRoute(r, prefix)
			c.hasEvent("Service", "dev", "web", "Warning SetBalancer", "172.22.0.2 is not announced", "node n1 is labelled", "node n3 is labelled")
			c.include("n1", "n2", "n3")
			all()
		})
		c.sameConnections(r, sessions)
		c.run("its Node deleted", func(t *testing.T) {
			node := c.node("n3")
			c.kubectl("delete", "node", "n3")
			c.hasRoute(r, prefix, "n1", "n2")
			c.recreate(node)
			c.hasRoute(r, prefix, "n1", "n2", "n3")
		})
		c.run("its speaker drained and stopped", func(t *testing.T) {
			if err := c.speakers["n2"].Stop(t.Context()); err != nil {
				t.Fatal(err)
			}
			c.startSpeaker("n2", "--drain", "--drain-time=1s")
			c.established(r, "n2")
			c.hasRoute(r, prefix, "n1", "n2", "n3")
			if err := c.speakers["n2"].Stop(t.Context()); err != nil {
				t.Fatal(err)
			}
			c.hasRoute(r, prefix, "n1", "n3")
			c.startSpeaker("n2")
			c.hasRoute(r, prefix, "n1", "n2", "n3")
		})
	})
}
