package lab

import (
	"errors"
	"net"
	"net/netip"
	"slices"
	"testing"

	"github.com/mdlayher/arp"
	"github.com/mdlayher/ethernet"
	"github.com/mdlayher/ndp"
)

func macs() (asker, owner net.HardwareAddr) {
	return net.HardwareAddr{2, 0, 0, 0, 0, 1}, net.HardwareAddr{2, 0, 0, 0, 0, 2}
}

// arpFrame is a frame of the owner or the asker, as the sender says.
func arpFrame(t testing.TB, op arp.Operation, mac net.HardwareAddr, sender, target string) []byte {
	t.Helper()
	p, err := arp.NewPacket(op, mac, netip.MustParseAddr(sender), ethernet.Broadcast, netip.MustParseAddr(target))
	if err != nil {
		t.Fatal(err)
	}
	payload, err := p.MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	b, err := (&ethernet.Frame{Destination: ethernet.Broadcast, Source: mac, EtherType: ethernet.EtherTypeARP, Payload: payload}).MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// advertisement wraps a message into IPv6 and Ethernet by means of a request's
// own headers.
func advertisement(t testing.TB, mac net.HardwareAddr, m *ndp.NeighborAdvertisement) []byte {
	t.Helper()
	b, err := encodeSolicitation(mac, netip.MustParseAddr("fd93::1"), netip.MustParseAddr("fd93::2"))
	if err != nil {
		t.Fatal(err)
	}
	message, err := ndp.MarshalMessage(m) // without a checksum, which nobody here checks
	if err != nil {
		t.Fatal(err)
	}
	const headers = 14 + ipv6HeaderLen
	b[14+5] = byte(len(message))
	return append(b[:headers], message...)
}

func TestDecodeFrame(t *testing.T) {
	asker, owner := macs()
	v4, v6 := netip.MustParseAddr("192.168.93.231"), netip.MustParseAddr("fd93::231")
	request4, err := encodeRequest(asker, netip.MustParseAddr("192.168.93.100"), v4)
	if err != nil {
		t.Fatal(err)
	}
	request6, err := encodeRequest(asker, netip.MustParseAddr("fd93::100"), v6)
	if err != nil {
		t.Fatal(err)
	}
	target := []ndp.Option{&ndp.LinkLayerAddress{Direction: ndp.Target, Addr: owner}}
	routed := slices.Clone(request6)
	routed[14+7] = 254
	for _, c := range []struct {
		name  string
		frame []byte
		want  claim // zero: not about a neighbour
	}{
		{"ARP request", request4, claim{Request, v4, asker}},
		{"ARP reply", arpFrame(t, arp.OperationReply, owner, v4.String(), "192.168.93.100"), claim{Reply, v4, owner}},
		{"gratuitous ARP request", arpFrame(t, arp.OperationRequest, owner, v4.String(), v4.String()), claim{Announcement, v4, owner}},
		{"gratuitous ARP reply", arpFrame(t, arp.OperationReply, owner, v4.String(), v4.String()), claim{Announcement, v4, owner}},
		{"reverse ARP", arpFrame(t, 3, owner, v4.String(), "192.168.93.100"), claim{}},
		{"solicitation", request6, claim{Request, v6, asker}},
		{"solicitation through a router", routed, claim{}},
		{"solicited advertisement", advertisement(t, asker, &ndp.NeighborAdvertisement{Solicited: true, TargetAddress: v6, Options: target}), claim{Reply, v6, owner}},
		{"unsolicited advertisement", advertisement(t, asker, &ndp.NeighborAdvertisement{Override: true, TargetAddress: v6, Options: target}), claim{Announcement, v6, owner}},
		{"advertisement without an option", advertisement(t, owner, &ndp.NeighborAdvertisement{Solicited: true, TargetAddress: v6}), claim{Reply, v6, owner}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := decodeFrame(c.frame)
			if c.want.kind == 0 {
				if !errors.Is(err, errNotNeighbour) {
					t.Errorf("got %v, %v, want that it is not about a neighbour", got, err)
				}
				return
			}
			if err != nil || got.kind != c.want.kind || got.addr != c.want.addr || !slices.Equal(got.mac, c.want.mac) {
				t.Errorf("got %v, %v, want %v", got, err, c.want)
			}
		})
	}
}

func FuzzDecodeFrame(f *testing.F) {
	asker, owner := macs()
	v6 := netip.MustParseAddr("fd93::231")
	f.Add(arpFrame(f, arp.OperationReply, owner, "192.168.93.231", "192.168.93.100"))
	f.Add(advertisement(f, asker, &ndp.NeighborAdvertisement{Solicited: true, TargetAddress: v6}))
	if b, err := encodeRequest(asker, netip.MustParseAddr("fd93::100"), v6); err == nil {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := decodeFrame(b)
		if err == nil && (c.kind < Request || c.kind > Announcement || !c.addr.IsValid()) {
			t.Errorf("decoded as %v", c)
		}
	})
}
