package e2e

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fairway-lb/fairway/api/v1alpha2"
	"github.com/fairway-lb/fairway/test/lab"
)

// The routes to the Services web and web6.
const (
	web4 = "172.22.0.2/32"
	web6 = "2001:db8:22::2/128"
)

// serveWeb makes a ready pod on each node and the Services web and web6, which
// have an address of one family each.
func (c *cluster) serveWeb() {
	c.t.Helper()
	c.pods("dev", "nginx", c.nodeNames()...)
	c.apply(bgpEip("bgp-eip", "172.22.0.2-172.22.0.250") + bgpService("web", "nginx", "bgp-eip"))
	c.apply(bgpEip("bgp-eip6", "2001:db8:22::2-2001:db8:22::ff") + bgpService("web6", "nginx", "bgp-eip6", "ipFamilies: [IPv6]"))
	c.hasIP("dev", "web", "172.22.0.2")
	c.hasIP("dev", "web6", "2001:db8:22::2")
}

// sessionIs waits until a condition in a BgpPeer's entry of a node has this
// status and says all the parts, and returns the entry.
func (c *cluster) sessionIs(peer, node, condition string, status metav1.ConditionStatus, parts ...string) v1alpha2.NodePeerStatus {
	c.t.Helper()
	var entry v1alpha2.NodePeerStatus
	c.eventually(fmt.Sprintf("BgpPeer %s on %s: %s is %s and says %q", peer, node, condition, status, parts), func() string {
		entry = c.bgpPeer(peer).Status.NodesPeerStatus[node]
		is := meta.FindStatusCondition(entry.Conditions, condition)
		if is == nil || is.Status != status {
			return fmt.Sprintf("the conditions are %+v", entry.Conditions)
		}
		for _, part := range parts {
			if !strings.Contains(is.Message, part) {
				return fmt.Sprintf("it says %q", is.Message)
			}
		}
		return ""
	})
	return entry
}

// reconfigure changes a router's options.
func (c *cluster) reconfigure(r *lab.Router, change func(*lab.RouterOptions)) {
	c.t.Helper()
	opts := r.Options()
	opts.Neighbors = slices.Clone(opts.Neighbors)
	change(&opts)
	if err := r.Reconfigure(c.t.Context(), opts); err != nil {
		c.t.Fatal(err)
	}
}

// inside runs a program in a namespace.
func (c *cluster) inside(n *lab.Namespace, program string, args ...string) string {
	c.t.Helper()
	out, err := n.Command(context.WithoutCancel(c.t.Context()), program, args...).CombinedOutput()
	if err != nil {
		c.t.Fatalf("%s: %s %s: %v: %s", n.Name(), program, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// sessionCase is a way to set a session up.
type sessionCase struct {
	name     string
	conf     string                         // the BgpConf; the usual one if empty
	address  func(*lab.Router) string       // the neighbor's; by IPv4 if nil
	anyAS    bool                           // the BgpPeer does not say the neighbor's AS
	peer     []string                       // further lines of the BgpPeer's spec
	neighbor func(*lab.Neighbor, *lab.Host) // changes that at the router
	options  func(*lab.RouterOptions)
	setUp    func(c *cluster, r *lab.Router, n *lab.Host) (undo func())
	// hop4 is the next hop of the IPv4 route in the router's kernel, the node's
	// address if it is nil; ipv6 tells whether there is one of IPv6 too.
	hop4  func(r *lab.Router, node *lab.Host) netip.Addr
	ipv6  bool
	check sessionCheck
}

// sessionCheck looks at a session that is established, and at its entry in the
// BgpPeer's status.
type sessionCheck func(c *cluster, r *lab.Router, node *lab.Host, entry v1alpha2.NodePeerStatus)

// TestBGPSessions sets a session up in every way that a BgpPeer knows, with each
// kind of router. Each time the routes arrive, and they leave with the BgpPeer.
func TestBGPSessions(t *testing.T) {
	c := newUnpeered(t, 1, lab.RouterOptions{Kind: lab.NoDaemon})
	c.serveWeb()
	node := c.Node("n1")
	for _, kind := range []lab.RouterKind{lab.FRR, lab.BIRD} {
		r := c.addRouter(lab.RouterOptions{Kind: kind, AS: routersAS})
		c.run(kind.String(), func(t *testing.T) {
			for i, s := range sessionCases() {
				// Writes of one BgpPeer's status are some seconds apart.
				peer := fmt.Sprintf("%s-%d", r.Name(), i)
				c.run(s.name, func(t *testing.T) { c.tryOut(s, peer, r, node) })
			}
		})
	}
}

func (c *cluster) tryOut(s sessionCase, peer string, r *lab.Router, node *lab.Host) {
	c.t.Helper()
	if s.setUp != nil {
		defer s.setUp(c, r, node)()
	}
	c.reconfigure(r, func(o *lab.RouterOptions) {
		neighbor := lab.Neighbor{Address: node.Addr4(), AS: nodesAS}
		if s.neighbor != nil {
			s.neighbor(&neighbor, node)
		}
		*o = lab.RouterOptions{AS: routersAS, Neighbors: []lab.Neighbor{neighbor}}
		if s.options != nil {
			s.options(o)
		}
	})
	conf, address := s.conf, r.Addr4().String()
	if conf == "" {
		conf = bgpConf()
	}
	if s.address != nil {
		address = s.address(r)
	}
	as := routersAS
	if s.anyAS {
		as = 0
	}
	defer func() {
		c.kubectl("delete", "bgppeer", peer)
		c.noRoute(r, web4)
		c.noRoute(r, web6)
		c.reconfigure(r, func(o *lab.RouterOptions) { o.Neighbors = nil })
	}()
	c.apply(conf + bgpPeer(peer, address, as, s.peer...))
	entry := c.sessionIs(peer, node.Name(), v1alpha2.ConditionEstablished, metav1.ConditionTrue)
	hop := node.Addr4()
	if s.hop4 != nil {
		hop = s.hop4(r, node)
	}
	c.hasRouteVia(r, web4, hop)
	if s.ipv6 {
		c.hasRoute(r, web6, node.Name())
	} else {
		c.noRoute(r, web6)
	}
	if s.check != nil {
		s.check(c, r, node, entry)
	}
}

func sessionCases() []sessionCase {
	return []sessionCase{
		{
			name:     "password",
			peer:     []string{"  authPassword: secret"},
			neighbor: func(n *lab.Neighbor, _ *lab.Host) { n.Password = "secret" },
		},
		{
			name:     "GTSM",
			peer:     []string{"ttlSecurity: {enabled: true}"},
			neighbor: func(n *lab.Neighbor, _ *lab.Host) { n.TTLSecurityHops = 1 },
		},
		{
			name:     "two hops away",
			setUp:    twoHops,
			address:  func(r *lab.Router) string { return farAddress(r).String() },
			peer:     []string{"ebgpMultihop: {enabled: true, multihopTtl: 2}"},
			neighbor: func(n *lab.Neighbor, _ *lab.Host) { n.MultihopTTL = 2 },
			hop4: func(r *lab.Router, node *lab.Host) netip.Addr {
				if r.Options().Kind == lab.FRR {
					return netip.MustParseAddr(betweenThem) // it looks the next hop up in the kernel's table
				}
				return node.Addr4()
			},
		},
		{
			name:     "the router connects",
			conf:     bgpConf("listenPort: 17900"),
			peer:     []string{"transport: {passiveMode: true}"},
			neighbor: func(n *lab.Neighbor, _ *lab.Host) { n.Port = 17900 },
		},
		{
			name:     "the node does not listen",
			conf:     bgpConf("listenPort: -1"),
			neighbor: func(n *lab.Neighbor, _ *lab.Host) { n.Passive = true },
			check:    doesNotListen,
		},
		{
			name:     "source address",
			setUp:    addSecondAddress,
			peer:     []string{"transport: {localAddress: " + secondAddress + "}"},
			neighbor: func(n *lab.Neighbor, _ *lab.Host) { n.Address = netip.MustParseAddr(secondAddress) },
			hop4:     func(*lab.Router, *lab.Host) netip.Addr { return netip.MustParseAddr(secondAddress) },
		},
		{
			name:     "port of the router",
			peer:     []string{"transport: {remotePort: 1790}"},
			neighbor: func(n *lab.Neighbor, _ *lab.Host) { n.Passive = true },
			options:  func(o *lab.RouterOptions) { o.ListenPort = 1790 },
		},
		{
			name:     "hold time of the node",
			peer:     []string{`timers: {config: {holdTime: "9", keepaliveInterval: "2"}}`},
			neighbor: func(n *lab.Neighbor, _ *lab.Host) { n.Hold = 30 * time.Second },
			check:    holdTimeIs(9 * time.Second),
		},
		{
			name:     "hold time of the router",
			neighbor: func(n *lab.Neighbor, _ *lab.Host) { n.Hold = 6 * time.Second },
			check:    holdTimeIs(6 * time.Second),
		},
		{
			name:     "iBGP",
			conf:     bgpConfOf(routersAS),
			neighbor: func(n *lab.Neighbor, _ *lab.Host) { n.AS = routersAS },
			check:    pathIs(),
		},
		{
			name:     "AS number of 4 bytes",
			conf:     bgpConfOf(4200000000),
			neighbor: func(n *lab.Neighbor, _ *lab.Host) { n.AS = 4200000000 },
			check:    pathIs(4200000000),
		},
		{
			name:  "any AS",
			anyAS: true,
			check: neighborHasAS(routersAS),
		},
		{
			name:     "another AS of the node",
			peer:     []string{"  localAs: 64999"},
			neighbor: func(n *lab.Neighbor, _ *lab.Host) { n.AS = 64999 },
			check:    pathIs(64999),
		},
		{
			name: "IPv6 routes over IPv4",
			peer: twoFamilies(),
			ipv6: true,
		},
		{
			name:     "IPv4 routes over IPv6",
			address:  func(r *lab.Router) string { return r.Addr6().String() },
			peer:     twoFamilies(),
			neighbor: func(n *lab.Neighbor, node *lab.Host) { n.Address = node.Addr6() },
			ipv6:     true,
		},
	}
}

// farAddress is the router's address on the network behind it.
func farAddress(r *lab.Router) netip.Addr {
	return netip.PrefixFrom(r.ClientAddr4(), 24).Masked().Addr().Next()
}

// betweenThem is router r1.
const betweenThem = "192.168.93.1"

// twoHops makes node and router reach each other through router r1 only.
func twoHops(c *cluster, r *lab.Router, node *lab.Host) (undo func()) {
	through, far, near := betweenThem, farAddress(r).String()+"/32", node.Addr4().String()+"/32"
	c.inside(node.Namespace, "ip", "route", "add", far, "via", through)
	c.inside(r.Namespace, "ip", "route", "add", near, "via", through)
	return func() {
		c.inside(node.Namespace, "ip", "route", "del", far)
		c.inside(r.Namespace, "ip", "route", "del", near)
	}
}

// secondAddress is a further one of the node.
const secondAddress = "192.168.93.51"

func addSecondAddress(c *cluster, _ *lab.Router, node *lab.Host) (undo func()) {
	c.inside(node.Namespace, "ip", "addr", "add", secondAddress+"/24", "dev", node.Link())
	return func() { c.inside(node.Namespace, "ip", "addr", "del", secondAddress+"/24", "dev", node.Link()) }
}

func doesNotListen(c *cluster, _ *lab.Router, node *lab.Host, _ v1alpha2.NodePeerStatus) {
	c.t.Helper()
	// The session may be the one of a router that listened.
	c.eventually("the node does not listen", func() string {
		return c.inside(node.Namespace, "ss", "-Hltn", "sport = :179")
	})
}

func holdTimeIs(want time.Duration) sessionCheck {
	return func(c *cluster, r *lab.Router, node *lab.Host, entry v1alpha2.NodePeerStatus) {
		if got := entry.TimersState.NegotiatedHoldTime; got != fmt.Sprint(want.Seconds()) {
			c.t.Errorf("the status says that the hold time is %q, want %v", got, want)
		}
		if s, err := r.Session(c.t.Context(), node.Addr4()); err != nil || s.Hold != want {
			c.t.Errorf("the router says that the hold time is %v, want %v: %v", s.Hold, want, err)
		}
	}
}

func neighborHasAS(want v1alpha2.Uint32) sessionCheck {
	return func(c *cluster, _ *lab.Router, _ *lab.Host, entry v1alpha2.NodePeerStatus) {
		if got := entry.PeerState.PeerAS; got != want {
			c.t.Errorf("the status says that the neighbor's AS is %d, want %d", got, want)
		}
	}
}

// pathIs compares the AS path that the router sees.
func pathIs(want ...uint32) sessionCheck {
	return func(c *cluster, r *lab.Router, _ *lab.Host, _ v1alpha2.NodePeerStatus) {
		route, err := r.BGPRoute(c.t.Context(), netip.MustParsePrefix(web4))
		if err != nil || len(route.Paths) != 1 || !slices.Equal(route.Paths[0].ASPath, want) {
			c.t.Errorf("the router has %+v, want the AS path %v: %v", route.Paths, want, err)
		}
	}
}
