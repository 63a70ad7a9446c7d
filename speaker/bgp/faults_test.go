package bgp

import (
	"bytes"
	"errors"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	wire "github.com/osrg/gobgp/v3/pkg/packet/bgp"
	"golang.org/x/sys/unix"

	"github.com/fairway-lb/fairway/speaker/bfd"
)

// active is a session that the node opens.
func active(name string, r *tor, port uint16) Peer {
	p := peer(name, r)
	p.Passive, p.Port, p.ConnectRetry = false, port, time.Second
	return p
}

// Why a session does not come up is told, and the others are not touched.
func TestReasons(t *testing.T) {
	n := newNode(t)
	good := newTor(t, "127.0.0.2", 65001)
	n.with(peer("good", good))
	good.connect(n.port)
	eventually(t, "the good session", func() bool { return n.session("good").Established() })
	since := n.session("good").Since

	wrongAS := newTor(t, "127.0.0.3", 65009)
	asOther := active("as", wrongAS, wrongAS.listen())
	asOther.AS = 65001
	refused := active("refused", newTor(t, "127.0.0.4", 65001), uint16(freePort(t)))
	silent := newTor(t, "127.0.0.5", 65001)
	closes := active("closes", newTor(t, "127.0.0.6", 65001), closing(t, "127.0.0.6:0", nil))
	says := active("says", newTor(t, "127.0.0.7", 65001), closing(t, "127.0.0.7:0",
		encode(wire.NewBGPNotificationMessage(wire.BGP_ERROR_OPEN_MESSAGE_ERROR, wire.BGP_ERROR_SUB_BAD_PEER_AS, nil))))
	password := active("password", silent, secured(t, "127.0.0.5:0", "other"))
	password.Password = "secret"
	n.with(asOther, refused, closes, says, password)
	for name, want := range map[string]string{
		"as":       "the neighbor's AS is 65009, expected 65001",
		"refused":  "connection refused",
		"closes":   "closed the connection without a word",
		"says":     "refused the session: most often it expects another AS number",
		"password": "password",
	} {
		eventually(t, name+": "+want, func() bool { return strings.Contains(n.session(name).Reason, want) })
		if s := n.session(name); s.Established() || s.Flaps != 0 || !s.Since.IsZero() {
			t.Errorf("%s: %+v", name, s)
		}
	}
	if s := n.session("good"); s.Since != since || s.Reason != "" {
		t.Errorf("the good session: %+v", s)
	}
}

// closing accepts connections, says something and closes them.
func closing(t *testing.T, address string, say []byte) uint16 {
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			if _, err := read(conn, nil); err == nil {
				conn.Write(say)
			}
			conn.Close()
		}
	}()
	t.Cleanup(func() { l.Close(); <-done })
	return uint16(l.Addr().(*net.TCPAddr).Port)
}

// secured listens with a TCP MD5 password (RFC 2385), which needs root.
func secured(t *testing.T, address, password string) uint16 {
	l, err := net.Listen("tcp4", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	raw, err := l.(*net.TCPListener).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	sig := unix.TCPMD5Sig{Keylen: uint16(len(password))}
	copy(sig.Key[:], password)
	sig.Addr.Family = unix.AF_INET
	copy(sig.Addr.Data[2:], []byte{127, 0, 0, 1})
	var setErr error
	if err := raw.Control(func(fd uintptr) {
		setErr = unix.SetsockoptTCPMD5Sig(int(fd), unix.IPPROTO_TCP, unix.TCP_MD5SIG, &sig)
	}); err != nil || setErr != nil {
		t.Fatal(err, setErr)
	}
	return uint16(l.Addr().(*net.TCPAddr).Port)
}

// Why a session was lost is told in the neighbor's words.
func TestReasonsOfLoss(t *testing.T) {
	for _, test := range []struct {
		name string
		do   func(r *tor)
		want string
	}{
		{"reset", func(r *tor) { r.hangUp() }, "closed or reset by the neighbor"},
		{"shutdown with a word", func(r *tor) {
			r.send(encode(wire.NewBGPNotificationMessage(wire.BGP_ERROR_CEASE, wire.BGP_ERROR_SUB_ADMINISTRATIVE_SHUTDOWN,
				append([]byte{11}, "maintenance"...))))
		}, `the neighbor closed the session: Cease/Administrative Shutdown: "maintenance"`},
		{"hold timer", func(r *tor) {
			r.send(encode(wire.NewBGPNotificationMessage(wire.BGP_ERROR_HOLD_TIMER_EXPIRED, 0, nil)))
		}, "the neighbor closed the session: Hold Timer Expired"},
		{"malformed", func(r *tor) { r.send(bytes.Repeat([]byte{0xff}, 16), []byte{0, 5, 1}) }, "malformed"},
	} {
		t.Run(test.name, func(t *testing.T) {
			n, r := newNode(t), newTor(t, "127.0.0.2", 65001)
			n.with(peer("a", r))
			r.connect(n.port)
			eventually(t, "session", func() bool { return n.session("a").Established() && r.established() })
			test.do(r)
			eventually(t, "loss", func() bool { return n.session("a").Flaps == 1 })
			if s := n.session("a"); s.State != established && !strings.Contains(s.Reason, test.want) {
				t.Errorf("reason %q, want %q", s.Reason, test.want)
			}
		})
	}
}

// A neighbor that flaps gets the routes each time, and nobody else notices.
func TestFlappingNeighbor(t *testing.T) {
	n, good, bad := newNode(t), newTor(t, "127.0.0.2", 65001), newTor(t, "127.0.0.3", 65002)
	n.with(peer("good", good), peer("bad", bad))
	n.announce(route("192.0.2.1/32"))
	good.connect(n.port)
	bad.connect(n.port)
	eventually(t, "both", func() bool { return good.count() == 1 && bad.count() == 1 && good.markers() >= 2 })
	updates, _ := good.saw()
	for i := range 3 {
		n.change("bad", func(p *Peer) { p.AllowOwnAS++ })
		eventually(t, "again", func() bool { return bad.sessions() == i+2 && n.session("bad").Established() })
		bad.hangUp()
		eventually(t, "lost", func() bool { return n.session("bad").Flaps > 0 })
		n.announce(routeTo("192.0.2.7/32", "bad")) // while it is down
	}
	if after, _ := good.saw(); after != updates || n.session("good").Flaps != 0 {
		t.Errorf("the good neighbor got %d more UPDATEs", after-updates)
	}
}

// A path that BFD has lost takes the session with it at once, and only then.
func TestPathLost(t *testing.T) {
	n, r := newNode(t), newTor(t, "127.0.0.2", 65001)
	p := peer("a", r)
	p.BFD = &bfd.Profile{MinTx: 300 * time.Millisecond, MinRx: 300 * time.Millisecond, DetectMult: 3}
	n.with(p)
	r.connect(n.port)
	eventually(t, "session", func() bool { return n.session("a").Established() && r.established() })
	key := bfd.Key{Neighbor: r.address}
	n.pathChanged(bfd.Event{Key: key, State: bfd.Down})
	n.pathChanged(bfd.Event{Key: bfd.Key{Neighbor: r.address, Multihop: true}, State: bfd.Down, Lost: true})
	if s := n.session("a"); s.Flaps != 0 || !s.Established() {
		t.Fatalf("session %+v", s)
	}
	n.pathChanged(bfd.Event{Key: key, State: bfd.Down, Diagnostic: bfd.ControlDetectionTimeExpired, Lost: true})
	if s := n.session("a"); s.Flaps != 1 || !strings.Contains(s.Reason, "BFD") || !strings.Contains(s.Reason, "Detection Time Expired") {
		t.Errorf("session %+v", s)
	}
	eventually(t, "a new session", func() bool { return r.sessions() == 2 && n.session("a").Established() })
	if _, preserved := r.restarting(); !preserved {
		t.Error("forwarding not said to be preserved")
	}
	n.Leave()
	n.pathChanged(bfd.Event{Key: key, State: bfd.Down, Lost: true})
	if s := n.session("a"); s.Flaps != 1 {
		t.Error("a session was ended while leaving")
	}
}

// What keeps a BFD session from being there is told of its BgpPeer, in words that
// name the field; the router and the other sessions have nothing to do with it.
func TestBFDErrors(t *testing.T) {
	busy, err := net.ListenUDP("udp6", &net.UDPAddr{IP: net.IPv6unspecified, Port: 3784})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { busy.Close() })
	n := newNode(t)
	watched := func(name, address string, change func(p *Peer)) Peer {
		p := peer(name, newTor(t, address, 65001))
		p.BFD = &bfd.Profile{MinTx: 300 * time.Millisecond, MinRx: 300 * time.Millisecond, DetectMult: 3}
		change(&p)
		return p
	}
	n.config.Peers = []Peer{
		watched("fine", "127.0.0.2", func(*Peer) {}),
		watched("hops", "169.254.0.1", func(p *Peer) { p.BFD.Multihop = true }),
		watched("local", "127.0.0.3", func(p *Peer) { p.LocalAddress = netip.MustParseAddr("192.0.2.99") }),
		watched("port", "fd00::2", func(*Peer) {}),
		watched("zone", "fe80::1%nosuch0", func(*Peer) {}),
	}
	want := map[string][]string{
		"hops":  {"spec.bfd.multihop", "link-local", "remove it"},
		"local": {"spec.transport.localAddress 192.0.2.99", "on no interface", "leave it out"},
		"port":  {"spec.bfd", "3784", "stop the other BFD daemon", "remove spec.bfd"},
		"zone":  {"spec.conf.neighborAddress", "nosuch0", "an interface that the node has"},
	}
	got := make(map[string]string)
	for _, failed := range leaves(n.Configure(t.Context(), n.config)) {
		if of, ok := failed.(*PeerError); ok {
			got[of.Name] += of.Err.Error() + "\n"
		} else {
			t.Errorf("an error of the whole router: %v", failed)
		}
	}
	for name, text := range got {
		for _, part := range want[name] {
			if !strings.Contains(text, part) {
				t.Errorf("%s: %q, want it to say %q", name, text, part)
			}
		}
	}
	if len(got) != len(want) {
		t.Errorf("errors %q, want one of each of %v", got, slices.Sorted(maps.Keys(want)))
	}
	if s := n.session("fine"); s.BFD == nil {
		t.Errorf("the session that nothing is wrong with: %+v", s)
	}
	if err := n.bfd.Close(); err != nil {
		t.Fatal(err)
	}
	n.config.Peers = n.config.Peers[:1]
	for _, failed := range leaves(n.Configure(t.Context(), n.config)) {
		if _, ok := failed.(*PeerError); ok || !errors.Is(failed, bfd.ErrClosed) {
			t.Errorf("an error of one session: %v", failed)
		}
	}
}

// leaves takes joined errors apart.
func leaves(err error) []error {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		var all []error
		for _, part := range joined.Unwrap() {
			all = append(all, leaves(part)...)
		}
		return all
	}
	return []error{err}
}
