package bfd

import (
	"errors"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// A sender sends what a test wants to the BFD ports of others, with any TTL.
type sender struct {
	t  testing.TB
	fd int
}

func (h *host) sender(from netip.Addr) *sender {
	h.t.Helper()
	s := &sender{t: h.t}
	h.do(func() (err error) {
		s.fd, err = dial(Key{Neighbor: from, Local: from}, 0)
		return err
	})
	h.t.Cleanup(func() { _ = unix.Close(s.fd) })
	return s
}

func (s *sender) send(payload []byte, to netip.Addr, k kind, ttl int) {
	s.t.Helper()
	level, name := unix.IPPROTO_IP, unix.IP_TTL
	if k.ipv6 {
		level, name = unix.IPPROTO_IPV6, unix.IPV6_UNICAST_HOPS
	}
	must(s.t, unix.SetsockoptInt(s.fd, level, name, ttl))
	must(s.t, unix.Sendto(s.fd, payload, 0, sockaddr(to, k.port(), 0, k)))
}

func downPacket() packet {
	return packet{state: Down, detectMult: 3, myDiscriminator: 77, desiredMinTx: time.Second, requiredMinRx: time.Second}
}

// RFC 5881, 5, and RFC 5883: how far a packet may have come.
func TestTTL(t *testing.T) {
	atLeast := func(ttl uint8) Profile { p := over(fast(), true); p.MinTTL = ttl; return p }
	for _, c := range []struct {
		name     string
		from, to string
		profile  Profile
		good     []int
		bad      []int
	}{
		{"IPv4", b4, a4, fast(), []int{255}, []int{254, 1}},
		{"IPv6", b6, a6, fast(), []int{255}, []int{254, 1}},
		{"IPv4 over several hops", b4, a4, atLeast(250), []int{255, 250}, []int{249, 1}},
		{"IPv6 over several hops", b6, a6, atLeast(250), []int{255, 250}, []int{249, 1}},
		{"IPv4 over any number of hops", b4, a4, atLeast(0), []int{255, 1}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			a, b := neighbors(t)
			key := Key{Neighbor: addr(c.from), Multihop: c.profile.Multihop}
			a.start(map[Key]Profile{key: c.profile})
			s := b.sender(addr(c.from))
			for i, ttl := range c.bad {
				s.send(encoded(downPacket()), addr(c.to), key.kind(), ttl)
				eventually(t, "discard", func() bool { return a.metric("packets_discarded_total", string(badTTL)) == float64(i+1) })
			}
			if got := a.session(key); got.State != Down || got.Received != 0 || got.Discarded != uint64(len(c.bad)) {
				t.Errorf("after packets from too far away: %+v", got)
			}
			for i, ttl := range c.good {
				s.send(encoded(downPacket()), addr(c.to), key.kind(), ttl)
				eventually(t, "reception", func() bool { return a.session(key).Received == uint64(i+1) })
			}
			a.await(key, Init)
		})
	}
}

// A packet without Your Discriminator is for who its addresses say, one with it
// for whom that says.
func TestDemultiplexing(t *testing.T) {
	a, b := neighbors(t)
	for _, more := range []struct {
		h    *host
		link string
		addr string
	}{{a, "eth-a", "192.0.2.11/24"}, {b, "eth-b", "192.0.2.12/24"}} {
		parsed, err := netlink.ParseAddr(more.addr)
		must(t, err)
		must(t, more.h.nl.AddrAdd(more.h.link(more.link), parsed))
	}
	anyLocal := Key{Neighbor: addr(b4)}
	local := Key{Neighbor: addr(b4), Local: addr("192.0.2.11")}
	other := Key{Neighbor: addr("192.0.2.12")}
	multi := Key{Neighbor: addr(b4), Multihop: true}
	sessions := map[Key]Profile{anyLocal: fast(), local: fast(), other: fast(), multi: over(fast(), true)}
	a.start(sessions)
	fromB, fromOther := b.sender(addr(b4)), b.sender(addr("192.0.2.12"))
	received := map[Key]uint64{}
	for _, c := range []struct {
		name string
		from *sender
		to   string
		kind kind
		your Key // whose discriminator it has; the zero value: none
		for_ Key
	}{
		{"by neighbor", fromB, a4, kind{}, Key{}, anyLocal},
		{"by both addresses", fromB, "192.0.2.11", kind{}, Key{}, local},
		{"by the other neighbor", fromOther, "192.0.2.11", kind{}, Key{}, other},
		{"by port", fromB, a4, kind{multihop: true}, Key{}, multi},
		{"by discriminator", fromOther, a4, kind{}, local, local},
		{"by discriminator on the wrong port", fromB, a4, kind{multihop: true}, local, Key{}},
	} {
		p := downPacket()
		if c.your != (Key{}) {
			p.yourDiscriminator = a.session(c.your).LocalDiscriminator
		}
		c.from.send(encoded(p), addr(c.to), c.kind, maxTTL)
		if c.for_ == (Key{}) {
			eventually(t, c.name+": discard", func() bool { return a.metric("packets_discarded_total", string(noSession)) == 1 })
		} else {
			received[c.for_]++
			eventually(t, c.name, func() bool { return a.session(c.for_).Received == received[c.for_] })
		}
		for key := range sessions {
			if got := a.session(key).Received; got != received[key] {
				t.Errorf("%s: session with %v received %d packets, want %d", c.name, key, got, received[key])
			}
		}
	}
}

// Whoever can send to the port can waste its time, and no more.
func TestGarbageIsHarmless(t *testing.T) {
	a, b := neighbors(t)
	aKey, bKey := Key{Neighbor: addr(b4)}, Key{Neighbor: addr(a4)}
	pair(t, a, aKey, b, bKey, calm())
	s := b.sender(addr(b4))
	random := rand.New(rand.NewPCG(5, 6))
	stranger := newHost(t)
	stranger.plug("eth-s", []string{"203.0.113.2/24"}, a, "eth-t", []string{"203.0.113.1/24"})
	far := stranger.sender(addr("203.0.113.2"))
	good := encoded(packet{state: Down, detectMult: 1, myDiscriminator: 1, desiredMinTx: time.Second})
	discarded := func() (sum float64) {
		for _, why := range []discard{
			badVersion, badLength, badDetectMult, badMultipoint, badMyDiscriminator, badYourDiscriminator, badAuthentication, noSession,
		} {
			sum += a.metric("packets_discarded_total", string(why))
		}
		return sum
	}
	const rounds, burst = 50, 100 // a burst fits into the queue, beside what is good
	for round := range rounds {
		for range burst {
			junk := make([]byte, random.IntN(600))
			for i := range junk {
				junk[i] = byte(random.Uint32())
			}
			if len(junk) > 4 && random.IntN(2) == 0 {
				junk[0], junk[3] = version<<5, byte(len(junk)) // and the rest at random
			}
			s.send(junk, addr(a4), kind{}, maxTTL)
			far.send(good, addr("203.0.113.1"), kind{}, maxTTL)
		}
		eventually(t, "discards", func() bool { return discarded() == float64((round+1)*2*burst) })
	}
	if got := a.session(aKey); got.State != Up || got.Downs != 0 || a.lost() {
		t.Errorf("session %v, events %v", got, a.seen())
	}
}

// A flood that is always faster than the reader stops neither sending nor the clock.
func TestFloodDoesNotStopTheClock(t *testing.T) {
	a, b := neighbors(t)
	aKey, bKey := Key{Neighbor: addr(b4)}, Key{Neighbor: addr(a4)}
	patient := fast()
	patient.DetectMult = 50
	a.start(map[Key]Profile{aKey: fast()})
	b.start(map[Key]Profile{bKey: patient})
	eventually(t, "Up", func() bool { return a.session(aKey).State == Up })
	stop := make(chan struct{})
	var flood sync.WaitGroup
	defer flood.Wait()
	defer close(stop)
	s := b.sender(addr(b4))
	for range 2 {
		flood.Go(func() {
			to := sockaddr(addr(a4), singleHopPort, 0, kind{})
			for {
				select {
				case <-stop:
					return
				default:
				}
				if err := unix.Sendto(s.fd, []byte{1}, 0, to); err != nil && !errors.Is(err, unix.EAGAIN) {
					t.Errorf("flood: %v", err)
					return
				}
			}
		})
	}
	sent := a.session(aKey).Sent
	eventually(t, "packets sent during the flood", func() bool { return a.session(aKey).Sent > sent+20 })
	mute(t, b.server, bKey)
	eventually(t, "loss during the flood", a.lost)
}

func TestPacketsOnTheWire(t *testing.T) {
	for _, c := range []struct{ neighbor, local string }{{b4, a4}, {b6, a6}} {
		a, b := neighbors(t)
		key := Key{Neighbor: addr(c.neighbor)}
		var fd int
		b.do(func() (err error) {
			if fd, err = listen(key.kind()); err != nil {
				return err
			}
			if key.kind().ipv6 {
				return unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_RECVTCLASS, 1)
			}
			return unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_RECVTOS, 1)
		})
		t.Cleanup(func() { _ = unix.Close(fd) })
		a.start(map[Key]Profile{key: fast()})
		data, control := make([]byte, 100), make([]byte, 512)
		var n, oobn int
		var from unix.Sockaddr
		eventually(t, "packet", func() (ok bool) {
			var err error
			n, oobn, _, from, err = unix.Recvmsg(fd, data, control, unix.MSG_DONTWAIT)
			return err == nil
		})
		if p, why := decode(data[:n]); why != accepted || n != packetLen || p.state != Down {
			t.Errorf("packet %+v of %d bytes (%s)", p, n, why)
		}
		var source netip.AddrPort
		switch sa := from.(type) {
		case *unix.SockaddrInet4:
			source = netip.AddrPortFrom(netip.AddrFrom4(sa.Addr), uint16(sa.Port))
		case *unix.SockaddrInet6:
			source = netip.AddrPortFrom(netip.AddrFrom16(sa.Addr), uint16(sa.Port))
		}
		if source.Addr() != addr(c.local) || source.Port() < firstSourcePort {
			t.Errorf("from %v", source)
		}
		messages, err := unix.ParseSocketControlMessage(control[:oobn])
		must(t, err)
		values := map[[2]int32]byte{}
		for _, m := range messages {
			values[[2]int32{m.Header.Level, m.Header.Type}] = m.Data[0]
		}
		ttl, class := [2]int32{unix.IPPROTO_IP, unix.IP_TTL}, [2]int32{unix.IPPROTO_IP, unix.IP_TOS}
		if key.kind().ipv6 {
			ttl, class = [2]int32{unix.IPPROTO_IPV6, unix.IPV6_HOPLIMIT}, [2]int32{unix.IPPROTO_IPV6, unix.IPV6_TCLASS}
		}
		if values[ttl] != 255 || values[class] != 0xc0 {
			t.Errorf("TTL %d, traffic class %#x", values[ttl], values[class])
		}
	}
}

// What roundLimit promises.
func TestQueueIsShorterThanARound(t *testing.T) {
	h := newHost(t)
	must(t, h.nl.LinkSetUp(h.link("lo")))
	var fd int
	h.do(func() (err error) { fd, err = listen(kind{}); return err })
	t.Cleanup(func() { _ = unix.Close(fd) })
	s := h.sender(addr("127.0.0.1"))
	for range 2 * roundLimit {
		s.send(nil, addr("127.0.0.1"), kind{}, maxTTL)
	}
	r := newReader()
	n := 0
	for {
		if _, err := r.read(fd); err != nil {
			break
		}
		n++
	}
	if n >= roundLimit {
		t.Errorf("the queue holds %d packets: a round of %d does not empty it", n, roundLimit)
	}
	t.Logf("the queue holds %d packets", n)
}

func TestNotifierMerges(t *testing.T) {
	one, two := Key{Neighbor: addr(a4)}, Key{Neighbor: addr(b4)}
	var got []Event
	begun, goOn := make(chan struct{}), make(chan struct{})
	n := newNotifier(func(e Event) { got = append(got, e); begun <- struct{}{}; <-goOn })
	ended := make(chan struct{})
	go func() { n.run(); close(ended) }()
	n.push(Event{Key: one, State: Up})
	<-begun
	for _, e := range []Event{
		{Key: two, State: Up}, {Key: one, State: Down, Lost: true}, {Key: one, State: Init}, {Key: one, State: Up},
		{Key: two, State: Down}, {Key: Key{Multihop: true}, Lost: true},
	} {
		n.push(e)
	}
	n.drop(Key{Multihop: true})
	for range 2 {
		goOn <- struct{}{}
		<-begun
	}
	close(n.stop)
	goOn <- struct{}{}
	<-ended
	want := []Event{{Key: one, State: Up}, {Key: one, State: Up, Lost: true}, {Key: two, State: Down}}
	for i := range max(len(want), len(got)) {
		if i >= len(want) || i >= len(got) || got[i] != want[i] {
			t.Fatalf("got %+v, want %+v", got, want)
		}
	}
}

func TestZoneIndex(t *testing.T) {
	lo, err := net.InterfaceByName("lo")
	must(t, err)
	for zone, want := range map[string]int{"lo": lo.Index, "17": 17, "": 0} {
		if got, err := zoneIndex(addr("fe80::1").WithZone(zone)); err != nil || got != want {
			t.Errorf("zone %q: %d, %v, want %d", zone, got, err, want)
		}
	}
	if _, err := zoneIndex(addr("fe80::1%none")); err == nil {
		t.Error("an interface that is not there has an index")
	}
}
