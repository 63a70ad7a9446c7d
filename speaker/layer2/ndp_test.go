package layer2

import (
	"net"
	"net/netip"
	"testing"
)

func TestNDPAnswer(t *testing.T) {
	const vip = "2001:db8::10"
	icmp := ethernetLen + ipv6Len
	stranger := net.HardwareAddr{2, 0, 0, 0, 0, 9}
	toAll := "na to all-v6: " + nodeLL + " -> ff02::1 2001:db8::10 is node O hops 255"
	for _, tc := range []struct {
		name string
		ask  []byte
		want string
	}{
		{"to the group", nsFrame(vip), naReply},
		{"to the address", question{target: vip, dst: vip, etherDst: nodeMAC()}.frame(), naReply},
		{"without option", question{target: vip, dst: vip, etherDst: nodeMAC(), bare: true}.frame(), naReply},
		{"from a global address", question{target: vip, src: "2001:db8::2"}.frame(),
			"na to peer: " + nodeLL + " -> 2001:db8::2 2001:db8::10 is node SO hops 255"},
		{"padded frame", append(nsFrame(vip), 1, 2, 3), naReply},
		{"duplicate address detection", question{target: vip, src: "::", bare: true}.frame(), toAll},
		{"the same with option", question{target: vip, src: "::"}.frame(), ""},
		{"the same to the address", question{target: vip, src: "::", dst: vip, etherDst: nodeMAC(), bare: true}.frame(), ""},
		{"not owned", nsFrame("2001:db8::11"), ""},
		{"not owned, same group", nsFrame("2001:db8:1::10"), ""},
		{"to another host", question{target: vip, dst: vip, etherDst: stranger}.frame(), ""},
		{"from a group", question{target: vip, src: "ff02::1"}.frame(), ""},
		{"hop limit", edit(nsFrame(vip), ethernetLen+7, 254), ""},
		{"other type", edit(nsFrame(vip), icmp, 136), ""},
		{"code", edit(nsFrame(vip), icmp+1, 1), ""},
		{"checksum", edit(nsFrame(vip), icmp+2, 0xff), ""},
		{"option of length zero", edit(nsFrame(vip), icmp+25, 0), ""},
		{"option longer than the packet", edit(nsFrame(vip), icmp+25, 9), ""},
		{"length beyond the frame", edit(nsFrame(vip), ethernetLen+5, 200), ""},
		{"length too short", edit(nsFrame(vip), ethernetLen+5, 20), ""},
		{"other next header", edit(nsFrame(vip), ethernetLen+6, 17), ""},
		{"other version", edit(nsFrame(vip), ethernetLen, 0x45), ""},
		{"other EtherType", edit(nsFrame(vip), 13, 0), ""},
		{"cut off", nsFrame(vip)[:icmp+23], ""},
		{"empty", nil, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			reply, ok := testNDP().answer(tc.ask, owned(vip))
			if got := describe(reply); got != tc.want || ok != (tc.want != "") {
				t.Errorf("got %q %v, want %q", got, ok, tc.want)
			}
		})
	}
}

func testNDP() ndpProtocol { return ndpProtocol{nodeMAC(), netip.MustParseAddr(nodeLL)} }

func FuzzNDPAnswer(f *testing.F) {
	f.Add(nsFrame("2001:db8::10")[ethernetLen+ipv6Len+4:], false)
	f.Add(question{target: "2001:db8::10", bare: true}.frame()[ethernetLen+ipv6Len+4:], true)
	f.Add(nsFrame("2001:db8::11"), true)
	f.Add([]byte{}, false)
	mine := owned("2001:db8::10", "::")
	f.Fuzz(func(t *testing.T, body []byte, whole bool) {
		frame := body
		if !whole {
			frame = solicit(body)
		}
		reply, ok := testNDP().answer(frame, mine)
		if !ok {
			return
		}
		target := netip.AddrFrom16([16]byte(reply[ndpTarget:]))
		if _, mine := mine[target]; !mine || target != netip.AddrFrom16([16]byte(frame[ndpTarget:])) {
			t.Errorf("answered %x with %s", frame, describe(reply))
		}
	})
}

// solicit puts the body of a solicitation into valid headers, so that a fuzzer
// need not find lengths and checksums.
func solicit(body []byte) []byte {
	frame := append(nsFrame("2001:db8::10")[:ethernetLen+ipv6Len+4], body...)
	packet := frame[ethernetLen:]
	n := len(packet) - ipv6Len
	if n > 0xffff {
		return frame
	}
	packet[4], packet[5] = byte(n>>8), byte(n)
	frame[ethernetLen+ipv6Len+2], frame[ethernetLen+ipv6Len+3] = 0, 0
	sum := ^checksum(packet, packet[ipv6Len:])
	frame[ethernetLen+ipv6Len+2], frame[ethernetLen+ipv6Len+3] = byte(sum>>8), byte(sum)
	return frame
}

func BenchmarkNDPAnswer(b *testing.B) {
	set := addrSet{}
	for i := range 1000 {
		set[netip.AddrFrom16([16]byte{0x20, 1, 0xd, 0xb8, 14: byte(i >> 8), 15: byte(i)})] = struct{}{}
	}
	p := testNDP()
	for name, ask := range map[string][]byte{"owned": nsFrame("2001:db8::101"), "foreign": nsFrame("2001:db8:1::101")} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				p.answer(ask, set)
			}
		})
	}
}
