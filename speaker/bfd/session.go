package bfd

import (
	"errors"
	"fmt"
	"net/netip"
	"time"
)

// Profile is how a session is run.
type Profile struct {
	// MinTx is the shortest interval at which this node sends control packets
	// (bfd.DesiredMinTxInterval). Until a session is Up it is at least one second.
	MinTx time.Duration
	// MinRx is the shortest interval at which the neighbor may send
	// (bfd.RequiredMinRxInterval).
	MinRx time.Duration
	// DetectMult is how many packets of this node in a row the neighbor misses
	// before it takes the path for lost. What this node does, the neighbor's says.
	DetectMult uint8
	// Multihop is RFC 5883 instead of RFC 5881; the same as in the Key.
	Multihop bool
	// MinTTL is the smallest TTL or hop limit of packets accepted over several
	// hops, 0 for any. Over one hop it is always 255 (RFC 5881, 5).
	MinTTL uint8
}

// maxInterval is what 32 bits of microseconds can say.
const maxInterval = (1<<32 - 1) * time.Microsecond

// check returns what is wrong with the profile of a session.
func (p Profile) check(key Key) error {
	for _, interval := range []struct {
		name  string
		value time.Duration
	}{{"transmit", p.MinTx}, {"receive", p.MinRx}} {
		if interval.value < time.Microsecond || interval.value > maxInterval {
			return fmt.Errorf("minimum %s interval %v is not between 1µs and %v", interval.name, interval.value, maxInterval)
		}
	}
	if p.DetectMult == 0 {
		return errors.New("detection multiplier is 0")
	}
	if p.Multihop != key.Multihop {
		return errors.New("key and profile differ about multihop")
	}
	return nil
}

// Key identifies a session. There can be one over one hop and one over several
// hops with the same neighbor.
type Key struct {
	// Neighbor is whom the session is with. A link-local address has a zone, the
	// name or the index of the interface.
	Neighbor netip.Addr
	// Local is the node's end; the zero value leaves it to the routes.
	Local    netip.Addr
	Multihop bool
}

// String reads like "192.0.2.1", "192.0.2.1 from 192.0.2.2", "192.0.2.1 over several hops".
func (k Key) String() string {
	s := k.Neighbor.String()
	if k.Local.IsValid() {
		s += " from " + k.Local.String()
	}
	if k.Multihop {
		s += " over several hops"
	}
	return s
}

// check returns what is wrong with a key.
func (k Key) check() error {
	switch n := k.Neighbor; {
	case !n.IsValid() || n.Is4In6() || n.IsUnspecified() || n.IsMulticast():
		return fmt.Errorf("%v is not the address of a neighbor", n)
	case n.Is6() && n.IsLinkLocalUnicast() && n.Zone() == "":
		return errors.New("a link-local address needs the interface, as in fe80::1%eth0")
	case n.IsLinkLocalUnicast() && k.Multihop:
		return errors.New("a link-local address is never several hops away")
	case k.Local.IsValid() && k.Local.Is4() != n.Is4():
		return fmt.Errorf("local address %v is not of the neighbor's family", k.Local)
	}
	return nil
}

// Session is a session as it is at the moment.
type Session struct {
	Key
	State, RemoteState State
	// Diagnostic is why this node left the state Up last, RemoteDiagnostic what
	// the neighbor's last packet says about its own.
	Diagnostic, RemoteDiagnostic Diagnostic
	// LocalDiscriminator and RemoteDiscriminator identify the session at the two
	// ends; that of the neighbor is 0 until it is known.
	LocalDiscriminator, RemoteDiscriminator uint32
	// TransmitInterval is at most that between two packets of this node, 0 when
	// the neighbor wants none.
	TransmitInterval time.Duration
	// DetectionTime is how long the neighbor may be silent, 0 until it was heard.
	DetectionTime time.Duration
	// Since is when State was entered.
	Since time.Time
	// Downs counts how often the session has left the state Up.
	Downs uint64
	// Sent, Received and Discarded count control packets. Discarded ones were for
	// this session and had a fault.
	Sent, Received, Discarded uint64
	// SendError is what the kernel said to the last packet that it refused, "" if
	// it took the last one.
	SendError string
}

// String reads like "192.0.2.1 Down (Control Detection Time Expired)".
func (s Session) String() string {
	return describe(s.Key, s.State, s.Diagnostic)
}

// Event is a change of a session.
type Event struct {
	Key
	State      State
	Diagnostic Diagnostic
	// Lost says that the path to the neighbor is gone and what depends on it is to
	// be torn down: a session that was Up was no longer heard, or the neighbor
	// heard this node no longer. It is not set when the neighbor takes its end down
	// administratively (RFC 5882, 4.2), nor for a session that has not been Up. A
	// neighbor that begins the session anew has a few seconds to come Up again;
	// if it does not, a further Event in the same State has Lost set.
	Lost bool
}

// String reads like "192.0.2.1 Down (Control Detection Time Expired), path lost".
func (e Event) String() string {
	text := describe(e.Key, e.State, e.Diagnostic)
	if e.Lost {
		text += ", path lost"
	}
	return text
}

func describe(k Key, s State, d Diagnostic) string {
	text := k.String() + " " + s.String()
	if d != NoDiagnostic {
		text += " (" + d.String() + ")"
	}
	return text
}
