package lab

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/mdlayher/arp"
	"github.com/mdlayher/ethernet"
	"github.com/mdlayher/ndp"
)

// Kind says what a frame means for the address that it is about.
type Kind int

const (
	// Request asks who has the address: an ARP request or a neighbour solicitation.
	Request Kind = iota + 1
	// Reply is an answer to a request: an ARP reply or a solicited neighbour
	// advertisement.
	Reply
	// Announcement claims the address without being asked: a gratuitous ARP
	// request or reply, or an unsolicited neighbour advertisement.
	Announcement
)

func (k Kind) String() string {
	switch k {
	case Request:
		return "request"
	case Reply:
		return "reply"
	case Announcement:
		return "announcement"
	default:
		return fmt.Sprintf("Kind(%d)", int(k))
	}
}

// claim is what one frame says about an address.
type claim struct {
	kind Kind
	addr netip.Addr
	mac  net.HardwareAddr // who claims it; for a request, who asks
}

const (
	ipv6HeaderLen = 40
	icmpv6        = 58
	ndpHopLimit   = 255 // RFC 4861 7.1: anything else came through a router
)

// errNotNeighbour is for frames that are neither ARP nor neighbour discovery.
var errNotNeighbour = errors.New("not about a neighbour")

// decodeFrame reads an Ethernet frame with ARP or neighbour discovery in it.
func decodeFrame(b []byte) (claim, error) {
	var frame ethernet.Frame
	if err := frame.UnmarshalBinary(b); err != nil {
		return claim{}, fmt.Errorf("decode a frame: %w", err)
	}
	switch frame.EtherType {
	case ethernet.EtherTypeARP:
		return decodeARP(frame.Payload)
	case ethernet.EtherTypeIPv6:
		return decodeNDP(frame.Payload, frame.Source)
	default:
		return claim{}, errNotNeighbour
	}
}

func decodeARP(b []byte) (claim, error) {
	var p arp.Packet
	if err := p.UnmarshalBinary(b); err != nil {
		return claim{}, fmt.Errorf("decode ARP: %w", err)
	}
	switch {
	case p.SenderIP == p.TargetIP:
		return claim{Announcement, p.SenderIP, p.SenderHardwareAddr}, nil
	case p.Operation == arp.OperationRequest:
		return claim{Request, p.TargetIP, p.SenderHardwareAddr}, nil
	case p.Operation == arp.OperationReply:
		return claim{Reply, p.SenderIP, p.SenderHardwareAddr}, nil
	default:
		return claim{}, errNotNeighbour
	}
}

// decodeNDP reads an IPv6 packet. Neighbour discovery has no extension headers
// in practice.
func decodeNDP(b []byte, source net.HardwareAddr) (claim, error) {
	if len(b) < ipv6HeaderLen || b[0]>>4 != 6 || b[6] != icmpv6 || b[7] != ndpHopLimit {
		return claim{}, errNotNeighbour
	}
	length := int(binary.BigEndian.Uint16(b[4:6]))
	if length > len(b)-ipv6HeaderLen {
		return claim{}, fmt.Errorf("decode NDP: %d bytes announced, %d there", length, len(b)-ipv6HeaderLen)
	}
	message, err := ndp.ParseMessage(b[ipv6HeaderLen : ipv6HeaderLen+length])
	if err != nil {
		return claim{}, fmt.Errorf("decode NDP: %w", err)
	}
	switch m := message.(type) {
	case *ndp.NeighborSolicitation:
		return claim{Request, m.TargetAddress, linkLayer(m.Options, ndp.Source, source)}, nil
	case *ndp.NeighborAdvertisement:
		kind := Announcement
		if m.Solicited {
			kind = Reply
		}
		return claim{kind, m.TargetAddress, linkLayer(m.Options, ndp.Target, source)}, nil
	default:
		return claim{}, errNotNeighbour
	}
}

// linkLayer is the hardware address of an option, or that of the frame.
func linkLayer(options []ndp.Option, direction ndp.Direction, otherwise net.HardwareAddr) net.HardwareAddr {
	for _, option := range options {
		if lla, ok := option.(*ndp.LinkLayerAddress); ok && lla.Direction == direction {
			return lla.Addr
		}
	}
	return otherwise
}

// encodeRequest makes the frame with which a host asks who has target.
func encodeRequest(mac net.HardwareAddr, from, target netip.Addr) ([]byte, error) {
	if target.Is4() {
		return encodeARPRequest(mac, from, target)
	}
	return encodeSolicitation(mac, from, target)
}

func encodeARPRequest(mac net.HardwareAddr, from, target netip.Addr) ([]byte, error) {
	p, err := arp.NewPacket(arp.OperationRequest, mac, from, make(net.HardwareAddr, len(mac)), target)
	if err != nil {
		return nil, fmt.Errorf("make an ARP request for %s: %w", target, err)
	}
	payload, err := p.MarshalBinary()
	if err != nil {
		return nil, fmt.Errorf("make an ARP request for %s: %w", target, err)
	}
	frame := ethernet.Frame{Destination: ethernet.Broadcast, Source: mac, EtherType: ethernet.EtherTypeARP, Payload: payload}
	return frame.MarshalBinary()
}

func encodeSolicitation(mac net.HardwareAddr, from, target netip.Addr) ([]byte, error) {
	group, err := ndp.SolicitedNodeMulticast(target)
	if err != nil {
		return nil, fmt.Errorf("make a neighbour solicitation for %s: %w", target, err)
	}
	message, err := ndp.MarshalMessageChecksum(&ndp.NeighborSolicitation{
		TargetAddress: target,
		Options:       []ndp.Option{&ndp.LinkLayerAddress{Direction: ndp.Source, Addr: mac}},
	}, from, group)
	if err != nil {
		return nil, fmt.Errorf("make a neighbour solicitation for %s: %w", target, err)
	}
	packet := make([]byte, ipv6HeaderLen, ipv6HeaderLen+len(message))
	packet[0] = 6 << 4
	binary.BigEndian.PutUint16(packet[4:6], uint16(len(message)))
	packet[6], packet[7] = icmpv6, ndpHopLimit
	copy(packet[8:24], from.AsSlice())
	copy(packet[24:40], group.AsSlice())
	g := group.As16()
	// RFC 2464 7: 33:33 and the last four bytes of the group.
	destination := net.HardwareAddr{0x33, 0x33, g[12], g[13], g[14], g[15]}
	frame := ethernet.Frame{Destination: destination, Source: mac, EtherType: ethernet.EtherTypeIPv6, Payload: append(packet, message...)}
	return frame.MarshalBinary()
}
