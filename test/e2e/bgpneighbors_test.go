package e2e

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
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
		c := newUnpeered(t, 1, nil, lab.RouterOptions{Kind: opts.Kind, AS: routersAS})
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
		c.hasRoute(r, web4, "n1")
		c.established(r, "n1")
		now := c.connections(r)
		if slices.Equal(before, now) {
			t.Errorf("the session with the old password goes on: %q", now)
		}

		c.kubectl("delete", "secret", "bgp-password", "-n", "fairway-system")
		c.sessionIs("tor", "n1", v1alpha2.ConditionAccepted, metav1.ConditionFalse, "last good password")
		c.sameConnections(r, now)
		if text := c.kubectl("get", "bgppeer,events", "-A", "-o", "yaml"); strings.Contains(text, "second-secret") || strings.Contains(text, "first-secret") {
			t.Errorf("the password is shown in\n%s", text)
		}
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
				metrics, err := node.Get(t.Context(), "http://127.0.0.1:50053/metrics")
				if err != nil {
					return err.Error()
				}
				for _, r := range c.Routers() {
					if n := counter(metrics, fmt.Sprintf("fairway_bgp_messages_received_total{neighbor=%q,peer=%q,type=\"update\"}", r.Addr4(), r.Name())); n < 4 {
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
	if err := c.Router("r1").Clear(t.Context(), c.Node("n2").Addr4()); err != nil {
		t.Fatal(err)
	}
	c.apply(bgpService("another", "nginx", "bgp-eip"))
	c.eventually("another is announced", func() string {
		if ip := externalIPs(c.service("dev", "another")); ip != "" {
			c.hasRoute(c.Router("r1"), ip+"/32", "n1", "n2")
			c.hasRoute(c.Router("r2"), ip+"/32", "n1", "n2")
			return ""
		}
		return "it has no address"
	})
	sealed()
}

// counter is the value of a metric, 0 if there is none.
func counter(metrics, name string) int {
	_, rest, _ := strings.Cut(metrics, "\n"+name+" ")
	value, _, _ := strings.Cut(rest, "\n")
	n, err := strconv.Atoi(value)
	if err != nil {
		return 0
	}
	return n
}

// TestBGPNodeWithoutIPv4: IPv4 routes of a node that has IPv6 addresses only have
// one of those as next hop (RFC 8950).
func TestBGPNodeWithoutIPv4(t *testing.T) {
	bothRouters(t, func(t *testing.T, opts lab.RouterOptions) {
		for i := range opts.Neighbors {
			opts.Neighbors[i].ExtendedNextHop = true
		}
		c := newUnpeered(t, 1, nil, opts)
		r, node := c.Router("r1"), c.Node("n1")
		c.serveWeb()
		c.kubectl("patch", "node", "n1", "--subresource=status", "--type=merge", "-p",
			fmt.Sprintf(`{"status":{"addresses":[{"type":"InternalIP","address":%q}]}}`, node.Addr6()))
		c.apply(bgpConf("listenPort: 17900", "routerId: 192.0.2.1") + bgpPeer("tor", r.Addr6().String(), routersAS, twoFamilies()...))
		c.hasRoute(r, web6, "n1")
		ctx, cancel := contextWithTimeout(t)
		defer cancel()
		if _, err := r.WaitRoute(ctx, netip.MustParsePrefix(web4), node.Addr6()); err != nil {
			t.Fatal(err)
		}
		c.reachesFrom(r.Client(), "http://172.22.0.2/", "nginx-n1")
	})
}

// linkLocal is a host's link-local address on the switch.
func (c *cluster) linkLocal(h *lab.Host) netip.Addr {
	c.t.Helper()
	var found netip.Addr
	err := h.Do(func() error {
		link, err := net.InterfaceByName(h.Link())
		if err != nil {
			return err
		}
		addrs, err := link.Addrs()
		for _, a := range addrs {
			if p, err := netip.ParsePrefix(a.String()); err == nil && p.Addr().IsLinkLocalUnicast() {
				found = p.Addr()
			}
		}
		return err
	})
	if err != nil || !found.IsValid() {
		c.t.Fatalf("no link-local address of %s: %v", h.Name(), err)
	}
	return found
}

// TestBGPLinkLocal: a neighbor that is known by its link-local address, or by the
// interface that leads to it alone (unnumbered).
func TestBGPLinkLocal(t *testing.T) {
	bothRouters(t, func(t *testing.T, opts lab.RouterOptions) {
		c := newUnpeered(t, 1, nil, lab.RouterOptions{Kind: opts.Kind, AS: routersAS})
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

		// The node learns of the one router on the link when that speaks up.
		unnumbered := fmt.Sprintf("---\napiVersion: network.kubesphere.io/v1alpha2\nkind: BgpPeer\nmetadata: {name: unnumbered}\nspec: {conf: {neighborInterface: %s, peerAs: %d}}\n", node.Link(), routersAS)
		c.inside(node.Namespace, "ip", "-6", "neigh", "flush", "dev", node.Link())
		c.apply(unnumbered)
		c.sessionIs("unnumbered", "n1", v1alpha2.ConditionAccepted, metav1.ConditionFalse, "spec.conf.neighborInterface", "router advertisements")
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
