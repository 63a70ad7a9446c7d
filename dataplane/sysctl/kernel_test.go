package sysctl

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mdlayher/ndp"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/fairway-lb/fairway/internal/netnstest"
)

func TestMain(m *testing.M) { netnstest.Main(m) }

// TestKernel makes the settings of a namespace, which begins with others.
func TestKernel(t *testing.T) {
	netnstest.Need(t)
	for name, value := range map[string]string{
		"ipv4/ip_forward": "0", "ipv6/conf/all/forwarding": "0", "ipv4/conf/all/route_localnet": "0",
		"netfilter/nf_conntrack_tcp_timeout_established": "432000", "netfilter/nf_conntrack_udp_timeout": "30",
	} {
		set(t, name, value)
	}
	node, err := ReadNode("/")
	if err != nil {
		t.Fatal(err)
	}
	options := Options{IPv6: true, LocalhostNodePorts: true, TCPBeLiberal: true, UDPTimeout: 20 * time.Second}
	settings := Wanted(node, options)
	result, err := Apply("/", settings)
	if err != nil {
		t.Fatal(err)
	}
	// Those of all the machine cannot be set from here.
	global := []string{"nf_conntrack_max", "hashsize"}
	for _, w := range result.Warnings {
		if !slices.ContainsFunc(global, func(g string) bool { return strings.Contains(w.Error(), g) }) {
			t.Error(w)
		}
	}
	var changed []string
	for _, c := range result.Changed {
		changed = append(changed, fmt.Sprintf("%s %d %d", c.Name, c.From, c.To))
	}
	for _, want := range []string{
		"net.ipv4.ip_forward 0 1", "net.ipv6.conf.all.forwarding 0 1", "net.ipv4.conf.all.route_localnet 0 1",
		"net.netfilter.nf_conntrack_tcp_timeout_established 432000 86400", "net.netfilter.nf_conntrack_udp_timeout 30 20",
	} {
		if !slices.Contains(changed, want) {
			t.Errorf("no %q in %q", want, changed)
		}
	}
	for name, want := range map[string]string{
		"ipv4/ip_forward": "1", "ipv6/conf/all/forwarding": "1", "ipv4/conf/all/route_localnet": "1",
		"netfilter/nf_conntrack_tcp_timeout_established": "86400", "netfilter/nf_conntrack_tcp_timeout_close_wait": "3600",
		"netfilter/nf_conntrack_tcp_be_liberal": "1", "netfilter/nf_conntrack_udp_timeout": "20",
	} {
		if got := get(t, name); got != want {
			t.Errorf("%s is %s, want %s", name, got, want)
		}
	}
	if result, err := Apply("/", settings); err != nil || len(result.Changed) > 0 {
		t.Errorf("again: %+v, %v", result, err)
	}

	// The table of connections is that of the machine, which a namespace cannot
	// change.
	room := Setting{Path: "proc/sys/net/netfilter/nf_conntrack_max", Value: 1 << 30, AtLeast: true, Required: true, Why: "w"}
	_, err = Apply("/", []Setting{room})
	var e *Error
	if !errors.As(err, &e) || e.Found != get(t, "netfilter/nf_conntrack_max") || !errors.Is(err, os.ErrPermission) {
		t.Errorf("the error is %v", err)
	}
}

// TestDefaultRouteStays has a router tell the node its default route, which a
// kernel forgets when it is told to forward.
func TestDefaultRouteStays(t *testing.T) {
	netnstest.Need(t)
	set(t, "ipv6/conf/all/forwarding", "0")
	set(t, "ipv6/conf/default/accept_dad", "0")                // addresses are usable at once
	peer := fmt.Sprintf("router%d", time.Now().UnixNano()%1e8) // Go remembers the index of a name for a minute
	attrs := netlink.NewLinkAttrs()
	attrs.Name = "uplink"
	link := &netlink.Veth{LinkAttrs: attrs, PeerName: peer}
	if err := netlink.LinkAdd(link); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := netlink.LinkDel(link); err != nil {
			t.Error(err)
		}
	})
	changes, done := make(chan netlink.RouteUpdate), make(chan struct{})
	defer close(done)
	if err := netlink.RouteSubscribe(changes, done); err != nil {
		t.Fatal(err)
	}
	addresses := make(chan netlink.AddrUpdate)
	if err := netlink.AddrSubscribe(addresses, done); err != nil {
		t.Fatal(err)
	}
	router, err := netlink.LinkByName(peer)
	if err != nil {
		t.Fatal(err)
	}
	set(t, "ipv6/conf/"+peer+"/accept_ra", "0")
	set(t, "ipv6/conf/uplink/accept_ra", "1")
	if err := errors.Join(netlink.LinkSetUp(link), netlink.LinkSetUp(router)); err != nil {
		t.Fatal(err)
	}
	timeout := time.After(20 * time.Second)
	for ready := map[int]bool{}; len(ready) < 2; { // a link that has its address is heard
		select {
		case a := <-addresses:
			if a.NewAddr && a.LinkAddress.IP.IsLinkLocalUnicast() {
				ready[a.LinkIndex] = true
			}
		case <-timeout:
			t.Fatal("the links get no addresses")
		}
	}
	advertise(t, peer)
	for learned := false; !learned; {
		select {
		case c := <-changes:
			learned = c.Type == unix.RTM_NEWROUTE && c.Gw != nil && c.LinkIndex == link.Attrs().Index
		case <-timeout:
			t.Fatal("no default route was learned")
		}
	}

	node, err := ReadNode("/")
	if err != nil || !slices.Equal(node.Learned, []string{"uplink"}) {
		t.Fatalf("read %+v, %v", node, err)
	}
	if _, err := Apply("/", Wanted(node, Options{IPv6: true})); err != nil {
		t.Fatal(err)
	}
	after, err := ReadNode("/")
	if err != nil || !slices.Equal(after.Learned, node.Learned) || get(t, "ipv6/conf/all/forwarding") != "1" {
		t.Errorf("while it forwards: %+v, %v", after, err)
	}
}

// advertise sends one router advertisement on a link (RFC 4861, 4.2).
func advertise(t *testing.T, link string) {
	t.Helper()
	ifi, err := net.InterfaceByName(link)
	if err != nil {
		t.Fatal(err)
	}
	conn, _, err := ndp.Listen(ifi, ndp.LinkLocal)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	message := &ndp.RouterAdvertisement{CurrentHopLimit: 64, RouterLifetime: time.Hour}
	if err := conn.WriteTo(message, nil, netip.MustParseAddr("ff02::1")); err != nil {
		t.Fatal(err)
	}
}

func set(t *testing.T, name, value string) {
	t.Helper()
	if err := directory("/proc/sys/net").write(name, value); err != nil {
		t.Fatal(err)
	}
}

func get(t *testing.T, name string) string {
	t.Helper()
	text, err := directory("/proc/sys/net").read(name)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(text)
}
