package e2e

import (
	"fmt"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fairway-lb/fairway/api/v1alpha2"
)

// hasReason waits until a Service's condition has a reason, and a message with
// all the parts, and checks that a Warning says the same.
func (c *cluster) hasReason(name, reason string, parts ...string) {
	c.t.Helper()
	var message string
	c.eventually(fmt.Sprintf("Service %s has reason %s", name, reason), func() string {
		condition := meta.FindStatusCondition(c.service("dev", name).Status.Conditions, v1alpha2.ConditionAllocated)
		switch {
		case condition == nil:
			return "it has no condition"
		case condition.Reason != reason || (condition.Status == metav1.ConditionTrue) != (reason == "Allocated"):
			return fmt.Sprintf("it has %s %s: %s", condition.Status, condition.Reason, condition.Message)
		}
		for _, part := range parts {
			if !strings.Contains(condition.Message, part) {
				return fmt.Sprintf("%q is not in %q", part, condition.Message)
			}
		}
		message = condition.Message
		return ""
	})
	if reason != "Allocated" {
		c.hasEvent("Service", "dev", name, "Warning", message)
	}
}

// hasPoolCondition waits until a condition of an Eip has a status, and a
// message with all the parts.
func (c *cluster) hasPoolCondition(name, kind, status string, parts ...string) {
	c.t.Helper()
	c.eventually(fmt.Sprintf("condition %s of Eip %s is %s", kind, name, status), func() string {
		var pool v1alpha2.Eip
		if err := c.api.Get(c.t.Context(), client.ObjectKey{Name: name}, &pool); err != nil {
			return err.Error()
		}
		condition := meta.FindStatusCondition(pool.Status.Conditions, kind)
		if condition == nil || string(condition.Status) != status {
			return fmt.Sprintf("it is %+v", condition)
		}
		for _, part := range parts {
			if !strings.Contains(condition.Message, part) {
				return fmt.Sprintf("%q is not in %q", part, condition.Message)
			}
		}
		return ""
	})
}

// hasNumbers waits until an Eip's status has these numbers: usage, poolSize,
// free.
func (c *cluster) hasNumbers(name, numbers string) {
	c.t.Helper()
	c.eventually(fmt.Sprintf("Eip %s has usage, poolSize and free %s", name, numbers), func() string {
		if got := c.kubectl("get", "eip", name, "-o", "jsonpath={.status.usage} {.status.poolSize} {.status.free}"); got != numbers {
			return "it has " + got
		}
		return ""
	})
}

func (c *cluster) patchEip(name, spec string) {
	c.t.Helper()
	c.kubectl("patch", "eip", name, "--type=merge", "-p", `{"spec":`+spec+`}`)
}

// annotate changes annotations of a Service, as key=value or key-.
func (c *cluster) annotate(name string, annotations ...string) {
	c.t.Helper()
	c.kubectl(append([]string{"annotate", "--overwrite", "svc", "-n", "dev", name}, annotations...)...)
}

func (c *cluster) deleteServices(names ...string) {
	c.t.Helper()
	c.kubectl(append([]string{"delete", "svc", "-n", "dev", "--timeout=30s"}, names...)...)
}

// sharing is the annotation with the key of sharing.
func sharing(key string) string { return v1alpha2.AnnotationShare + ": " + key }

// onPort replaces the port of a document.
func onPort(document string, port int) string {
	return strings.Replace(document, "- port: 80", fmt.Sprintf("- port: %d", port), 1)
}

// with adds lines to the spec of a Service's document.
func with(document string, lines ...string) string {
	return document + indent("  ", lines)
}

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
		c.apply("apiVersion: network.kubesphere.io/v1alpha2\nkind: Eip\nmetadata: {name: routed}\nspec: {address: 10.5.0.1-10.5.0.9, namespaces: [dev]}")
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

// TestSharedAddress: who may have an address together.
func TestSharedAddress(t *testing.T) {
	c := newCluster(t, 0)
	c.kubectl("create", "namespace", "dev")
	c.kubectl("create", "namespace", "other")
	c.startController()
	c.apply(eip("pool", "10.1.0.1-10.1.0.9"))
	elsewhere := func(document string) string {
		return strings.Replace(document, "namespace: dev", "namespace: other", 1)
	}

	c.run("by key, on different ports", func(t *testing.T) {
		c.apply(loadBalancer("http", "x", fromPool("pool"), sharing("web")))
		c.hasIP("dev", "http", "10.1.0.1")
		c.apply(onPort(loadBalancer("https", "x", fromPool("pool"), sharing("web")), 443))
		c.hasIP("dev", "https", "10.1.0.1")
		c.hasNumbers("pool", "1 9 8")
		c.eventually("used names both", func() string {
			if got := c.kubectl("get", "eip", "pool", "-o", `jsonpath={.status.used.10\.1\.0\.1}`); got != "dev/http;dev/https" {
				return got
			}
			return ""
		})
		c.apply(loadBalancer("http-too", "x", fromPool("pool"), sharing("web")))
		c.hasIP("dev", "http-too", "10.1.0.2") // port 80 is taken there
		c.apply(loadBalancer("http-there", "x", wantsAddress("10.1.0.1"), sharing("web")))
		c.hasReason("http-there", "SharingRefused", "80", "dev/http", "10.1.0.1")
		c.apply(onPort(loadBalancer("no-consent", "x", wantsAddress("10.1.0.1")), 8080))
		c.hasReason("no-consent", "AddressInUse", "dev/http", v1alpha2.AnnotationShare)
		c.apply(elsewhere(onPort(loadBalancer("stranger", "x", wantsAddress("10.1.0.1"), sharing("web")), 8081)))
		c.hasEvent("Service", "other", "stranger", "Warning", "namespace")
	})
	c.run("an event for each thing that helps", func(t *testing.T) {
		c.patchEip("pool", `{"sharing":{"namespaces":["dev","other"]}}`)
		c.hasIP("other", "stranger", "10.1.0.1")
		c.deleteServices("http")
		c.hasIP("dev", "http-there", "10.1.0.1")
		c.annotate("no-consent", v1alpha2.AnnotationShare+"=web")
		c.hasIP("dev", "no-consent", "10.1.0.1")
		c.deleteServices("https", "http-too", "http-there", "no-consent")
		c.kubectl("delete", "svc", "-n", "other", "stranger", "--timeout=30s")
		c.hasNumbers("pool", "0 9 9")
	})
	c.run("by asking for it, as with OpenELB", func(t *testing.T) {
		c.apply(with(loadBalancer("old-1", "x", fromPool("pool")), "loadBalancerIP: 10.1.0.5"))
		c.hasIP("dev", "old-1", "10.1.0.5")
		c.apply(with(onPort(loadBalancer("old-2", "x", fromPool("pool")), 81), "loadBalancerIP: 10.1.0.5"))
		c.hasIP("dev", "old-2", "10.1.0.5")
		c.hasEvent("Service", "dev", "old-2", "Warning DeprecatedSharing", "dev/old-1", v1alpha2.AnnotationShare)
		c.apply(with(loadBalancer("old-3", "x", fromPool("pool")), "loadBalancerIP: 10.1.0.5"))
		c.hasReason("old-3", "SharingRefused", "80", "dev/old-1")
		c.deleteServices("old-1")
		c.hasIP("dev", "old-3", "10.1.0.5")
		c.hasIP("dev", "old-2", "10.1.0.5")
	})
	c.run("Local needs equal selectors", func(t *testing.T) {
		local := "externalTrafficPolicy: Local"
		c.apply(with(loadBalancer("local", "x", fromPool("pool"), sharing("l")), local))
		c.hasReason("local", "Allocated")
		ip := externalIPs(c.service("dev", "local"))
		c.apply(with(onPort(loadBalancer("local-same", "x", wantsAddress(ip), sharing("l")), 81), local))
		c.hasIP("dev", "local-same", ip)
		c.apply(onPort(loadBalancer("local-other", "another", wantsAddress(ip), sharing("l")), 82))
		c.hasReason("local-other", "SharingRefused", "selector")
	})
	c.run("a port that is added later", func(t *testing.T) {
		c.apply(onPort(loadBalancer("grows", "x", wantsAddress("10.1.0.8"), sharing("g")), 80))
		c.hasIP("dev", "grows", "10.1.0.8")
		c.apply(onPort(loadBalancer("guest", "x", wantsAddress("10.1.0.8"), sharing("g")), 81))
		c.hasIP("dev", "guest", "10.1.0.8")
		c.kubectl("patch", "svc", "-n", "dev", "grows", "--type=merge", "-p", `{"spec":{"ports":[{"name":"a","port":80},{"name":"b","port":81}]}}`)
		c.hasReason("guest", "SharingRefused", "81", "dev/grows")
		c.hasIP("dev", "guest", "10.1.0.8") // both keep it
		c.hasIP("dev", "grows", "10.1.0.8")
		c.kubectl("patch", "svc", "-n", "dev", "grows", "--type=merge", "-p", `{"spec":{"ports":[{"name":"a","port":80}]}}`)
		c.hasReason("guest", "Allocated")
	})
}

// TestDualStackAddresses: a Service of two families has an address of each.
func TestDualStackAddresses(t *testing.T) {
	c := newCluster(t, 0)
	c.kubectl("create", "namespace", "dev")
	c.startController()
	c.apply(eip("four", "10.1.0.1-10.1.0.9"))
	c.apply(eip("six", "2001:db8::1-2001:db8::9"))
	c.apply(eip("both", "10.2.0.1-10.2.0.9", "addresses: ['2001:db8:2::1-2001:db8:2::9']"))
	require, prefer := "ipFamilyPolicy: RequireDualStack", "ipFamilyPolicy: PreferDualStack"

	c.run("from one pool", func(t *testing.T) {
		c.apply(with(loadBalancer("one-pool", "x", fromPool("both")), require))
		c.hasIP("dev", "one-pool", "10.2.0.1,2001:db8:2::1")
	})
	c.run("from two pools, in the order of ipFamilies", func(t *testing.T) {
		c.apply(with(loadBalancer("two-pools", "x", fromPool("'four,six'")), require, "ipFamilies: [IPv6, IPv4]"))
		c.hasIP("dev", "two-pools", "2001:db8::1,10.1.0.1")
		c.hasNumbers("four", "1 9 8")
		c.hasNumbers("six", "1 9 8")
	})
	c.run("by address", func(t *testing.T) {
		c.apply(with(loadBalancer("by-address", "x", wantsAddress("10.1.0.5, 2001:db8::5")), require))
		c.hasIP("dev", "by-address", "10.1.0.5,2001:db8::5")
	})
	c.run("RequireDualStack has both or none", func(t *testing.T) {
		c.apply(with(loadBalancer("require", "x", fromPool("four")), require))
		c.hasReason("require", "FamilyMismatch", "IPv6")
		c.hasIP("dev", "require", "")
		c.hasNumbers("four", "2 9 7")
		c.patchEip("four", `{"addresses":["2001:db8:4::1"]}`)
		c.hasIP("dev", "require", "10.1.0.2,2001:db8:4::1")
	})
	c.run("PreferDualStack gains the second later", func(t *testing.T) {
		c.apply(eip("late", "10.3.0.1-10.3.0.9"))
		c.apply(with(loadBalancer("prefer", "x", fromPool("late")), prefer))
		c.hasIP("dev", "prefer", "10.3.0.1")
		c.hasReason("prefer", "Allocated", "second", "IPv6")
		c.patchEip("late", `{"addresses":["2001:db8:3::1"]}`)
		c.hasIP("dev", "prefer", "10.3.0.1,2001:db8:3::1")
	})
	c.run("back to one family, and to two again", func(t *testing.T) {
		c.kubectl("patch", "svc", "-n", "dev", "prefer", "--type=merge", "-p", `{"spec":{"ipFamilyPolicy":"SingleStack","ipFamilies":["IPv4"]}}`)
		c.hasIP("dev", "prefer", "10.3.0.1")
		c.hasEvent("Service", "dev", "prefer", "Normal ReleaseIP", "2001:db8:3::1")
		c.hasNumbers("late", "1 10 9")
		c.kubectl("patch", "svc", "-n", "dev", "prefer", "--type=merge", "-p", `{"spec":{"ipFamilyPolicy":"RequireDualStack"}}`)
		c.hasIP("dev", "prefer", "10.3.0.1,2001:db8:3::1")
	})
	c.run("it survives a restart, and nothing is written", func(t *testing.T) {
		versions := c.versions()
		if err := c.controller.Stop(t.Context()); err != nil {
			t.Fatal(err)
		}
		c.startController()
		c.apply(loadBalancer("after", "x", fromPool("four")))
		c.hasIP("dev", "after", "10.1.0.3")
		for name, version := range c.versions() {
			if before, had := versions[name]; had && before != version {
				t.Errorf("%s was written to", name)
			}
		}
	})
}

// versions returns the resource versions of the Services of namespace dev.
func (c *cluster) versions() map[string]string {
	c.t.Helper()
	var list corev1.ServiceList
	if err := c.api.List(c.t.Context(), &list, client.InNamespace("dev")); err != nil {
		c.t.Fatalf("listing Services: %v", err)
	}
	versions := map[string]string{}
	for _, svc := range list.Items {
		versions[svc.Name] = svc.ResourceVersion
	}
	return versions
}

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
