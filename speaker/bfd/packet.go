package bfd

import (
	"encoding/binary"
	"time"
)

const (
	version = 1
	// packetLen is the length of the mandatory section (RFC 5880, 4.1); a packet
	// with authentication is longer.
	packetLen = 24
)

// packet is a BFD control packet without authentication (RFC 5880, 4.1).
type packet struct {
	diag                        Diagnostic
	state                       State
	poll, final                 bool
	controlPlaneIndependent     bool
	demand                      bool
	detectMult                  uint8
	myDiscriminator             uint32
	yourDiscriminator           uint32
	desiredMinTx, requiredMinRx time.Duration
	requiredMinEchoRx           time.Duration
}

// discard is why a received packet is not used; "" for one that is. It is the
// value of a label of the metrics.
type discard string

// The checks of RFC 5880, 6.8.6, in its order, and those of the encapsulation.
const (
	accepted             discard = ""
	badVersion           discard = "version"
	badLength            discard = "length"
	badDetectMult        discard = "detect_mult"
	badMultipoint        discard = "multipoint"
	badMyDiscriminator   discard = "my_discriminator"
	badYourDiscriminator discard = "your_discriminator" // zero, from a session that must know it
	badAuthentication    discard = "authentication"     // there is one, and none is in use
	noSession            discard = "no_session"
	badTTL               discard = "ttl" // RFC 5881, 5, or fewer than the profile's minimum
	unreadable           discard = "unreadable"
	administrativelyDown discard = "admin_down"
)

// The bits of the second byte, below the state.
const (
	pollBit                    = 1 << 5
	finalBit                   = 1 << 4
	controlPlaneIndependentBit = 1 << 3
	authenticationBit          = 1 << 2
	demandBit                  = 1 << 1
	multipointBit              = 1 << 0
)

// decode reads a packet and makes the checks of RFC 5880, 6.8.6, that need no
// more than the packet.
func decode(b []byte) (packet, discard) {
	if len(b) < packetLen {
		return packet{}, badLength
	}
	flags := b[1]
	minimum := packetLen
	if flags&authenticationBit != 0 {
		minimum += 2 // the type and the length of the authentication section
	}
	p := packet{
		diag:                    Diagnostic(b[0] & 0x1f),
		state:                   State(flags >> 6),
		poll:                    flags&pollBit != 0,
		final:                   flags&finalBit != 0,
		controlPlaneIndependent: flags&controlPlaneIndependentBit != 0,
		demand:                  flags&demandBit != 0,
		detectMult:              b[2],
		myDiscriminator:         binary.BigEndian.Uint32(b[4:]),
		yourDiscriminator:       binary.BigEndian.Uint32(b[8:]),
		desiredMinTx:            interval(b[12:]),
		requiredMinRx:           interval(b[16:]),
		requiredMinEchoRx:       interval(b[20:]),
	}
	switch length := int(b[3]); {
	case b[0]>>5 != version:
		return packet{}, badVersion
	case length < minimum || length > len(b):
		return packet{}, badLength
	case p.detectMult == 0:
		return packet{}, badDetectMult
	case flags&multipointBit != 0:
		return packet{}, badMultipoint
	case p.myDiscriminator == 0:
		return packet{}, badMyDiscriminator
	case p.yourDiscriminator == 0 && p.state != Down && p.state != AdminDown:
		return packet{}, badYourDiscriminator
	case flags&authenticationBit != 0:
		return packet{}, badAuthentication
	}
	return p, accepted
}

// encode writes the packet as it is on the wire.
func (p packet) encode(b *[packetLen]byte) {
	b[0] = version<<5 | byte(p.diag)&0x1f
	b[1] = byte(p.state)<<6 | bit(p.poll, pollBit) | bit(p.final, finalBit) |
		bit(p.controlPlaneIndependent, controlPlaneIndependentBit) | bit(p.demand, demandBit)
	b[2] = p.detectMult
	b[3] = packetLen
	binary.BigEndian.PutUint32(b[4:], p.myDiscriminator)
	binary.BigEndian.PutUint32(b[8:], p.yourDiscriminator)
	binary.BigEndian.PutUint32(b[12:], microseconds(p.desiredMinTx))
	binary.BigEndian.PutUint32(b[16:], microseconds(p.requiredMinRx))
	binary.BigEndian.PutUint32(b[20:], microseconds(p.requiredMinEchoRx))
}

func bit(set bool, b byte) byte {
	if set {
		return b
	}
	return 0
}

func interval(b []byte) time.Duration {
	return time.Duration(binary.BigEndian.Uint32(b)) * time.Microsecond
}

// microseconds of a checked interval, which fits.
func microseconds(d time.Duration) uint32 { return uint32(d / time.Microsecond) }
