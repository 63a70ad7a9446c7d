package e2e

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/fairway-lb/fairway/speaker/rendezvous"
)

// TestSpeakerRefuses: what keeps a node from announcing is said in an event
// that names the node and the remedy, and the others take over.
func TestSpeakerRefuses(t *testing.T) {
	c := newFairway(t, 2)
	c.kubectl("create", "namespace", "dev")
	c.pods("dev", "nginx", "n1", "n2")
	c.kubectl("apply", "-f", "config/samples/layer2.yaml")
	c.hasIP("dev", "svc-lb", "192.168.93.231")
	owner := rendezvous.First(netip.MustParseAddr("192.168.93.231"), []string{"n1", "n2"})
	other := map[string]string{"n1": "n2", "n2": "n1"}[owner]

	answers := func(node string) {
		t.Helper()
		c.eventually(node+" answers", func() string {
			if owners := c.owners("192.168.93.231"); len(owners) != 1 || owners[0] != node {
				return fmt.Sprintf("%v do", owners)
			}
			return ""
		})
	}
	exclude := func(node string) {
		c.exclude(node)
	}
	c.run("an excluded node hands over", func(t *testing.T) {
		answers(owner) // both speakers are up
		exclude(owner)
		answers(other)
		c.reaches("http://192.168.93.231/", "nginx-n1", "nginx-n2")
	})
	c.run("no node left", func(t *testing.T) {
		exclude(other)
		c.noOwner("192.168.93.231")
		c.hasEvent("Service", "dev", "svc-lb", "Warning SetBalancer", "192.168.93.231 is not announced", "node n1 is labelled", "node n2 is labelled")
		c.include(owner, other)
		// kubectl changes one Node after the other, so the other node may be
		// the only candidate for a moment.
		answers(owner)
	})
	c.run("no endpoint left", func(t *testing.T) {
		for _, pod := range []string{"nginx-n1", "nginx-n2"} {
			if err := c.Pod("dev", pod).SetReady(t.Context(), false); err != nil {
				t.Fatal(err)
			}
		}
		c.noOwner("192.168.93.231")
		if err := c.Pod("dev", "nginx-n1").SetReady(t.Context(), true); err != nil {
			t.Fatal(err)
		}
		c.ownerOf("192.168.93.231")
	})
	c.run("a pool on an interface that is not there", func(t *testing.T) {
		c.apply(`
apiVersion: network.kubesphere.io/v1alpha2
kind: Eip
metadata: {name: wrong-link}
spec: {address: 192.168.93.240, protocol: layer2, interface: eth99}`)
		c.hasEvent("Eip", "", "wrong-link", "Warning ConfigSpeakerFailed", "node n1", "eth99")
		c.hasEvent("Eip", "", "wrong-link", "Warning ConfigSpeakerFailed", "node n2", "eth99")
	})
	c.run("a pool outside the subnet, unless it is allowed", func(t *testing.T) {
		c.apply(eip("off-subnet", "203.0.113.1"))
		c.hasEvent("Eip", "", "off-subnet", "Warning ConfigSpeakerFailed", "203.0.113.1", "eth33", "allowOffSubnet")
		c.apply(loadBalancer("off-subnet", "nginx", fromPool("off-subnet")))
		c.hasIP("dev", "off-subnet", "203.0.113.1")
		c.hasEvent("Service", "dev", "off-subnet", "Warning SetBalancer", "has no usable interface")
		c.noOwner("203.0.113.1")
		c.kubectl("patch", "eip", "off-subnet", "--type=merge", "-p", `{"spec":{"allowOffSubnet":true}}`)
		c.ownerOf("203.0.113.1")
	})
	c.run("can_reach finds the interface", func(t *testing.T) {
		c.apply(fmt.Sprintf(`
apiVersion: network.kubesphere.io/v1alpha2
kind: Eip
metadata: {name: reach}
spec: {address: 192.168.93.245, protocol: layer2, interface: "can_reach:%s"}`, c.Client().Addr4()))
		c.apply(loadBalancer("reach", "nginx", fromPool("reach")))
		c.hasIP("dev", "reach", "192.168.93.245")
		c.ownerOf("192.168.93.245")
		c.reaches("http://192.168.93.245/", "nginx-n1")
	})
	c.run("a deleted Service is silent", func(t *testing.T) {
		c.kubectl("delete", "svc", "-n", "dev", "svc-lb")
		c.noOwner("192.168.93.231")
	})
	c.run("a pulled cable", func(t *testing.T) {
		c.apply(eip("again", "192.168.93.246") + loadBalancer("again", "nginx", fromPool("again")))
		c.hasIP("dev", "again", "192.168.93.246")
		owner := c.ownerOf("192.168.93.246")
		if err := c.Node(owner).SetLink(false); err != nil {
			t.Fatal(err)
		}
		c.eventually("the other node answers", func() string {
			if owners := c.owners("192.168.93.246"); len(owners) != 1 || owners[0] == owner {
				return fmt.Sprint(owners)
			}
			return ""
		})
		if err := c.Node(owner).SetLink(true); err != nil {
			t.Fatal(err)
		}
		c.eventually("the node takes it back, and is the only one", func() string {
			if owners := c.owners("192.168.93.246"); len(owners) != 1 || owners[0] != owner {
				return fmt.Sprint(owners)
			}
			return ""
		})
	})
}
