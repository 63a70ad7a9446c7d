package dataplanetest

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/fairway-lb/fairway/dataplane/conntrack"
	"github.com/fairway-lb/fairway/dataplane/service"
)

// echoPort is where a host gives back what it gets, for as long as one likes.
const echoPort = 8082

// echo has a host answer at echoPort, and hands over what it accepts.
func (l *Lab) echo(h *Host) <-chan *net.TCPConn {
	l.T.Helper()
	var listener *net.TCPListener
	must(l.T, onThread(h.handle, func() (err error) {
		listener, err = net.ListenTCP("tcp", &net.TCPAddr{Port: echoPort})
		return err
	}))
	accepted := make(chan *net.TCPConn, 100)
	l.T.Cleanup(func() { listener.Close() })
	go func() {
		for {
			c, err := listener.AcceptTCP()
			if err != nil {
				return
			}
			accepted <- c
			go func() {
				io.Copy(c, c)
				c.Close()
			}()
		}
	}()
	return accepted
}

// flow is a connection that goes on.
type flow struct {
	what string
	conn *net.TCPConn
}

// connect begins a flow.
func (h *Host) connect(to netip.AddrPort) (flow, error) {
	f := flow{what: fmt.Sprintf("%s -> %v", h.Name, to)}
	err := onThread(h.handle, func() error {
		d := net.Dialer{Timeout: patience}
		conn, err := d.Dial("tcp", to.String())
		if err == nil {
			f.conn = conn.(*net.TCPConn)
		}
		return err
	})
	return f, err
}

// ping has the other side give back a word.
func (f flow) ping() error {
	if err := f.conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	if _, err := f.conn.Write([]byte("ping")); err != nil {
		return err
	}
	var word [4]byte
	if _, err := io.ReadFull(f.conn, word[:]); err != nil {
		return err
	}
	if string(word[:]) != "ping" {
		return fmt.Errorf("got %q", word[:])
	}
	return nil
}

// way is from where to where somebody connects.
type way struct {
	from *Host
	to   netip.AddrPort
}

// ways lead to all kinds of frontends of a family, from all kinds of clients.
func (c *Scene) ways(family int) []way {
	return []way{
		{c.Pod3, netip.AddrPortFrom(c.ClusterIP()[family], 80)},
		{c.Node, netip.AddrPortFrom(c.ClusterIP()[family], 80)},
		{c.Client, netip.AddrPortFrom(c.VIP()[family], 80)},
		{c.Client, netip.AddrPortFrom(c.Node.Addrs[family], c.NodePort())},
	}
}

// syncAll applies what has changed as the node does, which then deletes stale
// flows. It returns when it is to go on with that.
func (c *Scene) syncAll(cleaner *conntrack.Cleaner) (again time.Time) {
	c.T.Helper()
	changes := c.State.Changes().Ports
	must(c.T, c.Backend.Apply(changes))
	again, err := cleaner.Clean(changes)
	must(c.T, err)
	return again
}

// A connection stays with its endpoint, whatever becomes of that and of the
// Service, for as long as both ends like.
func testEstablished(t *testing.T, subject Subject) {
	for what, edit := range map[string]func(*corev1.ServiceSpec){"Cluster": nil, "Local": PolicyLocal, "Affinity": Sticky(time.Hour)} {
		t.Run(what, func(t *testing.T) {
			c := subject.NewScene(t, WithPods, edit)
			cleaner := conntrack.NewCleaner(nil)
			c.echo(c.Pod1)
			set := func(endpoints ...Endpoint) {
				t.Helper()
				SetEndpointsAt(c.State, c.Frontends, echoPort, endpoints...)
				c.syncAll(cleaner)
			}
			set(OnPod1(c.Lab))
			var flows []flow
			for family := range 2 {
				for _, way := range []struct {
					from *Host
					to   netip.AddrPort
				}{
					{c.Pod3, netip.AddrPortFrom(c.ClusterIP()[family], 80)},
					{c.Pod1, netip.AddrPortFrom(c.ClusterIP()[family], 80)},
					{c.Node, netip.AddrPortFrom(c.ClusterIP()[family], 80)},
					{c.Client, netip.AddrPortFrom(c.VIP()[family], 80)},
					{c.Client, netip.AddrPortFrom(c.Node.Addrs[family], c.NodePort())},
				} {
					f, err := way.from.connect(way.to)
					must(t, err)
					t.Cleanup(func() { f.conn.Close() })
					flows = append(flows, f)
				}
			}
			ping := func(what string) {
				t.Helper()
				for _, f := range flows {
					if err := f.ping(); err != nil {
						t.Errorf("%s: %s: %v", what, f.what, err)
					}
				}
			}
			ping("at first")
			set(Endpoint{c.Pod1, Terminating}, OnPod2(c.Lab))
			ping("the endpoint terminates")
			set(OnPod2(c.Lab))
			ping("another endpoint")
			set()
			ping("no endpoint")
			set(OnRemote(c.Lab))
			ping("an endpoint elsewhere")
			fresh := subject.Start(t, WithPods)
			must(t, fresh.Apply(everything(c.State)))
			c.Backend = fresh
			ping("a restart")
			c.State.DeleteService(types.NamespacedName{Namespace: "default", Name: c.Name()})
			c.syncAll(cleaner)
			ping("no Service")
		})
	}
}

// A UDP client that never changes its port meets the endpoint that there is,
// from before there was a Service until after the pod was replaced.
func testUDPFlows(t *testing.T, subject Subject) {
	c := subject.NewScene(t, WithPods, nil)
	cleaner := conntrack.NewCleaner(nil)
	c.State.DeleteService(types.NamespacedName{Namespace: "default", Name: c.Name()})
	c.syncAll(cleaner)
	ways := append(c.ways(0), c.ways(1)...)
	ask := func(what string, want ...string) {
		t.Helper()
		var all sync.WaitGroup
		for i, w := range ways {
			all.Go(func() {
				from := netip.AddrPortFrom(w.from.Addrs[service.FamilyOf(w.to.Addr())], uint16(20000+i))
				wait := patience
				if len(want) == 0 {
					wait = silence / 20 // whatever happens, a flow has begun
				}
				if subject.UDPGrace > 0 && len(want) > 0 {
					// The kernel may take a datagram for that of a flow that it
					// is just ending: one that is lost is not waited for.
					end := time.Now().Add(subject.UDPGrace)
					for w.from.dial(service.UDP, from, w.to, silence/5).Who != want[0] && time.Now().Before(end) {
						<-time.After(100 * time.Millisecond)
					}
				}
				got := w.from.dial(service.UDP, from, w.to, wait)
				if len(want) > 0 && got.Who != want[0] {
					t.Errorf("%s: %v -> %v: got %s, want %s", what, from, w.to, got.Who, want[0])
				}
			})
		}
		all.Wait()
	}
	ask("no Service")
	c.State.SetService(NewService(c.Frontends, nil))
	c.syncAll(cleaner)
	ask("no endpoints")
	for _, step := range []struct {
		what      string
		endpoints []Endpoint
		want      string
	}{
		{"the first pod", []Endpoint{OnPod1(c.Lab)}, "pod1"},
		{"another beside it", []Endpoint{OnPod1(c.Lab), OnPod2(c.Lab)}, "pod1"},
		{"the first terminates, but serves", []Endpoint{{c.Pod1, ServingTerminating}, OnPod2(c.Lab)}, "pod1"},
		{"the first is gone", []Endpoint{OnPod2(c.Lab)}, "pod2"},
		{"of another node", []Endpoint{OnRemote(c.Lab)}, "remote"},
	} {
		SetEndpoints(c.State, c.Frontends, step.endpoints...)
		c.syncAll(cleaner)
		ask(step.what, step.want)
	}
}

// A client may ask two frontends from the same port, and each answers.
func testSamePort(t *testing.T, subject Subject) {
	c := subject.NewScene(t, WithPods, nil, OnPod1)
	var all sync.WaitGroup
	for family := range 2 {
		all.Go(func() {
			from := netip.AddrPortFrom(c.Client.Addrs[family], 20000)
			vip := netip.AddrPortFrom(c.VIP()[family], 80)
			for i, to := range []netip.AddrPort{vip, netip.AddrPortFrom(c.Node.Addrs[family], c.NodePort()), vip} {
				want, wait := "pod1", patience
				if subject.AnswersByClient && i == 2 {
					// The flow that began last has the answers.
					want, wait = Drop, silence
				}
				if got := c.Client.dial(service.UDP, from, to, wait); got.Who != want {
					t.Errorf("%d: %v -> %v: got %s, want %s", i, from, to, got.Who, want)
				}
			}
		})
	}
	all.Wait()
}

// A packet that is far behind what the client has seen is translated like all
// others of its connection, or kept from it. If it came with the pod's own
// address, the client's kernel would refuse it, and thereby end the connection
// of the pod (kubernetes/kubernetes#74839). Kernels before 6.1 did that.
func testDelayedPacket(t *testing.T, subject Subject) {
	for what, edit := range map[string]func(*corev1.ServiceSpec){"Cluster": nil, "Local": PolicyLocal} {
		t.Run(what, func(t *testing.T) {
			c := subject.NewScene(t, WithPods, edit)
			accepted := c.echo(c.Pod1)
			SetEndpointsAt(c.State, c.Frontends, echoPort, OnPod1(c.Lab))
			Sync(t, c.Backend, c.State)
			for family := range 2 {
				for _, way := range []struct {
					from *Host
					to   netip.AddrPort
				}{
					{c.Client, netip.AddrPortFrom(c.VIP()[family], 80)},
					{c.Pod3, netip.AddrPortFrom(c.ClusterIP()[family], 80)},
				} {
					f, err := way.from.connect(way.to)
					must(t, err)
					defer f.conn.Close()
					must(t, f.ping())
					must(t, c.boom(c.Pod1, <-accepted))
					// What the packet sets off is over before a later one is.
					for range 3 {
						if err := f.ping(); err != nil {
							t.Errorf("%s: after a delayed packet: %v", f.what, err)
						}
					}
				}
			}
		})
	}
}

// boom sends the peer of a connection a segment that is far behind, beside the
// connection.
func (l *Lab) boom(h *Host, conn *net.TCPConn) error {
	const behind = 100_000 // as kubernetes' test does
	near, err := netip.ParseAddrPort(conn.LocalAddr().String())
	if err != nil {
		return err
	}
	far, err := netip.ParseAddrPort(conn.RemoteAddr().String())
	if err != nil {
		return err
	}
	sent, received, err := sequences(conn)
	if err != nil {
		return fmt.Errorf("find the sequence numbers of %v: %w", near, err)
	}
	segment := tcpSegment(near, far, sent-behind, received, "boom")
	network := [2]string{"ip4:tcp", "ip6:tcp"}[service.FamilyOf(near.Addr().Unmap())]
	return onThread(h.handle, func() error {
		raw, err := net.DialIP(network, nil, &net.IPAddr{IP: far.Addr().Unmap().AsSlice()})
		if err != nil {
			return err
		}
		_, err = raw.Write(segment)
		return errors.Join(err, raw.Close())
	})
}

// sequences asks the kernel for the next numbers of a connection, which it
// tells while the connection is under repair (TCP_REPAIR).
func sequences(conn *net.TCPConn) (sent, received uint32, err error) {
	const (
		repair, repairQueue, queueSeq = 19, 20, 21
		receiveQueue, sendQueue       = 1, 2
		off                           = -1 // TCP_REPAIR_OFF_NO_WP: without a packet
	)
	raw, err := conn.SyscallConn()
	if err != nil {
		return 0, 0, err
	}
	e := raw.Control(func(fd uintptr) {
		if err = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, repair, 1); err != nil {
			return
		}
		for queue, to := range map[int]*uint32{receiveQueue: &received, sendQueue: &sent} {
			var n int
			e := syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, repairQueue, queue)
			if e == nil {
				n, e = syscall.GetsockoptInt(int(fd), syscall.IPPROTO_TCP, queueSeq)
			}
			*to, err = uint32(n), errors.Join(err, e)
		}
		err = errors.Join(err, syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, repair, off))
	})
	return sent, received, errors.Join(err, e)
}

// tcpSegment is a segment with PSH and ACK.
func tcpSegment(from, to netip.AddrPort, sequence, acknowledged uint32, data string) []byte {
	const header = 20
	s := make([]byte, header, header+len(data))
	binary.BigEndian.PutUint16(s, from.Port())
	binary.BigEndian.PutUint16(s[2:], to.Port())
	binary.BigEndian.PutUint32(s[4:], sequence)
	binary.BigEndian.PutUint32(s[8:], acknowledged)
	s[12], s[13] = header/4<<4, 0x18
	binary.BigEndian.PutUint16(s[14:], 500) // window
	s = append(s, data...)
	pseudo := append(from.Addr().Unmap().AsSlice(), to.Addr().Unmap().AsSlice()...)
	pseudo = append(pseudo, 0, byte(service.TCP))
	pseudo = binary.BigEndian.AppendUint16(pseudo, uint16(len(s)))
	binary.BigEndian.PutUint16(s[16:], ^sum(sum(0, pseudo), s))
	return s
}
