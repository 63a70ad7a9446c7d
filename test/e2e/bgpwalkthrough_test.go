package e2e

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/fairway-lb/fairway/test/lab"
)

// walkthrough is OpenELB's document for its users' first day with BGP, word for
// word but for the addresses of the lab.
const walkthrough = `
apiVersion: network.kubesphere.io/v1alpha2
kind: BgpConf
metadata:
  name: default
spec:
  as: 50000
  listenPort: 17900
  routerId: 192.168.93.11
---
apiVersion: network.kubesphere.io/v1alpha2
kind: BgpPeer
metadata:
  name: bgp-peer
spec:
  conf:
    peerAs: 50001
    neighborAddress: 192.168.93.1
---
apiVersion: network.kubesphere.io/v1alpha2
kind: Eip
metadata:
  name: bgp-eip
spec:
  address: 172.22.0.2-172.22.0.10
---
kind: Service
apiVersion: v1
metadata:
  name: bgp-svc
  namespace: dev
  annotations:
    lb.kubesphere.io/v1alpha1: openelb
    eip.openelb.kubesphere.io/v1alpha2: bgp-eip
spec:
  selector:
    app: bgp-openelb
  type: LoadBalancer
  ports:
  - name: http
    port: 80
    targetPort: 8080
  externalTrafficPolicy: Cluster
`

// connectingBIRD is the router of that document: it connects to each node, at
// the port that the BgpConf names.
func connectingBIRD(nodes int) lab.RouterOptions {
	opts := eachNode(lab.BIRD, nodes)
	for i := range opts.Neighbors {
		n := &opts.Neighbors[i]
		n.Passive, n.Port, n.UpdateSource, n.AddPaths = false, 17900, netip.MustParseAddr("192.168.93.1"), true
		n.Extra = "enable route refresh off;"
	}
	return opts
}

// TestBGPWalkthrough is what a user of OpenELB does on the first day with BGP.
func TestBGPWalkthrough(t *testing.T) {
	for _, opts := range []lab.RouterOptions{frrRouter(), connectingBIRD(3)} {
		t.Run(opts.Kind.String(), func(t *testing.T) { walkThroughBGP(t, newUnpeered(t, 3, opts)) })
	}
}

func walkThroughBGP(t *testing.T, c *cluster) {
	r := c.Router("r1")
	pods := []string{"bgp-openelb-n1", "bgp-openelb-n2", "bgp-openelb-n3"}
	for i, pod := range pods {
		c.pod("dev", pod, map[string]string{"app": "bgp-openelb"}, fmt.Sprintf("n%d", i+1), 8080)
	}
	routing, _, _ := strings.Cut(walkthrough, "---\napiVersion: network.kubesphere.io/v1alpha2\nkind: Eip")
	c.apply(routing)
	c.established(r, "n1", "n2", "n3")
	c.apply(walkthrough)
	c.hasIP("dev", "bgp-svc", "172.22.0.2")

	c.run("the router has one next hop for each node", func(t *testing.T) {
		c.hasRoute(r, "172.22.0.2/32", "n1", "n2", "n3")
		if out := c.inside(r.Namespace, "ip", "route", "show", "172.22.0.2"); strings.Count(out, "nexthop via ") != 3 {
			t.Errorf("ip route shows\n%s", out)
		}
	})
	c.run("the client behind it reaches all pods", func(t *testing.T) {
		c.reachesFrom(r.Client(), "http://172.22.0.2/", pods...)
		c.forwarded("172.22.0.2")
	})
	c.run("the Service's event says from where", func(t *testing.T) {
		c.hasEvent("Service", "dev", "bgp-svc", "Normal SetBalancer", "172.22.0.2 is announced by BGP from every node that can serve it")
	})
	c.run("with policy Local only the nodes of pods are next hops, and pods see the client", func(t *testing.T) {
		for _, pod := range pods[1:] {
			if err := c.Pod("dev", pod).SetReady(t.Context(), false); err != nil {
				t.Fatal(err)
			}
		}
		c.apply(strings.Replace(walkthrough, "externalTrafficPolicy: Cluster", policyLocal, 1))
		c.hasRoute(r, "172.22.0.2/32", "n1")
		c.preserves(r.Client(), r.ClientAddr4(), "http://172.22.0.2/", pods[0])
		c.hasEvent("Service", "dev", "bgp-svc", "Normal SetBalancer", "172.22.0.2 is announced by BGP from node n1")
	})
	c.run("a second Service has the next address", func(t *testing.T) {
		c.apply(bgpService("second", "bgp-openelb", "bgp-eip"))
		c.hasIP("dev", "second", "172.22.0.3")
		c.hasRoute(r, "172.22.0.3/32", "n1", "n2", "n3")
	})
	c.run("kubectl shows router and pool", func(t *testing.T) {
		for command, want := range map[string][]string{
			"bgpconf": {"default", "50000", "17900"},
			"bgppeer": {"bgp-peer", "50001", "192.168.93.1"},
			"eip":     {"bgp-eip", "172.22.0.2-172.22.0.10", "2", "9"},
		} {
			c.eventually("kubectl get "+command, func() string {
				out := c.kubectl("get", command, "--no-headers")
				if fields := strings.Fields(out); len(fields) < len(want) || !slices.Equal(fields[:len(want)], want) {
					return out
				}
				return ""
			})
		}
	})
	c.run("deleted, it leaves nothing", func(t *testing.T) {
		c.kubectl("delete", "svc", "-n", "dev", "bgp-svc", "second")
		c.noRoute(r, "172.22.0.2/32")
		c.noRoute(r, "172.22.0.3/32")
		c.kubectl("delete", "eip", "bgp-eip")
		c.kubectl("delete", "bgppeer", "bgp-peer")
		c.noSession(r, "n1", "n2", "n3")
		c.kubectl("delete", "bgpconf", "default")
	})
}

// TestBGPSample: the sample that the documents refer to works as it is.
func TestBGPSample(t *testing.T) {
	bothRouters(t, func(t *testing.T, opts lab.RouterOptions) {
		c := newUnpeered(t, 2, opts)
		c.pods("dev", "nginx", "n1", "n2")
		c.kubectl("apply", "-f", "config/samples/bgp.yaml")
		c.hasIP("dev", "bgp-svc", "172.22.0.2")
		c.hasRoute(c.Router("r1"), "172.22.0.2/32", "n1", "n2")
		c.reachesFrom(c.Router("r1").Client(), "http://172.22.0.2/", "nginx-n1", "nginx-n2")
	})
}

// TestBGPIPv6 announces addresses of both families by a session for each, and
// by one session over IPv4 that carries both: the next hop of a route is the
// node's address of the route's own family.
func TestBGPIPv6(t *testing.T) {
	bothRouters(t, func(t *testing.T, opts lab.RouterOptions) {
		c := newUnpeered(t, 2, opts)
		r := c.Router("r1")
		pods := []string{"nginx-n1", "nginx-n2"}
		c.pods("dev", "nginx", "n1", "n2")
		c.apply(bgpConf("listenPort: 17900") +
			bgpPeer("tor", r.Addr4().String(), routersAS) +
			bgpPeer("tor6", r.Addr6().String(), routersAS) +
			bgpEip("v6", "fd22::2-fd22::10") +
			bgpService("six", "nginx", "v6", "ipFamilies: [IPv6]", "ipFamilyPolicy: SingleStack"))

		served6 := func(addr, service string, nodes, pods []string) {
			c.t.Helper()
			c.hasIP("dev", service, addr)
			c.hasRoute(r, addr+"/128", nodes...)
			if url := "http://[" + addr + "]/"; len(nodes) == 1 {
				c.preserves(r.Client(), r.ClientAddr6(), url, pods...)
			} else {
				c.reachesFrom(r.Client(), url, pods...)
			}
		}
		c.run("a session over IPv6", func(t *testing.T) {
			served6("fd22::2", "six", []string{"n1", "n2"}, pods)
		})
		c.run("policy Local", func(t *testing.T) {
			if err := c.Pod("dev", "nginx-n1").SetReady(t.Context(), false); err != nil {
				t.Fatal(err)
			}
			c.apply(bgpService("six", "nginx", "v6", "ipFamilies: [IPv6]", "ipFamilyPolicy: SingleStack", policyLocal))
			served6("fd22::2", "six", []string{"n2"}, pods[1:])
			if err := c.Pod("dev", "nginx-n1").SetReady(t.Context(), true); err != nil {
				t.Fatal(err)
			}
			served6("fd22::2", "six", []string{"n1", "n2"}, pods)
		})
		c.run("dual stack, a session for each family", func(t *testing.T) {
			c.apply(bgpEip("dual", "172.22.1.2-172.22.1.10", "addresses: [\"fd22:1::2-fd22:1::10\"]") +
				bgpService("dual", "nginx", "dual", "ipFamilies: [IPv4, IPv6]", "ipFamilyPolicy: RequireDualStack"))
			c.hasIP("dev", "dual", "172.22.1.2,fd22:1::2")
			c.hasRoute(r, "172.22.1.2/32", "n1", "n2")
			c.hasRoute(r, "fd22:1::2/128", "n1", "n2")
			c.reachesFrom(r.Client(), "http://172.22.1.2/", pods...)
			c.reachesFrom(r.Client(), "http://[fd22:1::2]/", pods...)
		})
		c.run("IPv6 routes over a session over IPv4", func(t *testing.T) {
			c.kubectl("delete", "bgppeer", "tor6")
			c.noRoute(r, "fd22:1::2/128")
			c.hasRoute(r, "172.22.1.2/32", "n1", "n2")
			c.apply(bgpPeer("tor", r.Addr4().String(), routersAS, twoFamilies()...))
			c.hasRoute(r, "172.22.1.2/32", "n1", "n2")
			c.hasRoute(r, "fd22::2/128", "n1", "n2")
			c.hasRoute(r, "fd22:1::2/128", "n1", "n2")
			c.reachesFrom(r.Client(), "http://[fd22:1::2]/", pods...)
		})
		c.run("both over a session over IPv6", func(t *testing.T) {
			c.kubectl("delete", "bgppeer", "tor")
			c.noRoute(r, "172.22.1.2/32")
			c.apply(bgpPeer("tor6", r.Addr6().String(), routersAS, twoFamilies()...))
			c.hasRoute(r, "172.22.1.2/32", "n1", "n2")
			c.hasRoute(r, "fd22:1::2/128", "n1", "n2")
			c.reachesFrom(r.Client(), "http://172.22.1.2/", pods...)
		})
	})
}
