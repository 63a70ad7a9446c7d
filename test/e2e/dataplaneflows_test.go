package e2e

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fairway-lb/fairway/internal/uml"
	"github.com/fairway-lb/fairway/test/lab"
)

// look asks at all frontends who is there: the pods that the Service of the
// slot has, or nobody.
func (w *churn) look() {
	t := w.t
	t.Helper()
	var all sync.WaitGroup
	client, asker := w.Client().Namespace, w.Pod("dev", "asker").Namespace
	n1, n2 := w.Node("n1"), w.Node("n2")
	for slot, s := range w.slots {
		asks := func(from *lab.Namespace, host string, port int, want []string) {
			for range 3 {
				all.Go(func() {
					timeout := patience
					if len(want) == 0 {
						timeout = knockTimeout
					}
					address := net.JoinHostPort(host, fmt.Sprint(port))
					pod, err := whoAnswers(from, address, timeout)
					if len(want) == 0 && err != nil || slices.Contains(want, pod) {
						return
					}
					t.Errorf("slot %d, %s from %s: got %q, %v, want %q", slot, address, from.Name(), pod, err, want)
				})
			}
		}
		// There is nobody without a Service.
		var everywhere, more, onNode1, inside1, inside2, outside1, outside2 []string
		if s != nil {
			everywhere = w.readyPods(s.app, "")
			inside1, inside2, outside1, outside2 = everywhere, everywhere, everywhere, everywhere
			onNode1 = w.readyPods(s.app, "n1")
			if s.internal == "Local" {
				inside1, inside2 = onNode1, w.readyPods(s.app, "n2")
			}
			if s.external == "Local" {
				outside1, outside2 = onNode1, w.readyPods(s.app, "n2")
			}
			if s.port81 {
				more = inside1
			}
		}
		for family, clusterIP := range churnClusterIP(slot) {
			asks(asker, clusterIP, 80, inside1)
			asks(asker, clusterIP, 81, more)
			asks(n2.Namespace, clusterIP, 80, inside2)
			// A process of a node is no client from outside, whatever the policy.
			asks(n1.Namespace, churnVIP(slot)[family], 80, everywhere)
			asks(client, addressOf(n1, family), churnNodePort(slot), outside1)
			asks(client, addressOf(n2, family), churnNodePort(slot), outside2)
		}
	}
	all.Wait()
}

func addressOf(node *lab.Host, family int) string {
	if family == 0 {
		return node.Addr4().String()
	}
	return node.Addr6().String()
}

// stream is connections, one after the other.
type stream struct {
	name     string
	slot     int
	from     *lab.Namespace
	address  string
	timeout  time.Duration
	excused  func(error) bool // nil for no error
	begun    int
	answered int
	slowest  time.Duration
}

// traffic connects from everywhere until it is stopped.
func (w *churn) traffic() (stop func()) {
	t := w.t
	var streams []*stream
	add := func(slot int, from *lab.Namespace, host string, port int, timeout time.Duration, excused func(error) bool) {
		address := net.JoinHostPort(host, fmt.Sprint(port))
		streams = append(streams, &stream{name: from.Name() + " to " + address, slot: slot, from: from, address: address, timeout: timeout, excused: excused})
	}
	client, asker := w.Client().Namespace, w.Pod("dev", "asker").Namespace
	n1, n2 := w.Node("n1"), w.Node("n2")
	for family := range 2 {
		ours := func(address [2]string) string { return address[family] }
		add(0, client, addressOf(n1, family), churnNodePort(0), patience, nil)
		add(0, client, addressOf(n2, family), churnNodePort(0), patience, nil)
		add(0, asker, ours(churnClusterIP(0)), 80, patience, nil)
		add(0, n2.Namespace, ours(churnClusterIP(0)), 80, patience, nil)
		add(0, n1.Namespace, ours(churnVIP(0)), 80, patience, nil)
		// The address moves from node to node when speakers come and go.
		add(0, client, ours(churnVIP(0)), 80, knockTimeout, func(err error) bool { return !errors.Is(err, syscall.ECONNREFUSED) })
		// Others come and go themselves, as do their pods.
		anything := func(error) bool { return true }
		add(1+family, asker, ours(churnClusterIP(1+family)), 80, knockTimeout, anything)
		add(3+family, client, addressOf(n1, family), churnNodePort(3+family), knockTimeout, anything)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var all sync.WaitGroup
	for _, s := range streams {
		all.Go(func() { w.flow(ctx, t, s) })
	}
	end := sync.OnceFunc(func() { cancel(); all.Wait() })
	t.Cleanup(end) // also of a test that fails
	return func() {
		end()
		total := 0
		for _, s := range streams {
			t.Logf("%s, slot %d: %d connections, %d answered, the slowest took %v", s.name, s.slot, s.begun, s.answered, s.slowest)
			total += s.begun
			if s.excused == nil && s.begun < int(3*time.Second/streamInterval()) {
				t.Errorf("%s: too few connections to prove anything", s.name)
			}
		}
		t.Logf("%d connections", total)
	}
}

// streamInterval is how often a stream connects, or tries to. A guest has one
// slow processor.
func streamInterval() time.Duration {
	if uml.Inside() {
		return 300 * time.Millisecond
	}
	return 30 * time.Millisecond
}

// flow fails the test for whoever answers but may not, and for what is not
// excused.
func (w *churn) flow(ctx context.Context, t *testing.T, s *stream) {
	ticker := time.NewTicker(streamInterval())
	defer ticker.Stop()
	for failed := 0; failed < 3; {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		w.mu.Lock()
		round := w.round
		w.mu.Unlock()
		begin := time.Now()
		s.begun++
		pod, err := whoAnswers(s.from, s.address, s.timeout)
		s.slowest = max(s.slowest, time.Since(begin))
		if err != nil {
			if s.excused == nil || !s.excused(err) {
				failed++
				t.Errorf("%s: slot %d, %s: %v", begin.Format("04:05.000"), s.slot, s.name, err)
			}
			continue
		}
		s.answered++
		w.mu.Lock()
		last, ever := w.may[s.slot][pod]
		w.mu.Unlock()
		if !ever || last < round {
			failed++
			t.Errorf("%s: slot %d, %s: answered by %q in round %d, which might until round %d, if ever (%v)", begin.Format("04:05.000"), s.slot, s.name, pod, round, last, ever)
		}
	}
}

// errLost is of a connection that came about by another packet than the first.
var errLost = errors.New("connected, but the first packet was lost")

// synTimeout is when a SYN is sent again (RFC 6298). One that meets what is left
// of an earlier connection of the same ports is sent again at once.
const synTimeout = time.Second

// whoAnswers returns the name of the pod that answers.
func whoAnswers(from *lab.Namespace, address string, timeout time.Duration) (pod string, err error) {
	begin := time.Now()
	ctx, cancel := context.WithDeadline(context.Background(), begin.Add(timeout))
	defer cancel()
	dial := from.DialContext
	if uml.Inside() {
		dial = fromNewPort(from)
	}
	conn, err := dial(ctx, "tcp", address)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	if time.Since(begin) >= synTimeout {
		// It may be the machine that was busy.
		if again, err := sentAgain(conn.(*net.TCPConn)); again || err != nil {
			return "", cmp.Or(err, errLost)
		}
	}
	if err := conn.SetDeadline(begin.Add(timeout)); err != nil {
		return "", err
	}
	if _, err := io.WriteString(conn, "GET / HTTP/1.0\r\n\r\n"); err != nil {
		return "", err
	}
	response, err := io.ReadAll(conn)
	if err != nil {
		return "", err
	}
	_, body, _ := strings.Cut(string(response), "\r\n\r\n")
	if pod, _, _ = strings.Cut(body, " "); pod == "" {
		return "", fmt.Errorf("connected, but the answer is %q", response)
	}
	return pod, nil
}

// clientPort is the last port that fromNewPort took.
var clientPort atomic.Uint32

// fromNewPort dials from another port each time. IPVS knows the flow of an answer
// by client and endpoint: a port that a client had for another frontend within
// two minutes may have no answer (docs/dataplane.md).
func fromNewPort(n *lab.Namespace) func(ctx context.Context, network, address string) (net.Conn, error) {
	return func(ctx context.Context, network, address string) (conn net.Conn, err error) {
		const first, count = 10_000, 50_000
		for {
			d := net.Dialer{LocalAddr: &net.TCPAddr{Port: int(first + clientPort.Add(1)%count)}}
			err = n.Do(func() (err error) { conn, err = d.DialContext(ctx, network, address); return err })
			if !errors.Is(err, syscall.EADDRINUSE) {
				return conn, err
			}
		}
	}
}

// sentAgain tells whether the kernel had to send a packet again.
func sentAgain(conn *net.TCPConn) (again bool, err error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return false, err
	}
	var info *unix.TCPInfo
	var failed error
	err = raw.Control(func(fd uintptr) { info, failed = unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO) })
	if err := errors.Join(err, failed); err != nil {
		return false, err
	}
	return info.Total_retrans > 0, nil
}
