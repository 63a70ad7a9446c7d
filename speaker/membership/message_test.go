package membership

import (
	"bytes"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestMessagesSurviveTheWire(t *testing.T) {
	var many []entry
	addr := netip.MustParseAddr("2001:db8::")
	for i := range 500 {
		addr = addr.Next()
		many = append(many, entry{addr, uint32(i)})
	}
	for name, m := range map[string]message{
		"one of each family": {kindAsk, "n1", 7, []entry{{vip, 1}, {other, 1<<32 - 1}}},
		"many packets":       {kindConsent, "n1", 1<<64 - 1, many},
		"longest name":       {kindFree, strings.Repeat("x", maxName), 7, many},
	} {
		t.Run(name, func(t *testing.T) {
			var got []entry
			for _, packet := range m.encode() {
				if len(packet) > maxMessage {
					t.Errorf("a packet of %d bytes", len(packet))
				}
				part, err := decodeMessage(packet)
				if err != nil {
					t.Fatal(err)
				}
				if part.kind != m.kind || part.from != m.from || part.epoch != m.epoch {
					t.Errorf("got %v of %s, epoch %d", part.kind, part.from, part.epoch)
				}
				got = append(got, part.entries...)
			}
			if !slices.Equal(got, m.entries) {
				t.Errorf("got %d entries, want %d", len(got), len(m.entries))
			}
		})
	}
	if packets := (message{kind: kindAsk, from: "n1"}).encode(); packets != nil {
		t.Errorf("a message without addresses is %d packets", len(packets))
	}
}

func TestMalformedMessagesAreRefused(t *testing.T) {
	good := message{kindAsk, "n1", 7, []entry{{vip, 1}}}.encode()[0]
	changed := func(at int, b byte) []byte {
		packet := bytes.Clone(good)
		packet[at] = b
		return packet
	}
	for name, packet := range map[string][]byte{
		"empty":          nil,
		"other version":  changed(0, 2),
		"kind 0":         changed(1, 0),
		"unknown kind":   changed(1, 7),
		"no name":        changed(10, 0),
		"name too long":  changed(10, 254),
		"address length": changed(13, 5),
		"cut":            good[:len(good)-1],
		"trailing":       append(bytes.Clone(good), 4),
		"mapped":         message{kindAsk, "n1", 7, []entry{{netip.MustParseAddr("::ffff:192.0.2.7"), 1}}}.encode()[0],
	} {
		if _, err := decodeMessage(packet); !errors.Is(err, errMessage) {
			t.Errorf("%s: error %v", name, err)
		}
	}
}

func FuzzDecodeMessage(f *testing.F) {
	f.Add(message{kindAsk, "n1", 7, []entry{{vip, 1}, {other, 2}}}.encode()[0])
	f.Add([]byte{messageVersion, byte(kindFree)})
	f.Fuzz(func(t *testing.T, packet []byte) {
		m, err := decodeMessage(packet)
		if err != nil || len(m.entries) == 0 {
			return
		}
		var again []byte
		for i, p := range m.encode() {
			if i > 0 {
				p = p[11+len(m.from):]
			}
			again = append(again, p...)
		}
		if !bytes.Equal(again, packet) {
			t.Errorf("%x became %x", packet, again)
		}
		// No member's message may stop another.
		c := newClaims("n1", m.epoch)
		c.received(time.Unix(1, 0), m)
		c.effects(time.Unix(1, 0))
	})
}
