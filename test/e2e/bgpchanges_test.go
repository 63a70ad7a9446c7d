package e2e

import (
	"encoding/json"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fairway-lb/fairway/api/v1alpha2"
	"github.com/fairway-lb/fairway/test/lab"
)

// quiet is how long nothing happens in a test of what Fairway does then.
const quiet = 10 * time.Second

// anyNodeAS has a router accept nodes of every AS but its own.
func anyNodeAS(n *lab.Neighbor) { n.AS = 0 }

// TestBGPEdits edits the BgpConf, its policy and a BgpPeer. Whatever that does
// to the sessions, all routes are there afterwards.
func TestBGPEdits(t *testing.T) {
	for _, opts := range []lab.RouterOptions{frrRouter(anyNodeAS), birdRouter(anyNodeAS)} {
		t.Run(opts.Kind.String(), func(t *testing.T) { editBGP(t, opts) })
	}
}

func editBGP(t *testing.T, opts lab.RouterOptions) {
	c := newBGPServed(t, 2, opts)
	r := c.Router("r1")
	nodes := []string{"n1", "n2"}
	const count = 9 // all addresses of the pool
	for i := range count - 1 {
		c.apply(bgpService(fmt.Sprintf("web-%d", i), "nginx", "bgp-eip"))
	}
	prefixes := make([]string, count)
	for i := range prefixes {
		prefixes[i] = fmt.Sprintf("172.22.0.%d/32", 2+i)
	}
	// all waits until every route is there, learned from this AS.
	all := func(as uint32) {
		c.t.Helper()
		for _, prefix := range prefixes {
			c.hasRoute(r, prefix, nodes...)
			c.paths(r, prefix, fmt.Sprintf("has come from AS %d", as), nodes, func(path lab.BGPPath) bool {
				return slices.Equal(path.ASPath, []uint32{as}) && !path.Stale
			})
		}
	}
	// keeps fails the test if the edit resets a session or touches a route.
	keeps := func(edit func()) {
		c.t.Helper()
		all(nodesAS)
		before, watch := c.connections(r), c.watch(r, prefixes...)
		edit()
		c.sameConnections(r, before)
		for _, prefix := range prefixes {
			c.unchanged(watch, prefix)
		}
	}
	// settled waits until the nodes have acted on what was edited: they take the
	// edits of one object in order.
	edits := 0
	settled := func() {
		c.t.Helper()
		edits++
		mark := fmt.Sprintf("edit %d", edits)
		c.kubectl("patch", "bgppeer", "r1", "--type=merge", "-p", fmt.Sprintf(`{"spec":{"conf":{"description":%q}}}`, mark))
		for _, node := range nodes {
			c.eventually("the status of "+node+" shows the edit", func() string {
				entry := c.bgpPeer("r1").Status.NodesPeerStatus[node]
				if entry.PeerState == nil || entry.PeerState.Description != mark {
					return fmt.Sprintf("it is %+v", entry.PeerState)
				}
				return ""
			})
		}
	}

	c.run("a description resets nothing", func(t *testing.T) {
		keeps(settled)
	})
	c.run("an annotation, a label, a setting without effect reset nothing", func(t *testing.T) {
		keeps(func() {
			c.kubectl("annotate", "bgpconf", "default", "note=1")
			c.kubectl("label", "bgppeer", "r1", "side=left")
			c.kubectl("patch", "bgppeer", "r1", "--type=merge", "-p", `{"spec":{"timers":{"config":{"connectRetry":"7"}},"conf":{"sendCommunity":3}}}`)
			settled()
		})
	})
	c.run("the policy comes and goes without a reset", func(t *testing.T) { c.editPolicy(r, keeps, settled) })
	c.run("an edit that restarts the router brings back every route", func(t *testing.T) {
		c.apply(bgpConf("listenPort: 17901"))
		c.listens(17901, nodes...)
		all(nodesAS)
		c.patchBgpConf(`{"as":50002}`)
		all(50002)
		c.patchBgpConf(`{"as":50000,"gracefulRestart":{"enabled":false}}`)
		all(nodesAS)
		c.patchBgpConf(`{"routerId":"192.168.93.99","gracefulRestart":null}`)
		all(nodesAS)
	})
	c.run("edits in the middle of others converge", func(t *testing.T) {
		for _, as := range []uint32{50002, 50003, 50004, nodesAS} {
			for _, port := range []int{17902, 17903} {
				c.patchBgpConf(fmt.Sprintf(`{"as":%d,"listenPort":%d}`, as, port))
			}
		}
		all(nodesAS)
		c.listens(17903, nodes...)
		c.established(r, nodes...)
	})
	c.run("a BgpConf that is deleted and made again brings back every route", func(t *testing.T) {
		c.kubectl("delete", "bgpconf", "default")
		c.noSession(r, nodes...)
		for _, prefix := range prefixes {
			c.noRoute(r, prefix)
		}
		c.apply(bgpConf("listenPort: 17900"))
		all(nodesAS)
	})
	c.run("so does a BgpPeer", func(t *testing.T) {
		c.kubectl("delete", "bgppeer", "r1")
		for _, prefix := range prefixes {
			c.noRoute(r, prefix)
		}
		c.apply(bgpPeer("r1", r.Addr4().String(), routersAS))
		all(nodesAS)
	})
	c.run("a BgpConf of another name counts for nothing", func(t *testing.T) {
		keeps(func() {
			c.apply(strings.Replace(bgpConf("listenPort: 17999"), "name: default", "name: other", 1))
			settled()
		})
	})
	c.run("while nothing happens, nothing is written", func(t *testing.T) { c.writesNothing() })
	c.run("nothing listens on GoBGP's port for gRPC", func(t *testing.T) {
		for _, node := range nodes {
			for _, addr := range []string{"127.0.0.1", "::1", c.Node(node).Addr4().String(), c.Node(node).Addr6().String()} {
				if conn, err := c.Node(node).DialContext(t.Context(), "tcp", net.JoinHostPort(addr, "50051")); err == nil {
					t.Errorf("%s accepted a connection at %s", node, conn.RemoteAddr())
					if err := conn.Close(); err != nil {
						t.Error(err)
					}
				}
			}
		}
	})
}

// communityPolicy is GoBGP's policy that adds a community to all routes.
const communityPolicy = `
[global.apply-policy.config]
  export-policy-list = ["mark"]
  default-export-policy = "accept-route"
[[policy-definitions]]
  name = "mark"
  [[policy-definitions.statements]]
    [policy-definitions.statements.actions.bgp-actions.set-community]
      options = "add"
      [policy-definitions.statements.actions.bgp-actions.set-community.set-community-method]
        communities-list = ["%s"]
`

// editPolicy has a policy take effect, change, break, be somebody else's, and
// go, while routes and sessions stay.
func (c *cluster) editPolicy(r *lab.Router, keeps func(edit func()), settled func()) {
	const prefix = "172.22.0.2/32"
	nodes := []string{"n1", "n2"}
	policy := func(namespace, text string) string {
		return fmt.Sprintf("---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: bgp-policy, namespace: %s}\ndata:\n  gobgp.conf: %s\n", namespace, strconv.Quote(text))
	}
	marked := func(communities ...string) {
		c.t.Helper()
		c.paths(r, prefix, fmt.Sprintf("has the communities %q", communities), nodes, func(path lab.BGPPath) bool {
			return slices.Equal(path.Communities, communities)
		})
	}
	c.apply(policy("fairway-system", fmt.Sprintf(communityPolicy, "65000:1")))
	keeps(func() {
		c.patchBgpConf(`{"policy":"bgp-policy"}`)
		marked("65000:1")
	})
	keeps(func() {
		c.apply(policy("fairway-system", fmt.Sprintf(communityPolicy, "65000:2")))
		marked("65000:2")
	})
	keeps(func() {
		// Somebody else's ConfigMap of that name is no policy.
		c.apply(policy("dev", fmt.Sprintf(communityPolicy, "65000:666")))
		c.kubectl("patch", "configmap", "bgp-policy", "-n", "dev", "--type=merge", "-p", `{"data":{"gobgp.conf":"nonsense"}}`)
		settled()
		marked("65000:2")
	})
	keeps(func() {
		// One that cannot be read leaves the last good one in force.
		c.apply(policy("fairway-system", "[[policy-definitions]\nname ="))
		for _, node := range nodes {
			c.routerIs(node, "False", "PolicyInvalid", "gobgp.conf")
		}
		marked("65000:2")
	})
	keeps(func() {
		c.apply(policy("fairway-system", fmt.Sprintf(communityPolicy, "65000:3")))
		marked("65000:3")
		for _, node := range nodes {
			c.routerIs(node, "True", "Ready")
		}
	})
	keeps(func() {
		c.patchBgpConf(`{"policy":null}`)
		marked()
	})
}

// routerIs waits until the condition Ready of a node's router has this status,
// the reason, and a message with all parts, and returns the node's entry.
func (c *cluster) routerIs(node, status, reason string, parts ...string) (entry v1alpha2.NodeConfStatus) {
	c.t.Helper()
	c.eventually(fmt.Sprintf("the router of %s has Ready %s, %s", node, status, reason), func() string {
		entry = c.bgpConf().Status.NodesConfStatus[node]
		for _, condition := range entry.Conditions {
			if condition.Type != v1alpha2.ConditionReady || string(condition.Status) != status || condition.Reason != reason {
				continue
			}
			if !slices.ContainsFunc(parts, func(part string) bool { return !strings.Contains(condition.Message, part) }) {
				return ""
			}
		}
		return fmt.Sprintf("its conditions are %+v", entry.Conditions)
	})
	return entry
}

// listens waits until the nodes accept connections at a TCP port.
func (c *cluster) listens(port int, nodes ...string) {
	c.t.Helper()
	for _, node := range nodes {
		addr := net.JoinHostPort(c.Node(node).Addr4().String(), strconv.Itoa(port))
		c.eventually(addr+" accepts connections", func() string {
			conn, err := c.Node(node).DialContext(c.t.Context(), "tcp", addr)
			if err == nil {
				err = conn.Close()
			}
			if err != nil {
				return err.Error()
			}
			return ""
		})
	}
}

// writesNothing fails the test if the speakers or the controller write to the
// objects of BGP while nothing happens, or ever wrote an annotation there.
func (c *cluster) writesNothing() {
	c.t.Helper()
	objects := func() []client.Object {
		objects := []client.Object{c.bgpConf()}
		for _, peer := range c.bgpPeers() {
			objects = append(objects, &peer)
		}
		return objects
	}
	versions := func() string {
		c.t.Helper()
		var texts []string
		for _, o := range objects() {
			texts = append(texts, fmt.Sprintf("%T %s %s", o, o.GetName(), o.GetResourceVersion()))
		}
		return strings.Join(texts, "\n")
	}
	var before string
	c.eventually("the objects of BGP are left alone", func() string {
		before = versions()
		select {
		case <-c.t.Context().Done():
		case <-time.After(quiet):
		}
		if after := versions(); after != before {
			return fmt.Sprintf("before:\n%s\nafter %v:\n%s", before, quiet, after)
		}
		return ""
	})
	for _, o := range objects() {
		for _, field := range o.GetManagedFields() {
			if !strings.HasPrefix(field.Manager, "fairway-") {
				continue
			}
			var fields map[string]any
			if err := json.Unmarshal(field.FieldsV1.GetRawBytes(), &fields); err != nil {
				c.t.Fatal(err)
			}
			for name := range fields {
				if name != "f:status" {
					c.t.Errorf("%s wrote %s of %s: want the status only", field.Manager, name, o.GetName())
				}
			}
		}
	}
}

// TestBGPRacks has a router for each of two racks.
func TestBGPRacks(t *testing.T) {
	c := newUnpeered(t, 3, birdRouter(anyNodeAS), frrRouter(anyNodeAS))
	left, right := c.Router("r1"), c.Router("r2")
	c.pods("dev", "nginx", "n1", "n2", "n3")
	rack := func(node, name string) {
		c.t.Helper()
		c.kubectl("label", "node", node, "--overwrite", "openelb.kubesphere.io/rack="+name)
	}
	rack("n1", "leaf1")
	rack("n2", "leaf1")
	rack("n3", "leaf2")
	selector := func(name string) []string {
		return []string{"nodeSelector: {matchLabels: {openelb.kubesphere.io/rack: " + name + "}}"}
	}
	c.apply(bgpConf("listenPort: 17900") +
		bgpPeer("leaf1", left.Addr4().String(), routersAS, selector("leaf1")...) +
		bgpPeer("leaf2", right.Addr4().String(), routersAS, selector("leaf2")...) +
		bgpEip("bgp-eip", "172.22.0.2-172.22.0.10") + bgpService("web", "nginx", "bgp-eip"))
	const prefix = "172.22.0.2/32"
	paths := func(r *lab.Router, as uint32, nodes ...string) {
		c.t.Helper()
		c.hasRoute(r, prefix, nodes...)
		c.paths(r, prefix, fmt.Sprintf("has come from AS %d", as), nodes, func(path lab.BGPPath) bool {
			return slices.Equal(path.ASPath, []uint32{as})
		})
	}
	c.run("each router has the nodes of its rack", func(t *testing.T) {
		paths(left, nodesAS, "n1", "n2")
		paths(right, nodesAS, "n3")
		c.noSession(left, "n3")
		c.noSession(right, "n1", "n2")
		c.reachesFrom(left.Client(), "http://172.22.0.2/", "nginx-n1", "nginx-n2", "nginx-n3")
		c.reachesFrom(right.Client(), "http://172.22.0.2/", "nginx-n1", "nginx-n2", "nginx-n3")
	})
	c.run("a node that moves to another rack is followed", func(t *testing.T) {
		rack("n2", "leaf2")
		paths(left, nodesAS, "n1")
		paths(right, nodesAS, "n2", "n3")
		rack("n2", "leaf1")
		paths(left, nodesAS, "n1", "n2")
		paths(right, nodesAS, "n3")
	})
	c.run("each rack has its own AS", func(t *testing.T) {
		c.patchBgpConf(`{"asPerRack":{"leaf1":50011,"leaf2":50012}}`)
		paths(left, 50011, "n1", "n2")
		paths(right, 50012, "n3")
		rack("n2", "leaf2")
		paths(left, 50011, "n1")
		paths(right, 50012, "n2", "n3")
		rack("n2", "leaf1")
		paths(left, 50011, "n1", "n2")
		paths(right, 50012, "n3")
	})
	c.run("next hops of all nodes are those of the rack", func(t *testing.T) {
		// One node of the rack alone holds a session, and names both.
		c.reconfigure(left, func(o *lab.RouterOptions) {
			for i := range o.Neighbors {
				o.Neighbors[i].AddPaths = true
			}
		})
		c.patchBgpConf(`{"nextHops":"nodes"}`)
		c.hasRoute(left, prefix, "n1", "n2")
		c.hasRoute(right, prefix, "n3")
		c.kubectl("label", "node", "n1", "holds=session")
		c.apply(bgpPeer("leaf1", left.Addr4().String(), routersAS, "nodeSelector: {matchLabels: {holds: session}}"))
		c.noSession(left, "n2")
		c.hasRoute(left, prefix, "n1", "n2")
		c.hasRoute(right, prefix, "n3")
		c.exclude("n2")
		c.hasRoute(left, prefix, "n1")
		c.include("n2")
		c.hasRoute(left, prefix, "n1", "n2")
	})
}
