package bgp

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"sync/atomic"
	"testing"

	wire "github.com/osrg/gobgp/v3/pkg/packet/bgp"

	"github.com/fairway-lb/fairway/speaker/plan"
)

// counter is a router that only counts what it is sent.
type counter struct {
	*tor
	messages, reached, withdrawn atomic.Int64
}

// count reads the UPDATEs of a session for IPv4 without ADD-PATH until it ends.
func (c *counter) count(port int) error {
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: c.address.AsSlice()}}
	conn, err := d.DialContext(c.t.Context(), "tcp", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		return err
	}
	defer conn.Close()
	for _, m := range []*wire.BGPMessage{
		wire.NewBGPOpenMessage(wire.AS_TRANS, 90, c.address.String(), c.capabilities()), wire.NewBGPKeepAliveMessage(),
	} {
		if _, err := conn.Write(encode(m)); err != nil {
			return err
		}
	}
	message := make([]byte, wire.BGP_MAX_MESSAGE_LENGTH)
	for {
		if _, err := io.ReadFull(conn, message[:wire.BGP_HEADER_LENGTH]); err != nil {
			return err
		}
		body := message[wire.BGP_HEADER_LENGTH:binary.BigEndian.Uint16(message[16:])]
		if _, err := io.ReadFull(conn, body); err != nil {
			return err
		}
		if message[18] != wire.BGP_MSG_UPDATE {
			continue
		}
		withdrawn := binary.BigEndian.Uint16(body)
		attributes := binary.BigEndian.Uint16(body[2+withdrawn:])
		c.messages.Add(1)
		c.withdrawn.Add(prefixes(body[2 : 2+withdrawn]))
		c.reached.Add(prefixes(body[4+withdrawn+attributes:]))
	}
}

// prefixes counts the prefixes in a field of an UPDATE (RFC 4271, 4.3).
func prefixes(field []byte) (n int64) {
	for ; len(field) > 0; n++ {
		field = field[1+(field[0]+7)/8:]
	}
	return n
}

// BenchmarkAnnounce10000 announces 10,000 routes to two neighbors and withdraws
// them. Most of it is GoBGP's work.
func BenchmarkAnnounce10000(b *testing.B) {
	const routes = 10_000
	n := newNode(b)
	var counters []*counter
	for _, address := range []string{"127.0.0.2", "127.0.0.3"} {
		c := &counter{tor: newTor(b, address, 65001)}
		c.v6, c.gracefulRestart = false, false
		n.with(peer(address, c.tor))
		ended := make(chan error, 1)
		go func() { ended <- c.count(n.port) }()
		b.Cleanup(func() { <-ended })
		counters = append(counters, c)
		eventually(b, address+" established", func() bool { return n.session(address).Established() })
	}
	announced, withdrawn := make(map[netip.Prefix]*plan.Route), make(map[netip.Prefix]*plan.Route)
	for addr := netip.MustParseAddr("10.0.0.0"); len(announced) < routes; addr = addr.Next() {
		prefix := netip.PrefixFrom(addr, addr.BitLen())
		announced[prefix], withdrawn[prefix] = &plan.Route{Prefix: prefix, AllPeers: true}, nil
	}
	total := int64(0)
	change := func(what string, routes map[netip.Prefix]*plan.Route, sent func(*counter) int64) {
		if err := n.Announce(routes); err != nil {
			b.Fatal(err)
		}
		eventually(b, what, func() bool {
			return !slices.ContainsFunc(counters, func(c *counter) bool { return sent(c) < total })
		})
	}
	for b.Loop() {
		total += routes
		change("announced", announced, func(c *counter) int64 { return c.reached.Load() })
		change("withdrawn", withdrawn, func(c *counter) int64 { return c.withdrawn.Load() })
	}
	b.ReportMetric(float64(counters[0].messages.Load())/float64(b.N), "UPDATEs/op")
	n.config.Peers = nil
	n.configure()
}
