package conntrack

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/fairway-lb/fairway/dataplane/service"
	"github.com/fairway-lb/fairway/internal/netnstest"
)

func TestMain(m *testing.M) { netnstest.Main(m) }

// addresses are those of a family in the lab: all but the VIPs are the node's.
type addresses struct {
	family                         service.Family
	client, node, one, two, vip    string
	otherVIP, foreign              string
	table, route, prefix, nodePort string
}

func families() []addresses {
	return []addresses{
		{service.IPv4, "10.0.0.9", "10.0.0.8", "10.0.0.1", "10.0.0.2", "10.96.0.1", "10.96.0.2", "10.96.0.99", "ip", "10.96.0.0/24", "/32", "node:30053"},
		{service.IPv6, "fd01::9", "fd01::8", "fd01::1", "fd01::2", "fd00::1", "fd00::2", "fd00::99", "ip6", "fd00::/64", "/128", "node6:30053"},
	}
}

func at(host string, port int) string { return net.JoinHostPort(host, fmt.Sprint(port)) }

// lab is a node with two UDP endpoints, which answer with their own names.
type lab struct {
	addresses
	t *testing.T
	world
	*Cleaner
}

func newLab(t *testing.T, a addresses) *lab {
	t.Helper()
	netnstest.Need(t)
	l := &lab{a, t, world{}, NewCleaner(nil)}
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		t.Fatal(err)
	}
	if err := netlink.LinkSetUp(lo); err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{a.client, a.node, a.one, a.two} {
		addr, err := netlink.ParseAddr(text + a.prefix)
		if err != nil {
			t.Fatal(err)
		}
		addr.Flags = unix.IFA_F_NODAD // usable at once
		if err := netlink.AddrReplace(lo, addr); err != nil {
			t.Fatal(err)
		}
	}
	// What is sent to a VIP that nothing translates gets lost on the wire.
	prefix, err := netlink.ParseIPNet(a.route)
	if err != nil {
		t.Fatal(err)
	}
	if err := netlink.RouteAdd(&netlink.Route{LinkIndex: wire(t), Dst: prefix}); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{a.one, a.two} {
		answer(t, at(name, 5353), name)
	}
	t.Cleanup(func() {
		l.nft("table " + a.table + " lab\ndelete table " + a.table + " lab")
		if err := netlink.ConntrackTableFlush(netlink.ConntrackTable); err != nil {
			t.Error(err)
		}
	})
	return l
}

// wire returns a new link to nowhere, on which no neighbor is looked for.
func wire(t *testing.T) int {
	t.Helper()
	attrs := netlink.NewLinkAttrs()
	attrs.Name = "wire"
	link := &netlink.Veth{LinkAttrs: attrs, PeerName: "nowhere"}
	if err := netlink.LinkAdd(link); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := netlink.LinkDel(link); err != nil {
			t.Error(err)
		}
	})
	if err := errors.Join(netlink.LinkSetARPOff(link), netlink.LinkSetUp(link)); err != nil {
		t.Fatal(err)
	}
	peer, err := netlink.LinkByName("nowhere")
	if err != nil {
		t.Fatal(err)
	}
	if err := netlink.LinkSetUp(peer); err != nil {
		t.Fatal(err)
	}
	return link.Index
}

// answer answers every datagram with a name.
func answer(t *testing.T, address, name string) {
	t.Helper()
	conn, err := net.ListenPacket("udp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	go func() {
		for b := make([]byte, 100); ; {
			_, from, err := conn.ReadFrom(b)
			if err != nil {
				return
			}
			_, _ = conn.WriteTo([]byte(name), from)
		}
	}()
}

func (l *lab) nft(text string) {
	l.t.Helper()
	cmd := exec.Command("nft", "-f", "-")
	cmd.Stdin = strings.NewReader(text)
	if out, err := cmd.CombinedOutput(); err != nil {
		l.t.Fatalf("nft: %v: %s", err, out)
	}
}

// translate replaces all rules: each "vip:port endpoint:port".
func (l *lab) translate(rules ...string) {
	l.t.Helper()
	text := fmt.Sprintf("table %[1]s lab\ndelete table %[1]s lab\ntable %[1]s lab {\nchain out { type nat hook output priority -100;\n", l.table)
	for _, r := range rules {
		from, to, _ := strings.Cut(r, " ")
		f := netip.MustParseAddrPort(from)
		text += fmt.Sprintf("%s daddr %s meta l4proto { tcp, udp } th dport %d dnat to %s\n", l.table, f.Addr(), f.Port(), to)
	}
	l.nft(text + "}\n}\n")
}

// client sends from one port always.
type client struct {
	t    *testing.T
	conn *net.UDPConn
}

func (l *lab) newClient(port int) *client {
	l.t.Helper()
	conn, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.MustParseAddrPort(at(l.client, port))))
	if err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(func() { _ = conn.Close() })
	return &client{l.t, conn}
}

func (c *client) send(to string) {
	c.t.Helper()
	if _, err := c.conn.WriteToUDPAddrPort([]byte("?"), netip.MustParseAddrPort(to)); err != nil {
		c.t.Fatal(err)
	}
}

// ask returns who answers.
func (c *client) ask(to string) string {
	c.t.Helper()
	c.send(to)
	if err := c.conn.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		c.t.Fatal(err)
	}
	b := make([]byte, 100)
	n, err := c.conn.Read(b)
	if err != nil {
		c.t.Fatalf("no answer of %s: %v", to, err)
	}
	return string(b[:n])
}

// entries returns all entries of the family as "udp vip:port > endpoint:port",
// sorted.
func (l *lab) entries() (list []string) {
	l.t.Helper()
	flows, err := netlink.ConntrackTableList(netlink.ConntrackTable, netlink.InetFamily(nfFamily(l.family)))
	if err != nil {
		l.t.Fatal(err)
	}
	for _, f := range flows {
		list = append(list, fmt.Sprintf("%s %s > %s", service.Protocol(f.Forward.Protocol), at(f.Forward.DstIP.String(), int(f.Forward.DstPort)),
			at(f.Reverse.SrcIP.String(), int(f.Reverse.SrcPort))))
	}
	slices.Sort(list)
	return list
}

func (l *lab) clean(want int, changes []service.PortChange) {
	l.t.Helper()
	before := l.entries()
	if _, err := l.Clean(changes); err != nil {
		l.t.Fatal(err)
	}
	if n := len(before) - len(l.entries()); n != want {
		l.t.Fatalf("deleted %d, want %d, of %q", n, want, before)
	}
}

// TestReplacedEndpoint is why there is this package: a client that goes on
// from the same port across the replacement of its endpoint.
func TestReplacedEndpoint(t *testing.T) {
	for _, a := range families() {
		t.Run(a.family.String(), func(t *testing.T) {
			l := newLab(t, a)
			dns := name("dns", service.UDP, a.family)
			vip, one, two := at(a.vip, 53), at(a.one, 5353), at(a.two, 5353)
			l.translate(vip + " " + one)
			l.clean(0, l.set(dns, vip+" > "+one))
			c := l.newClient(4000)
			if got := c.ask(vip); got != a.one {
				t.Fatalf("at first %s answers", got)
			}
			l.translate(vip + " " + two)
			if got := c.ask(vip); got != a.one {
				t.Fatalf("with new rules alone %s answers: the test shows nothing", got)
			}
			l.clean(1, l.set(dns, vip+" > "+two))
			if got := c.ask(vip); got != a.two {
				t.Errorf("after all %s answers", got)
			}
			l.clean(0, l.set(dns, vip+" > "+two))
		})
	}
}

// TestBlackHole has a client send to a Service before it has an endpoint.
func TestBlackHole(t *testing.T) {
	for _, a := range families() {
		t.Run(a.family.String(), func(t *testing.T) {
			l := newLab(t, a)
			dns := name("dns", service.UDP, a.family)
			vip, one := at(a.vip, 53), at(a.one, 5353)
			l.translate(at(a.otherVIP, 53) + " " + one) // or else the kernel tracks nothing
			l.clean(0, l.set(dns, vip))
			c := l.newClient(4000)
			c.send(vip)
			l.clean(0, l.set(dns, vip+" "+at(a.otherVIP, 53)))
			l.translate(vip + " " + one)
			l.clean(1, l.set(dns, vip+" > "+one))
			if got := c.ask(vip); got != a.one {
				t.Errorf("%s answers", got)
			}
		})
	}
}

// TestAbandonedConnection has a client connect to an endpoint that is dead. It
// is replaced: the client gets through by the SYN that it sends again, and
// whoever is connected stays so.
func TestAbandonedConnection(t *testing.T) {
	for _, a := range families() {
		t.Run(a.family.String(), func(t *testing.T) {
			l := newLab(t, a)
			web := name("web", service.TCP, a.family)
			vip, dead, one, two := at(a.vip, 80), at(a.foreign, 5353), at(a.one, 5353), at(a.two, 5353)
			for _, address := range []string{one, two} {
				listener, err := net.Listen("tcp", address)
				if err != nil {
					t.Fatal(err)
				}
				defer listener.Close()
			}
			now := time.Now()
			l.now = func() time.Time { return now }
			l.translate(vip + " " + one)
			l.clean(0, l.set(web, vip+" > "+one+" "+dead))
			connected, err := net.Dial("tcp", vip)
			if err != nil {
				t.Fatal(err)
			}
			defer connected.Close()

			l.translate(vip + " " + dead)
			done := make(chan error, 1)
			go func() {
				conn, err := net.DialTimeout("tcp", vip, 20*time.Second)
				if err == nil {
					conn.Close()
				}
				done <- err
			}()
			for begin := time.Now(); !slices.Contains(l.entries(), "TCP "+vip+" > "+dead); {
				if time.Since(begin) > 10*time.Second {
					t.Fatalf("no connection is begun: %q", l.entries())
				}
				<-time.After(time.Millisecond)
			}
			l.translate(vip + " " + two)
			l.clean(0, l.set(web, vip+" > "+two))
			for _, want := range []int{0, 1} { // the search for what was before comes first
				now = now.Add(time.Hour)
				l.clean(want, nil)
			}
			if !slices.Contains(l.entries(), "TCP "+vip+" > "+one) {
				t.Errorf("who is connected is cut off: left are %q", l.entries())
			}
			if err := <-done; err != nil {
				t.Errorf("the client does not get through: %v", err)
			}
		})
	}
}

// TestExact has one stale entry of each kind among many others.
func TestExact(t *testing.T) {
	for _, a := range families() {
		t.Run(a.family.String(), func(t *testing.T) {
			l := newLab(t, a)
			dns := name("dns", service.UDP, a.family)
			vip, other, node, foreign := at(a.vip, 53), at(a.otherVIP, 53), at(a.node, 30053), at(a.foreign, 30053)
			one, two := at(a.one, 5353), at(a.two, 5353)
			tcp, err := net.Listen("tcp", one)
			if err != nil {
				t.Fatal(err)
			}
			defer tcp.Close()
			l.translate(vip+" "+one, node+" "+one, other+" "+two)
			c := l.newClient(4000)
			for _, to := range []string{vip, node, other} {
				c.ask(to)
			}
			c.send(foreign) // the node port's number, of another host
			conn, err := net.Dial("tcp", vip)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			before := l.entries()
			l.clean(2, l.set(dns, vip+" "+other+" "+a.nodePort+" > "+two))
			after := l.entries()
			gone := slices.DeleteFunc(slices.Clone(before), func(e string) bool { return slices.Contains(after, e) })
			if want := []string{"UDP " + node + " > " + one, "UDP " + vip + " > " + one}; !slices.Equal(gone, slices.Sorted(slices.Values(want))) {
				t.Errorf("gone are %q, want %q", gone, want)
			}
			for _, want := range []string{"TCP " + vip + " > " + one, "UDP " + foreign + " > " + foreign, "UDP " + other + " > " + two} {
				if !slices.Contains(after, want) {
					t.Errorf("%s is gone, left are %q", want, after)
				}
			}
		})
	}
}

// TestDump compares with what netlink reads, and with the kernel's filters.
func TestDump(t *testing.T) {
	for _, a := range families() {
		t.Run(a.family.String(), func(t *testing.T) {
			l := newLab(t, a)
			l.translate(at(a.vip, 53) + " " + at(a.one, 5353))
			c := l.newClient(4000)
			c.ask(at(a.vip, 53))
			c.send(at(a.foreign, 1))
			listener, err := net.Listen("tcp", at(a.one, 5353))
			if err != nil {
				t.Fatal(err)
			}
			defer listener.Close()
			for _, to := range []string{at(a.vip, 53), at(a.foreign, 1)} {
				// Nobody answers at the second.
				if conn, err := net.DialTimeout("tcp", to, 100*time.Millisecond); err == nil {
					defer conn.Close()
				}
			}
			var got []string
			for _, protocol := range protocols {
				if err := (netfilter{}).dump(protocol, a.family, func(f found) {
					got = append(got, fmt.Sprintf("%s %s > %s", f.protocol, f.destination, f.replySource))
					if f.replyDestination != f.source || f.protocol == service.UDP && f.source != netip.MustParseAddrPort(at(a.client, 4000)) {
						t.Errorf("entry %+v", f.flow)
					}
					if want := f.protocol == service.UDP && f.destination.Port() == 53; f.answered != want {
						t.Errorf("entry %+v is answered: %v", f.flow, f.answered)
					}
				}); err != nil {
					t.Fatal(err)
				}
			}
			slices.Sort(got)
			answered := "TCP " + at(a.vip, 53) + " > " + at(a.one, 5353)
			all := l.entries()
			want := slices.DeleteFunc(slices.Clone(all), func(e string) bool { return e == answered })
			if len(all) != 4 || len(want) != 3 || !slices.Equal(got, want) {
				t.Errorf("entries %q, want %q", got, want)
			}
		})
	}
}

// TestDeleteIsExact keeps an entry of the same addresses that is not the one
// that was found.
func TestDeleteIsExact(t *testing.T) {
	l := newLab(t, families()[0])
	l.translate(at(l.vip, 53) + " " + at(l.one, 5353))
	l.newClient(4000).ask(at(l.vip, 53))
	var entry found
	if err := (netfilter{}).dump(service.UDP, l.family, func(f found) { entry = f }); err != nil {
		t.Fatal(err)
	}
	other := found{entry.flow, slices.Clone(entry.key)}
	other.key[len(other.key)-1] ^= 1 // of the id
	if err := (netfilter{}).delete(other); !errors.Is(err, os.ErrNotExist) || len(l.entries()) != 1 {
		t.Errorf("deleting one with another id: %v, entries %q", err, l.entries())
	}
	if err := (netfilter{}).delete(entry); err != nil || len(l.entries()) != 0 {
		t.Errorf("deleting it: %v, entries %q", err, l.entries())
	}
}

func TestLocal(t *testing.T) {
	for _, a := range families() {
		t.Run(a.family.String(), func(t *testing.T) {
			newLab(t, a)
			prefixes, err := netfilter{}.local(a.family)
			if err != nil {
				t.Fatal(err)
			}
			of := newAddressSet(prefixes)
			for _, text := range []string{a.node, a.one} {
				if !of.has(netip.MustParseAddr(text)) {
					t.Errorf("%s is not the node's, of %v", text, prefixes)
				}
			}
			if of.has(netip.MustParseAddr(a.vip)) || a.family == service.IPv4 && !of.has(netip.MustParseAddr("127.1.2.3")) {
				t.Errorf("the node's are %v", prefixes)
			}
		})
	}
}

// BenchmarkClean looks at a table of 10,000 entries, none of which is stale:
// those of UDP are read, those of connections that were answered are not.
func BenchmarkClean(b *testing.B) {
	for _, protocol := range []service.Protocol{service.UDP, service.TCP} {
		b.Run(protocol.String(), func(b *testing.B) { benchmarkClean(b, protocol) })
	}
}

func benchmarkClean(b *testing.B, protocol service.Protocol) {
	netnstest.Need(b)
	const entries = 10_000
	for i := range entries {
		from, to := net.IPv4(10, 1, byte(i>>8), byte(i)).To4(), net.IPv4(10, 96, 0, 1).To4()
		flow := &netlink.ConntrackFlow{FamilyType: netlink.FAMILY_V4, TimeOut: 300,
			Forward: netlink.IPTuple{SrcIP: from, DstIP: to, SrcPort: 4000, DstPort: 53, Protocol: uint8(protocol)},
			Reverse: netlink.IPTuple{SrcIP: to, DstIP: from, SrcPort: 53, DstPort: 4000, Protocol: uint8(protocol)}}
		if err := netlink.ConntrackCreate(netlink.ConntrackTable, netlink.FAMILY_V4, flow); err != nil {
			b.Fatal(err)
		}
	}
	defer func() { _ = netlink.ConntrackTableFlush(netlink.ConntrackTable) }()
	var list []found
	if err := (netfilter{}).dump(protocol, service.IPv4, func(f found) { list = append(list, f) }); err != nil {
		b.Fatal(err)
	}
	for _, f := range list {
		const confirmed = 1 << 3 // IPS_CONFIRMED
		request := newRequest(service.IPv4, nl.IPCTNL_MSG_CT_NEW, unix.NLM_F_ACK)
		request.AddRawData(f.key)
		request.AddData(nl.NewRtAttr(nl.CTA_STATUS, binary.BigEndian.AppendUint32(nil, confirmed|seenReply)))
		if _, err := request.Execute(unix.NETLINK_NETFILTER, 0); err != nil {
			b.Fatal(err)
		}
	}
	w := world{}
	changes, c := w.set(name("dns", protocol, service.IPv4), "10.96.0.1:53 > 10.96.0.1:53"), NewCleaner(nil)
	now := time.Now()
	c.now = func() time.Time { return now }
	b.ReportAllocs()
	for b.Loop() {
		if _, err := c.Clean(changes); err != nil {
			b.Fatal(err)
		}
		now = now.Add(time.Hour)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/entries, "ns/entry")
}
