package layer2

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/go-logr/logr/testr"
	"github.com/mdlayher/arp"
	"github.com/mdlayher/ethernet"
	"github.com/mdlayher/ndp"
	"github.com/mdlayher/packet"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/fairway-lb/fairway/internal/netnstest"
)

// patience is how long a test waits for what must come.
const patience = 10 * time.Second

const (
	nodeLL = "fe80::ff:fe00:1"
	peerLL = "fe80::ff:fe00:2"
)

func nodeMAC() net.HardwareAddr { return net.HardwareAddr{2, 0, 0, 0, 0, 1} }
func peerMAC() net.HardwareAddr { return net.HardwareAddr{2, 0, 0, 0, 0, 2} }

// A lan is a cable between a link of the node, which is the namespace of the
// test process, and a peer in a namespace of its own.
type lan struct {
	t    testing.TB
	link string // the node's end
	ns   netns.NsHandle
	peer *netlink.Handle
	wire *tap // the peer's end
}

// newLAN makes the cable. The node's end has no address but the link-local.
func newLAN(t testing.TB, link string) *lan {
	t.Helper()
	netnstest.Need(t)
	l := &lan{t: t, link: link}
	l.ns = newNamespace(t)
	var err error
	l.peer, err = netlink.NewHandleAt(l.ns)
	must(t, err)
	t.Cleanup(l.peer.Close)
	l.plug()
	l.wire = l.tapPeer()
	return l
}

// plug creates both ends and brings them up.
func (l *lan) plug() {
	l.t.Helper()
	must(l.t, noDAD()) // or link-local addresses are tentative for a second or two
	in(l.t, l.ns, noDAD)
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.HardwareAddr = l.link, nodeMAC()
	must(l.t, netlink.LinkAdd(&netlink.Veth{
		LinkAttrs: attrs, PeerName: "far", PeerHardwareAddr: peerMAC(), PeerNamespace: netlink.NsFd(l.ns),
	}))
	l.t.Cleanup(func() {
		if link, err := netlink.LinkByName(l.link); err == nil {
			must(l.t, netlink.LinkDel(link))
		}
	})
	far, err := l.peer.LinkByName("far")
	must(l.t, err)
	must(l.t, l.peer.LinkSetUp(far))
	l.up()
}

func (l *lan) up() {
	l.t.Helper()
	must(l.t, netlink.LinkSetUp(l.node()))
	// Before, the kernel drops what an end is given to send.
	l.eventually("carrier at both ends", func() bool {
		far, err := l.peer.LinkByName("far")
		return err == nil && far.Attrs().OperState == netlink.OperUp && l.node().Attrs().OperState == netlink.OperUp
	})
	l.eventually("link-local address of "+l.link, func() bool {
		_, err := identify(place{l.link, familyIPv6})
		return err == nil || !ipv6Enabled(l.link)
	})
}

func (l *lan) down() { l.t.Helper(); must(l.t, netlink.LinkSetDown(l.node())) }

func (l *lan) unplug() { l.t.Helper(); must(l.t, netlink.LinkDel(l.node())) }

func (l *lan) node() netlink.Link {
	l.t.Helper()
	link, err := netlink.LinkByName(l.link)
	must(l.t, err)
	return link
}

// eventually waits for a condition that follows a change of a link.
func (l *lan) eventually(what string, ok func() bool) {
	l.t.Helper()
	deadline := time.After(patience)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-deadline:
			l.t.Fatalf("no %s after %v", what, patience)
		case <-tick.C:
		}
	}
}

func (l *lan) responder() (*Responder, *prometheus.Registry) {
	l.t.Helper()
	reg := prometheus.NewRegistry()
	log := testr.NewWithInterface(l.t, testr.Options{})
	r, err := New(log, reg)
	must(l.t, err)
	l.t.Cleanup(func() { must(l.t, r.Close()) })
	return r, reg
}

func (l *lan) tapPeer() *tap {
	l.t.Helper()
	var conn *packet.Conn
	in(l.t, l.ns, func() (err error) { conn, err = listen("far"); return err })
	return newTap(l.t, conn)
}

// tapNode sees the frames of the node's end in both directions, in the order
// in which they are handed to or taken from the device.
func (l *lan) tapNode() *tap {
	l.t.Helper()
	conn, err := listen(l.link)
	must(l.t, err)
	return newTap(l.t, conn)
}

// marker returns a function that sends a marker from the node and describes
// it. It has a socket of its own, as a tap does not see what it sends itself.
func (l *lan) marker() func(name string) string {
	l.t.Helper()
	conn, err := packet.Listen(&net.Interface{Index: l.node().Attrs().Index}, packet.Raw, 0, nil)
	must(l.t, err)
	l.t.Cleanup(func() { must(l.t, conn.Close()) })
	return func(name string) string {
		l.t.Helper()
		f := marker(name)
		_, err = conn.WriteTo(f, &packet.Addr{HardwareAddr: f[:6]})
		must(l.t, err)
		return describe(f)
	}
}

// A tap reads and writes frames.
type tap struct {
	t    testing.TB
	conn *packet.Conn
	buf  []byte
	// watch, if set, is told of every described frame.
	watch func(frame string)
}

func newTap(t testing.TB, conn *packet.Conn) *tap {
	t.Cleanup(func() { _ = conn.Close() })
	raw, err := conn.SyscallConn()
	must(t, err)
	must(t, raw.Control(func(fd uintptr) {
		// Room for all frames of a test: none may be lost unseen.
		err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 64<<20)
	}))
	must(t, err)
	return &tap{t: t, conn: conn, buf: make([]byte, 4096)}
}

func listen(link string) (*packet.Conn, error) {
	ifi, err := net.InterfaceByName(link)
	if err != nil {
		return nil, err
	}
	return packet.Listen(ifi, packet.Raw, unix.ETH_P_ALL, nil)
}

func (p *tap) send(frames ...[]byte) {
	p.t.Helper()
	for _, f := range frames {
		_, err := p.conn.WriteTo(f, &packet.Addr{HardwareAddr: f[:6]})
		must(p.t, err)
	}
}

// next returns a description of the next frame that has one.
func (p *tap) next(deadline time.Time) (string, bool) {
	p.t.Helper()
	must(p.t, p.conn.SetReadDeadline(deadline))
	for {
		n, _, err := p.conn.ReadFrom(p.buf)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return "", false
		}
		if errors.Is(err, unix.ENETDOWN) {
			continue
		}
		must(p.t, err)
		if text := describe(p.buf[:n]); text != "" {
			if p.watch != nil {
				p.watch(text)
			}
			return text, true
		}
	}
}

// expect reads until all of the wanted frames were seen, in any order: the
// families are answered side by side. Others may come meanwhile, except those
// that contain one of never.
func (p *tap) expect(want []string, never ...string) {
	p.t.Helper()
	missing := map[string]int{}
	for _, w := range want {
		missing[w]++
	}
	deadline := time.Now().Add(patience)
	var seen []string
	for len(missing) > 0 {
		got, ok := p.next(deadline)
		if !ok {
			p.t.Fatalf("missing frames %v; last seen:\n%s", missing, strings.Join(seen[max(0, len(seen)-20):], "\n"))
		}
		seen = append(seen, got)
		if missing[got]--; missing[got] == 0 {
			delete(missing, got)
		} else if missing[got] < 0 {
			delete(missing, got)
			for _, bad := range never {
				if strings.Contains(got, bad) {
					p.t.Fatalf("unwanted frame %q before %v", got, missing)
				}
			}
		}
	}
}

// describe tells of ARP, of neighbor solicitations and advertisements, and of
// markers, from the bytes alone; other frames have no description.
func describe(f []byte) string {
	if len(f) < 42 {
		return ""
	}
	to := macName(f[:6])
	switch binary.BigEndian.Uint16(f[12:]) {
	case markerType:
		return "marker " + string(f[14:22])
	case 0x0806:
		op := map[uint16]string{1: "request", 2: "reply"}[binary.BigEndian.Uint16(f[20:])]
		return fmt.Sprintf("arp %s to %s: %s %s -> %s %s", op, to, macName(f[22:28]), netip.AddrFrom4([4]byte(f[28:])),
			macName(f[32:38]), netip.AddrFrom4([4]byte(f[38:])))
	case 0x86dd:
		if len(f) < 78 || f[20] != 58 || f[54] != 135 && f[54] != 136 {
			return ""
		}
		src, dst := netip.AddrFrom16([16]byte(f[22:])), netip.AddrFrom16([16]byte(f[38:]))
		target := netip.AddrFrom16([16]byte(f[62:]))
		if f[54] == 135 {
			return fmt.Sprintf("ns to %s: %s -> %s %s", to, src, dst, target)
		}
		flags := ""
		for i, name := range "RSO" {
			if f[58]&(0x80>>i) != 0 {
				flags += string(name)
			}
		}
		lla := "none"
		if len(f) >= 86 && f[78] == 2 {
			lla = macName(f[80:86])
		}
		return fmt.Sprintf("na to %s: %s -> %s %s is %s %s hops %d", to, src, dst, target, lla, flags, f[21])
	}
	return ""
}

func macName(b []byte) string {
	switch mac := net.HardwareAddr(b).String(); mac {
	case nodeMAC().String():
		return "node"
	case peerMAC().String():
		return "peer"
	case "ff:ff:ff:ff:ff:ff":
		return "all"
	case "00:00:00:00:00:00":
		return "zero"
	case "33:33:00:00:00:01":
		return "all-v6"
	default:
		return mac
	}
}

// markerType is an EtherType for experiments (IEEE 802, 9.2.3).
const markerType = 0x88b5

// marker is a frame that tells a reader how far it has read.
func marker(name string) []byte {
	f := make([]byte, 60)
	copy(f, ethernet.Broadcast)
	copy(f[6:], nodeMAC())
	binary.BigEndian.PutUint16(f[12:], markerType)
	copy(f[14:22], name+"        ")
	return f
}

// arpFrame makes a request from the peer; edit changes it.
func arpFrame(target string, edit ...func(*ethernet.Frame, *arp.Packet)) []byte {
	p := &arp.Packet{
		HardwareType: 1, ProtocolType: 0x800, HardwareAddrLength: 6, IPLength: 4, Operation: arp.OperationRequest,
		SenderHardwareAddr: peerMAC(), SenderIP: netip.MustParseAddr("192.0.2.2"),
		TargetHardwareAddr: make(net.HardwareAddr, 6), TargetIP: netip.MustParseAddr(target),
	}
	f := &ethernet.Frame{Destination: ethernet.Broadcast, Source: peerMAC(), EtherType: ethernet.EtherTypeARP}
	for _, e := range edit {
		e(f, p)
	}
	f.Payload, _ = p.MarshalBinary()
	b, err := f.MarshalBinary()
	if err != nil {
		panic(err)
	}
	return b
}

// question is a neighbor solicitation of the peer.
type question struct {
	target   string
	src, dst string           // default: the peer's link-local, the solicited-node group
	etherDst net.HardwareAddr // default: that of dst
	bare     bool             // without the source link-layer address option
}

func (q question) frame() []byte {
	target := netip.MustParseAddr(q.target)
	src, dst := netip.MustParseAddr(peerLL), solicitedNode(target)
	if q.src != "" {
		src = netip.MustParseAddr(q.src)
	}
	if q.dst != "" {
		dst = netip.MustParseAddr(q.dst)
	}
	if q.etherDst == nil {
		q.etherDst = multicastMAC(dst)
	}
	m := &ndp.NeighborSolicitation{TargetAddress: target}
	if !q.bare {
		m.Options = []ndp.Option{&ndp.LinkLayerAddress{Direction: ndp.Source, Addr: peerMAC()}}
	}
	body, err := ndp.MarshalMessageChecksum(m, src, dst)
	if err != nil {
		panic(err)
	}
	b := make([]byte, ethernetLen+ipv6Len, 128)
	copy(b, q.etherDst)
	copy(b[6:], peerMAC())
	binary.BigEndian.PutUint16(b[12:], unix.ETH_P_IPV6)
	b[14] = 6 << 4
	binary.BigEndian.PutUint16(b[18:], uint16(len(body)))
	b[20], b[21] = unix.IPPROTO_ICMPV6, 255
	copy(b[22:], src.AsSlice())
	copy(b[38:], dst.AsSlice())
	return append(b, body...)
}

func nsFrame(target string) []byte { return question{target: target}.frame() }

func on(link string, addrs ...string) []Announcement {
	var as []Announcement
	for _, a := range addrs {
		as = append(as, Announcement{netip.MustParseAddr(a), link})
	}
	return as
}

// value reads a metric of a registry: the sum over the series with the label value.
func value(t testing.TB, reg *prometheus.Registry, name, label string) float64 {
	t.Helper()
	families, err := reg.Gather()
	must(t, err)
	sum := 0.0
	for _, f := range families {
		for _, m := range f.GetMetric() {
			for _, l := range m.GetLabel() {
				if f.GetName() == "fairway_layer2_"+name && l.GetValue() == label {
					sum += m.GetCounter().GetValue() + m.GetGauge().GetValue()
				}
			}
		}
	}
	return sum
}

func ipv6Enabled(link string) bool {
	b, err := os.ReadFile("/proc/sys/net/ipv6/conf/" + link + "/disable_ipv6")
	return err == nil && strings.TrimSpace(string(b)) == "0"
}

func setIPv6(t testing.TB, link string, enabled bool) {
	t.Helper()
	must(t, os.WriteFile("/proc/sys/net/ipv6/conf/"+link+"/disable_ipv6", []byte(map[bool]string{true: "0", false: "1"}[enabled]), 0))
}

func noDAD() error { return os.WriteFile("/proc/sys/net/ipv6/conf/default/accept_dad", []byte("0"), 0) }

func newNamespace(t testing.TB) netns.NsHandle {
	t.Helper()
	type result struct {
		ns  netns.NsHandle
		err error
	}
	made := make(chan result)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		ns, err := netns.New()
		made <- result{ns, err}
	}()
	r := <-made
	must(t, r.err)
	t.Cleanup(func() { _ = r.ns.Close() })
	return r.ns
}

// in runs f in another namespace.
func in(t testing.TB, ns netns.NsHandle, f func() error) {
	t.Helper()
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		if err := netns.Set(ns); err != nil {
			done <- err
			return
		}
		done <- f()
	}()
	must(t, <-done)
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
