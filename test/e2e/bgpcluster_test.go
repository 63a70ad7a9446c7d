package e2e

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fairway-lb/fairway/api/v1alpha2"
	"github.com/fairway-lb/fairway/test/lab"
)

// The AS numbers of the nodes and of the routers in OpenELB's walkthrough.
const (
	nodesAS   = 50000
	routersAS = 50001
)

// frrRouter and birdRouter are routers that accept a session from every host of
// the lab, over IPv4 and IPv6, and open none; more changes the two neighbors,
// that of IPv4 first.
func frrRouter(more ...func(*lab.Neighbor)) lab.RouterOptions { return anyNode(lab.FRR, more) }

func birdRouter(more ...func(*lab.Neighbor)) lab.RouterOptions { return anyNode(lab.BIRD, more) }

func anyNode(kind lab.RouterKind, more []func(*lab.Neighbor)) lab.RouterOptions {
	opts := lab.RouterOptions{Kind: kind, AS: routersAS}
	for _, within := range []string{"192.168.93.0/24", "fd93::/64"} {
		n := lab.Neighbor{Range: netip.MustParsePrefix(within), AS: nodesAS}
		for _, change := range more {
			change(&n)
		}
		opts.Neighbors = append(opts.Neighbors, n)
	}
	return opts
}

// eachNode is a router that knows the first nodes by their addresses, so that it
// tells why it lost the session of one. It leaves it to them to connect.
func eachNode(kind lab.RouterKind, nodes int) lab.RouterOptions {
	opts := lab.RouterOptions{Kind: kind, AS: routersAS}
	for i := range nodes {
		// As the lab numbers its hosts.
		address := netip.AddrFrom4([4]byte{192, 168, 93, byte(11 + i)})
		opts.Neighbors = append(opts.Neighbors, lab.Neighbor{Address: address, AS: nodesAS, Passive: true})
	}
	return opts
}

// newUnpeered makes a cluster with Fairway on all nodes, the namespace dev and
// routers that nobody has told Fairway of.
func newUnpeered(t *testing.T, nodes int, routers ...lab.RouterOptions) *cluster {
	t.Helper()
	return newUnpeeredWith(t, nodes, nil, routers...)
}

// newUnpeeredWith is newUnpeered whose speakers have further arguments.
func newUnpeeredWith(t *testing.T, nodes int, speakerArgs []string, routers ...lab.RouterOptions) *cluster {
	t.Helper()
	return newCluster(t, nodes).join(speakerArgs, routers...)
}

// join adds routers, and starts Fairway.
func (c *cluster) join(speakerArgs []string, routers ...lab.RouterOptions) *cluster {
	c.t.Helper()
	for _, opts := range routers {
		c.addRouter(opts)
	}
	c.startController()
	for _, node := range c.nodeNames() {
		c.startSpeaker(node, speakerArgs...)
	}
	c.kubectl("create", "namespace", "dev")
	return c
}

// newBGPServed makes a cluster with Fairway on all nodes, the routers, the
// BgpConf default of AS 50000 that listens on port 17900, and a BgpPeer for each
// router that has the router's name; with a ready pod nginx-<node> on each node,
// the Eip bgp-eip of 172.22.0.2-172.22.0.10 and the Service web at 172.22.0.2,
// whose route each router has and which each node forwards.
func newBGPServed(t *testing.T, nodes int, routers ...lab.RouterOptions) *cluster {
	t.Helper()
	return newBGPServedWith(t, nodes, nil, routers...)
}

// newBGPServedWith is newBGPServed whose speakers have further arguments.
func newBGPServedWith(t *testing.T, nodes int, speakerArgs []string, routers ...lab.RouterOptions) *cluster {
	t.Helper()
	c := newUnpeeredWith(t, nodes, speakerArgs, routers...)
	c.apply(bgpConf("listenPort: 17900"))
	for _, r := range c.Routers() {
		c.apply(bgpPeer(r.Name(), r.Addr4().String(), int(r.Options().AS)))
	}
	c.pods("dev", "nginx", c.nodeNames()...)
	c.apply(bgpEip("bgp-eip", "172.22.0.2-172.22.0.10") + bgpService("web", "nginx", "bgp-eip"))
	c.hasIP("dev", "web", "172.22.0.2")
	for _, r := range c.Routers() {
		c.established(r, c.nodeNames()...)
		c.hasRoute(r, "172.22.0.2/32", c.nodeNames()...)
	}
	c.forwards("172.22.0.2", c.nodeNames()...)
	return c
}

// forwards waits until kube-proxy on the nodes knows an IPv4 address of a
// Service: the speakers do not wait for it.
func (c *cluster) forwards(addr string, nodes ...string) {
	c.t.Helper()
	for _, node := range nodes {
		c.eventually(node+" forwards "+addr, func() string {
			rules, err := c.Node(node).Command(c.t.Context(), "nft", "list", "table", "ip", "kube-proxy").CombinedOutput()
			if err != nil {
				return fmt.Sprintf("nft: %v: %s", err, rules)
			}
			if !strings.Contains(string(rules), addr+" . tcp") {
				return "its rules do not have the address"
			}
			return ""
		})
	}
}

// addRouter adds a router to the lab. If the test fails, it shows the sessions
// and routes that the router has at the end.
func (c *cluster) addRouter(opts lab.RouterOptions) *lab.Router {
	c.t.Helper()
	r, err := c.AddRouter(c.t.Context(), opts)
	if err != nil {
		c.t.Fatalf("adding a router: %v", err)
	}
	t := c.t
	t.Cleanup(func() {
		if !t.Failed() {
			return
		}
		commands := map[lab.RouterKind][]string{
			lab.FRR:  {"show bgp summary", "show bgp ipv4 unicast", "show bgp ipv6 unicast"},
			lab.BIRD: {"show protocols", "show route all where source = RTS_BGP"},
		}
		for _, command := range commands[opts.Kind] {
			out, err := r.Show(context.WithoutCancel(t.Context()), command)
			t.Logf("%s: %s: %v\n%s", r.Name(), command, err, out)
		}
	})
	return r
}

// nodeNames are the names of all nodes, in order.
func (c *cluster) nodeNames() []string {
	var names []string
	for _, node := range c.Nodes() {
		names = append(names, node.Name())
	}
	return names
}

// hops are the nodes' addresses of a prefix's family.
func (c *cluster) hops(prefix netip.Prefix, nodes []string) []netip.Addr {
	var hops []netip.Addr
	for _, node := range nodes {
		if prefix.Addr().Is4() {
			hops = append(hops, c.Node(node).Addr4())
		} else {
			hops = append(hops, c.Node(node).Addr6())
		}
	}
	return hops
}

// hasRoute waits until the route to a prefix in the router's kernel has exactly
// these nodes as next hops, by their addresses of the prefix's family.
func (c *cluster) hasRoute(r *lab.Router, prefix string, nodes ...string) {
	c.t.Helper()
	c.hasRouteVia(r, prefix, c.hops(netip.MustParsePrefix(prefix), nodes)...)
}

// hasRouteVia waits until the route to a prefix in the router's kernel has
// exactly these next hops.
func (c *cluster) hasRouteVia(r *lab.Router, prefix string, hops ...netip.Addr) {
	c.t.Helper()
	ctx, cancel := contextWithTimeout(c.t)
	defer cancel()
	if err := r.WaitRoute(ctx, netip.MustParsePrefix(prefix), hops...); err != nil {
		c.t.Fatal(err)
	}
}

// noRoute waits until the router's kernel has no route to a prefix.
func (c *cluster) noRoute(r *lab.Router, prefix string) {
	c.t.Helper()
	c.hasRoute(r, prefix)
}

// established waits until the router has a session over IPv4 with each node.
func (c *cluster) established(r *lab.Router, nodes ...string) {
	c.t.Helper()
	ctx, cancel := contextWithTimeout(c.t)
	defer cancel()
	for _, node := range nodes {
		if err := r.WaitSession(ctx, c.Node(node).Addr4()); err != nil {
			c.t.Fatal(err)
		}
	}
}

// noSession waits until the router has no session over IPv4 with the nodes.
func (c *cluster) noSession(r *lab.Router, nodes ...string) {
	c.t.Helper()
	ctx, cancel := contextWithTimeout(c.t)
	defer cancel()
	for _, node := range nodes {
		if err := r.WaitNoSession(ctx, c.Node(node).Addr4()); err != nil {
			c.t.Fatal(err)
		}
	}
}

// watch records the routes to some prefixes in the router's kernel until the
// test ends.
func (c *cluster) watch(r *lab.Router, prefixes ...string) *lab.RouteWatch {
	c.t.Helper()
	var parsed []netip.Prefix
	for _, p := range prefixes {
		parsed = append(parsed, netip.MustParsePrefix(p))
	}
	w, err := r.WatchRoutes(parsed...)
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(w.Close)
	return w
}

// noGaps fails the test if a prefix was without a route since the watch began.
func (c *cluster) noGaps(w *lab.RouteWatch, prefixes ...string) {
	c.t.Helper()
	if err := w.Err(); err != nil {
		c.t.Error(err)
	}
	for _, p := range prefixes {
		if gaps := w.Gaps(netip.MustParsePrefix(p)); len(gaps) > 0 {
			c.t.Errorf("%s had no route: %v", p, gaps)
		}
	}
}

// unchanged fails the test if the route to a prefix was touched since the watch
// began.
func (c *cluster) unchanged(w *lab.RouteWatch, prefix string) {
	c.t.Helper()
	if err := w.Err(); err != nil {
		c.t.Error(err)
	}
	for _, change := range w.Changes(netip.MustParsePrefix(prefix)) {
		if change.Kind != lab.RouteFound {
			c.t.Errorf("the route to %s was %s: %v", prefix, change.Kind, change.NextHops)
		}
	}
}

// paths waits until the router's daemon has paths to a prefix from exactly these
// nodes, by sessions over IPv4, and all of them fulfil the condition.
func (c *cluster) paths(r *lab.Router, prefix, what string, nodes []string, condition func(lab.BGPPath) bool) {
	c.t.Helper()
	ctx, cancel := contextWithTimeout(c.t)
	defer cancel()
	_, err := r.AwaitBGPRoute(ctx, netip.MustParsePrefix(prefix), what, func(route lab.BGPRoute) bool {
		var from []string
		for _, path := range route.Paths {
			if !condition(path) {
				return false
			}
			for _, node := range c.Nodes() {
				if node.Addr4() == path.Neighbor {
					from = append(from, node.Name())
				}
			}
		}
		slices.Sort(from)
		return slices.Equal(from, nodes) && len(route.Paths) == len(nodes)
	})
	if err != nil {
		c.t.Fatal(err)
	}
}

// connections are the TCP connections of the router's established BGP sessions
// over IPv4, one line for each, sorted: they differ after a session was reset.
func (c *cluster) connections(r *lab.Router) []string {
	c.t.Helper()
	var connections []string
	for line := range strings.Lines(c.inside(r.Namespace, "ss", "-4Htn", "state", "established")) {
		fields := strings.Fields(line) // queues, then the two ends
		if len(fields) < 4 {
			c.t.Fatalf("listing the connections of %s: %q", r.Name(), line)
		}
		ours := strings.HasPrefix(fields[2], r.Addr4().String()+":")
		isBGP := slices.ContainsFunc(fields[2:4], func(end string) bool {
			return strings.HasSuffix(end, ":179") || strings.HasSuffix(end, ":17900")
		})
		if ours && isBGP {
			connections = append(connections, fields[2]+" "+fields[3])
		}
	}
	slices.Sort(connections)
	return connections
}

// sameConnections fails the test unless the router's sessions are those of
// before.
func (c *cluster) sameConnections(r *lab.Router, before []string) {
	c.t.Helper()
	if len(before) == 0 {
		c.t.Errorf("%s had no session", r.Name())
	}
	if now := c.connections(r); !slices.Equal(now, before) {
		c.t.Errorf("the sessions of %s were reset: before %q, now %q", r.Name(), before, now)
	}
}

// replaces waits until the router has another session in the place of one of
// before.
func (c *cluster) replaces(r *lab.Router, before []string) {
	c.t.Helper()
	c.eventually(r.Name()+" has a new session", func() string {
		if now := c.connections(r); len(now) != len(before) || slices.Equal(now, before) {
			return fmt.Sprintf("the sessions are %q, and were %q", now, before)
		}
		return ""
	})
}

func (c *cluster) bgpPeers() []v1alpha2.BgpPeer {
	c.t.Helper()
	var list v1alpha2.BgpPeerList
	if err := c.api.List(c.t.Context(), &list); err != nil {
		c.t.Fatalf("listing BgpPeers: %v", err)
	}
	return list.Items
}

func (c *cluster) bgpPeer(name string) *v1alpha2.BgpPeer {
	c.t.Helper()
	var peer v1alpha2.BgpPeer
	if err := c.api.Get(c.t.Context(), client.ObjectKey{Name: name}, &peer); err != nil {
		c.t.Fatalf("reading BgpPeer %s: %v", name, err)
	}
	return &peer
}

func (c *cluster) bgpConf() *v1alpha2.BgpConf {
	c.t.Helper()
	var conf v1alpha2.BgpConf
	if err := c.api.Get(c.t.Context(), client.ObjectKey{Name: v1alpha2.BgpConfName}, &conf); err != nil {
		c.t.Fatalf("reading BgpConf %s: %v", v1alpha2.BgpConfName, err)
	}
	return &conf
}

// patchBgpConf changes the spec of the BgpConf default.
func (c *cluster) patchBgpConf(spec string) {
	c.t.Helper()
	c.kubectl("patch", "bgpconf", v1alpha2.BgpConfName, "--type=merge", "-p", `{"spec":`+spec+`}`)
}

// bothRouters runs a test against FRR and against BIRD.
func bothRouters(t *testing.T, f func(t *testing.T, opts lab.RouterOptions)) {
	for _, opts := range []lab.RouterOptions{frrRouter(), birdRouter()} {
		t.Run(opts.Kind.String(), func(t *testing.T) { f(t, opts) })
	}
}
