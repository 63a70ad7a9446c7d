//go:build guarded

package bgp

import (
	"fmt"
	"net"
	"testing"
	"time"

	wire "github.com/osrg/gobgp/v3/pkg/packet/bgp"
)

// unread is how long the router is busy with something else, a small part of what
// the node waits for it.
const unread = 50 * time.Millisecond

// TestCeaseArrives removes a session with a router that sends all the time and
// reads later. Its writes do not fail before it has read that the session was
// ended: a router that has them fail first, as BIRD does, keeps the routes.
func TestCeaseArrives(t *testing.T) {
	for range 5 {
		n, r := newNode(t), newTor(t, "127.0.0.2", 65001)
		n.with(peer("a", r))
		var conn net.Conn
		eventually(t, "established", func() bool {
			conn = dial(t, r, n.port)
			return conn != nil
		})
		defer conn.Close()
		eventually(t, "established here", func() bool { return n.session("a").Established() })

		n.config.Peers = nil
		n.configure()
		for begin := time.Now(); time.Since(begin) < unread; {
			if _, err := conn.Write(encode(wire.NewBGPKeepAliveMessage())); err != nil {
				t.Fatalf("the session ended before the router had read why: %v", err)
			}
		}
		for ceased := false; !ceased; {
			message, err := read(conn, &wire.MarshallingOption{})
			if err != nil {
				t.Fatalf("the session ended without a NOTIFICATION: %v", err)
			}
			ceased = message.Header.Type == wire.BGP_MSG_NOTIFICATION
		}
		conn.Close()
	}
}

// dial opens a session, nil if the node is not ready for one.
func dial(t *testing.T, r *tor, port int) net.Conn {
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: r.address.AsSlice()}}
	conn, err := d.DialContext(t.Context(), "tcp", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		return nil
	}
	for _, m := range []*wire.BGPMessage{
		wire.NewBGPOpenMessage(wire.AS_TRANS, 90, r.address.String(), r.capabilities()), wire.NewBGPKeepAliveMessage(),
	} {
		if _, err := conn.Write(encode(m)); err != nil {
			conn.Close()
			return nil
		}
	}
	for {
		switch m, err := read(conn, &wire.MarshallingOption{}); {
		case err != nil:
			conn.Close()
			return nil
		case m.Header.Type == wire.BGP_MSG_KEEPALIVE:
			return conn
		}
	}
}
