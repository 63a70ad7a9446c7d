//go:build guarded

package bgp

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"testing"

	wire "github.com/osrg/gobgp/v3/pkg/packet/bgp"
)

// What a neighbor sends may end its session, but never the process or another
// session.
func TestMalformedMessages(t *testing.T) {
	n, good, bad := newNode(t), newTor(t, "127.0.0.2", 65001), newTor(t, "127.0.0.3", 65002)
	bad.v6 = false
	n.with(peer("good", good), peer("bad", bad))
	n.announce(route("192.0.2.1/32"))
	good.connect(n.port)
	bad.connect(n.port)
	eventually(t, "the good session", func() bool { return good.count() == 1 })
	for name, message := range malformed() {
		// Its session is a new one each time: GoBGP would stay idle for 5 s.
		n.change("bad", func(p *Peer) { p.AllowOwnAS++ })
		eventually(t, name+": session", func() bool { return bad.established() && n.session("bad").Established() })
		before := n.session("bad").Received.Total
		bad.send(message)
		eventually(t, name+": seen", func() bool {
			s := n.session("bad")
			return !s.Established() || s.Received.Total > before
		})
	}
	n.announce(route("192.0.2.2/32"))
	eventually(t, "the good session goes on", func() bool { return good.count() == 2 })
	if s := n.session("good"); s.Flaps != 0 {
		t.Errorf("the good session: %+v", s)
	}
}

// malformed are messages that no router sends to a session with IPv4 only.
func malformed() map[string][]byte {
	frame := func(kind byte, body ...byte) []byte {
		m := bytes.Repeat([]byte{0xff}, 16)
		m = binary.BigEndian.AppendUint16(m, uint16(19+len(body)))
		return append(append(m, kind), body...)
	}
	attribute := func(flags, kind byte, value ...byte) []byte {
		return append([]byte{flags, kind, byte(len(value))}, value...)
	}
	update := func(nlri []byte, attributes ...[]byte) []byte {
		all := bytes.Join(attributes, nil)
		body := binary.BigEndian.AppendUint16([]byte{0, 0}, uint16(len(all)))
		return frame(2, append(append(body, all...), nlri...)...)
	}
	origin, asPath, hop := attribute(0x40, 1, 0), attribute(0x40, 2, 2, 1, 0, 0, 0xfd, 0xea), attribute(0x40, 3, 127, 0, 0, 3)
	prefix := []byte{24, 203, 0, 113}
	reach6 := attribute(0x80, 14, append([]byte{0, 2, 1, 16, 0xfd, 15: 0, 19: 1, 20: 0}, 64, 0xfd, 0, 0, 0, 0, 0, 0, 0)...)
	messages := map[string][]byte{
		"length of attributes":       frame(2, 0, 0, 0xff, 0xff),
		"length of withdrawn":        frame(2, 0xff, 0xff, 0, 0),
		"nothing":                    frame(2),
		"prefix of 99 bits":          update([]byte{99, 1, 2, 3}, origin, asPath, hop),
		"half a prefix":              update([]byte{32, 1}, origin, asPath, hop),
		"no next hop":                update(prefix, origin, asPath),
		"no attributes":              update(prefix),
		"origin 9":                   update(prefix, attribute(0x40, 1, 9), asPath, hop),
		"origin without value":       update(prefix, attribute(0x40, 1), asPath, hop),
		"AS_PATH beyond its end":     update(prefix, origin, attribute(0x40, 2, 2, 200, 0, 0), hop),
		"next hop of 3 bytes":        update(prefix, origin, asPath, attribute(0x40, 3, 1, 2, 3)),
		"next hop twice":             update(prefix, origin, asPath, hop, hop),
		"family that is not agreed":  update(nil, origin, asPath, reach6),
		"withdrawal of such":         update(nil, attribute(0x80, 15, 0, 2, 1, 64, 0xfd, 0, 0, 0, 0, 0, 0, 0)),
		"End-of-RIB of such":         update(nil, attribute(0x80, 15, 0, 2, 1)),
		"family that does not exist": update(nil, origin, asPath, attribute(0x80, 14, 0x77, 0x77, 9, 4, 1, 2, 3, 4, 0, 1, 2, 3)),
		"MP_REACH cut":               update(nil, origin, asPath, attribute(0x80, 14, 0, 2, 1, 16)),
		"EVPN cut":                   update(nil, origin, asPath, attribute(0x80, 14, 0, 25, 70, 4, 1, 2, 3, 4, 0, 2, 200)),
		"FlowSpec cut":               update(nil, origin, asPath, attribute(0x80, 14, 0, 1, 133, 0, 0, 200, 1, 2)),
		"refresh cut":                frame(5, 0, 1),
		"refresh of nothing":         frame(5, 0x77, 0x77, 0, 9),
		"OPEN again":                 encode(wire.NewBGPOpenMessage(65002, 90, "9.9.9.9", nil)),
		"notification of nothing":    frame(3, 99, 99),
		"keepalive with a body":      frame(4, 1, 2, 3),
	}
	for kind := range byte(50) {
		messages[fmt.Sprintf("attribute %d of one byte", kind)] = update(prefix, origin, asPath, hop, attribute(0xc0, kind, 1))
		messages[fmt.Sprintf("attribute %d empty", kind)] = update(prefix, origin, asPath, hop, attribute(0xc0, kind))
	}
	return messages
}
