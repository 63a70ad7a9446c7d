package e2e

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fairway-lb/fairway/api/v1alpha2"
)

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
		c.apply(with(loadBalancer("local", "x", fromPool("pool"), sharing("l")), policyLocal))
		c.hasReason("local", "Allocated")
		ip := externalIPs(c.service("dev", "local"))
		c.apply(with(onPort(loadBalancer("local-same", "x", wantsAddress(ip), sharing("l")), 81), policyLocal))
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
