package ipvs

import (
	"bufio"
	"fmt"
	"net"
	"net/netip"
	"testing"
	"time"
)

// serveEcho answers each line at an address of the node with itself.
func serveEcho(t testing.TB, at netip.AddrPort) netip.AddrPort {
	listener, err := net.Listen("tcp", at.String())
	must(t, err)
	t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				for r := bufio.NewReader(conn); ; {
					line, err := r.ReadString('\n')
					if err != nil {
						conn.Close()
						return
					}
					fmt.Fprint(conn, line)
				}
			}()
		}
	}()
	return at
}

// held is a connection that is open while endpoints come and go.
type held struct {
	t    testing.TB
	conn net.Conn
}

func hold(t testing.TB, at netip.AddrPort) *held {
	conn, err := net.DialTimeout("tcp", at.String(), 10*time.Second)
	must(t, err)
	t.Cleanup(func() { conn.Close() })
	return &held{t, conn}
}

// echoes checks that the connection is alive.
func (h *held) echoes(what string) {
	h.t.Helper()
	must(h.t, h.conn.SetDeadline(time.Now().Add(10*time.Second)))
	_, err := fmt.Fprintln(h.conn, what)
	must(h.t, err)
	got, err := bufio.NewReader(h.conn).ReadString('\n')
	if err != nil || got != what+"\n" {
		h.t.Fatalf("%s: a connection that is open got %q, %v", what, got, err)
	}
}

// reset ends the connection for IPVS too, but for ten seconds.
func (h *held) reset() {
	must(h.t, h.conn.(*net.TCPConn).SetLinger(0))
	must(h.t, h.conn.Close())
}
