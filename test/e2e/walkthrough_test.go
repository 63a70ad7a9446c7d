package e2e

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// TestWalkthrough is what a user of OpenELB does on the first day, in order,
// in one cluster.
func TestWalkthrough(t *testing.T) {
	walkThrough(t, newServed(t))
}

func walkThrough(t *testing.T, c *cluster) {
	c.run("kubectl get eip shows the pool", func(t *testing.T) {
		c.eventually("kubectl get eip", func() string {
			lines := strings.Split(c.kubectl("get", "eip"), "\n")
			if len(lines) == 2 &&
				slices.Equal(strings.Fields(lines[0]), []string{"NAME", "CIDR", "USAGE", "TOTAL"}) &&
				slices.Equal(strings.Fields(lines[1]), []string{"eip-pool", "192.168.93.231-192.168.93.238", "1", "8"}) {
				return ""
			}
			return strings.Join(lines, "\n")
		})
	})
	c.run("kubectl get svc shows EXTERNAL-IP", func(t *testing.T) {
		lines := strings.Split(c.kubectl("get", "svc", "svc-lb", "-n", "dev"), "\n")
		column := slices.Index(strings.Fields(lines[0]), "EXTERNAL-IP")
		if column < 0 || strings.Fields(lines[1])[column] != "192.168.93.231" {
			t.Errorf("kubectl get svc shows\n%s", strings.Join(lines, "\n"))
		}
	})
	c.run("one node answers ARP, and an event names it", func(t *testing.T) {
		owner := c.ownerOf("192.168.93.231")
		c.hasEvent("Service", "dev", "svc-lb", "Normal SetBalancer", "node "+owner+" announces 192.168.93.231 on eth33")
		c.hasEvent("Service", "dev", "svc-lb", "Normal AssignIP", "192.168.93.231")
	})
	c.run("the client reaches all three pods", func(t *testing.T) {
		c.reaches("http://192.168.93.231/", "nginx-n1", "nginx-n2", "nginx-n3")
		c.forwarded("192.168.93.231")
	})
	c.run("speakers and controller say how they are", func(t *testing.T) {
		for url, text := range map[string]string{
			"http://192.168.93.11:50053/metrics": "fairway_membership_members 3",
			"http://192.168.93.12:50053/metrics": "fairway_layer2_announced_addresses",
			"http://192.168.93.13:50055/readyz":  "ok",
			"http://192.168.93.10:50052/metrics": `fairway_ipam_pool_addresses_in_use{family="IPv4",pool="eip-pool"} 1`,
			"http://192.168.93.10:50054/healthz": "ok",
		} {
			if body, err := c.Get(t.Context(), url); err != nil || !strings.Contains(body, text) {
				t.Errorf("%s: %v, want %q in\n%s", url, err, text, body)
			}
		}
	})
	c.run("nine curls are all answered", func(t *testing.T) {
		for i := range 9 {
			if body, err := c.Get(t.Context(), "http://192.168.93.231/"); err != nil || !strings.HasPrefix(body, "nginx-") {
				t.Errorf("curl %d: %q, %v", i, body, err)
			}
		}
	})
	c.run("ingress-nginx keeps the client's address", func(t *testing.T) {
		pod := c.pod("dev", "ingress-nginx-1", map[string]string{"app.kubernetes.io/name": "ingress-nginx"}, "n2", 80, 443)
		c.kubectl("apply", "-f", "config/samples/ingress-nginx.yaml")
		c.hasIP("dev", "ingress-nginx-controller", "192.168.93.232")
		if owner := c.ownerOf("192.168.93.232"); owner != "n2" {
			t.Errorf("%s announces it, want n2, which has the ready pod", owner)
		}
		for _, url := range []string{"http://192.168.93.232/", "http://192.168.93.232:443/"} {
			for _, client := range c.reaches(url, "ingress-nginx-1") {
				if client != c.Client().Addr4().String() {
					t.Errorf("%s: the pod saw %s, want the client's %s", url, client, c.Client().Addr4())
				}
			}
		}

		c.run("and follows its pod", func(t *testing.T) {
			c.pod("dev", "ingress-nginx-2", map[string]string{"app.kubernetes.io/name": "ingress-nginx"}, "n3", 80, 443)
			if err := pod.SetReady(t.Context(), false); err != nil {
				t.Fatal(err)
			}
			c.eventually("n3 announces", func() string {
				if owners := c.owners("192.168.93.232"); !slices.Equal(owners, []string{"n3"}) {
					return fmt.Sprint(owners)
				}
				return ""
			})
			c.reaches("http://192.168.93.232/", "ingress-nginx-2")
		})
	})
	c.run("a Service without the annotations is not touched", func(t *testing.T) {
		c.apply(strings.Replace(loadBalancer("plain", "nginx"), "lb.kubesphere.io/v1alpha1: openelb", "example.com/other: openelb", 1))
		// A later one that is ours shows that the controller has passed it.
		c.apply(loadBalancer("after-plain", "nginx", fromPool("eip-pool")))
		c.hasIP("dev", "after-plain", "192.168.93.233")
		c.untouched("dev", "plain")
		if out := c.kubectl("get", "svc", "plain", "-n", "dev"); !strings.Contains(out, "<pending>") {
			t.Errorf("kubectl get svc shows\n%s", out)
		}
	})
	c.run("the same with IPv6", func(t *testing.T) {
		c.serveIPv6()
		owner := c.ownerOf("fd93::231")
		c.hasEvent("Service", "dev", "svc-lb-ipv6", "Normal SetBalancer", "node "+owner+" announces fd93::231 on eth33")
		c.eventually("kubectl get eip", func() string {
			out := c.kubectl("get", "eip", "eip-pool-ipv6", "--no-headers")
			if slices.Equal(strings.Fields(out), []string{"eip-pool-ipv6", "fd93::231-fd93::238", "1", "8"}) {
				return ""
			}
			return out
		})
	})
	c.run("mistakes get a clear answer and harm nothing", func(t *testing.T) {
		c.refuses(eip("reversed", "192.168.93.250-192.168.93.240"), "invalid eip address format")
		c.refuses(eip("reversed6", "fd93::9-fd93::1"), "invalid eip address format")
		c.refuses(eip("mixed", "192.168.93.240-fd93::1"), "invalid eip address format")
		c.refuses(eip("space", "' 192.168.93.240'"), "invalid eip address format")

		c.apply(loadBalancer("outside", "nginx", fromPool("eip-pool"), wantsAddress("192.168.94.1")))
		c.hasEvent("Service", "dev", "outside", "Warning", "192.168.94.1", "eip-pool", "192.168.93.231-192.168.93.238")
		c.apply(loadBalancer("no-such-pool", "nginx", fromPool("eip-pol")))
		c.hasEvent("Service", "dev", "no-such-pool", "Warning", "eip-pol")

		// A typo in what works takes nothing away.
		c.apply(loadBalancer("after-plain", "nginx", fromPool("eip-pol")))
		c.hasEvent("Service", "dev", "after-plain", "Warning", "eip-pol")
		c.hasIP("dev", "after-plain", "192.168.93.233")
		c.hasIP("dev", "svc-lb", "192.168.93.231")
		c.reaches("http://192.168.93.231/", "nginx-n1", "nginx-n2", "nginx-n3")
		c.reaches("http://192.168.93.233/", "nginx-n1", "nginx-n2", "nginx-n3")

		// The typo is mended, and the missing pool appears: who waited for it
		// gets an address, and nobody else.
		c.apply(loadBalancer("after-plain", "nginx", fromPool("eip-pool")))
		c.apply(eip("eip-pol", "192.168.93.241-192.168.93.242"))
		c.hasIP("dev", "no-such-pool", "192.168.93.241")
		c.hasIP("dev", "after-plain", "192.168.93.233")
	})
}
