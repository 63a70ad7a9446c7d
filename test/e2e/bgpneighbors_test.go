package e2e

import (
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fairway-lb/fairway/api/v1alpha2"
	"github.com/fairway-lb/fairway/test/lab"
)

// TestBGPPasswordOfSecret: a password in a Secret counts as soon as it is there,
// a change of it closes the session that used the old one, and a Secret that goes
// changes nothing.
func TestBGPPasswordOfSecret(t *testing.T) {
	bothRouters(t, func(t *testing.T, opts lab.RouterOptions) {
		c := newUnpeered(t, 1, lab.RouterOptions{Kind: opts.Kind, AS: routersAS})
		r, node := c.Router("r1"), c.Node("n1")
		expects := func(password string) {
			c.reconfigure(r, func(o *lab.RouterOptions) {
				o.Neighbors = []lab.Neighbor{{Address: node.Addr4(), AS: nodesAS, Password: password}}
			})
		}
		secret := func(password string) {
			c.apply(fmt.Sprintf("apiVersion: v1\nkind: Secret\nmetadata: {name: bgp-password, namespace: fairway-system}\nstringData: {password: %s}", password))
		}
		c.serveWeb()
		expects("first-secret")
		c.apply(bgpConf("listenPort: 17900") + bgpPeer("tor", r.Addr4().String(), routersAS, "  passwordSecretRef: {name: bgp-password}"))
		c.sessionIs("tor", "n1", v1alpha2.ConditionAccepted, metav1.ConditionFalse, "fairway-system/bgp-password", "does not exist")
		secret("first-secret")
		c.hasRoute(r, web4, "n1")
		c.sessionIs("tor", "n1", v1alpha2.ConditionAccepted, metav1.ConditionTrue)
		before := c.connections(r)

		secret("second-secret")
		c.sessionIs("tor", "n1", v1alpha2.ConditionEstablished, metav1.ConditionFalse, "password")
		expects("second-secret")
		c.replaces(r, before)
		c.hasRoute(r, web4, "n1")
		now := c.connections(r)

		c.kubectl("delete", "secret", "bgp-password", "-n", "fairway-system")
		c.sessionIs("tor", "n1", v1alpha2.ConditionAccepted, metav1.ConditionFalse, "last good password")
		c.sameConnections(r, now)
		if text := c.kubectl("get", "bgppeer,events", "-A", "-o", "yaml"); strings.Contains(text, "second-secret") || strings.Contains(text, "first-secret") {
			t.Errorf("the password is shown in\n%s", text)
		}
	})
}

// TestBGPMistakes: a BgpPeer with another AS or password than its router has no
// session and says why; the session beside it stays.
func TestBGPMistakes(t *testing.T) {
	bothRouters(t, func(t *testing.T, opts lab.RouterOptions) {
		c := newUnpeered(t, 1, opts, opts)
		good, bad, node := c.Router("r1"), c.Router("r2"), c.Node("n1")
		c.serveWeb()
		c.apply(bgpConf("listenPort: -1") + bgpPeer("r1", good.Addr4().String(), routersAS))
		c.hasRoute(good, web4, "n1")
		w, connections := c.watch(good, web4), c.connections(good)
		own := func(change func(*lab.Neighbor)) {
			c.reconfigure(bad, func(o *lab.RouterOptions) {
				o.Neighbors = []lab.Neighbor{{Address: node.Addr4(), AS: nodesAS, Passive: true}}
				change(&o.Neighbors[0])
			})
		}
		for _, mistake := range []struct {
			name     string
			as       int
			peer     []string
			neighbor func(*lab.Neighbor)
			says     []string
		}{
			{"the BgpPeer has another AS", 65099, nil, func(*lab.Neighbor) {}, []string{"AS is 50001, expected 65099"}},
			{"the router expects another AS", routersAS, nil, func(n *lab.Neighbor) { n.AS = 65098 }, []string{"AS"}},
			{"the router has no password", routersAS, []string{"  authPassword: secret"}, func(*lab.Neighbor) {}, []string{"connecting", "password"}},
			{"the node has no password", routersAS, nil, func(n *lab.Neighbor) { n.Password = "secret" }, []string{"connecting", "timeout"}},
			{"passwords differ", routersAS, []string{"  authPassword: sekret"}, func(n *lab.Neighbor) { n.Password = "secret" }, []string{"connecting", "password"}},
		} {
			c.run(mistake.name, func(t *testing.T) {
				own(mistake.neighbor)
				c.apply(bgpPeer("mistaken", bad.Addr4().String(), mistake.as, mistake.peer...))
				entry := c.sessionIs("mistaken", "n1", v1alpha2.ConditionEstablished, metav1.ConditionFalse, mistake.says...)
				t.Logf("%+v", entry.Conditions)
				c.kubectl("delete", "bgppeer", "mistaken")
			})
		}
		c.unchanged(w, web4)
		c.sameConnections(good, connections)
	})
}

// TestBGPRouterRestarted kills a router's daemon and starts it again: sessions
// and routes come back by themselves.
func TestBGPRouterRestarted(t *testing.T) {
	bothRouters(t, func(t *testing.T, opts lab.RouterOptions) {
		c := newBGPServed(t, 2, opts, opts)
		other, r := c.Router("r1"), c.Router("r2")
		w, connections := c.watch(other, web4), c.connections(other)
		for range 2 {
			if err := r.Kill(); err != nil {
				t.Fatal(err)
			}
			for _, node := range c.nodeNames() {
				c.sessionIs("r2", node, v1alpha2.ConditionEstablished, metav1.ConditionFalse)
			}
			if err := r.Restart(t.Context()); err != nil {
				t.Fatal(err)
			}
			c.established(r, c.nodeNames()...)
			c.hasRoute(r, web4, c.nodeNames()...)
			c.paths(r, web4, "is there", c.nodeNames(), func(lab.BGPPath) bool { return true })
		}
		c.unchanged(w, web4)
		c.sameConnections(other, connections)
	})
}

// TestBGPLeaksNothing: what one router announces never reaches another one
// through a node, nor the node's own kernel.
func TestBGPLeaksNothing(t *testing.T) {
	own := map[string][]string{"r1": {"198.51.100.0/25", "2001:db8:51::/48"}, "r2": {"198.51.100.128/25", "2001:db8:52::/48"}}
	frr, bird := frrRouter(), birdRouter()
	for name, opts := range map[string]*lab.RouterOptions{"r1": &frr, "r2": &bird} {
		for _, prefix := range own[name] {
			opts.Announce = append(opts.Announce, netip.MustParsePrefix(prefix))
		}
	}
	c := newRestartable(t, 2, nil, frr, bird)
	sealed := func() {
		c.t.Helper()
		for _, node := range c.Nodes() {
			// The routers have told the node: two routes, and the End-of-RIB of
			// two families.
			c.eventually(node.Name()+" hears of the routes", func() string {
				for _, r := range c.Routers() {
					if n := c.counter(node.Name(), fmt.Sprintf("fairway_bgp_messages_received_total{neighbor=%q,peer=%q,type=\"update\"}", r.Addr4(), r.Name())); n < 4 {
						return fmt.Sprintf("%d messages of %s", n, r.Name())
					}
				}
				return ""
			})
			for _, within := range []string{"198.51.100.0/24", "2001:db8:50::/44"} {
				if n, err := node.CountRoutes(netip.MustParsePrefix(within)); err != nil || n > 0 {
					t.Errorf("%s has %d routes in %s: %v", node.Name(), n, within, err)
				}
			}
		}
		for from, to := range map[string]string{"r1": "r2", "r2": "r1"} {
			for _, prefix := range own[from] {
				route, err := c.Router(to).BGPRoute(t.Context(), netip.MustParsePrefix(prefix))
				if err != nil || len(route.Paths) > 0 {
					t.Errorf("%s has %s of %s: %+v, %v", to, prefix, from, route.Paths, err)
				}
			}
		}
	}
	sealed()
	c.restart("n1", true)
	sealed()
	before := c.connections(c.Router("r1"))
	if err := c.Router("r1").Clear(t.Context(), c.Node("n2").Addr4()); err != nil {
		t.Fatal(err)
	}
	c.replaces(c.Router("r1"), before)
	c.apply(bgpService("another", "nginx", "bgp-eip"))
	another := c.hasSomeIP("dev", "another")
	for _, r := range c.Routers() {
		c.hasRoute(r, another+"/32", "n1", "n2")
	}
	sealed()
}

// TestBGPNodeWithoutIPv4: IPv4 routes of a node that has IPv6 addresses only have
// one of those as next hop (RFC 8950).
func TestBGPNodeWithoutIPv4(t *testing.T) {
	bothRouters(t, func(t *testing.T, opts lab.RouterOptions) {
		for i := range opts.Neighbors {
			opts.Neighbors[i].ExtendedNextHop = true
		}
		c := newUnpeered(t, 1, opts)
		r, node := c.Router("r1"), c.Node("n1")
		c.serveWeb()
		c.kubectl("patch", "node", "n1", "--subresource=status", "--type=merge", "-p",
			fmt.Sprintf(`{"status":{"addresses":[{"type":"InternalIP","address":%q}]}}`, node.Addr6()))
		c.apply(bgpConf("listenPort: 17900", "routerId: 192.0.2.1") + bgpPeer("tor", r.Addr6().String(), routersAS, twoFamilies()...))
		c.hasRoute(r, web6, "n1")
		c.hasRouteVia(r, web4, node.Addr6())
		c.reachesFrom(r.Client(), "http://172.22.0.2/", "nginx-n1")
	})
}

// linkLocal is a host's link-local address on the switch.
func (c *cluster) linkLocal(h *lab.Host) netip.Addr {
	c.t.Helper()
	addr, err := h.LinkLocal()
	if err != nil {
		c.t.Fatal(err)
	}
	return addr
}

// TestBGPLinkLocal: a neighbor that is known by its link-local address, or by the
// interface that leads to it alone (unnumbered).
func TestBGPLinkLocal(t *testing.T) {
	bothRouters(t, func(t *testing.T, opts lab.RouterOptions) {
		c := newUnpeered(t, 1, lab.RouterOptions{Kind: opts.Kind, AS: routersAS})
		r, node := c.Router("r1"), c.Node("n1")
		c.serveWeb()
		c.apply(bgpConf("listenPort: 17900"))
		c.reconfigure(r, func(o *lab.RouterOptions) {
			o.Neighbors = []lab.Neighbor{{Address: c.linkLocal(node), Interface: "eth0", AS: nodesAS, Passive: true}}
		})
		arrives := func() {
			c.t.Helper()
			c.hasRoute(r, web4, "n1")
			c.hasRoute(r, web6, "n1")
			c.reachesFrom(r.Client(), "http://172.22.0.2/", "nginx-n1")
			c.reachesFrom(r.Client(), "http://[2001:db8:22::2]/", "nginx-n1")
		}
		c.apply(bgpPeer("address", c.linkLocal(r.Host).String()+"%"+node.Link(), routersAS, twoFamilies()...))
		arrives()
		c.kubectl("delete", "bgppeer", "address")
		c.noRoute(r, web4)

		// The node learns of the one router on the link when that speaks up, which
		// must not be that router's look whether the node is still there.
		c.inside(r.Namespace, "nft", "add table ip6 silence { chain output { type filter hook output priority 0; oifname eth0 drop; }; }")
		c.inside(node.Namespace, "ip", "-6", "neigh", "flush", "dev", node.Link())
		c.apply(document("BgpPeer", "unnumbered", fmt.Sprintf("conf: {neighborInterface: %s, peerAs: %d}", node.Link(), routersAS)))
		c.sessionIs("unnumbered", "n1", v1alpha2.ConditionAccepted, metav1.ConditionFalse, "spec.conf.neighborInterface", "router advertisements")
		c.inside(r.Namespace, "nft", "delete table ip6 silence")
		conn, err := r.ListenPacket("udp6", "["+c.linkLocal(r.Host).String()+"%eth0]:0")
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if err := r.Do(func() error {
			_, err := conn.WriteTo([]byte("hello"), &net.UDPAddr{IP: c.linkLocal(node).AsSlice(), Port: 9, Zone: "eth0"})
			return err
		}); err != nil {
			t.Fatal(err)
		}
		arrives()
		c.sessionIs("unnumbered", "n1", v1alpha2.ConditionAccepted, metav1.ConditionTrue)
	})
}
