package kubeproxy

import (
	"bufio"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// wait is how long a packet may take that is not lost.
const wait = 10 * time.Second

// node is the addresses of a node in one family: of a client, of a pod that
// kube-proxy leads to and of one that our rules lead to.
type node struct {
	family
	client, theirs, ours string
	bits, route          string
}

func nodes() []node {
	f := families()
	return []node{
		{f[0], "10.0.0.9", "10.0.0.1:8080", "10.0.0.2:8080", "/32", "10.96.0.0/24"},
		{f[1], "fd01::9", "[fd01::1]:8080", "[fd01::2]:8080", "/128", "fd00::/64"},
	}
}

// rules are those of a caller: the same Service, another pod.
func (n node) rules() string {
	return fmt.Sprintf(`table %[1]s ours {
	chain output { type nat hook output priority -105; %[1]s daddr %[2]s tcp dport 80 dnat to %[3]s; }
	chain postrouting { type nat hook postrouting priority 95; }
}
`, n.nft, n.clusterIP, n.ours)
}

// TestConnections has a connection to a Service that was made by kube-proxy's
// rules, and others that are being made when Remove removes these.
func TestConnections(t *testing.T) {
	loopback(t)
	for _, n := range nodes() {
		for _, mode := range []struct {
			name    string
			program func(t *testing.T)
		}{
			{"nftables", func(t *testing.T) { nft(t, n.nftables()) }},
			{"iptables-nft", func(t *testing.T) { restore(t, n.program+"-nft", n.iptables()) }},
			{"iptables-legacy", func(t *testing.T) { restore(t, n.program+"-legacy", n.iptables()) }},
		} {
			t.Run(mode.name+" "+n.Family.String(), func(t *testing.T) {
				clean(t)
				n.setUp(t)
				mode.program(t)
				old := n.dial(t)
				defer old.Close()
				before := who(t, old)
				if !strings.HasPrefix(before, n.theirs+" sees ") || strings.HasSuffix(before, " "+n.client) {
					t.Fatalf("kube-proxy's rules lead to %q, without masquerading", before)
				}
				nft(t, n.rules())

				stop, answers, done := make(chan struct{}), make(chan string), make(chan struct{})
				go func() {
					defer close(done)
					n.connect(stop, answers)
				}()
				<-answers
				err := Remove(t.Context(), Config{})
				for range 5 {
					if a := <-answers; !strings.HasPrefix(a, n.ours+" sees ") {
						t.Errorf("a connection meanwhile or later: %s", a)
					}
				}
				close(stop)
				<-done
				if err != nil {
					t.Error(err)
				}
				for range 3 {
					if after := who(t, old); after != before {
						t.Errorf("the connection from before leads to %q, and led to %q", after, before)
					}
				}
			})
		}
	}
}

// connect makes connections until it is told to stop, and tells the answer of
// each.
func (n node) connect(stop <-chan struct{}, answers chan<- string) {
	for {
		answer := func() string {
			conn, err := n.dialer().Dial("tcp", net.JoinHostPort(n.clusterIP, "80"))
			if err != nil {
				return err.Error()
			}
			defer conn.Close()
			a, err := exchange(conn)
			if err != nil {
				return err.Error()
			}
			return a
		}()
		select {
		case answers <- answer:
		case <-stop:
			return
		}
	}
}

func (n node) dialer() *net.Dialer {
	return &net.Dialer{Timeout: wait, LocalAddr: &net.TCPAddr{IP: net.ParseIP(n.client)}}
}

func (n node) dial(t *testing.T) net.Conn {
	t.Helper()
	conn, err := n.dialer().Dial("tcp", net.JoinHostPort(n.clusterIP, "80"))
	if err != nil {
		t.Fatal(err)
	}
	return conn
}

func who(t *testing.T, conn net.Conn) string {
	t.Helper()
	answer, err := exchange(conn)
	if err != nil {
		t.Fatal(err)
	}
	return answer
}

// exchange asks a pod what it is, and whom it sees.
func exchange(conn net.Conn) (string, error) {
	if err := conn.SetDeadline(time.Now().Add(wait)); err != nil {
		return "", err
	}
	if _, err := fmt.Fprintln(conn, "who?"); err != nil {
		return "", err
	}
	answer, err := bufio.NewReader(conn).ReadString('\n')
	return strings.TrimSpace(answer), err
}

// setUp gives the node its addresses and pods, for one test.
func (n node) setUp(t *testing.T) {
	t.Helper()
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		t.Fatal(err)
	}
	theirs, _, _ := net.SplitHostPort(n.theirs)
	ours, _, _ := net.SplitHostPort(n.ours)
	for _, text := range []string{n.client, theirs, ours} {
		addr, err := netlink.ParseAddr(text + n.bits)
		if err != nil {
			t.Fatal(err)
		}
		addr.Flags = unix.IFA_F_NODAD // usable at once
		if err := netlink.AddrAdd(lo, addr); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := netlink.AddrDel(lo, addr); err != nil {
				t.Error(err)
			}
		})
	}
	// Without a route, nothing is sent that could be translated.
	prefix, err := netlink.ParseIPNet(n.route)
	if err != nil {
		t.Fatal(err)
	}
	route := &netlink.Route{LinkIndex: lo.Attrs().Index, Dst: prefix}
	if err := netlink.RouteAdd(route); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := netlink.RouteDel(route); err != nil {
			t.Error(err)
		}
	})
	for _, address := range []string{n.theirs, n.ours} {
		servePod(t, address)
	}
}

// servePod answers each line with the pod's address and the client's.
func servePod(t *testing.T, address string) {
	t.Helper()
	listener, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() { // until the client closes the connection
				defer conn.Close()
				for lines := bufio.NewScanner(conn); lines.Scan(); {
					host, _, _ := net.SplitHostPort(conn.RemoteAddr().String())
					if _, err := fmt.Fprintln(conn, address, "sees", host); err != nil {
						return
					}
				}
			}()
		}
	}()
	t.Cleanup(func() {
		if err := listener.Close(); err != nil {
			t.Error(err)
		}
		<-done
	})
}
