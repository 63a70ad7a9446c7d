package dataplanetest

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/fairway-lb/fairway/dataplane/service"
	"github.com/fairway-lb/fairway/internal/netnstest"
	"github.com/fairway-lb/fairway/internal/uml"
)

// Lab is a node with pods, a pod of another node, and a client that is
// routed through the node:
//
//	Pod1, Pod2, Pod3 --- Node --- Remote
//	                      |
//	                    Client
//
// Remote has no route to Client: an answer comes only if the node translated
// the source.
type Lab struct {
	T                                testing.TB
	Node                             *Host // the namespace of the test
	Pod1, Pod2, Pod3, Remote, Client *Host
	deviates                         func(*Cell)
	newPorts                         bool // hosts ask from another port each time
}

// Host answers whatever comes to ServerPort, the Client aside.
type Host struct {
	Name   string
	Addrs  [2]netip.Addr // by family
	handle netns.NsHandle
	lab    *Lab
}

// ServerPort is where hosts answer, by TCP, UDP and SCTP.
const ServerPort = 8080

// PodCIDRs are the node's own.
var PodCIDRs = []netip.Prefix{netip.MustParsePrefix("10.244.0.0/24"), netip.MustParsePrefix("fd00:244::/64")}

// serviceCIDRs are those of cluster IPs and of other frontends.
var serviceCIDRs = [][]netip.Prefix{
	Prefixes("10.96.0.0/16", "198.18.0.0/15"),
	Prefixes("fd00:96::/112", "fd00:18::/112", "fd00:19::/112"),
}

// NewLab makes the namespace of the test a node, and the others beside it, until
// the test ends.
func NewLab(t testing.TB) *Lab {
	netnstest.Need(t)
	l := &Lab{T: t}
	home, err := netns.Get()
	must(t, err)
	l.Node = &Host{Name: "node", handle: home, lab: l}
	t.Cleanup(func() { home.Close() })
	for path, value := range map[string]string{
		"net/ipv4/ip_forward":                 "1",
		"net/ipv6/conf/all/forwarding":        "1",
		"net/ipv4/icmp_ratelimit":             "0",
		"net/ipv4/icmp_msgs_per_sec":          "1000000",
		"net/ipv4/icmp_msgs_burst":            "1000000",
		"net/ipv6/icmp/ratelimit":             "0",
		"net/ipv4/conf/all/rp_filter":         "0",
		"net/ipv6/conf/default/dad_transmits": "0",
	} {
		must(t, os.WriteFile("/proc/sys/"+path, []byte(value), 0o644))
	}
	// All tests have this namespace, and some the same addresses.
	must(t, netlink.ConntrackTableFlush(netlink.ConntrackTable))
	lo, err := netlink.LinkByName("lo")
	must(t, err)
	must(t, netlink.LinkSetUp(lo))
	l.Pod1 = l.connect("pod1", "10.244.0.2", "fd00:244::2", "10.244.0.1", "fd00:244::1", true)
	l.Pod2 = l.connect("pod2", "10.244.0.3", "fd00:244::3", "10.244.0.1", "fd00:244::1", true)
	l.Pod3 = l.connect("pod3", "10.244.0.4", "fd00:244::4", "10.244.0.1", "fd00:244::1", true)
	l.Remote = l.connect("remote", "10.244.1.2", "fd00:244:1::2", "172.16.0.1", "fd00:16::1", false)
	l.Client = l.connect("client", "192.168.9.2", "fd00:9::2", "192.168.9.1", "fd00:9::1", true)
	// The node has a route to everywhere, as every node does.
	for _, everywhere := range []string{"0.0.0.0/0", "::/0"} {
		via := l.Remote.Addrs[0]
		if everywhere == "::/0" {
			via = l.Remote.Addrs[1]
		}
		link, err := netlink.LinkByName("remote")
		must(t, err)
		must(t, netlink.RouteAdd(&netlink.Route{LinkIndex: link.Attrs().Index, Dst: ipNet(netip.MustParsePrefix(everywhere)), Gw: via.AsSlice()}))
	}
	l.Node.Addrs = [2]netip.Addr{netip.MustParseAddr("172.16.0.1"), netip.MustParseAddr("fd00:16::1")}
	l.listen(l.Node)
	return l
}

// Host returns the host of a name.
func (l *Lab) Host(name string) *Host {
	for _, h := range []*Host{l.Node, l.Pod1, l.Pod2, l.Pod3, l.Remote, l.Client} {
		if h.Name == name {
			return h
		}
	}
	panic("no host is named " + name)
}

// connect makes a host with a link to the node. One that is not routed has ways
// to the node, its pods and Services only.
func (l *Lab) connect(name, addr4, addr6, gateway4, gateway6 string, routed bool) *Host {
	t := l.T
	h := &Host{Name: name, lab: l, Addrs: [2]netip.Addr{netip.MustParseAddr(addr4), netip.MustParseAddr(addr6)}}
	must(t, onThread(l.Node.handle, func() (err error) {
		h.handle, err = netns.New()
		return err
	}))
	gateways := [2]netip.Addr{netip.MustParseAddr(gateway4), netip.MustParseAddr(gateway6)}
	attrs := netlink.NewLinkAttrs()
	attrs.Name = name
	must(t, netlink.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: "eth0", PeerNamespace: netlink.NsFd(int(h.handle))}))
	near, err := netlink.LinkByName(name)
	must(t, err)
	t.Cleanup(func() {
		must(t, netlink.LinkDel(near))
		must(t, h.handle.Close())
	})
	var lo, far netlink.Link
	must(t, os.WriteFile("/proc/sys/net/ipv6/conf/"+name+"/accept_dad", []byte("0"), 0o644))
	must(t, netlink.LinkSetUp(near))
	must(t, onThread(h.handle, func() (err error) {
		if lo, err = netlink.LinkByName("lo"); err != nil {
			return err
		}
		if far, err = netlink.LinkByName("eth0"); err != nil {
			return err
		}
		return errors.Join(netlink.LinkSetUp(lo), netlink.LinkSetUp(far))
	}))
	must(t, awaitUp(l.Node.handle, name))
	must(t, awaitUp(h.handle, "eth0"))
	for i := range h.Addrs {
		must(t, addAddr(l.Node.handle, near, gateways[i], syscall.RT_SCOPE_UNIVERSE))
		must(t, addAddr(h.handle, far, h.Addrs[i], syscall.RT_SCOPE_UNIVERSE))
		must(t, neighbor(near, far, h.Addrs[i]))
		must(t, onThread(h.handle, func() error {
			errs := []error{neighbor(far, near, gateways[i])}
			to := append([]netip.Prefix{PodCIDRs[i]}, serviceCIDRs[i]...)
			if routed {
				to = []netip.Prefix{netip.MustParsePrefix([]string{"0.0.0.0/0", "::/0"}[i])}
			}
			for _, p := range to {
				errs = append(errs, netlink.RouteAdd(&netlink.Route{LinkIndex: far.Attrs().Index, Dst: ipNet(p), Gw: gateways[i].AsSlice()}))
			}
			return errors.Join(errs...)
		}))
	}
	if name != "client" {
		l.listen(h)
	}
	return h
}

// neighbor leads an address over a link, to the other end for good: nothing is
// to wait for an answer of a neighbor, nor to be lost when that is late.
func neighbor(link, other netlink.Link, addr netip.Addr) error {
	return errors.Join(
		netlink.RouteAdd(&netlink.Route{LinkIndex: link.Attrs().Index, Dst: single(addr), Scope: netlink.SCOPE_LINK}),
		netlink.NeighSet(&netlink.Neigh{LinkIndex: link.Attrs().Index, State: netlink.NUD_PERMANENT, IP: addr.AsSlice(), HardwareAddr: other.Attrs().HardwareAddr}))
}

// listen answers every connection and every datagram with the host's name and
// the address that it came from.
func (l *Lab) listen(h *Host) {
	address := fmt.Sprintf("[::]:%d", ServerPort)
	var listener net.Listener
	var conn net.PacketConn
	must(l.T, onThread(h.handle, func() (err error) {
		if listener, err = net.Listen("tcp", address); err != nil {
			return err
		}
		conn, err = net.ListenPacket("udp", address)
		return err
	}))
	l.listenSCTP(h)
	l.T.Cleanup(func() { listener.Close(); conn.Close() })
	go func() {
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			go tell(c, h.Name+" "+hostOf(c.RemoteAddr()))
		}
	}()
	go func() {
		buffer := make([]byte, 100)
		for {
			_, from, err := conn.ReadFrom(buffer)
			if err != nil {
				return
			}
			conn.WriteTo([]byte(h.Name+" "+hostOf(from)), from)
		}
	}()
}

// tell answers a connection with a line. The client closes it, with a reset: so
// neither side remembers it, as the server would in TIME_WAIT and then repel who
// comes again from the same port.
func tell(c net.Conn, line string) {
	defer c.Close()
	fmt.Fprintln(c, line)
	io.Copy(io.Discard, c)
}

func hostOf(addr net.Addr) string {
	ap, err := netip.ParseAddrPort(addr.String())
	if err != nil {
		return addr.String()
	}
	return ap.Addr().Unmap().String()
}

// What a connection may meet with, other than a host.
const (
	Reject = "REJECT"
	Drop   = "DROP"
)

// Answer is who answered, and whom it saw.
type Answer struct {
	Who    string
	Source netip.Addr
}

// patience is how long a host waits for an answer: it may be on a busy machine.
const patience = 15 * time.Second

// silence is how long it waits for none. A guest has one CPU for all of its
// hosts.
var silence = func() time.Duration {
	if uml.Inside() {
		return 5 * time.Second
	}
	return 2 * time.Second
}()

// Dial asks who is at an address.
func (h *Host) Dial(protocol service.Protocol, to netip.AddrPort) Answer {
	return h.DialFrom(protocol, netip.AddrPort{}, to)
}

// DialFrom asks from an address that the host has, or any if it is the zero
// value. Port 0 is any port. SCTP always asks from any.
func (h *Host) DialFrom(protocol service.Protocol, from, to netip.AddrPort) Answer {
	return h.dial(protocol, from, to, patience)
}

// dial asks once: with a second datagram, or a second SYN, one would not see
// that the first was lost.
func (h *Host) dial(protocol service.Protocol, from, to netip.AddrPort, patience time.Duration) Answer {
	if protocol == service.SCTP {
		return h.dialSCTP(to, patience)
	}
	network := map[service.Protocol]string{service.TCP: "tcp", service.UDP: "udp"}[protocol]
	var conn net.Conn
	err := onThread(h.handle, func() (err error) {
		choose := h.lab.newPorts && from == netip.AddrPort{}
		for {
			if choose {
				from = netip.AddrPortFrom(netip.Addr{}, h.newPort(protocol, to))
			}
			d := net.Dialer{LocalAddr: localAddr(protocol, from), Timeout: patience}
			conn, err = d.Dial(network, to.String())
			if !choose || !errors.Is(err, syscall.EADDRINUSE) {
				return err
			}
		}
	})
	if err != nil {
		return failure(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return Answer{Who: err.Error()}
	}
	var data []byte
	if protocol == service.UDP {
		data, err = exchange(conn, []byte("?"), func([]byte) bool { return true })
	} else {
		data, err = hear(conn.(*net.TCPConn))
	}
	if err != nil {
		return failure(err)
	}
	who, source, _ := strings.Cut(string(data), " ")
	addr, _ := netip.ParseAddr(source)
	return Answer{who, addr}
}

// ports are the last that hosts have asked from. They outlast a test, as what
// a kernel remembers does.
var ports = struct {
	sync.Mutex
	last map[asker]uint16
}{last: map[asker]uint16{}}

type asker struct {
	host     string
	protocol service.Protocol
	family   service.Family
}

// newPort returns a port that the host has not asked from for long.
func (h *Host) newPort(protocol service.Protocol, to netip.AddrPort) uint16 {
	const first, last = 32768, 60999 // as the kernel does
	a := asker{h.Name, protocol, service.FamilyOf(to.Addr())}
	ports.Lock()
	defer ports.Unlock()
	port := ports.last[a] + 1
	if port < first || port > last {
		port = first
	}
	ports.last[a] = port
	return port
}

// hear reads the line of a connection whose first SYN was answered.
func hear(conn *net.TCPConn) ([]byte, error) {
	n, err := retransmissions(conn)
	if err != nil {
		return nil, err
	}
	if n > 0 {
		return nil, fmt.Errorf("connected after %d retransmissions", n)
	}
	if err := conn.SetLinger(0); err != nil {
		return nil, err
	}
	line, err := bufio.NewReader(conn).ReadBytes('\n')
	return bytes.TrimSuffix(line, []byte("\n")), err
}

// retransmissions are those of a connection since its beginning.
func retransmissions(conn *net.TCPConn) (uint32, error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return 0, err
	}
	var info *unix.TCPInfo
	e := raw.Control(func(fd uintptr) { info, err = unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO) })
	if err = errors.Join(e, err); err != nil {
		return 0, err
	}
	return info.Total_retrans, nil
}

// exchange sends a datagram and returns the first answer that suits.
func exchange(conn net.Conn, question []byte, suits func([]byte) bool) ([]byte, error) {
	// The kernel tells of a packet that a hook has taken, but what it means for
	// the sender is yet to come.
	if _, err := conn.Write(question); err != nil && !errors.Is(err, syscall.EPERM) {
		return nil, err
	}
	buffer := make([]byte, 1500)
	for {
		n, err := read(conn, buffer)
		if err != nil {
			return nil, err
		}
		if suits(buffer[:n]) {
			return buffer[:n], nil
		}
	}
}

// read reads a datagram without a header of IP.
func read(conn net.Conn, buffer []byte) (int, error) {
	if c, ok := conn.(net.PacketConn); ok {
		n, _, err := c.ReadFrom(buffer)
		return n, err
	}
	return conn.Read(buffer)
}

// failure is what an error means of whom nobody answered.
func failure(err error) Answer {
	var timeout net.Error
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return Answer{Who: Reject}
	case errors.As(err, &timeout) && timeout.Timeout():
		return Answer{Who: Drop}
	}
	return Answer{Who: err.Error()}
}

func localAddr(protocol service.Protocol, from netip.AddrPort) net.Addr {
	switch {
	case from == netip.AddrPort{}:
		return nil
	case protocol == service.UDP:
		return net.UDPAddrFromAddrPort(from)
	}
	return net.TCPAddrFromAddrPort(from)
}

// isNode tells whether an address is one of the node's.
func isNode(addr netip.Addr) bool {
	switch addr.String() {
	case "10.244.0.1", "fd00:244::1", "172.16.0.1", "fd00:16::1", "192.168.9.1", "fd00:9::1":
		return true
	}
	return false
}

// onThread runs f on a thread that is in the namespace. The thread ends if it
// cannot go back.
func onThread(to netns.NsHandle, f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		home, err := netns.Get()
		if err != nil {
			done <- err
			return
		}
		defer home.Close()
		if err := netns.Set(to); err != nil {
			done <- err
			return
		}
		err = f()
		if netns.Set(home) == nil {
			runtime.UnlockOSThread()
		}
		done <- err
	}()
	return <-done
}

func single(addr netip.Addr) *net.IPNet { return ipNet(netip.PrefixFrom(addr, addr.BitLen())) }

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
