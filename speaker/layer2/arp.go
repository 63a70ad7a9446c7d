package layer2

import (
	"net"
	"net/netip"

	"github.com/mdlayher/arp"
	"github.com/mdlayher/ethernet"
	"golang.org/x/net/bpf"
)

const (
	// ethernetLen is the length of an Ethernet header; the kernel strips VLAN tags.
	ethernetLen = 14
	// arpLen is the length of an ARP packet for IPv4 over Ethernet (RFC 826).
	arpLen = 28
	// arpTarget is where the target address starts in a frame.
	arpTarget = ethernetLen + 24

	arpEthernet = 1 // hardware type
)

// arpProtocol answers ARP requests with the hardware address of a link.
type arpProtocol struct {
	mac net.HardwareAddr
}

func (arpProtocol) etherType() int { return int(ethernet.EtherTypeARP) }

func (arpProtocol) filter(owned addrSet, limit int) []bpf.Instruction {
	return arpFilter(owned, limit)
}

// answer replies to whoever asks for an owned address, which includes probes
// that have no sender address yet (RFC 5227, 2.1.1). It does not reply to
// gratuitous requests: they ask nothing, and answering them would quarrel with
// the node to which the address has just moved.
func (p arpProtocol) answer(frame []byte, owned addrSet) ([]byte, bool) {
	// Look before decoding, which allocates: with very many addresses the
	// kernel passes requests for all targets.
	if len(frame) < ethernetLen+arpLen {
		return nil, false
	}
	if _, ok := owned[netip.AddrFrom4([4]byte(frame[arpTarget:]))]; !ok {
		return nil, false
	}
	var eth ethernet.Frame
	if err := eth.UnmarshalBinary(frame); err != nil || eth.EtherType != ethernet.EtherTypeARP || eth.VLAN != nil {
		return nil, false
	}
	var req arp.Packet
	if err := req.UnmarshalBinary(eth.Payload); err != nil {
		return nil, false
	}
	switch {
	case req.HardwareType != arpEthernet || req.ProtocolType != uint16(ethernet.EtherTypeIPv4),
		req.HardwareAddrLength != 6 || req.IPLength != 4,
		req.Operation != arp.OperationRequest,
		req.SenderIP == req.TargetIP,
		!isForUs(eth.Destination, p.mac),
		!isHost(req.SenderHardwareAddr):
		return nil, false
	}
	reply, err := p.marshal(arp.OperationReply, req.TargetIP, req.SenderHardwareAddr, req.SenderIP, req.SenderHardwareAddr)
	return reply, err == nil
}

// gratuitous returns an announcement in the request form, which RFC 5227 (2.3)
// asks for, and one in the reply form (RFC 5944, 4.6), as some systems update
// their tables from one of them only.
func (p arpProtocol) gratuitous(addr netip.Addr) ([][]byte, error) {
	request, err := p.marshal(arp.OperationRequest, addr, make(net.HardwareAddr, 6), addr, ethernet.Broadcast)
	if err != nil {
		return nil, err
	}
	reply, err := p.marshal(arp.OperationReply, addr, p.mac, addr, ethernet.Broadcast)
	if err != nil {
		return nil, err
	}
	return [][]byte{request, reply}, nil
}

func (p arpProtocol) marshal(op arp.Operation, sender netip.Addr, targetMAC net.HardwareAddr, target netip.Addr, dst net.HardwareAddr) ([]byte, error) {
	packet, err := arp.NewPacket(op, p.mac, sender, targetMAC, target)
	if err != nil {
		return nil, err
	}
	payload, err := packet.MarshalBinary()
	if err != nil {
		return nil, err
	}
	eth := ethernet.Frame{Destination: dst, Source: p.mac, EtherType: ethernet.EtherTypeARP, Payload: payload}
	return eth.MarshalBinary()
}

// isForUs is false for frames that a promiscuous interface sees by chance.
func isForUs(dst, mac net.HardwareAddr) bool {
	return dst[0]&1 != 0 || [6]byte(dst) == [6]byte(mac)
}

// isHost reports whether a frame can be sent to mac as to one host. A group
// address as the sender's would make one request a reply to everyone.
func isHost(mac net.HardwareAddr) bool {
	return len(mac) == 6 && mac[0]&1 == 0 && [6]byte(mac) != [6]byte{}
}
