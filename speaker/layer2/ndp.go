package layer2

import (
	"encoding/binary"
	"net"
	"net/netip"

	"github.com/mdlayher/ethernet"
	"github.com/mdlayher/ndp"
	"golang.org/x/net/bpf"
	"golang.org/x/net/ipv6"
	"golang.org/x/sys/unix"
)

const (
	ipv6Len = 40
	// solicitationLen is the length of a neighbor solicitation without options
	// (RFC 4861, 4.3), the ICMPv6 header included.
	solicitationLen = 24
	// ndpTarget is where the target address starts in a frame.
	ndpTarget = ethernetLen + ipv6Len + 8
)

// ndpProtocol answers neighbor solicitations with the hardware address of a
// link, from the link-local address of the link.
type ndpProtocol struct {
	mac net.HardwareAddr
	src netip.Addr
}

func (ndpProtocol) etherType() int { return int(ethernet.EtherTypeIPv6) }

func (ndpProtocol) filter(owned addrSet, limit int) []bpf.Instruction {
	return ndpFilter(owned, limit)
}

// answer replies to the asker, or to all nodes if the asker has no address yet
// because it checks for duplicates (RFC 4861, 7.2.4).
func (p ndpProtocol) answer(frame []byte, owned addrSet) ([]byte, bool) {
	s, ok := parseSolicitation(frame, owned)
	if !ok || !isForUs(s.etherDst, p.mac) {
		return nil, false
	}
	if s.src.IsUnspecified() {
		reply, err := p.advertise(s.target, false, netip.IPv6LinkLocalAllNodes(), multicastMAC(netip.IPv6LinkLocalAllNodes()))
		return reply, err == nil
	}
	if !isHost(s.asker) {
		return nil, false
	}
	reply, err := p.advertise(s.target, true, s.src, s.asker)
	return reply, err == nil
}

// gratuitous returns an unsolicited advertisement (RFC 4861, 7.2.6).
func (p ndpProtocol) gratuitous(addr netip.Addr) ([][]byte, error) {
	all := netip.IPv6LinkLocalAllNodes()
	frame, err := p.advertise(addr, false, all, multicastMAC(all))
	if err != nil {
		return nil, err
	}
	return [][]byte{frame}, nil
}

// advertise makes a neighbor advertisement for target. Override is always set,
// as the address may have been another node's a moment ago.
func (p ndpProtocol) advertise(target netip.Addr, solicited bool, dst netip.Addr, dstMAC net.HardwareAddr) ([]byte, error) {
	body, err := ndp.MarshalMessageChecksum(&ndp.NeighborAdvertisement{
		Solicited:     solicited,
		Override:      true,
		TargetAddress: target,
		Options:       []ndp.Option{&ndp.LinkLayerAddress{Direction: ndp.Target, Addr: p.mac}},
	}, p.src, dst)
	if err != nil {
		return nil, err
	}
	packet := make([]byte, ipv6Len, ipv6Len+len(body))
	packet[0] = 6 << 4
	binary.BigEndian.PutUint16(packet[4:], uint16(len(body)))
	packet[6], packet[7] = unix.IPPROTO_ICMPV6, ndp.HopLimit
	copy(packet[8:], p.src.AsSlice())
	copy(packet[24:], dst.AsSlice())
	eth := ethernet.Frame{
		Destination: dstMAC,
		Source:      p.mac,
		EtherType:   ethernet.EtherTypeIPv6,
		Payload:     append(packet, body...),
	}
	return eth.MarshalBinary()
}

// A solicitation is a valid question for an owned address.
type solicitation struct {
	etherDst net.HardwareAddr
	asker    net.HardwareAddr
	src      netip.Addr // unspecified: duplicate address detection
	target   netip.Addr
}

// parseSolicitation applies the checks of RFC 4861, 7.1.1.
func parseSolicitation(frame []byte, owned addrSet) (solicitation, bool) {
	const minLen = ethernetLen + ipv6Len + solicitationLen
	if len(frame) < minLen {
		return solicitation{}, false
	}
	// Look before decoding, which allocates.
	if _, ok := owned[netip.AddrFrom16([16]byte(frame[ndpTarget:]))]; !ok {
		return solicitation{}, false
	}
	packet := frame[ethernetLen:]
	length := int(binary.BigEndian.Uint16(packet[4:]))
	if binary.BigEndian.Uint16(frame[12:]) != uint16(ethernet.EtherTypeIPv6) || packet[0]>>4 != 6 ||
		packet[6] != unix.IPPROTO_ICMPV6 || packet[7] != ndp.HopLimit ||
		length < solicitationLen || ipv6Len+length > len(packet) {
		return solicitation{}, false
	}
	src := netip.AddrFrom16([16]byte(packet[8:]))
	dst := netip.AddrFrom16([16]byte(packet[24:]))
	body := packet[ipv6Len : ipv6Len+length]
	if ipv6.ICMPType(body[0]) != ipv6.ICMPTypeNeighborSolicitation || body[1] != 0 || src.IsMulticast() || checksum(packet, body) != 0xffff {
		return solicitation{}, false
	}
	m, err := ndp.ParseMessage(body)
	if err != nil {
		return solicitation{}, false
	}
	ns, ok := m.(*ndp.NeighborSolicitation)
	if !ok {
		return solicitation{}, false
	}
	s := solicitation{
		etherDst: net.HardwareAddr(frame[:6]),
		asker:    net.HardwareAddr(frame[6:12]),
		src:      src,
		target:   ns.TargetAddress,
	}
	option := sourceLinkLayer(ns.Options)
	if src.IsUnspecified() {
		group, err := ndp.SolicitedNodeMulticast(s.target)
		return s, err == nil && dst == group && option == nil
	}
	if option != nil {
		s.asker = option
	}
	return s, true
}

func sourceLinkLayer(options []ndp.Option) net.HardwareAddr {
	for _, o := range options {
		if lla, ok := o.(*ndp.LinkLayerAddress); ok && lla.Direction == ndp.Source {
			return lla.Addr
		}
	}
	return nil
}

// checksum sums up an ICMPv6 message and its pseudo header (RFC 8200, 8.1);
// with a right checksum in it, that is 0xffff.
func checksum(packet, body []byte) uint16 {
	sum := uint32(len(body)) + unix.IPPROTO_ICMPV6
	for i := 8; i < ipv6Len; i += 2 {
		sum += uint32(binary.BigEndian.Uint16(packet[i:]))
	}
	for ; len(body) >= 2; body = body[2:] {
		sum += uint32(binary.BigEndian.Uint16(body))
	}
	if len(body) == 1 {
		sum += uint32(body[0]) << 8
	}
	for sum>>16 != 0 {
		sum = sum&0xffff + sum>>16
	}
	return uint16(sum)
}

// multicastMAC maps a multicast group to its Ethernet address (RFC 2464, 7).
func multicastMAC(group netip.Addr) net.HardwareAddr {
	b := group.As16()
	return net.HardwareAddr{0x33, 0x33, b[12], b[13], b[14], b[15]}
}
