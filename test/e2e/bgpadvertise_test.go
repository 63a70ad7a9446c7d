package e2e

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fairway-lb/fairway/api/v1alpha2"
	"github.com/fairway-lb/fairway/test/lab"
)

// advertise changes spec.bgp of an Eip by a merge patch; null takes it away.
func (c *cluster) advertise(name, bgp string) {
	c.t.Helper()
	c.patchEip(name, `{"bgp":`+bgp+`}`)
}

// TestBGPAttributes changes spec.bgp of an Eip in place, and reads the routes at
// a router of another AS and at one of the nodes' own.
func TestBGPAttributes(t *testing.T) {
	for _, kind := range []lab.RouterKind{lab.FRR, lab.BIRD} {
		t.Run(kind.String(), func(t *testing.T) {
			other, own := anyNode(kind, nil), anyNode(kind, nil)
			own.AS = nodesAS
			showAttributes(t, newBGPServed(t, 2, other, own))
		})
	}
}

func showAttributes(t *testing.T, c *cluster) {
	const prefix = "172.22.0.2/32"
	external, internal := c.Router("r1"), c.Router("r2")
	nodes := c.nodeNames()
	number := func(p *uint32) string {
		if p == nil {
			return "none"
		}
		return fmt.Sprint(*p)
	}
	sessions := map[*lab.Router][]string{external: c.connections(external), internal: c.connections(internal)}
	watches := map[*lab.Router]*lab.RouteWatch{external: c.watch(external, prefix), internal: c.watch(internal, prefix)}
	for _, step := range []struct {
		name, bgp string
		// What a path has at both routers, and at each of them.
		communities, large, externalPath, med, localPref string
	}{
		{"nothing", `{}`, "[]", "[]", "[50000]", "none", "100"},
		{"standard communities", `{"communities":["65000:100","65000:7"]}`, "[65000:100 65000:7]", "[]", "[50000]", "none", "100"},
		{"large and well-known ones", `{"communities":["65000:1:2","no-export","65000:100"]}`, "[65000:100 65535:65281]", "[65000:1:2]", "[50000]", "none", "100"},
		{"local preference", `{"communities":null,"localPref":250}`, "[]", "[]", "[50000]", "none", "250"},
		{"discriminator", `{"med":77}`, "[]", "[]", "[50000]", "77", "250"},
		{"longer path", `{"asPathPrepend":2,"localPref":null}`, "[]", "[]", "[50000 50000 50000]", "77", "100"},
		{"zeros", `{"asPathPrepend":0,"localPref":0,"med":0}`, "[]", "[]", "[50000]", "0", "0"},
		{"all at once", `{"communities":["65000:1","65000:1:1"],"localPref":300,"med":4000000000,"asPathPrepend":1}`, "[65000:1]", "[65000:1:1]", "[50000 50000]", "4000000000", "300"},
		{"nothing again", `null`, "[]", "[]", "[50000]", "none", "100"},
	} {
		c.run(step.name, func(t *testing.T) {
			c.advertise("bgp-eip", step.bgp)
			c.paths(external, prefix, "at the router of another AS has "+step.name, nodes, func(path lab.BGPPath) bool {
				return fmt.Sprint(path.Communities) == step.communities && fmt.Sprint(path.LargeCommunities) == step.large &&
					fmt.Sprint(path.ASPath) == step.externalPath && (number(path.MED) == step.med || step.med == "none" && number(path.MED) == "0")
			})
			c.paths(internal, prefix, "at the router of the nodes' AS has "+step.name, nodes, func(path lab.BGPPath) bool {
				return fmt.Sprint(path.Communities) == step.communities && fmt.Sprint(path.LargeCommunities) == step.large &&
					len(path.ASPath) == 0 && number(path.LocalPref) == step.localPref
			})
			c.hasRoute(external, prefix, nodes...)
			c.hasRoute(internal, prefix, nodes...)
		})
	}
	for r, watch := range watches {
		c.noGaps(watch, prefix)
		c.sameConnections(r, sessions[r])
	}
}

// TestBGPAggregates announces the addresses of an Eip in prefixes that it has
// all of.
func TestBGPAggregates(t *testing.T) {
	bothRouters(t, func(t *testing.T, opts lab.RouterOptions) {
		c := newUnpeered(t, 2, opts)
		r := c.Router("r1")
		nodes := c.nodeNames()
		c.pods("dev", "nginx", nodes...)
		c.apply(bgpConf("listenPort: 17900") + bgpPeer("r1", r.Addr4().String(), routersAS, twoFamilies()...))
		six := []string{"ipFamilies: [IPv6]", "ipFamilyPolicy: SingleStack"}
		c.apply(bgpEip("agg", "172.23.0.0/24", "bgp: {aggregationLength: 24}") +
			bgpEip("agg6", "fd23::/112", "bgp: {aggregationLengthV6: 112}") +
			bgpService("a", "nginx", "agg") + bgpService("b", "nginx", "agg") +
			bgpService("a6", "nginx", "agg6", six...) + bgpService("b6", "nginx", "agg6", six...))
		// alone is the route that a Service has without an aggregate.
		alone := func(name string) string {
			c.t.Helper()
			addr := netip.MustParseAddr(c.hasSomeIP("dev", name))
			return netip.PrefixFrom(addr, addr.BitLen()).String()
		}
		aggregates := map[string][]string{"172.23.0.0/24": {"a", "b"}, "fd23::/112": {"a6", "b6"}}
		c.run("one route for all members", func(t *testing.T) {
			for aggregate, members := range aggregates {
				c.hasRoute(r, aggregate, nodes...)
				for _, name := range members {
					c.noRoute(r, alone(name))
					host := net.JoinHostPort(c.hasSomeIP("dev", name), "80")
					c.reachesFrom(r.Client(), "http://"+host+"/", "nginx-n1", "nginx-n2")
				}
			}
		})
		c.run("it goes and comes in place, while each address has a route", func(t *testing.T) {
			for eip, field := range map[string]string{"agg": "aggregationLength", "agg6": "aggregationLengthV6"} {
				aggregate := map[string]string{"agg": "172.23.0.0/24", "agg6": "fd23::/112"}[eip]
				members := aggregates[aggregate]
				watch := c.watch(r, aggregate, alone(members[0]), alone(members[1]))
				c.advertise(eip, "null")
				c.hasRoute(r, alone(members[0]), nodes...)
				c.hasRoute(r, alone(members[1]), nodes...)
				c.noRoute(r, aggregate)
				length := map[string]int{"agg": 24, "agg6": 112}[eip]
				c.advertise(eip, fmt.Sprintf(`{%q:%d}`, field, length))
				c.hasRoute(r, aggregate, nodes...)
				c.noRoute(r, alone(members[0]))
				c.noRoute(r, alone(members[1]))
				for _, name := range members {
					c.alwaysRouted(watch, aggregate, alone(name))
				}
			}
		})
		c.run("it goes with its last member", func(t *testing.T) {
			for aggregate, members := range aggregates {
				watch := c.watch(r, aggregate)
				c.kubectl("delete", "svc", "-n", "dev", members[0])
				// A Service after it shows that the nodes have seen it.
				other := "after-" + members[0]
				c.apply(bgpEip(other, map[string]string{"a": "172.24.0.1", "a6": "172.24.0.2"}[members[0]]) + bgpService(other, "nginx", other))
				c.hasRoute(r, alone(other), nodes...)
				c.unchanged(watch, aggregate)
				c.kubectl("delete", "svc", "-n", "dev", members[1])
				c.noRoute(r, aggregate)
			}
		})
		c.run("a prefix that is not wholly in the Eip is not announced", func(t *testing.T) {
			c.apply(bgpEip("partial", "172.25.0.2-172.25.0.20", "bgp: {aggregationLength: 29}") +
				bgpService("edge", "nginx", "partial") +
				loadBalancer("inside", "nginx", fromPool("partial"), wantsAddress("172.25.0.9")))
			c.hasIP("dev", "edge", "172.25.0.2")
			c.hasIP("dev", "inside", "172.25.0.9")
			c.hasRoute(r, "172.25.0.2/32", nodes...)
			c.hasRoute(r, "172.25.0.8/29", nodes...)
			c.noRoute(r, "172.25.0.0/29")
		})
	})
}

// alwaysRouted fails the test if there was a time since the watch began when an
// address had neither a route of its own nor one of the aggregate.
func (c *cluster) alwaysRouted(watch *lab.RouteWatch, prefixes ...string) {
	c.t.Helper()
	if err := watch.Err(); err != nil {
		c.t.Error(err)
	}
	has := map[string]bool{}
	var lost time.Time
	for _, change := range watch.Changes(netip.Prefix{}) {
		has[change.Prefix.String()] = change.Kind != lab.RouteDeleted
		routed := slices.ContainsFunc(prefixes, func(p string) bool { return has[p] })
		switch {
		case !slices.Contains(prefixes, change.Prefix.String()):
		case !routed:
			lost = change.Time
		case !lost.IsZero():
			c.t.Errorf("none of %v had a route for %v", prefixes, change.Time.Sub(lost))
			lost = time.Time{}
		}
	}
}

// TestBGPPeersOfAnEip announces an Eip to some of the routers only.
func TestBGPPeersOfAnEip(t *testing.T) {
	c := newBGPServed(t, 2, birdRouter(), frrRouter())
	const prefix = "172.22.0.2/32"
	nodes := c.nodeNames()
	c.kubectl("label", "bgppeer", "r2", "side=right")
	sessions := [][]string{c.connections(c.Router("r1")), c.connections(c.Router("r2"))}
	c.apply(bgpEip("everywhere", "172.22.1.1") + bgpService("everywhere", "nginx", "everywhere"))
	c.hasIP("dev", "everywhere", "172.22.1.1")
	for _, step := range []struct {
		name, bgp string
		routers   []string
	}{
		{"by name", `{"peers":["r1"]}`, []string{"r1"}},
		{"another one", `{"peers":["r2"]}`, []string{"r2"}},
		{"by label", `{"peers":null,"peerSelector":{"matchLabels":{"side":"right"}}}`, []string{"r2"}},
		{"by both", `{"peers":["r1"]}`, []string{"r1", "r2"}},
		{"nobody", `{"peers":null,"peerSelector":{"matchLabels":{"side":"none"}}}`, nil},
		{"one that does not exist", `{"peers":["nobody"],"peerSelector":null}`, nil},
		{"all", `null`, []string{"r1", "r2"}},
	} {
		c.run(step.name, func(t *testing.T) {
			c.advertise("bgp-eip", step.bgp)
			for _, r := range c.Routers() {
				if slices.Contains(step.routers, r.Name()) {
					c.hasRoute(r, prefix, nodes...)
				} else {
					c.noRoute(r, prefix)
				}
				c.hasRoute(r, "172.22.1.1/32", nodes...)
			}
		})
	}
	c.run("a label that changes is followed", func(t *testing.T) {
		c.advertise("bgp-eip", `{"peerSelector":{"matchLabels":{"side":"right"}}}`)
		c.noRoute(c.Router("r1"), prefix)
		c.hasRoute(c.Router("r2"), prefix, nodes...)
		c.kubectl("label", "bgppeer", "r1", "side=right")
		c.kubectl("label", "bgppeer", "r2", "--overwrite", "side=left")
		c.hasRoute(c.Router("r1"), prefix, nodes...)
		c.noRoute(c.Router("r2"), prefix)
	})
	for i, r := range c.Routers() {
		c.sameConnections(r, sessions[i])
	}
}

// TestBGPSharedAddress has two Services on one address, one of which has policy
// Local: the address is announced from the nodes that serve both.
func TestBGPSharedAddress(t *testing.T) {
	c := newBGPServed(t, 3, birdRouter())
	r := c.Router("r1")
	const prefix = "172.22.0.3/32"
	key := sharing("k")
	c.pods("dev", "two", "n2", "n3")
	c.apply(loadBalancer("first", "two", fromPool("bgp-eip"), key))
	c.hasIP("dev", "first", "172.22.0.3")
	c.hasRoute(r, prefix, "n1", "n2", "n3")
	second := onPort(loadBalancer("second", "two", fromPool("bgp-eip"), key), 81)
	c.apply(with(second, policyLocal))
	c.hasIP("dev", "second", "172.22.0.3")
	c.hasRoute(r, prefix, "n2", "n3")
	c.reachesFrom(r.Client(), "http://172.22.0.3:80/", "two-n2", "two-n3")
	for _, client := range c.reachesFrom(r.Client(), "http://172.22.0.3:81/", "two-n2", "two-n3") {
		if client != r.ClientAddr4().String() {
			t.Errorf("a pod saw %s, want the client's address %s", client, r.ClientAddr4())
		}
	}
	conflict := func(status metav1.ConditionStatus, names ...string) {
		c.t.Helper()
		for _, name := range names {
			c.eventually(fmt.Sprintf("Service %s has the condition %s %s", name, v1alpha2.ConditionTrafficPolicyConflict, status), func() string {
				conditions := c.service("dev", name).Status.Conditions
				is := meta.FindStatusCondition(conditions, v1alpha2.ConditionTrafficPolicyConflict)
				if is == nil && status == metav1.ConditionFalse || is != nil && is.Status == status {
					return ""
				}
				return fmt.Sprintf("its conditions are %+v", conditions)
			})
		}
	}
	conflict(metav1.ConditionTrue, "first", "second")
	c.apply(with(second, "externalTrafficPolicy: Cluster"))
	c.hasRoute(r, prefix, "n1", "n2", "n3")
	conflict(metav1.ConditionFalse, "first", "second")
}

// TestBGPNextHopsOfAllNodes has one node hold the only session, with a router
// that takes several paths from it, as with a route reflector.
func TestBGPNextHopsOfAllNodes(t *testing.T) {
	for _, as := range []uint32{routersAS, nodesAS} {
		for _, kind := range []lab.RouterKind{lab.FRR, lab.BIRD} {
			t.Run(fmt.Sprintf("%s in AS %d", kind, as), func(t *testing.T) {
				opts := anyNode(kind, []func(*lab.Neighbor){func(n *lab.Neighbor) { n.AddPaths = true }})
				opts.AS = as
				announceForAll(t, opts)
			})
		}
	}
}

func announceForAll(t *testing.T, opts lab.RouterOptions) {
	c := newUnpeered(t, 3, opts)
	r := c.Router("r1")
	const prefix = "172.22.0.2/32"
	c.kubectl("label", "node", "n1", "holds=session")
	c.apply(bgpConf("listenPort: 17900", "nextHops: nodes") +
		bgpPeer("r1", r.Addr4().String(), int(opts.AS), "nodeSelector: {matchLabels: {holds: session}}") +
		bgpEip("bgp-eip", "172.22.0.2-172.22.0.10") + bgpService("web", "nginx", "bgp-eip"))
	c.pods("dev", "nginx", "n1", "n2", "n3")
	c.hasRoute(r, prefix, "n1", "n2", "n3")
	c.noSession(r, "n2", "n3")
	c.reachesFrom(r.Client(), "http://172.22.0.2/", "nginx-n1", "nginx-n2", "nginx-n3")
	watch := c.watch(r, prefix)
	c.run("policy Local", func(t *testing.T) {
		for _, pod := range []string{"nginx-n1", "nginx-n3"} {
			if err := c.Pod("dev", pod).SetReady(t.Context(), false); err != nil {
				t.Fatal(err)
			}
		}
		c.kubectl("patch", "svc", "-n", "dev", "web", "-p", `{"spec":{"externalTrafficPolicy":"Local"}}`)
		c.hasRoute(r, prefix, "n2")
		c.reachesFrom(r.Client(), "http://172.22.0.2/", "nginx-n2")
		if err := c.Pod("dev", "nginx-n3").SetReady(t.Context(), true); err != nil {
			t.Fatal(err)
		}
		c.hasRoute(r, prefix, "n2", "n3")
	})
	c.run("nodes that cannot serve", func(t *testing.T) {
		c.setNodeReady("n2", "False")
		c.hasRoute(r, prefix, "n3")
		c.setNodeReady("n2", "True")
		c.hasRoute(r, prefix, "n2", "n3")
	})
	c.run("its own address again", func(t *testing.T) {
		c.kubectl("patch", "svc", "-n", "dev", "web", "-p", `{"spec":{"externalTrafficPolicy":"Cluster"}}`)
		c.hasRoute(r, prefix, "n1", "n2", "n3")
		c.patchBgpConf(`{"nextHops":"self"}`)
		c.hasRoute(r, prefix, "n1")
		c.patchBgpConf(`{"nextHops":"nodes"}`)
		c.hasRoute(r, prefix, "n1", "n2", "n3")
	})
	c.noGaps(watch, prefix)
}
