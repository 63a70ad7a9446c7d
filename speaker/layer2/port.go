package layer2

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/mdlayher/packet"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

const (
	// readBuffer holds the longest request that is worth decoding: a neighbor
	// solicitation with signatures (RFC 3971) has about 1 KiB.
	readBuffer = 2048
	// sendPatience is how long a first announcement may wait for room in the
	// queue of a slow link. Replies never wait: the asker asks again.
	sendPatience = 100 * time.Millisecond
)

// errWithheld is why a frame was not sent: the gate was closed.
var errWithheld = errors.New("withheld")

// A port is the socket that serves one family on one link, and the addresses
// that are answered through it. Its identity never changes: a link that gets
// another index or hardware address gets a new port.
type port struct {
	place
	id      identity
	proto   protocol
	conn    *packet.Conn
	raw     syscall.RawConn
	groups  *groups // IPv6 only
	metrics *placeMetrics
	gate    func() bool
	failed  atomic.Bool
	reader  sync.WaitGroup

	// filtered is what the kernel's filter passes; used by the caller of set only.
	filtered addrSet

	// mu is held from the look at owned until the frame has left: whoever
	// takes an address out of owned knows that nothing follows.
	mu    sync.Mutex
	owned addrSet // replaced, never changed
}

// openPort opens a socket that passes nothing yet. No frame is sent while gate
// says no. onFail is called when the socket cannot be read any more, unless it
// was closed.
func openPort(at place, id identity, m *metrics, gate func() bool, onFail func()) (*port, error) {
	p := &port{place: at, id: id, metrics: m.place(at), gate: gate}
	mac := net.HardwareAddr(slices.Clone(id.mac[:]))
	if at.family == familyIPv4 {
		p.proto = arpProtocol{mac: mac}
	} else {
		p.proto = ndpProtocol{mac: mac, src: id.linkLocal}
		p.groups = newGroups(id.index)
	}
	filter, err := bpf.Assemble(receivedOnly(p.proto.filter(nil, kernelLimit)))
	if err != nil {
		return nil, fmt.Errorf("assemble packet filter: %w", err)
	}
	link := &net.Interface{Index: id.index, Name: at.link, HardwareAddr: mac}
	if p.conn, err = packet.Listen(link, packet.Raw, p.proto.etherType(), &packet.Config{Filter: filter}); err != nil {
		p.metrics.openErrors.Inc()
		return nil, fmt.Errorf("open packet socket: %w", err)
	}
	if p.raw, err = p.conn.SyscallConn(); err != nil {
		return nil, errors.Join(fmt.Errorf("open packet socket: %w", err), p.conn.Close())
	}
	p.reader.Go(func() { p.read(onFail) })
	return p, nil
}

// retain silences every owned address that is not in want.
func (p *port) retain(want addrSet) {
	p.mu.Lock()
	defer p.mu.Unlock()
	kept := maps.Clone(p.owned)
	maps.DeleteFunc(kept, func(a netip.Addr, _ struct{}) bool {
		_, ok := want[a]
		return !ok
	})
	p.owned = kept
}

// set makes the port answer for exactly want and returns, in order, the
// addresses that are new. An address that cannot be heard is left out and part
// of the error.
func (p *port) set(want addrSet) ([]netip.Addr, error) {
	var errs []error
	if p.groups != nil {
		deaf, err := p.groups.set(want)
		if err != nil {
			p.metrics.openErrors.Inc()
			errs = append(errs, err)
			want = maps.Clone(want)
			maps.DeleteFunc(want, func(a netip.Addr, _ struct{}) bool { _, ok := deaf[solicitedNode(a)]; return ok })
		}
	}
	if p.filtered == nil || !maps.Equal(p.filtered, want) {
		if err := p.setFilter(want); err != nil {
			p.metrics.openErrors.Inc()
			return nil, errors.Join(append(errs, err)...)
		}
		p.filtered = want
	}

	p.mu.Lock()
	defer p.mu.Unlock()
	var started []netip.Addr
	for a := range want {
		if _, ok := p.owned[a]; !ok {
			started = append(started, a)
		}
	}
	slices.SortFunc(started, netip.Addr.Compare)
	p.owned = want
	p.metrics.announced.Set(float64(len(want)))
	return started, errors.Join(errs...)
}

// setFilter replaces the filter in one step. A program that is too big for the
// socket's memory (sysctl net.core.optmem_max) gives way to one that lets
// requests for all targets pass.
func (p *port) setFilter(want addrSet) error {
	program, err := bpf.Assemble(receivedOnly(p.proto.filter(want, kernelLimit)))
	if err != nil {
		return fmt.Errorf("assemble packet filter: %w", err)
	}
	err = p.conn.SetBPF(program)
	if !errors.Is(err, unix.ENOMEM) {
		return err
	}
	if program, err = bpf.Assemble(receivedOnly(p.proto.filter(want, 0))); err != nil {
		return fmt.Errorf("assemble packet filter: %w", err)
	}
	return p.conn.SetBPF(program)
}

// announce sends the frames that announce addr, if it is still owned and the
// gate is open.
func (p *port) announce(addr netip.Addr, patient bool) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, ok := p.owned[addr]; !ok {
		return nil
	}
	frames, err := p.proto.gratuitous(addr)
	if err != nil {
		return err
	}
	for _, frame := range frames {
		switch err := p.send(frame, patient); {
		case errors.Is(err, errWithheld):
			return nil
		case err != nil:
			return err
		}
		p.metrics.gratuitous.Inc()
	}
	return nil
}

// close silences the port and returns when its reader has ended.
func (p *port) close() {
	p.mu.Lock()
	p.owned = nil
	p.mu.Unlock()
	p.metrics.forget()
	// The errors of closing sockets that are given up have no consequence.
	_ = p.conn.Close()
	if p.groups != nil {
		p.groups.close()
	}
	p.reader.Wait()
}

// read answers requests until the socket fails, which it does when the link
// goes down or away, or is closed. It never tries again by itself.
func (p *port) read(onFail func()) {
	buf := make([]byte, readBuffer)
	var n int
	var readErr error
	receive := func(fd uintptr) bool {
		n, readErr = unix.Read(int(fd), buf)
		return readErr != unix.EAGAIN
	}
	for {
		if err := p.raw.Read(receive); err != nil {
			return // closed
		}
		if readErr == unix.EINTR {
			continue
		}
		if readErr != nil {
			p.metrics.receiveErrors.Inc()
			p.failed.Store(true)
			onFail()
			return
		}
		p.metrics.received.Inc()
		p.reply(buf[:n])
	}
}

func (p *port) reply(frame []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	reply, ok := p.proto.answer(frame, p.owned)
	if ok && p.send(reply, false) == nil {
		p.metrics.replied.Inc()
	}
}

// send writes a frame, at once or, if patient, as soon as there is room.
func (p *port) send(frame []byte, patient bool) error {
	var sendErr error
	err := p.raw.Control(func(fd uintptr) {
		sendErr = p.write(fd, frame)
		if patient && (sendErr == unix.EAGAIN || sendErr == unix.ENOBUFS) {
			wait := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}
			if _, pollErr := unix.Poll(wait, int(sendPatience.Milliseconds())); pollErr == nil {
				sendErr = p.write(fd, frame)
			}
		}
	})
	if errors.Is(sendErr, errWithheld) {
		p.metrics.withheld.Inc()
		return sendErr
	}
	if err = errors.Join(err, sendErr); err != nil {
		p.metrics.sendErrors.Inc()
	}
	return err
}

// write writes a frame unless the gate is closed. Nothing lies between the
// question and the system call.
func (p *port) write(fd uintptr, frame []byte) error {
	if !p.gate() {
		return errWithheld
	}
	_, err := unix.Write(int(fd), frame)
	return err
}
