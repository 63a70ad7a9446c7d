package membership

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
)

// kind is what a message says of its addresses.
type kind uint8

const (
	kindAsk     kind = 1 // would you consent to my claim? If you hold it, keep it for now.
	kindClaim   kind = 2 // the same, and nobody else's consent is missing: if you hold it, yield
	kindConsent kind = 3 // I neither hold nor claim it
	kindYields  kind = 4 // I hold it and will yield to your final claim
	kindRefuse  kind = 5 // I hold or claim it and outrank you
	kindFree    kind = 6 // I refused it and no longer want it
)

// message is what members tell each other about claims.
type message struct {
	kind kind
	from string
	// epoch is that of the process whose claim it is: the sender's in
	// kindAsk and kindClaim, the receiver's in replies.
	epoch   uint64
	entries []entry
}

// entry is one address and the number of the claim for it.
type entry struct {
	addr netip.Addr
	seq  uint32
}

const (
	messageVersion = 1
	// maxMessage is the largest packet, in bytes. With the headers of gossip,
	// its encryption, UDP and IPv6 (less than 150 together) it fits into the
	// 1280 bytes that every IPv6 link carries unfragmented.
	maxMessage = 1000
	// maxName is the longest name of a Kubernetes object.
	maxName = 253
)

var errMessage = errors.New("malformed message")

// encode returns a message as packets of at most maxMessage bytes:
//
//	version, kind (1 byte each), epoch (8), length of the name (1), name,
//	then for each address its length (1: 4 or 16), the address, seq (4)
func (m message) encode() [][]byte {
	header := []byte{messageVersion, byte(m.kind)}
	header = binary.BigEndian.AppendUint64(header, m.epoch)
	header = append(header, byte(len(m.from)))
	header = append(header, m.from...)

	var packets [][]byte
	var packet []byte
	for _, e := range m.entries {
		addr := e.addr.AsSlice()
		if packet == nil || len(packet)+1+len(addr)+4 > maxMessage {
			if packet != nil {
				packets = append(packets, packet)
			}
			packet = append(make([]byte, 0, maxMessage), header...)
		}
		packet = append(packet, byte(len(addr)))
		packet = append(packet, addr...)
		packet = binary.BigEndian.AppendUint32(packet, e.seq)
	}
	if packet != nil {
		packets = append(packets, packet)
	}
	return packets
}

// decodeMessage reads one packet. Its errors wrap errMessage.
func decodeMessage(b []byte) (message, error) {
	const fixed = 1 + 1 + 8 + 1
	if len(b) < fixed {
		return message{}, fmt.Errorf("%w: %d bytes", errMessage, len(b))
	}
	if b[0] != messageVersion {
		return message{}, fmt.Errorf("%w: version %d", errMessage, b[0])
	}
	m := message{kind: kind(b[1]), epoch: binary.BigEndian.Uint64(b[2:])}
	if m.kind < kindAsk || m.kind > kindFree {
		return message{}, fmt.Errorf("%w: kind %d", errMessage, b[1])
	}
	nameLen := int(b[fixed-1])
	b = b[fixed:]
	if nameLen == 0 || nameLen > maxName || len(b) < nameLen {
		return message{}, fmt.Errorf("%w: name of %d bytes", errMessage, nameLen)
	}
	m.from, b = string(b[:nameLen]), b[nameLen:]
	for len(b) > 0 {
		addrLen := int(b[0])
		if addrLen != 4 && addrLen != 16 || len(b) < 1+addrLen+4 {
			return message{}, fmt.Errorf("%w: address of %d bytes", errMessage, addrLen)
		}
		addr, _ := netip.AddrFromSlice(b[1 : 1+addrLen])
		if addr.Is4In6() {
			return message{}, fmt.Errorf("%w: mapped address %s", errMessage, addr)
		}
		m.entries = append(m.entries, entry{addr, binary.BigEndian.Uint32(b[1+addrLen:])})
		b = b[1+addrLen+4:]
	}
	return m, nil
}
