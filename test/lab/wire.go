package lab

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/mdlayher/packet"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// Recorder writes down every frame about some addresses that a host's link
// sends or receives: requests, replies and announcements, in the order of the
// wire, with the kernel's time stamps. It does not depend on the neighbour
// tables of anybody.
type Recorder struct {
	host *Host
	want map[netip.Addr]bool // empty: all addresses
	conn *packet.Conn
	done chan struct{} // closed when the reader has ended

	mu      sync.Mutex // guards what follows
	stopped bool
	seen    Observations
	changed chan struct{} // closed and replaced with every observation
	err     error
}

// Record starts a recorder on the host's link, for frames about the given
// addresses, or about all if none is given. Stop it.
func (h *Host) Record(addrs ...netip.Addr) (*Recorder, error) {
	r := &Recorder{host: h, want: map[netip.Addr]bool{}, done: make(chan struct{}), changed: make(chan struct{})}
	for _, addr := range addrs {
		r.want[addr] = true
	}
	if err := h.Do(r.open); err != nil {
		return nil, fmt.Errorf("record on %s: %w", h.name, err)
	}
	go r.read()
	return r, nil
}

// Stop ends the recorder and returns all that it saw. The error tells if it
// missed something. Stopping twice is allowed.
func (r *Recorder) Stop() (Observations, error) {
	r.mu.Lock()
	first := !r.stopped
	r.stopped = true
	r.mu.Unlock()
	if first {
		if err := r.conn.Close(); err != nil {
			return nil, fmt.Errorf("stop recording on %s: %w", r.host.name, err)
		}
	}
	<-r.done
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.seen, r.err
}

// Seen returns what was observed until now.
func (r *Recorder) Seen() Observations {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clip(r.seen) // append-only, so the part that exists never changes
}

// Wait returns as soon as the observations satisfy a condition. It is asked
// again after every frame.
func (r *Recorder) Wait(ctx context.Context, condition func(Observations) bool) (Observations, error) {
	for {
		r.mu.Lock()
		seen, changed, err := slices.Clip(r.seen), r.changed, r.err
		r.mu.Unlock()
		if condition(seen) {
			return seen, nil
		}
		if err != nil {
			return seen, err
		}
		select {
		case <-changed:
		case <-r.done:
			return seen, fmt.Errorf("the recorder on %s was stopped", r.host.name)
		case <-ctx.Done():
			return seen, fmt.Errorf("wait for frames on %s: %w", r.host.name, context.Cause(ctx))
		}
	}
}

// open opens the socket; to be called inside the namespace.
func (r *Recorder) open() error {
	link, err := net.InterfaceByName(r.host.link)
	if err != nil {
		return err
	}
	filter, err := bpf.Assemble(neighbourFilter())
	if err != nil {
		return err
	}
	// All protocols, because only such a socket sees what the host sends, too.
	conn, err := packet.Listen(link, packet.Raw, unix.ETH_P_ALL, &packet.Config{Filter: filter})
	if err != nil {
		return err
	}
	raw, err := conn.SyscallConn()
	if err != nil {
		return errors.Join(err, conn.Close())
	}
	var failed error
	err = raw.Control(func(fd uintptr) {
		failed = errors.Join(
			unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_TIMESTAMPNS, 1),
			// Room for some seconds of a busy machine.
			unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 4<<20))
	})
	if err := errors.Join(err, failed); err != nil {
		return errors.Join(err, conn.Close())
	}
	r.conn = conn
	return nil
}

// read is the reader's goroutine.
func (r *Recorder) read() {
	defer close(r.done)
	r.fail(r.readAll())
}

// fail keeps the first error. Once the recorder is stopped, errors are of its
// closed socket.
func (r *Recorder) fail(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err != nil && r.err == nil && !r.stopped {
		r.err = fmt.Errorf("record on %s: %w", r.host.name, err)
	}
}

func (r *Recorder) readAll() error {
	raw, err := r.conn.SyscallConn()
	if err != nil {
		return err
	}
	frame, control := make([]byte, 2048), make([]byte, 128)
	for {
		n, at, err := receive(raw, frame, control)
		if err != nil {
			return err
		}
		c, err := decodeFrame(frame[:n])
		if err != nil {
			continue // garbage is on every wire, and no claim
		}
		if len(r.want) == 0 || r.want[c.addr] {
			r.add(c, at)
		}
	}
}

func (r *Recorder) add(c claim, at time.Time) {
	o := Observation{Time: at, Kind: c.kind, Addr: c.addr, MAC: slices.Clone(c.mac)}
	if h := r.host.lab.hostByMAC(c.mac); h != nil {
		o.Host = h.name
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.seen = append(r.seen, o)
	close(r.changed)
	r.changed = make(chan struct{})
}

// receive reads one frame and the time at which the kernel saw it.
func receive(raw syscall.RawConn, frame, control []byte) (n int, at time.Time, err error) {
	var controlLen int
	var failed error
	err = raw.Read(func(fd uintptr) bool {
		for {
			n, controlLen, _, _, failed = unix.Recvmsg(int(fd), frame, control, 0)
			if !errors.Is(failed, unix.EINTR) {
				return !errors.Is(failed, unix.EAGAIN)
			}
		}
	})
	if err := errors.Join(err, failed); err != nil {
		return 0, time.Time{}, err
	}
	messages, err := unix.ParseSocketControlMessage(control[:controlLen])
	if err != nil {
		return 0, time.Time{}, fmt.Errorf("read a time stamp: %w", err)
	}
	for _, m := range messages {
		if m.Header.Level == unix.SOL_SOCKET && m.Header.Type == unix.SCM_TIMESTAMPNS && len(m.Data) >= 16 {
			seconds := binary.NativeEndian.Uint64(m.Data)
			nanoseconds := binary.NativeEndian.Uint64(m.Data[8:])
			return n, time.Unix(int64(seconds), int64(nanoseconds)), nil
		}
	}
	return 0, time.Time{}, errors.New("a frame without a time stamp")
}

// neighbourFilter lets ARP, neighbour solicitations and advertisements pass.
func neighbourFilter() []bpf.Instruction {
	const (
		etherType  = 12
		nextHeader = 14 + 6
		icmpType   = 14 + ipv6HeaderLen
	)
	return []bpf.Instruction{
		bpf.LoadAbsolute{Off: etherType, Size: 2},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: unix.ETH_P_ARP, SkipTrue: 6},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: unix.ETH_P_IPV6, SkipTrue: 6},
		bpf.LoadAbsolute{Off: nextHeader, Size: 1},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: icmpv6, SkipTrue: 4},
		bpf.LoadAbsolute{Off: icmpType, Size: 1},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: 135, SkipTrue: 1},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: 136, SkipTrue: 1},
		bpf.RetConstant{Val: 1 << 16},
		bpf.RetConstant{Val: 0},
	}
}
