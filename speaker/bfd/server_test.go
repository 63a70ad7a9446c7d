package bfd

import (
	"errors"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

const (
	a4, b4 = "192.0.2.1", "192.0.2.2"
	a6, b6 = "2001:db8::1", "2001:db8::2"
)

// neighbors returns two hosts on one cable, with the links eth-a and eth-b.
func neighbors(t testing.TB) (a, b *host) {
	t.Helper()
	a, b = newHost(t), newHost(t)
	a.plug("eth-a", []string{a4 + "/24", a6 + "/64"}, b, "eth-b", []string{b4 + "/24", b6 + "/64"})
	return a, b
}

// pair starts both ends of a session and waits until they are Up.
func pair(t testing.TB, a *host, aKey Key, b *host, bKey Key, p Profile) {
	t.Helper()
	a.start(map[Key]Profile{aKey: over(p, aKey.Multihop)})
	b.start(map[Key]Profile{bKey: over(p, bKey.Multihop)})
	a.await(aKey, Up)
	b.await(bKey, Up)
}

func TestSessionComesUp(t *testing.T) {
	for _, c := range []struct {
		name string
		keys func(t *testing.T) (a *host, aKey Key, b *host, bKey Key)
	}{
		{"IPv4", func(t *testing.T) (*host, Key, *host, Key) {
			a, b := neighbors(t)
			return a, Key{Neighbor: addr(b4)}, b, Key{Neighbor: addr(a4)}
		}},
		{"IPv4 with local addresses", func(t *testing.T) (*host, Key, *host, Key) {
			a, b := neighbors(t)
			return a, Key{Neighbor: addr(b4), Local: addr(a4)}, b, Key{Neighbor: addr(a4), Local: addr(b4)}
		}},
		{"IPv6", func(t *testing.T) (*host, Key, *host, Key) {
			a, b := neighbors(t)
			return a, Key{Neighbor: addr(b6)}, b, Key{Neighbor: addr(a6), Local: addr(b6)}
		}},
		{"IPv6 link-local", func(t *testing.T) (*host, Key, *host, Key) {
			a, b := neighbors(t)
			aLL, bLL := a.linkLocal("eth-a"), b.linkLocal("eth-b")
			return a, Key{Neighbor: bLL.WithZone("eth-a")}, b, Key{Neighbor: aLL.WithZone("eth-b"), Local: bLL}
		}},
		{"IPv4 over two hops", func(t *testing.T) (*host, Key, *host, Key) {
			a, b := twoHops(t)
			return a, Key{Neighbor: addr("198.51.100.1"), Multihop: true}, b, Key{Neighbor: addr(a4), Multihop: true}
		}},
		{"IPv6 over two hops", func(t *testing.T) (*host, Key, *host, Key) {
			a, b := twoHops(t)
			return a, Key{Neighbor: addr("2001:db8:1::1"), Local: addr(a6), Multihop: true}, b, Key{Neighbor: addr(a6), Multihop: true}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			a, aKey, b, bKey := c.keys(t)
			pair(t, a, aKey, b, bKey, calm())
			for _, s := range []Session{a.session(aKey), b.session(bKey)} {
				if s.RemoteState != Up || s.DetectionTime != 2*time.Second || s.TransmitInterval != 100*time.Millisecond ||
					s.RemoteDiscriminator == 0 || s.Downs != 0 || s.SendError != "" {
					t.Errorf("session %#v", s)
				}
			}
			if got := a.metric("session_up", aKey.Neighbor.String()); got != 1 {
				t.Errorf("session_up %v", got)
			}
			// The neighbor ends in an orderly way: no path is lost.
			must(t, b.server.Close())
			if s := a.await(aKey, Down); s.RemoteState != AdminDown || s.Diagnostic != NeighborSignaledSessionDown ||
				s.RemoteDiagnostic != AdministrativelyDown {
				t.Errorf("after AdminDown: %#v", s)
			}
			throughout(t, "silence about an orderly end", time.Second, func() bool { return !a.lost() })
			if up, downs := a.metric("session_up", aKey.Neighbor.String()), a.metric("session_downs_total", ""); up != 0 || downs != 1 {
				t.Errorf("session_up %v, session_downs_total %v", up, downs)
			}
		})
	}
}

// twoHops returns two hosts with a router between them. a is as with neighbors.
func twoHops(t testing.TB) (a, b *host) {
	t.Helper()
	a, b = newHost(t), newHost(t)
	router := newHost(t)
	router.do(func() error {
		return errors.Join(sysctl("net/ipv4/ip_forward", "1"), sysctl("net/ipv6/conf/all/forwarding", "1"))
	})
	a.plug("eth-a", []string{a4 + "/24", a6 + "/64"}, router, "to-a", []string{"192.0.2.254/24", "2001:db8::fe/64"})
	b.plug("eth-b", []string{"198.51.100.1/24", "2001:db8:1::1/64"}, router, "to-b", []string{"198.51.100.254/24", "2001:db8:1::fe/64"})
	a.route("198.51.100.0/24", "192.0.2.254")
	a.route("2001:db8:1::/64", "2001:db8::fe")
	b.route("192.0.2.0/24", "198.51.100.254")
	b.route("2001:db8::/64", "2001:db8:1::fe")
	return a, b
}

func TestCutLinkIsLost(t *testing.T) {
	a, b := neighbors(t)
	aKey, bKey := Key{Neighbor: addr(b4)}, Key{Neighbor: addr(a4)}
	pair(t, a, aKey, b, bKey, fast())
	// A slower pair of links would tell the carrier; a silent path does not.
	b.cut("eth-b")
	begin := time.Now()
	eventually(t, "loss", a.lost)
	if took := time.Since(begin); took > 10*350*time.Millisecond {
		t.Errorf("loss found after %v", took)
	} else {
		t.Logf("loss found after %v", took)
	}
	if s := a.session(aKey); s.State != Down || s.Diagnostic != ControlDetectionTimeExpired || s.Downs != 1 || s.RemoteDiscriminator != 0 {
		t.Errorf("session %#v", s)
	}
	must(t, b.nl.LinkSetUp(b.link("eth-b")))
	a.await(aKey, Up)
}

// A path that works in one direction only: the end that still hears is told.
func TestNeighborHearsUsNoLonger(t *testing.T) {
	a, b := neighbors(t)
	aKey, bKey := Key{Neighbor: addr(b4)}, Key{Neighbor: addr(a4)}
	pair(t, a, aKey, b, bKey, fast())
	mute(t, a.server, aKey)
	eventually(t, "loss at both ends", func() bool { return a.lost() && b.lost() })
	if s := a.session(aKey); s.RemoteDiagnostic != ControlDetectionTimeExpired {
		t.Errorf("session %#v", s)
	}
}

// mute makes the neighbor of a session deaf: packets go where nobody listens.
func mute(t testing.TB, s *Server, key Key) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.engine.do(func() { s.sessions[key].to = &unix.SockaddrInet4{Addr: addr(key.Neighbor.String()).As4(), Port: 9} })
}

func TestPausedProcessLosesNobody(t *testing.T) {
	a, b := neighbors(t)
	aKey, bKey := Key{Neighbor: addr(b4)}, Key{Neighbor: addr(a4)}
	slow := fast()
	slow.DetectMult = 100 // the neighbor does not mind the pause
	a.start(map[Key]Profile{aKey: slow})
	quick := fast()
	quick.DetectMult = 10 // a detection time of one second
	b.start(map[Key]Profile{bKey: quick})
	a.await(aKey, Up)
	pause := make(chan struct{})
	for range 2 {
		sent := b.session(bKey).Sent
		paused := make(chan struct{})
		go func() {
			a.server.mu.Lock()
			defer a.server.mu.Unlock()
			a.server.engine.do(func() { close(paused); <-pause })
		}()
		<-paused
		// Each 75 ms after the one before at least, so that it is 1.1 s in all.
		eventually(t, "packets during the pause", func() bool { return b.session(bKey).Sent > sent+15 })
		pause <- struct{}{}
		throughout(t, "Up after the pause", 1500*time.Millisecond, func() bool { return a.session(aKey).State == Up })
	}
	if s := a.session(aKey); s.Downs != 0 || a.lost() {
		t.Errorf("session %#v", s)
	}
}

func TestSetIsADiff(t *testing.T) {
	a, b := neighbors(t)
	aKey, bKey, bKey6 := Key{Neighbor: addr(b4)}, Key{Neighbor: addr(a4)}, Key{Neighbor: addr(a6)}
	pair(t, a, aKey, b, bKey, calm())
	before := a.session(aKey)

	// Another session, of another family.
	a.set(map[Key]Profile{aKey: calm(), {Neighbor: addr(b6)}: calm()})
	b.set(map[Key]Profile{bKey: calm(), bKey6: calm()})
	a.await(Key{Neighbor: addr(b6)}, Up)

	// Another profile: negotiated at both ends without a change of state.
	slower := Profile{MinTx: 200 * time.Millisecond, MinRx: 150 * time.Millisecond, DetectMult: 30}
	a.set(map[Key]Profile{aKey: slower, {Neighbor: addr(b6)}: calm()})
	eventually(t, "new intervals", func() bool {
		s, r := a.session(aKey), b.session(bKey)
		return s.TransmitInterval == 200*time.Millisecond && s.DetectionTime == 3*time.Second &&
			r.TransmitInterval == 150*time.Millisecond && r.DetectionTime == 6*time.Second
	})

	// One session less: the neighbor of the other does not notice.
	a.set(map[Key]Profile{aKey: slower})
	if s := b.await(bKey6, Down); s.RemoteState != AdminDown {
		t.Errorf("neighbor of a removed session: %#v", s)
	}
	after := a.session(aKey)
	if after.Since != before.Since || after.LocalDiscriminator != before.LocalDiscriminator || after.Downs != 0 {
		t.Errorf("session before %#v, after %#v", before, after)
	}
	if a.lost() || b.lost() {
		t.Errorf("lost: %v %v", a.seen(), b.seen())
	}
	if got := a.metric("session_up", b6); got != 0 {
		t.Errorf("session_up of a removed session: %v", got)
	}
}

func TestPortsAreOpenOnlyWithSessions(t *testing.T) {
	h := newHost(t)
	lo := h.link("lo")
	must(t, h.nl.LinkSetUp(lo))
	free := func(k kind) bool {
		ok := false
		h.do(func() error {
			fd, err := listen(k)
			if err != nil {
				return nil //nolint:nilerr // the port is in use, which is the answer
			}
			ok = true
			return unix.Close(fd)
		})
		return ok
	}
	h.start(nil)
	single4 := Key{Neighbor: addr("127.0.0.2")}
	multi6 := Key{Neighbor: addr("2001:db8::7"), Multihop: true}
	for _, step := range []struct {
		want map[Key]Profile
		open map[kind]bool
	}{
		{nil, nil},
		{map[Key]Profile{single4: fast()}, map[kind]bool{{}: true}},
		{map[Key]Profile{single4: fast(), multi6: over(fast(), true)}, map[kind]bool{{}: true, {true, true}: true}},
		{map[Key]Profile{multi6: over(fast(), true)}, map[kind]bool{{true, true}: true}},
		{nil, nil},
	} {
		h.set(step.want)
		for _, k := range []kind{{}, {ipv6: true}, {multihop: true}, {true, true}} {
			if free(k) == step.open[k] {
				t.Errorf("with sessions %v: %+v open: %v", step.want, k, !step.open[k])
			}
		}
	}
}

func TestSetTellsWhatFailed(t *testing.T) {
	h := newHost(t)
	must(t, h.nl.LinkSetUp(h.link("lo")))
	h.start(nil)
	var other int
	h.do(func() (err error) { other, err = listen(kind{}); return err })

	good := Key{Neighbor: addr("127.0.0.2"), Multihop: true}
	wanted := map[Key]Profile{
		good:                          over(fast(), true),
		{Neighbor: addr("127.0.0.3")}: fast(),
		{Neighbor: addr("127.0.0.4"), Local: addr("203.0.113.9"), Multihop: true}: over(fast(), true),
		{Neighbor: addr("fe80::1%none")}:                                          fast(),
		{Neighbor: addr("fe80::1")}:                                               fast(),
		{Neighbor: addr("127.0.0.5"), Multihop: true}:                             fast(),
		{}: {},
	}
	set := func() (err error) { h.do(func() error { err = h.server.Set(wanted); return nil }); return err }
	err := set()
	texts := map[Key]string{}
	for _, e := range err.(interface{ Unwrap() []error }).Unwrap() {
		var session *SessionError
		if !errors.As(e, &session) {
			t.Fatalf("error %v", e)
		}
		texts[session.Key] = e.Error()
	}
	if len(texts) != len(wanted)-1 || texts[good] != "" {
		t.Errorf("errors %q", texts)
	}
	if !errors.Is(err, unix.EADDRINUSE) || !errors.Is(err, unix.EADDRNOTAVAIL) {
		t.Errorf("error %v", err)
	}
	for _, text := range texts {
		t.Log(text)
	}
	if got := h.server.Sessions(); len(got) != 1 || got[0].Key != good {
		t.Errorf("sessions %+v", got)
	}

	must(t, unix.Close(other))
	if err := set(); errors.Is(err, unix.EADDRINUSE) || len(h.server.Sessions()) != 2 {
		t.Errorf("once the port is free: %v, sessions %+v", err, h.server.Sessions())
	}
}

func TestCloseTwiceAndWithoutSessions(t *testing.T) {
	h := newHost(t)
	h.start(nil)
	must(t, h.server.Close())
	must(t, h.server.Close())
	if err := h.server.Set(map[Key]Profile{{Neighbor: netip.MustParseAddr("127.0.0.2")}: fast()}); !errors.Is(err, ErrClosed) {
		t.Errorf("Set of a closed server: %v", err)
	}
	if got := h.server.Sessions(); got != nil {
		t.Errorf("sessions of a closed server: %v", got)
	}
}
