package e2e

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fairway-lb/fairway/api/v1alpha2"
	"github.com/fairway-lb/fairway/test/lab"
)

const (
	// cniAS is Calico's default.
	cniAS = 64512
	// podNetwork is what the CNI of node n1 announces: the node's pods.
	podNetwork = "10.244.1.0/24"
)

// startCNI runs BIRD on a node, as Calico does: on port 179, in a session with
// the router, to which it announces the node's pods and what it has learned
// from others. more are further protocols of its configuration.
func (c *cluster) startCNI(node *lab.Host, r *lab.Router, more string) {
	c.t.Helper()
	path := func(ending string) string { return filepath.Join(c.Dir(), node.Name()+"-bird."+ending) }
	config := fmt.Sprintf(`log stderr all;
router id %[1]s;
protocol device { scan time 5; }
protocol direct { ipv4; ipv6; }
protocol static pods {
  ipv4;
  route %[2]s blackhole;
}
protocol bgp tor {
  local %[1]s as %[3]d;
  neighbor %[4]s as %[5]d;
  connect delay time 1; connect retry time 1; error wait time 1, 1;
  ipv4 { import none; export where source ~ [ RTS_STATIC, RTS_BGP ]; };
  ipv6 { import none; export where source ~ [ RTS_STATIC, RTS_BGP ]; };
}
%[6]s`, node.Addr4(), podNetwork, cniAS, r.Addr4(), routersAS, more)
	if err := os.WriteFile(path("conf"), []byte(config), 0o644); err != nil {
		c.t.Fatal(err)
	}
	if _, err := node.Start("cni-bird", []string{"/usr/sbin/bird", "-f", "-c", path("conf"), "-s", path("ctl"), "-P", path("pid")}, nil); err != nil {
		c.t.Fatal(err)
	}
	c.hasRoute(r, podNetwork, node.Name())
}

// cniNeighbor is the CNI's session at the router.
func cniNeighbor(node *lab.Host) lab.Neighbor {
	return lab.Neighbor{Address: node.Addr4(), AS: cniAS}
}

// TestBGPBesideCNI: the node's CNI has port 179 and the one session that the
// router accepts from the node's address. Fairway connects from another address.
func TestBGPBesideCNI(t *testing.T) {
	bothRouters(t, func(t *testing.T, opts lab.RouterOptions) {
		c := newUnpeered(t, 1, lab.RouterOptions{Kind: opts.Kind, AS: routersAS})
		r, node := c.Router("r1"), c.Node("n1")
		defer addSecondAddress(c, r, node)()
		c.serveWeb()
		c.reconfigure(r, func(o *lab.RouterOptions) {
			o.Neighbors = []lab.Neighbor{cniNeighbor(node), {Address: netip.MustParseAddr(secondAddress), AS: nodesAS, Passive: true}}
		})
		c.startCNI(node, r, "")
		w := c.watch(r, podNetwork)

		// The default port is taken, and that is said.
		peer := bgpPeer("second-address", r.Addr4().String(), routersAS, "transport: {localAddress: "+secondAddress+"}")
		c.apply(bgpConf() + peer)
		c.routerIs("n1", "False", "ConfigureFailed", "179", "spec.listenPort")
		for _, port := range []string{"listenPort: 17900", "listenPort: -1"} {
			c.apply(bgpConf(port) + peer)
			c.routerIs("n1", "True", "Ready")
			c.hasRouteVia(r, web4, netip.MustParseAddr(secondAddress))
			c.kubectl("delete", "bgppeer", "second-address")
			c.noRoute(r, web4)
		}
		c.unchanged(w, podNetwork)
	})
}

// TestBGPThroughCNI: Fairway peers with the node's CNI through loopback, which
// passes the routes on. The router's kernel has the node as next hop, for IPv4
// and IPv6.
func TestBGPThroughCNI(t *testing.T) {
	bothRouters(t, func(t *testing.T, opts lab.RouterOptions) {
		c := newUnpeered(t, 1, lab.RouterOptions{Kind: opts.Kind, AS: routersAS})
		r, node := c.Router("r1"), c.Node("n1")
		c.serveWeb()
		c.reconfigure(r, func(o *lab.RouterOptions) { o.Neighbors = []lab.Neighbor{cniNeighbor(node)} })
		c.startCNI(node, r, fmt.Sprintf(`protocol bgp fairway {
  local 127.0.0.1 as %d;
  neighbor 127.0.0.1 port 17900 as %d;
  multihop; passive on;
  ipv4 { import all; export none; };
  ipv6 { import all; export none; };
}
`, cniAS, nodesAS))
		w := c.watch(r, podNetwork)
		for _, port := range []string{"listenPort: -1", "listenPort: 17900"} {
			c.apply(bgpConf(port) + bgpPeer("cni", "127.0.0.1", cniAS, append(twoFamilies(), "transport: {remotePort: 179}")...))
			c.hasRoute(r, web4, "n1")
			c.passedOn(r, web6, node)
			c.reachesFrom(r.Client(), "http://172.22.0.2/", "nginx-n1")
			c.reachesFrom(r.Client(), "http://[2001:db8:22::2]/", "nginx-n1")
			c.kubectl("delete", "bgppeer", "cni")
			c.noRoute(r, web4)
			c.noRoute(r, web6)
		}
		c.unchanged(w, podNetwork)
	})
}

// passedOn waits until the router's route to an IPv6 prefix leads to the node.
// The CNI's BIRD adds the node's link-local address, which FRR prefers.
func (c *cluster) passedOn(r *lab.Router, prefix string, node *lab.Host) {
	c.t.Helper()
	hop := node.Addr6()
	if r.Options().Kind == lab.FRR {
		hop = c.linkLocal(node)
	}
	c.hasRouteVia(r, prefix, hop)
}

// TestBGPOfCNI: objects that carry the CNI's label are its own. Fairway opens no
// session for them, and says that it leaves them alone.
func TestBGPOfCNI(t *testing.T) {
	c := newUnpeered(t, 1, frrRouter(), birdRouter())
	c.serveWeb()
	c.apply(bgpConf("listenPort: 17900"))
	for _, r := range c.Routers() {
		c.apply(bgpPeer(r.Name(), r.Addr4().String(), routersAS))
		c.hasRoute(r, web4, "n1")
	}
	ours, theirs := c.Router("r1"), c.Router("r2")
	w := c.watch(ours, web4)
	const label = "openelb.kubesphere.io/cni"
	c.kubectl("label", "bgppeer", theirs.Name(), label+"=true")
	c.noRoute(theirs, web4)
	c.noSession(theirs, "n1")
	c.sessionIs(theirs.Name(), "n1", v1alpha2.ConditionAccepted, metav1.ConditionFalse, label)
	c.unchanged(w, web4)

	c.kubectl("label", "bgpconf", "default", label+"=true")
	c.noRoute(ours, web4)
	c.noSession(ours, "n1")
	c.routerIs("n1", "False", "AnnouncedByCNI", label)

	c.kubectl("label", "bgpconf", "default", label+"-")
	c.kubectl("label", "bgppeer", theirs.Name(), label+"-")
	for _, r := range c.Routers() {
		c.hasRoute(r, web4, "n1")
	}
}
