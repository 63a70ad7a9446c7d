package bgp

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/fairway-lb/fairway/internal/netnstest"
	"github.com/fairway-lb/fairway/speaker/bfd"
)

// uplink is the node's end of a cable, far the other one.
const uplink, far = "uplink", "far"

// routers are what is at the other end of the cable: addresses that come and go,
// in a namespace of their own.
type routers struct {
	t      *testing.T
	ns     netns.NsHandle
	handle *netlink.Handle
	mac    net.HardwareAddr
}

func newRouters(t *testing.T) *routers {
	netnstest.Need(t)
	r := &routers{t: t}
	r.in(func() (err error) { r.ns, err = netns.New(); return err })
	t.Cleanup(func() { r.ns.Close() })
	var err error
	r.handle, err = netlink.NewHandleAt(r.ns)
	must(t, err)
	t.Cleanup(r.handle.Close)
	quiet := func() error {
		return sysctl(map[string]string{"conf/default/accept_dad": "0", "conf/default/router_solicitations": "0"})
	}
	must(t, quiet())
	r.in(quiet)
	attrs := netlink.NewLinkAttrs()
	attrs.Name = uplink
	must(t, netlink.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: far, PeerNamespace: netlink.NsFd(r.ns)}))
	t.Cleanup(func() { must(t, netlink.LinkDel(link(t))) })
	end, err := r.handle.LinkByName(far)
	must(t, err)
	r.mac = end.Attrs().HardwareAddr
	must(t, r.handle.LinkSetUp(end))
	must(t, netlink.LinkSetUp(link(t)))
	// The kernel finds out in a second what would take it a minute.
	must(t, sysctl(map[string]string{
		"neigh/uplink/base_reachable_time_ms": "500", "neigh/uplink/delay_first_probe_time": "1",
		"neigh/uplink/retrans_time_ms": "50", "neigh/uplink/ucast_solicit": "1",
	}))
	eventually(t, "carrier", func() bool {
		end, err := r.handle.LinkByName(far)
		return err == nil && end.Attrs().OperState == netlink.OperUp && link(t).Attrs().OperState == netlink.OperUp
	})
	return r
}

func link(t *testing.T) netlink.Link {
	t.Helper()
	l, err := netlink.LinkByName(uplink)
	must(t, err)
	return l
}

// in runs f in the routers' namespace, or before there is one, in one that f makes.
func (r *routers) in(f func() error) {
	r.t.Helper()
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		if r.ns > 0 {
			if err := netns.Set(r.ns); err != nil {
				done <- err
				return
			}
		}
		done <- f()
	}()
	must(r.t, <-done)
}

// plug gives the far end an address, at which a router accepts sessions, and has
// the node hear of it as by a router advertisement.
func (r *routers) plug(address string, port uint16) (*tor, net.Listener) {
	r.t.Helper()
	r.address(address, (*netlink.Handle).AddrAdd)
	var l net.Listener
	r.in(func() (err error) {
		l, err = net.ListenTCP("tcp6", &net.TCPAddr{IP: net.ParseIP(address), Port: int(port), Zone: far})
		return err
	})
	router := newTor(r.t, "10.9.9.9", 65001)
	router.serve(l)
	r.heard(address)
	return router, l
}

func (r *routers) address(address string, do func(*netlink.Handle, netlink.Link, *netlink.Addr) error) {
	r.t.Helper()
	end, err := r.handle.LinkByName(far)
	must(r.t, err)
	a, err := netlink.ParseAddr(address + "/64")
	must(r.t, err)
	a.Flags = unix.IFA_F_NODAD
	must(r.t, do(r.handle, end, a))
}

// heard makes the entry that a router advertisement would make.
func (r *routers) heard(address string) {
	r.t.Helper()
	must(r.t, netlink.NeighSet(&netlink.Neigh{LinkIndex: link(r.t).Attrs().Index, Family: unix.AF_INET6, IP: net.ParseIP(address),
		HardwareAddr: r.mac, State: netlink.NUD_STALE, Flags: netlink.NTF_ROUTER}))
}

// forgotten removes the entry.
func (r *routers) forgotten(address string) {
	r.t.Helper()
	must(r.t, netlink.NeighDel(&netlink.Neigh{LinkIndex: link(r.t).Attrs().Index, Family: unix.AF_INET6, IP: net.ParseIP(address)}))
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func sysctl(values map[string]string) error {
	for name, value := range values {
		if err := os.WriteFile("/proc/sys/net/ipv6/"+name, []byte(value), 0); err != nil {
			return err
		}
	}
	return nil
}

// watches counts the sockets of the namespace that hear of the kernel's neighbors.
func watches(t *testing.T) (n int) {
	t.Helper()
	sockets, err := os.ReadFile("/proc/thread-self/net/netlink")
	must(t, err)
	for line := range strings.Lines(string(sockets)) {
		// Protocol 0 is NETLINK_ROUTE; groups are bits.
		if f := strings.Fields(line); len(f) > 3 && f[1] == "0" && f[3] == "00000004" {
			n++
		}
	}
	return n
}

// unnumbered is a session with whoever is on the link.
func unnumbered(port uint16) Peer {
	p := active("a", newTor(nil, "127.0.0.2", 65001), port)
	p.Address, p.Interface = netip.Addr{}, uplink
	p.BFD = &bfd.Profile{MinTx: 300 * time.Millisecond, MinRx: 300 * time.Millisecond, DetectMult: 3}
	return p
}

// The router on a link comes, gets company and is replaced, and the session follows
// although no object changes; while it is established, nothing does it harm.
func TestRouterOnLinkReplaced(t *testing.T) {
	const port, first, second = 1179, "fe80::a", "fe80::b"
	r, n := newRouters(t), newNode(t)
	n.announce(routeTo("2001:db8::1/128", "a"))
	n.config.Peers = []Peer{unnumbered(port)}
	if err := n.Configure(t.Context(), n.config); err == nil || !strings.Contains(err.Error(), "not known yet") {
		t.Fatalf("nobody on the link: %v", err)
	}
	one, listener := r.plug(first, port)
	eventually(t, "a session with the first router", func() bool { return one.count() == 1 && n.session("a").Established() })
	before := n.session("a")

	// The second comes, the first is not heard for a moment.
	unsure := func() *bool { return &n.neighbors["a"].unsure }
	n.mu.Lock()
	*unsure() = false
	n.mu.Unlock()
	two, _ := r.plug(second, port)
	r.forgotten(first)
	eventually(t, "the change noticed", func() bool { n.mu.Lock(); defer n.mu.Unlock(); return *unsure() })
	n.configure()
	if s := n.session("a"); s.Neighbor != before.Neighbor || s.Since != before.Since || s.Flaps != 0 || s.Reason != "" || two.sessions() != 0 {
		t.Errorf("an established session was touched: %+v", s)
	}

	// The first router's BGP ends, its host does not: it may be either of them.
	r.heard(first)
	listener.Close()
	one.hangUp()
	eventually(t, "two are told of", func() bool { return strings.Contains(n.session("a").Reason, "2 neighbors are on "+uplink) })
	if s := n.session("a"); s.Neighbor != before.Neighbor || s.Flaps != 1 || !strings.Contains(s.Reason, "closed or reset by the neighbor") {
		t.Errorf("session %+v", s)
	}
	if err := n.Configure(t.Context(), n.config); err == nil || !strings.Contains(err.Error(), "spec.conf.neighborInterface: 2 neighbors") {
		t.Errorf("two on the link: %v", err)
	}

	r.address(first, (*netlink.Handle).AddrDel)
	eventually(t, "a session with the second router", func() bool { return two.count() == 1 && n.session("a").Established() })
	s := n.session("a")
	if s.Neighbor.String() != second+"%"+uplink || s.Reason != "" || s.BFD == nil || s.BFD.Neighbor != s.Neighbor {
		t.Errorf("session %+v", s)
	}
	n.configure()
	if again := n.session("a"); again.Since != s.Since {
		t.Errorf("the session was made again: %+v", again)
	}
}

// The kernel is listened to while there is a session that depends on it.
func TestLinksWatched(t *testing.T) {
	r, n := newRouters(t), newNode(t)
	numbered := peer("b", newTor(t, "127.0.0.2", 65001))
	are := func(want int) {
		t.Helper()
		eventually(t, fmt.Sprintf("%d sockets", want), func() bool { return watches(t) == want })
	}
	n.with(numbered)
	are(0)
	r.heard("fe80::a")
	n.with(unnumbered(1179))
	are(1)
	n.configure()
	are(1)
	both := n.config.Peers
	n.config.Peers = []Peer{numbered}
	n.configure()
	are(0)
	n.config.Peers = both
	n.configure()
	are(1)
	router := n.config.Router
	n.config.Router = nil
	n.configure()
	are(0)
	n.config.Router = router
	n.configure()
	are(1)
	n.Stop(t.Context())
	are(0)
}

// Two BgpPeers that turn out to be one neighbor: the first has the session.
func TestSameNeighborTwice(t *testing.T) {
	r, n := newRouters(t), newNode(t)
	const port = 1179
	router, _ := r.plug("fe80::a", port)
	numbered := unnumbered(port)
	numbered.Address, numbered.Interface, numbered.BFD = netip.MustParseAddr("fe80::a%"+uplink), "", nil
	n.with(numbered)
	eventually(t, "a session", func() bool { return router.established() && n.session("a").Established() })
	twin := unnumbered(port)
	twin.Name, twin.BFD = "twin", nil
	n.config.Peers = []Peer{numbered, twin}
	if err := n.Configure(t.Context(), n.config); err == nil || !strings.Contains(err.Error(), "BgpPeer twin: spec.conf: BgpPeer a has the session") {
		t.Errorf("error %v", err)
	}
	n.linksChanged()
	if s := n.session("twin"); s.Established() || !strings.Contains(s.Reason, "BgpPeer a has the session") {
		t.Errorf("the second: %+v", s)
	}
	if s := n.session("a"); !s.Established() || router.sessions() != 1 {
		t.Errorf("the first: %+v", s)
	}
}
