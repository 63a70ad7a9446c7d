package layer2

import (
	"net"
	"net/netip"
	"testing"

	"github.com/mdlayher/arp"
	"github.com/mdlayher/ethernet"
)

func owned(addrs ...string) addrSet {
	set := addrSet{}
	for _, a := range addrs {
		set[netip.MustParseAddr(a)] = struct{}{}
	}
	return set
}

func TestARPAnswer(t *testing.T) {
	type frame = ethernet.Frame
	type packet = arp.Packet
	for _, tc := range []struct {
		name string
		ask  []byte
		want string
	}{
		{"broadcast", arpFrame("192.0.2.10"), arpReply},
		{"to our address", arpFrame("192.0.2.10", func(f *frame, _ *packet) { f.Destination = nodeMAC() }), arpReply},
		{"probe", arpFrame("192.0.2.10", func(_ *frame, p *packet) { p.SenderIP = netip.IPv4Unspecified() }),
			"arp reply to peer: node 192.0.2.10 -> peer 0.0.0.0"},
		{"the packet says who asks, not the frame", arpFrame("192.0.2.10", func(f *frame, _ *packet) { f.Source = net.HardwareAddr{2, 0, 0, 0, 0, 9} }), arpReply},
		{"not owned", arpFrame("192.0.2.11"), ""},
		{"gratuitous", arpFrame("192.0.2.10", func(_ *frame, p *packet) { p.SenderIP = p.TargetIP }), ""},
		{"reply", arpFrame("192.0.2.10", func(_ *frame, p *packet) { p.Operation = arp.OperationReply }), ""},
		{"to another host", arpFrame("192.0.2.10", func(f *frame, _ *packet) { f.Destination = net.HardwareAddr{2, 0, 0, 0, 0, 9} }), ""},
		{"asker is a group", arpFrame("192.0.2.10", func(_ *frame, p *packet) { p.SenderHardwareAddr = ethernet.Broadcast }), ""},
		{"asker is nobody", arpFrame("192.0.2.10", func(_ *frame, p *packet) { p.SenderHardwareAddr = make(net.HardwareAddr, 6) }), ""},
		{"not Ethernet", arpFrame("192.0.2.10", func(_ *frame, p *packet) { p.HardwareType = 6 }), ""},
		{"not IPv4", arpFrame("192.0.2.10", func(_ *frame, p *packet) { p.ProtocolType = 0x86dd }), ""},
		{"other EtherType", arpFrame("192.0.2.10", func(f *frame, _ *packet) { f.EtherType = ethernet.EtherTypeIPv4 }), ""},
		{"odd length of addresses", edit(arpFrame("192.0.2.10"), 18, 200), ""},
		{"cut off", arpFrame("192.0.2.10")[:41], ""},
		{"empty", nil, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			reply, ok := arpProtocol{nodeMAC()}.answer(tc.ask, owned("192.0.2.10"))
			if got := describe(reply); got != tc.want || ok != (tc.want != "") {
				t.Errorf("got %q %v, want %q", got, ok, tc.want)
			}
		})
	}
}

func FuzzARPAnswer(f *testing.F) {
	f.Add(arpFrame("192.0.2.10"))
	f.Add(arpFrame("192.0.2.11"))
	f.Add(edit(arpFrame("192.0.2.10"), 18, 16))
	f.Add(nsFrame("2001:db8::10"))
	mine := owned("192.0.2.10", "0.0.0.0")
	f.Fuzz(func(t *testing.T, frame []byte) {
		reply, ok := arpProtocol{nodeMAC()}.answer(frame, mine)
		if !ok {
			return
		}
		sender := netip.AddrFrom4([4]byte(reply[28:]))
		if _, mine := mine[sender]; !mine || reply[0]&1 != 0 || sender != netip.AddrFrom4([4]byte(frame[38:])) {
			t.Errorf("answered %x with %s", frame, describe(reply))
		}
	})
}

func BenchmarkARPAnswer(b *testing.B) {
	set := addrSet{}
	for i := range 1000 {
		set[netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)})] = struct{}{}
	}
	p := arpProtocol{nodeMAC()}
	for name, ask := range map[string][]byte{"owned": arpFrame("10.0.1.1"), "foreign": arpFrame("192.0.2.1")} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				p.answer(ask, set)
			}
		})
	}
}
