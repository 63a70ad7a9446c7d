package bfd

import (
	"bytes"
	"encoding/hex"
	"strings"
	"testing"
	"time"
)

// wire reads bytes in hexadecimal.
func wire(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	must(t, err)
	return b
}

func encoded(p packet) []byte {
	var b [packetLen]byte
	p.encode(&b)
	return b[:]
}

// upPacket is version 1, no diagnostic, Up, multiplier 3, 24 bytes, discriminators
// 7 and 9, 100 ms, 300 ms, no echo.
const upPacket = "20 c0 03 18 00000007 00000009 000186a0 000493e0 00000000"

func TestCodec(t *testing.T) {
	for _, c := range []struct {
		name, wire string
		want       packet
	}{
		{"Up", upPacket, packet{
			state: Up, detectMult: 3, myDiscriminator: 7, yourDiscriminator: 9,
			desiredMinTx: 100 * time.Millisecond, requiredMinRx: 300 * time.Millisecond,
		}},
		{"poll, of a neighbor that knows us not", "21 60 05 18 ffffffff 00000000 000f4240 00000000 0000c350", packet{
			diag: ControlDetectionTimeExpired, state: Down, poll: true, detectMult: 5, myDiscriminator: 1<<32 - 1,
			desiredMinTx: time.Second, requiredMinEchoRx: 50 * time.Millisecond,
		}},
		{"final, control plane independent, demand", "3f 9a ff 18 00000001 00000002 ffffffff 00000001 00000000", packet{
			diag: 31, state: Init, final: true, controlPlaneIndependent: true, demand: true, detectMult: 255,
			myDiscriminator: 1, yourDiscriminator: 2, desiredMinTx: maxInterval, requiredMinRx: time.Microsecond,
		}},
		{"AdminDown", "27 00 03 18 00000007 00000000 000f4240 000186a0 00000000", packet{
			diag: AdministrativelyDown, state: AdminDown, detectMult: 3, myDiscriminator: 7,
			desiredMinTx: time.Second, requiredMinRx: 100 * time.Millisecond,
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := wire(t, c.wire)
			got, why := decode(b)
			if why != accepted || got != c.want {
				t.Errorf("decoded %+v (%s), want %+v", got, why, c.want)
			}
			if got := encoded(c.want); !bytes.Equal(got, b) {
				t.Errorf("encoded %x, want %x", got, b)
			}
			// What follows the length belongs to nobody.
			if longer, why := decode(append(b, 1, 2, 3)); why != accepted || longer != got {
				t.Errorf("with bytes behind it: %+v (%s)", longer, why)
			}
		})
	}
}

func TestDecodeDiscards(t *testing.T) {
	for _, c := range []struct {
		name, wire string
		want       discard
	}{
		{"nothing", "", badLength},
		{"one byte short", upPacket[:len(upPacket)-2], badLength},
		{"version 0", "00" + upPacket[2:], badVersion},
		{"version 2", "40" + upPacket[2:], badVersion},
		{"length below the minimum", "20 c0 03 17" + upPacket[11:], badLength},
		{"length beyond the payload", "20 c0 03 19" + upPacket[11:], badLength},
		{"authentication in 24 bytes", "20 c4 03 18" + upPacket[11:], badLength},
		{"authentication", "20 c4 03 1a" + upPacket[11:] + "0102", badAuthentication},
		{"multiplier 0", "20 c0 00 18" + upPacket[11:], badDetectMult},
		{"multipoint", "20 c1 03 18" + upPacket[11:], badMultipoint},
		{"no discriminator", "20 c0 03 18 00000000" + upPacket[20:], badMyDiscriminator},
		{"Up without ours", "20 c0 03 18 00000007 00000000" + upPacket[29:], badYourDiscriminator},
		{"Init without ours", "20 80 03 18 00000007 00000000" + upPacket[29:], badYourDiscriminator},
	} {
		t.Run(c.name, func(t *testing.T) {
			if p, why := decode(wire(t, c.wire)); why != c.want || p != (packet{}) {
				t.Errorf("decoded %+v, discarded for %q, want %q", p, why, c.want)
			}
		})
	}
}

func FuzzDecode(f *testing.F) {
	f.Add(wire(f, upPacket))
	f.Add(wire(f, "21 60 05 18 ffffffff 00000000 000f4240 00000000 0000c350"))
	f.Add(wire(f, "20 c4 03 1a"+upPacket[11:]+"0102"))
	f.Fuzz(func(t *testing.T, b []byte) {
		p, why := decode(b)
		if why != accepted {
			if p != (packet{}) {
				t.Errorf("a discarded packet has contents: %+v", p)
			}
			return
		}
		again := encoded(p)
		if b[3] == packetLen && !bytes.Equal(again, b[:packetLen]) {
			t.Errorf("%x encoded again: %x", b, again)
		}
		if q, why := decode(again); why != accepted || q != p {
			t.Errorf("%+v decoded again: %+v (%s)", p, q, why)
		}
	})
}
