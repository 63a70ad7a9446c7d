package layer2

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mdlayher/arp"
	"github.com/mdlayher/ethernet"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/fairway-lb/fairway/internal/netnstest"
)

const (
	arpReply  = "arp reply to peer: node 192.0.2.10 -> peer 192.0.2.2"
	naReply   = "na to peer: " + nodeLL + " -> " + peerLL + " 2001:db8::10 is node SO hops 255"
	arpAsk    = "arp request to all: node 192.0.2.10 -> zero 192.0.2.10"
	arpTell   = "arp reply to all: node 192.0.2.10 -> node 192.0.2.10"
	naUnasked = "na to all-v6: " + nodeLL + " -> ff02::1 2001:db8::10 is node O hops 255"
)

// Both families on one link, which has no IPv4 address, by every way of asking.
func TestAnswers(t *testing.T) {
	l := newLAN(t, "eth33")
	r, reg := l.responder()
	must(t, r.Sync(on("eth33", "192.0.2.10", "2001:db8::10")))
	for _, tc := range []struct {
		name, want string
		ask        []byte
	}{
		{"arp", arpReply, arpFrame("192.0.2.10")},
		{"arp by unicast", arpReply, arpFrame("192.0.2.10", func(f *ethernet.Frame, _ *arp.Packet) { f.Destination = nodeMAC() })},
		{"arp probe", "arp reply to peer: node 192.0.2.10 -> peer 0.0.0.0",
			arpFrame("192.0.2.10", func(_ *ethernet.Frame, p *arp.Packet) { p.SenderIP = netip.IPv4Unspecified() })},
		{"solicitation", naReply, nsFrame("2001:db8::10")},
		{"reachability probe", naReply, question{target: "2001:db8::10", dst: "2001:db8::10", etherDst: nodeMAC()}.frame()},
		{"reachability probe, no option", naReply, question{target: "2001:db8::10", dst: "2001:db8::10", etherDst: nodeMAC(), bare: true}.frame()},
		{"duplicate address detection", naUnasked, question{target: "2001:db8::10", src: "::", bare: true}.frame()},
	} {
		t.Run(tc.name, func(t *testing.T) {
			for i := range 3 {
				l.wire.send(marker(fmt.Sprint(i)), tc.ask)
				l.wire.expect([]string{tc.want})
			}
		})
	}
	for _, f := range []string{"ipv4", "ipv6"} {
		if got := value(t, reg, "announced_addresses", f); got != 1 {
			t.Errorf("%s: %v announced addresses, want 1", f, got)
		}
	}
}

// What is not answered is followed by what is: nothing may come before that answer.
func TestDoesNotAnswer(t *testing.T) {
	l := newLAN(t, "eth33")
	must(t, netlink.SetPromiscOn(l.node()))
	r, reg := l.responder()
	must(t, r.Sync(on("eth33", "192.0.2.10", "2001:db8::10")))
	l.wire.expect([]string{arpAsk, arpTell, naUnasked})
	stranger := net.HardwareAddr{2, 0, 0, 0, 0, 9}
	for _, tc := range []struct {
		name string
		ask  []byte
		// passes tells that the kernel's filter leaves the case to us.
		passes bool
	}{
		{"gratuitous request", arpFrame("192.0.2.10", func(_ *ethernet.Frame, p *arp.Packet) { p.SenderIP = p.TargetIP }), true},
		{"other target", arpFrame("192.0.2.11"), false},
		{"reply", arpFrame("192.0.2.10", func(_ *ethernet.Frame, p *arp.Packet) { p.Operation = arp.OperationReply }), false},
		{"frame for another host", arpFrame("192.0.2.10", func(f *ethernet.Frame, _ *arp.Packet) { f.Destination = stranger }), false},
		{"group address as the asker's", arpFrame("192.0.2.10", func(_ *ethernet.Frame, p *arp.Packet) { p.SenderHardwareAddr = ethernet.Broadcast }), true},
		{"same group, other target", nsFrame("2001:db8:1::10"), true},
		{"same group, other low bits", nsFrame("2001:db8::100:10"), false},
		{"through a router", edit(nsFrame("2001:db8::10"), ethernetLen+7, 254), false},
		{"bad checksum", edit(nsFrame("2001:db8::10"), ethernetLen+ipv6Len+2, 0xff), true},
		{"solicitation for another host", question{target: "2001:db8::10", dst: "2001:db8::10", etherDst: stranger}.frame(), false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			count := func() float64 {
				return value(t, reg, "requests_received_total", "ipv4") + value(t, reg, "requests_received_total", "ipv6")
			}
			before := count()
			l.wire.send(tc.ask, arpFrame("192.0.2.10"), nsFrame("2001:db8::10"))
			l.wire.expect([]string{arpReply, naReply}, "reply to peer", "-> "+peerLL)
			want := 2.0
			if tc.passes {
				want++
			}
			if got := count() - before; got != want {
				t.Errorf("%v frames passed the filter, want %v", got, want)
			}
		})
	}
}

// Requests for other hosts cost this process nothing.
func TestKernelFilter(t *testing.T) {
	l := newLAN(t, "eth33")
	r, reg := l.responder()
	must(t, r.Sync(on("eth33", "192.0.2.10", "2001:db8::10")))
	for i := range 500 {
		l.wire.send(arpFrame(fmt.Sprintf("198.51.%d.%d", i/250, i%250)), nsFrame(fmt.Sprintf("2001:db8::ff:%x", i+0x100)))
	}
	l.wire.send(arpFrame("192.0.2.10"), nsFrame("2001:db8::10"))
	l.wire.expect([]string{arpReply, naReply})
	for _, f := range []string{"ipv4", "ipv6"} {
		if got := value(t, reg, "requests_received_total", f); got != 1 {
			t.Errorf("%s: %v frames passed the filter, want 1", f, got)
		}
	}
}

// More addresses than a filter can hold, or a socket can join groups for.
func TestManyAddresses(t *testing.T) { testManyAddresses(t, 5000) }

func testManyAddresses(t *testing.T, count4 int) {
	l := newLAN(t, "eth33")
	r, _ := l.responder()
	var want []Announcement
	for i := range count4 {
		want = append(want, Announcement{netip.AddrFrom4([4]byte{10, 1, byte(i >> 8), byte(i)}), "eth33"})
	}
	for i := range 1000 {
		want = append(want, Announcement{netip.AddrFrom16([16]byte{0x20, 1, 0xd, 0xb8, 14: byte(i >> 8), 15: byte(i)}), "eth33"})
	}
	must(t, r.Sync(want))
	if got := len(joinedGroups(t, "eth33")); got < 1000 {
		t.Errorf("%d multicast groups joined, want 1000 or more", got)
	}
	l.wire.send(arpFrame("10.2.0.1"), arpFrame("10.1.10.7"), nsFrame("2001:db8::3e7"))
	l.wire.expect([]string{
		"arp reply to peer: node 10.1.10.7 -> peer 192.0.2.2",
		"na to peer: " + nodeLL + " -> " + peerLL + " 2001:db8::3e7 is node SO hops 255",
	}, "10.2.0.1")
}

// The same where sockets have little memory, as on kernels before 6.6: the
// filter gets coarser and the groups are joined through more sockets.
func TestManyAddressesInLittleMemory(t *testing.T) {
	netnstest.Need(t)
	const limit = "/proc/sys/net/core/optmem_max"
	before, err := os.ReadFile(limit)
	must(t, err)
	must(t, os.WriteFile(limit, []byte("20480"), 0))
	t.Cleanup(func() { must(t, os.WriteFile(limit, before, 0)) })
	testManyAddresses(t, 3000)
}

// After Sync without an address, nothing about it leaves, however many
// requests wait to be answered. The order of frames is that in which the
// device gets them, and a marker sent after Sync divides it. Whether other
// addresses stay on the link or none makes no difference.
func TestSilenceIsSudden(t *testing.T) {
	for _, tc := range []struct {
		name, addr, answer string
		ask                []byte
		others             []string
	}{
		{"ipv4", "192.0.2.10", arpReply, arpFrame("192.0.2.10"), []string{"192.0.2.11"}},
		{"ipv6", "2001:db8::10", naReply, nsFrame("2001:db8::10"), []string{"2001:db8:1::10"}},
		{"ipv4, the last", "192.0.2.10", arpReply, arpFrame("192.0.2.10"), nil},
		{"ipv6, the last", "2001:db8::10", naReply, nsFrame("2001:db8::10"), nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			l := newLAN(t, "eth33")
			r, _ := l.responder()
			device, mark := l.tapNode(), l.marker()
			storm(t, l, tc.ask, device)
			for round := range 25 {
				must(t, r.Sync(on("eth33", append(tc.others, tc.addr)...)))
				device.expect([]string{tc.answer})
				must(t, r.Sync(on("eth33", tc.others...)))
				device.expect([]string{mark(fmt.Sprint(round))})
				asked := make([]string, 30)
				for i := range asked {
					asked[i] = describe(tc.ask)
				}
				device.expect(asked, "node "+tc.addr, tc.addr+" is node")
			}
		})
	}
}

// storm sends a request each millisecond until the test ends, and keeps more
// of them under way if the test reads them from device.
func storm(t *testing.T, l *lan, ask []byte, device *tap) {
	const window = 30
	wire, asked := l.tapPeer(), describe(ask)
	seen := make(chan struct{}, 10*window)
	for range window {
		seen <- struct{}{}
	}
	if device != nil {
		device.watch = func(frame string) {
			if frame != asked {
				return
			}
			select {
			case seen <- struct{}{}:
			default:
			}
		}
	}
	stop := make(chan struct{})
	var done sync.WaitGroup
	done.Go(func() {
		tick := time.NewTicker(time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-stop:
				return
			case <-tick.C:
			case <-seen:
			}
			wire.send(ask)
		}
	})
	t.Cleanup(func() { close(stop); done.Wait() })
}

// While the gate is closed nothing leaves, neither replies to requests that the
// socket has nor announcements, and that is no error.
func TestGate(t *testing.T) {
	l := newLAN(t, "eth33")
	r, reg := l.responder()
	var closed atomic.Bool
	r.Gate(func() bool { return !closed.Load() })
	must(t, r.Sync(on("eth33", "192.0.2.10", "2001:db8::10")))
	l.wire.expect([]string{arpAsk, arpTell, naUnasked})
	device, mark := l.tapNode(), l.marker()

	closed.Store(true)
	l.wire.send(arpFrame("192.0.2.10"), nsFrame("2001:db8::10"))
	for _, family := range []string{"ipv4", "ipv6"} {
		l.eventually("withheld reply", func() bool { return value(t, reg, "withheld_total", family) >= 1 })
	}
	must(t, r.Sync(on("eth33", "192.0.2.10", "192.0.2.11", "2001:db8::10", "2001:db8::11")))
	device.expect([]string{mark("closed")}, "node 192.0.2.1", "is node")

	closed.Store(false)
	l.wire.send(arpFrame("192.0.2.10"), nsFrame("2001:db8::10"))
	l.wire.expect([]string{arpReply, naReply})
	for _, family := range []string{"ipv4", "ipv6"} {
		if got := value(t, reg, "errors_total", family); got > 0 {
			t.Errorf("%s: %v errors", family, got)
		}
	}
}

// An address that starts is announced at once, again after 1 s and after 3 s.
func TestAnnouncements(t *testing.T) {
	l := newLAN(t, "eth33")
	r, reg := l.responder()
	device, mark := l.tapNode(), l.marker()
	start := time.Now()
	must(t, r.Sync(on("eth33", "192.0.2.10", "192.0.2.11", "2001:db8::10")))
	mark("synced")
	device.expect([]string{arpAsk, arpTell, naUnasked}, "marker")
	for i, at := range []time.Duration{0, firstRepeat, secondRepeat} {
		l.wire.expect([]string{arpAsk, arpTell})
		if took := time.Since(start); took < at {
			t.Errorf("announcement %d after %v, want %v", i, took, at)
		}
		if i == 0 {
			l.wire.expect([]string{"arp request to all: node 192.0.2.11 -> zero 192.0.2.11"})
			// Nothing more of an address that is given up, nor of a second Sync.
			must(t, r.Sync(on("eth33", "192.0.2.10", "2001:db8::10")))
			l.wire.expect([]string{naUnasked})
			continue
		}
		l.wire.expect([]string{naUnasked}, "192.0.2.11")
	}
	for family, want := range map[string]float64{"ipv4": 8, "ipv6": 3} {
		l.eventually("count of announcements", func() bool { return value(t, reg, "gratuitous_sent_total", family) == want })
	}
}

// An address that comes back within the seconds of the repeats begins anew.
func TestAnnouncedAgainAfterReturn(t *testing.T) {
	l := newLAN(t, "eth33")
	r, _ := l.responder()
	for range 3 {
		must(t, r.Sync(on("eth33", "192.0.2.10")))
		l.wire.expect([]string{arpAsk, arpTell})
		must(t, r.Sync(nil))
	}
}

// Syncing the same again, as after every change of members, sends nothing.
func TestSyncIsIdempotent(t *testing.T) {
	l := newLAN(t, "eth33")
	r, _ := l.responder()
	for i := range 5 {
		must(t, r.Sync(on("eth33", "192.0.2.10", "2001:db8::10")))
		if i == 0 {
			l.wire.expect([]string{arpAsk, arpTell, naUnasked})
		}
	}
	l.wire.send(arpFrame("192.0.2.10"), nsFrame("2001:db8::10"))
	l.wire.expect([]string{arpReply, naReply}, "to all")
}

// What cannot be announced is told, and does not stop the rest.
func TestBadAnnouncements(t *testing.T) {
	l := newLAN(t, "eth33")
	r, _ := l.responder()
	err := r.Sync([]Announcement{
		{netip.MustParseAddr("192.0.2.7"), "nosuch0"},
		{netip.Addr{}, "eth33"},
		{netip.MustParseAddr("192.0.2.8"), ""},
		{netip.MustParseAddr("224.0.0.1"), "eth33"},
		{netip.MustParseAddr("::ffff:192.0.2.9"), "eth33"},
		{netip.MustParseAddr("192.0.2.10"), "eth33"},
		{netip.MustParseAddr("2001:db8::10"), "eth33"},
		{netip.MustParseAddr("2001:db8::11"), "lo"},
	})
	if err == nil {
		t.Fatal("no error")
	}
	for _, want := range []string{
		"announce 192.0.2.7 on nosuch0: no such interface",
		`cannot announce invalid IP on "eth33": not a plain unicast address`,
		"cannot announce 192.0.2.8: no interface given",
		`cannot announce 224.0.0.1 on "eth33": not a plain`,
		`cannot announce ::ffff:192.0.2.9 on "eth33": not a plain`,
		"announce 2001:db8::11 on lo: the interface ",
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("error lacks %q:\n%v", want, err)
		}
	}
	l.wire.send(arpFrame("192.0.2.10"), nsFrame("2001:db8::10"))
	l.wire.expect([]string{arpReply, naReply})
}

// Without a link-local address NDP waits for one, and ARP does not.
func TestLinkWithoutIPv6(t *testing.T) {
	l := newLAN(t, "eth33")
	setIPv6(t, "eth33", false)
	r, _ := l.responder()
	err := r.Sync(on("eth33", "192.0.2.10", "2001:db8::10"))
	if err == nil || err.Error() != "announce 2001:db8::10 on eth33: the interface has no usable IPv6 link-local address yet" {
		t.Errorf("error %v", err)
	}
	l.wire.send(arpFrame("192.0.2.10"))
	l.wire.expect([]string{arpAsk, arpTell, arpReply})

	setIPv6(t, "eth33", true)
	l.wire.expect([]string{naUnasked})
	l.wire.send(nsFrame("2001:db8::10"))
	l.wire.expect([]string{naReply})
}

// A link may go down, come up, vanish, and come back as another device: the
// addresses are announced and answered again without a Sync.
func TestLinkComesBack(t *testing.T) {
	l := newLAN(t, "eth33")
	r, reg := l.responder()
	want := on("eth33", "192.0.2.10", "2001:db8::10")
	must(t, r.Sync(want))
	l.wire.expect([]string{arpAsk, arpTell, naUnasked})

	l.down()
	if err := r.Sync(want); err == nil || !strings.Contains(err.Error(), "announce 192.0.2.10 on eth33: the interface is down") {
		t.Errorf("error while down: %v", err)
	}
	if got := value(t, reg, "announced_addresses", "eth33"); got != 0 {
		t.Errorf("%v announced addresses while down", got)
	}
	l.up()
	l.wire.expect([]string{arpTell, naUnasked})
	l.wire.send(arpFrame("192.0.2.10"), nsFrame("2001:db8::10"))
	l.wire.expect([]string{arpReply, naReply})

	l.unplug()
	l.plug()
	l.wire = l.tapPeer()
	l.eventuallyAnswers()
	// One failure for each socket and loss of the link, and no loop.
	if got := value(t, reg, "errors_total", "receive"); got > 4 {
		t.Errorf("%v receive errors, want 4 at most", got)
	}
}

// eventuallyAnswers asks until both addresses are answered.
func (l *lan) eventuallyAnswers() {
	l.t.Helper()
	l.eventually("answers", func() bool {
		l.wire.send(arpFrame("192.0.2.10"), nsFrame("2001:db8::10"))
		seen := map[string]bool{}
		for deadline := time.Now().Add(50 * time.Millisecond); ; {
			got, ok := l.wire.next(deadline)
			if !ok {
				return false
			}
			if seen[got] = true; seen[arpReply] && seen[naReply] {
				return true
			}
		}
	})
}

// A link that is up again before anyone looks has lost its sockets all the same.
func TestLinkFlaps(t *testing.T) {
	l := newLAN(t, "eth33")
	r, _ := l.responder()
	must(t, r.Sync(on("eth33", "192.0.2.10", "2001:db8::10")))
	for range 10 {
		l.down()
		l.up()
		l.eventuallyAnswers()
	}
}

// A new hardware address is announced and answered with.
func TestHardwareAddressChanges(t *testing.T) {
	l := newLAN(t, "eth33")
	r, _ := l.responder()
	must(t, r.Sync(on("eth33", "192.0.2.10")))
	l.wire.expect([]string{arpAsk, arpTell})
	must(t, netlink.LinkSetHardwareAddr(l.node(), net.HardwareAddr{2, 0, 0, 0, 0, 7}))
	l.wire.expect([]string{"arp reply to all: 02:00:00:00:00:07 192.0.2.10 -> 02:00:00:00:00:07 192.0.2.10"})
	l.wire.send(arpFrame("192.0.2.10"))
	l.wire.expect([]string{"arp reply to peer: 02:00:00:00:00:07 192.0.2.10 -> peer 192.0.2.2"})
}

// Addresses with the same low 24 bits share a multicast group until the last.
func TestSharedGroup(t *testing.T) {
	l := newLAN(t, "eth33")
	r, _ := l.responder()
	const group = "ff0200000000000000000001ffaa0001"
	for _, step := range []struct {
		addrs  []string
		joined bool
	}{
		{nil, false},
		{[]string{"2001:db8::aa:1", "2001:db8:1::aa:1"}, true},
		{[]string{"2001:db8:1::aa:1"}, true},
		{[]string{"2001:db8::aa:1"}, true},
		{nil, false},
		{[]string{"2001:db8:1::aa:1"}, true},
		{[]string{"2001:db8:1::bb:1"}, false},
	} {
		must(t, r.Sync(on("eth33", step.addrs...)))
		if got := joinedGroups(t, "eth33")[group]; got != step.joined {
			t.Errorf("%v: joined %v, want %v", step.addrs, got, step.joined)
		}
		for _, a := range step.addrs {
			l.wire.send(nsFrame(a))
			l.wire.expect([]string{"na to peer: " + nodeLL + " -> " + peerLL + " " + a + " is node SO hops 255"})
		}
	}
}

func joinedGroups(t *testing.T, link string) map[string]bool {
	t.Helper()
	b, err := os.ReadFile("/proc/thread-self/net/igmp6")
	must(t, err)
	groups := map[string]bool{}
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); len(f) > 2 && f[1] == link {
			groups[f[2]] = true
		}
	}
	return groups
}

// Garbage, cut-off and random frames of the right types do no harm.
func TestGarbage(t *testing.T) {
	l := newLAN(t, "eth33")
	r, _ := l.responder()
	must(t, r.Sync(on("eth33", "192.0.2.10", "2001:db8::10")))
	rnd := rand.New(rand.NewPCG(1, 2))
	good := [][]byte{arpFrame("192.0.2.10"), nsFrame("2001:db8::10")}
	for range 2000 {
		f := append([]byte{}, good[rnd.IntN(2)]...)
		for range 1 + rnd.IntN(8) {
			f[14+rnd.IntN(len(f)-14)] = byte(rnd.Uint32())
		}
		l.wire.send(f[:14+rnd.IntN(len(f)-14)], f)
	}
	l.wire.send(good...)
	l.wire.expect([]string{arpReply, naReply})
}

// The kernel of another host resolves the addresses and finds them reachable
// when it verifies them later.
func TestKernelAsClient(t *testing.T) {
	l := newLAN(t, "eth33")
	far, err := l.peer.LinkByName("far")
	must(t, err)
	for _, a := range []string{"192.0.2.2/24", "2001:db8::2/64"} {
		addr, err := netlink.ParseAddr(a)
		must(t, err)
		must(t, l.peer.AddrAdd(far, addr))
	}
	events := make(chan netlink.NeighUpdate, 64)
	stop := make(chan struct{})
	defer close(stop)
	must(t, netlink.NeighSubscribeWithOptions(events, stop, netlink.NeighSubscribeOptions{Namespace: &l.ns}))
	r, _ := l.responder()
	must(t, r.Sync(on("eth33", "192.0.2.10", "2001:db8::10")))
	for _, vip := range []string{"192.0.2.10", "2001:db8::10"} {
		reachable := func() {
			t.Helper()
			for deadline := time.After(patience); ; {
				select {
				case <-deadline:
					t.Fatalf("%s is not reachable for the peer", vip)
				case e := <-events:
					if e.IP.String() != vip || e.State == netlink.NUD_FAILED {
						continue
					}
					if e.State == netlink.NUD_REACHABLE && e.HardwareAddr.String() == nodeMAC().String() {
						return
					}
				}
			}
		}
		in(t, l.ns, func() error {
			c, err := net.Dial("udp", net.JoinHostPort(vip, "9"))
			if err != nil {
				return err
			}
			_, err = c.Write([]byte("x"))
			return errors.Join(err, c.Close())
		})
		reachable()
		must(t, l.peer.NeighSet(&netlink.Neigh{
			LinkIndex: far.Attrs().Index, State: unix.NUD_PROBE, IP: net.ParseIP(vip), HardwareAddr: nodeMAC(),
		}))
		reachable()
	}
}

// Two links at once; an address that moves between them is silent on the first.
func TestTwoLinks(t *testing.T) {
	a, b := newLAN(t, "eth33"), newLAN(t, "eth34")
	r, _ := a.responder()
	must(t, r.Sync(append(on("eth33", "192.0.2.10"), on("eth34", "192.0.2.11")...)))
	must(t, r.Sync(append(on("eth34", "192.0.2.10"), on("eth33", "192.0.2.11")...)))
	b.wire.send(arpFrame("192.0.2.10"))
	b.wire.expect([]string{arpReply})
	a.wire.send(arpFrame("192.0.2.10"), arpFrame("192.0.2.11"))
	a.wire.expect([]string{"arp reply to peer: node 192.0.2.11 -> peer 192.0.2.2"}, "to peer")
}

func TestSyncFromManyGoroutines(t *testing.T) {
	l := newLAN(t, "eth33")
	r, _ := l.responder()
	storm(t, l, arpFrame("192.0.2.10"), nil)
	var all sync.WaitGroup
	for i := range 4 {
		all.Go(func() {
			for j := range 20 {
				if err := r.Sync(on("eth33", "192.0.2.10", fmt.Sprintf("2001:db8::%x", 16+i*j))); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	must(t, r.Sync(on("eth33", "192.0.2.10", "2001:db8::10")))
	l.wire.send(nsFrame("2001:db8::10"))
	l.wire.expect([]string{arpReply, naReply})
}

func TestClose(t *testing.T) {
	l := newLAN(t, "eth33")
	r, reg := l.responder()
	device, mark := l.tapNode(), l.marker()
	must(t, r.Sync(on("eth33", "192.0.2.10")))
	must(t, r.Close())
	device.expect([]string{mark("closed")})
	l.wire.send(arpFrame("192.0.2.10"))
	device.expect([]string{describe(arpFrame("192.0.2.10"))}, "node 192.0.2.10")
	if err := r.Sync(nil); !errors.Is(err, ErrClosed) {
		t.Errorf("Sync after Close: %v", err)
	}
	must(t, r.Close())
	again, err := New(r.log, reg)
	must(t, err)
	must(t, again.Close())
}

func edit(frame []byte, at int, b byte) []byte {
	frame[at] = b
	return frame
}

func BenchmarkSync1000(b *testing.B) {
	l := newLAN(b, "eth33")
	r, _ := l.responder()
	var want []Announcement
	for i := range 1000 {
		want = append(want, Announcement{netip.AddrFrom4([4]byte{10, 1, byte(i >> 8), byte(i)}), "eth33"})
	}
	b.Run("new", func(b *testing.B) {
		for b.Loop() {
			must(b, r.Sync(nil))
			must(b, r.Sync(want))
		}
	})
	b.Run("one changed", func(b *testing.B) {
		must(b, r.Sync(want))
		for i := 0; b.Loop(); i++ {
			must(b, r.Sync(want[i%2:]))
		}
	})
	b.Run("unchanged", func(b *testing.B) {
		must(b, r.Sync(want))
		for b.Loop() {
			must(b, r.Sync(want))
		}
	})
}
