package e2e

import (
	"fmt"
	"strings"
	"testing"

	"github.com/fairway-lb/fairway/api/v1alpha2"
)

// TestChoiceOfPool: who gets an address of which pool, and what a Service is
// told that gets none.
func TestChoiceOfPool(t *testing.T) {
	c := newCluster(t, 0)
	c.kubectl("create", "namespace", "dev")
	c.kubectl("label", "namespace", "dev", "label=test")
	c.startController()

	c.run("an unbound pool that is not the default serves nobody unasked", func(t *testing.T) {
		c.apply(eip("eip", "192.168.1.0/24"))
		c.apply(loadBalancer("a20", "x"))
		c.hasReason("a20", "NoEligiblePool", `namespace "dev"`, "is-default-eip")
		c.hasIP("dev", "a20", "")
		c.kubectl("annotate", "eip", "eip", v1alpha2.AnnotationDefaultEip+"=true")
		c.hasIP("dev", "a20", "192.168.1.1")
		c.hasReason("a20", "Allocated", `192.168.1.1 from Eip "eip"`)
	})
	c.run("bound by name and by label, by priority", func(t *testing.T) {
		c.apply(eip("eip-1", "10.1.0.1", "namespaces: [dev]", "priority: 20"))
		c.apply(eip("eip-2", "10.2.0.1", "namespaceSelector: {label: test}", "priority: 10"))
		for i, want := range []string{"10.2.0.1", "10.1.0.1", "192.168.1.2"} { // a full one falls through
			name := fmt.Sprintf("bound-%d", i)
			c.apply(loadBalancer(name, "x"))
			c.hasIP("dev", name, want)
		}
	})
	c.run("a pool that comes later", func(t *testing.T) {
		c.apply(loadBalancer("a11", "x", fromPool("late")))
		c.hasReason("a11", "PoolNotFound", `"late"`, v1alpha2.AnnotationPool)
		c.apply(eip("late", "10.3.0.1"))
		c.hasIP("dev", "a11", "10.3.0.1")
	})
	c.run("several pools in order of preference, and no others", func(t *testing.T) {
		c.apply(eip("second", "10.4.0.1"))
		c.apply(loadBalancer("several", "x", fromPool("late, second")))
		c.hasIP("dev", "several", "10.4.0.1")
		c.apply(loadBalancer("several-full", "x", fromPool("late, second")))
		c.hasReason("several-full", "PoolExhausted", "late", "second")
		c.deleteServices("a11")
		c.hasIP("dev", "several-full", "10.3.0.1")
		c.hasIP("dev", "several", "10.4.0.1") // stays, though its first choice was free
		c.deleteServices("several", "several-full")
	})
	c.run("the protocol annotation is a filter", func(t *testing.T) {
		c.apply(bgpEip("routed", "10.5.0.1-10.5.0.9", "namespaces: [dev]"))
		c.apply(loadBalancer("bgp", "x", "protocol.openelb.kubesphere.io/v1alpha1: bgp"))
		c.hasIP("dev", "bgp", "10.5.0.1")
		c.apply(loadBalancer("vip", "x", "protocol.openelb.kubesphere.io/v1alpha1: vip"))
		c.hasReason("vip", "ProtocolMismatch", "vip", v1alpha2.AnnotationProtocol)
		c.annotate("vip", "protocol.openelb.kubesphere.io/v1alpha1-")
		c.hasReason("vip", "Allocated")
		c.kubectl("delete", "svc", "-n", "dev", "bgp", "vip", "--timeout=30s")
		c.kubectl("delete", "eip", "routed", "--timeout=30s")
	})
	c.run("serviceSelector", func(t *testing.T) {
		c.apply(eip("gold", "10.6.0.1-10.6.0.9", "serviceSelector: {matchLabels: {tier: gold}}"))
		c.apply(strings.Replace(loadBalancer("gold", "x"), "  annotations:", "  labels: {tier: gold}\n  annotations:", 1))
		c.hasIP("dev", "gold", "10.6.0.1")
		c.apply(loadBalancer("silver", "x"))
		c.hasReason("silver", "Allocated", `Eip "eip"`)
	})
	c.run("exclusive", func(t *testing.T) {
		c.apply(eip("theirs", "10.7.0.1-10.7.0.9", "namespaces: [other]", "exclusive: true"))
		c.apply(loadBalancer("intruder", "x", fromPool("theirs")))
		c.hasReason("intruder", "NamespaceNotAllowed", `"theirs"`, "dev")
		c.apply(loadBalancer("burglar", "x", wantsAddress("10.7.0.5")))
		c.hasReason("burglar", "NamespaceNotAllowed", `"theirs"`)
		c.patchEip("theirs", `{"exclusive":false}`)
		c.hasIP("dev", "intruder", "10.7.0.1")
		c.hasIP("dev", "burglar", "10.7.0.5")
		c.patchEip("theirs", `{"exclusive":true}`)
		c.annotate("intruder", "example.com/touched=1")
		c.hasIP("dev", "intruder", "10.7.0.1") // for life
	})
	c.run("namespaceLimits", func(t *testing.T) {
		c.apply(eip("limited", "10.8.0.1-10.8.0.9", `namespaceLimits: {"*": 2}`))
		for i := range 3 {
			c.apply(loadBalancer(fmt.Sprintf("limited-%d", i), "x", fromPool("limited")))
			if i < 2 {
				c.hasIP("dev", fmt.Sprintf("limited-%d", i), fmt.Sprintf("10.8.0.%d", i+1))
			}
		}
		c.hasReason("limited-2", "QuotaExceeded", "limited", "2")
		c.deleteServices("limited-0")
		c.hasIP("dev", "limited-2", "10.8.0.1")
		c.patchEip("limited", `{"namespaceLimits":{"*":0}}`) // never retroactively
		c.annotate("limited-1", "example.com/touched=1")
		c.hasIP("dev", "limited-1", "10.8.0.2")
		c.apply(loadBalancer("limited-3", "x", fromPool("limited")))
		c.hasReason("limited-3", "QuotaExceeded")
	})
	c.run("overlapping pools say so and give nothing twice", func(t *testing.T) {
		c.kubectl("delete", "validatingwebhookconfiguration", "fairway-admission", "--ignore-not-found")
		c.apply(eip("over-a", "10.9.0.1-10.9.0.2") + eip("over-b", "10.9.0.2-10.9.0.3"))
		c.hasPoolCondition("over-a", "Overlapping", "True", "over-b")
		c.hasPoolCondition("over-b", "Overlapping", "True", "over-a")
		for i, want := range map[string]string{"over-a": "10.9.0.1", "over-b": "10.9.0.2"} {
			c.apply(loadBalancer("in-"+i, "x", fromPool(i)))
			c.hasIP("dev", "in-"+i, want)
		}
		c.apply(loadBalancer("in-over-a-too", "x", fromPool("over-a")))
		c.hasReason("in-over-a-too", "PoolExhausted")
		c.deleteServices("in-over-a-too")
		c.kubectl("delete", "eip", "over-b", "--wait=false")
		c.deleteServices("in-over-b")
		c.hasPoolCondition("over-a", "Overlapping", "False")
	})
}

// TestChoiceOfAddress: which address of its pool a Service gets, and how pools
// grow and shrink.
func TestChoiceOfAddress(t *testing.T) {
	c := newCluster(t, 0)
	c.kubectl("create", "namespace", "dev")
	c.startController()

	c.run("network and broadcast address are given by name only", func(t *testing.T) {
		c.apply(eip("tiny", "10.0.0.0/30"))
		c.hasNumbers("tiny", "0 2 2")
		for i, want := range []string{"10.0.0.1", "10.0.0.2", ""} {
			name := fmt.Sprintf("tiny-%d", i)
			c.apply(loadBalancer(name, "x", fromPool("tiny")))
			if want != "" {
				c.hasIP("dev", name, want)
			}
		}
		c.hasReason("tiny-2", "PoolExhausted", "tiny")
		c.hasPoolCondition("tiny", "Exhausted", "True", "spec.addresses")
		c.apply(loadBalancer("by-name", "x", wantsAddress("10.0.0.0")))
		c.hasIP("dev", "by-name", "10.0.0.0")
		c.hasNumbers("tiny", "3 3 0")
		c.patchEip("tiny", `{"usingKnownIPs":true}`)
		c.hasIP("dev", "tiny-2", "10.0.0.3")
		c.hasNumbers("tiny", "4 4 0")
	})
	c.run("growing, excluding", func(t *testing.T) {
		c.apply(loadBalancer("grown", "x", fromPool("tiny")))
		c.hasReason("grown", "PoolExhausted")
		c.patchEip("tiny", `{"addresses":["10.0.1.1-10.0.1.3","2001:db8::/64"],"exclude":["10.0.1.1"]}`)
		c.hasIP("dev", "grown", "10.0.1.2")
		c.apply(loadBalancer("excluded", "x", fromPool("tiny"), wantsAddress("10.0.1.1")))
		c.hasReason("excluded", "AddressOutOfRange", "10.0.1.1")
		c.eventually("the total is exact", func() string {
			if got := c.kubectl("get", "eip", "tiny", "-o", "jsonpath={.status.total} {.status.poolSize}"); got != "18446744073709551622 9223372036854775807" {
				return got
			}
			return ""
		})
		// As it would be without the admission webhook.
		c.kubectl("delete", "validatingwebhookconfiguration", "fairway-admission", "--ignore-not-found")
		c.patchEip("tiny", `{"exclude":["10.0.1.0/24"]}`)
		c.hasPoolCondition("tiny", "OutOfPool", "True", "10.0.1.2 of Service dev/grown")
		c.hasReason("grown", "NotInPool", "10.0.1.2")
		c.hasIP("dev", "grown", "10.0.1.2")
		c.patchEip("tiny", `{"exclude":[]}`)
		c.hasPoolCondition("tiny", "OutOfPool", "False")
		c.hasIP("dev", "excluded", "10.0.1.1")
		c.hasReason("grown", "Allocated")
	})
	c.run("Rotate gives a freed address last", func(t *testing.T) {
		c.apply(eip("round", "10.2.0.1-10.2.0.3", "allocationPolicy: Rotate"))
		for i, want := range []string{"10.2.0.1", "10.2.0.2", "10.2.0.3", "10.2.0.1"} {
			c.apply(loadBalancer(fmt.Sprintf("round-%d", i), "x", fromPool("round")))
			c.hasIP("dev", fmt.Sprintf("round-%d", i), want)
			c.deleteServices(fmt.Sprintf("round-%d", i))
		}
	})
	c.run("quarantine, also over a restart", func(t *testing.T) {
		c.apply(eip("rest", "10.3.0.1", "quarantine: 1h"))
		c.apply(loadBalancer("rest-0", "x", fromPool("rest")))
		c.hasIP("dev", "rest-0", "10.3.0.1")
		c.deleteServices("rest-0")
		c.apply(loadBalancer("rest-1", "x", fromPool("rest")))
		c.hasReason("rest-1", "PoolExhausted", "quarantine")
		c.hasNumbers("rest", "0 1 0")
		c.hasPoolCondition("rest", "Exhausted", "True", "1 are in quarantine")
		if err := c.controller.Stop(t.Context()); err != nil {
			t.Fatal(err)
		}
		c.startController()
		c.apply(loadBalancer("rest-2", "x", fromPool("rest")))
		c.hasReason("rest-2", "PoolExhausted", "quarantine")
		c.patchEip("rest", `{"quarantine":"1s"}`)
		c.apply(loadBalancer("rest-3", "x", wantsAddress("10.3.0.1")))
		c.hasIP("dev", "rest-3", "10.3.0.1") // asked by name
		c.deleteServices("rest-3")
		c.hasIP("dev", "rest-1", "10.3.0.1") // the oldest that waits, after a second
	})
}
