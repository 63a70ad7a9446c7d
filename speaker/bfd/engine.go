package bfd

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"runtime"
	"time"

	"github.com/go-logr/logr"
	"golang.org/x/sys/unix"
)

const (
	// farewells is how often AdminDown is sent to a neighbor, at once: it may get
	// lost, and a neighbor that hears none takes the path for lost.
	farewells = 3
	// floodPause is left to others by a thread that goes before them, after a round
	// that found a queue full: more packets than any number of sessions makes.
	floodPause = time.Millisecond
)

// engine is the thread that owns all sessions. It sleeps until a packet, a
// command or a deadline comes, and does all three in this order. The order is what
// keeps a session whose packets were there and only not read: its deadline is
// looked at after everything that arrived before has been read.
//
// Sockets are read by system calls of this thread, not through Go's network
// poller, because that would put a second goroutine, and its scheduling, between
// the arrival of a packet and the deadline that it moves. And what the thread does
// for a packet allocates nothing: an allocation can make a thread begin a garbage
// collection and wait for others, which on a busy node take hundreds of
// milliseconds to be scheduled.
type engine struct {
	log     logr.Logger
	metrics *metrics
	changes *notifier

	command chan func() // capacity 1
	wake    int         // an eventfd that makes the thread look at command
	ended   chan struct{}

	// What follows belongs to the thread.
	sessions  map[uint32]*session // by local discriminator
	listeners map[kind]int        // file descriptors
	reader    *reader
	out       [packetLen]byte
	polled    []unix.PollFd
	timeout   unix.Timespec
	flooded   bool
	closing   bool
}

// session is a machine with its socket. The fields up to machine never change.
type session struct {
	key     Key
	ifindex int // of the neighbor's zone
	socket  int
	to      unix.Sockaddr
	metrics sessionMetrics

	machine                   *machine
	sent, received, discarded uint64
	sendError                 error
}

func startEngine(log logr.Logger, m *metrics, changes *notifier) (*engine, error) {
	wake, err := unix.Eventfd(0, unix.EFD_NONBLOCK|unix.EFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("open eventfd: %w", err)
	}
	e := &engine{
		log: log, metrics: m, changes: changes,
		command: make(chan func(), 1), wake: wake, ended: make(chan struct{}),
		sessions: map[uint32]*session{}, listeners: map[kind]int{}, reader: newReader(),
	}
	go e.run()
	return e, nil
}

// do runs f on the thread and waits for it. There is one caller at a time.
func (e *engine) do(f func()) {
	done := make(chan struct{})
	e.command <- func() { f(); close(done) }
	var one [8]byte
	binary.NativeEndian.PutUint64(one[:], 1)
	if _, err := unix.Write(e.wake, one[:]); err != nil {
		// A full counter is the only reason, and wakes the thread as well.
		e.log.Error(err, "Wake the BFD thread")
	}
	<-done
}

// stop ends the thread.
func (e *engine) stop() error {
	e.do(func() { e.closing = true })
	<-e.ended
	return closeAll([]int{e.wake})
}

func (e *engine) run() {
	defer close(e.ended)
	runtime.LockOSThread() // never unlocked: the thread ends here, and its priority with it
	if err := prioritize(); err != nil {
		e.log.Info("BFD runs with ordinary priority: on a busy node neighbors may miss its packets; give the container CAP_SYS_NICE",
			"reason", err.Error())
	}
	for !e.closing {
		e.wait()
		now := time.Now() // receive reads what came up to here
		e.receive()
		select {
		case f := <-e.command:
			f()
		default:
		}
		for _, s := range e.sessions {
			e.apply(s, s.machine.advance(now))
		}
	}
}

// wait returns when there may be something to do.
func (e *engine) wait() {
	e.polled = append(e.polled[:0], unix.PollFd{Fd: int32(e.wake), Events: unix.POLLIN})
	sleep := time.Duration(math.MaxInt64)
	if e.flooded {
		sleep = floodPause
	} else {
		for _, fd := range e.listeners {
			e.polled = append(e.polled, unix.PollFd{Fd: int32(fd), Events: unix.POLLIN})
		}
	}
	for _, s := range e.sessions {
		if next, ok := s.machine.next(); ok {
			sleep = min(sleep, max(0, time.Until(next)))
		}
	}
	e.timeout = unix.NsecToTimespec(int64(sleep))
	if _, err := unix.Ppoll(e.polled, &e.timeout, nil); err != nil && !errors.Is(err, unix.EINTR) {
		// It says so for arguments only, which are right; the round is made anyway.
		e.log.Error(err, "Wait for BFD packets")
	}
	if e.polled[0].Revents != 0 {
		var counter [8]byte
		if _, err := unix.Read(e.wake, counter[:]); err != nil && !errors.Is(err, unix.EAGAIN) {
			e.log.Error(err, "Read eventfd of BFD thread")
		}
	}
}

// receive reads all that has arrived until now.
func (e *engine) receive() {
	e.flooded = false
	for kind, fd := range e.listeners {
		full := true
		for range roundLimit {
			d, err := e.reader.read(fd)
			if errors.Is(err, unix.EAGAIN) {
				full = false
				break
			}
			if err != nil {
				e.metrics.discarded(unreadable)
				continue
			}
			e.handle(kind, d)
		}
		e.flooded = e.flooded || full
	}
}

// handle is the reception of RFC 5880, 6.8.6.
func (e *engine) handle(k kind, d datagram) {
	p, why := decode(d.payload)
	if why != accepted {
		e.metrics.discarded(why)
		return
	}
	s := e.find(k, d, p)
	if s == nil {
		e.metrics.discarded(noSession)
		return
	}
	var out effects
	if d.ttl < s.minTTL() {
		why = badTTL
	} else {
		out, why = s.machine.receive(p, time.Now())
	}
	if why != accepted {
		s.discarded++
		e.metrics.discarded(why)
		return
	}
	s.received++
	e.metrics.received.Inc()
	e.apply(s, out)
}

// find returns whom a packet is for, nil if nobody: by the discriminator if it has
// one, else by where it came from (RFC 5880, 6.3).
func (e *engine) find(k kind, d datagram, p packet) *session {
	if p.yourDiscriminator != 0 {
		if s := e.sessions[p.yourDiscriminator]; s != nil && s.key.kind() == k {
			return s
		}
		return nil
	}
	var found *session
	for _, s := range e.sessions {
		if s.key.kind() != k || s.key.Neighbor.WithZone("") != d.from || s.ifindex != 0 && s.ifindex != d.ifindex {
			continue
		}
		switch {
		case !s.key.Local.IsValid():
			if found == nil {
				found = s
			}
		case s.key.Local.WithZone("") == d.to:
			return s
		}
	}
	return found
}

func (s *session) minTTL() int {
	if s.key.Multihop {
		return int(s.machine.profile.MinTTL)
	}
	return maxTTL
}

func (e *engine) add(s *session) {
	s.metrics = e.metrics.session(s.key)
	e.sessions[s.machine.localDiscriminator] = s
}

// remove tells the neighbor AdminDown and forgets the session.
func (e *engine) remove(s *session) {
	s.machine.shutDown(time.Now())
	for range farewells {
		e.send(s, s.machine.packet(false))
	}
	delete(e.sessions, s.machine.localDiscriminator)
	s.metrics.forget()
	e.changes.drop(s.key)
}

// apply does what a machine wants.
func (e *engine) apply(s *session, out effects) {
	if out.send {
		e.send(s, s.machine.packet(false))
	}
	if out.final {
		e.send(s, s.machine.packet(true))
	}
	if out.changed {
		s.metrics.moved(out.from, s.machine.state)
	}
	if !out.changed && !out.lost {
		return
	}
	e.changes.push(Event{Key: s.key, State: s.machine.state, Diagnostic: s.machine.diag, Lost: out.lost})
}

func (e *engine) send(s *session, p packet) {
	p.encode(&e.out)
	if err := unix.Sendto(s.socket, e.out[:], unix.MSG_DONTWAIT, s.to); err != nil {
		// A link that is down, a route that is missing: the neighbor notices.
		s.sendError = err
		e.metrics.sendErrors.Inc()
		return
	}
	s.sendError = nil
	s.sent++
	e.metrics.sent.Inc()
}

// state returns the session as it is.
func (s *session) state() Session {
	m := s.machine
	sendError := ""
	if s.sendError != nil {
		sendError = s.sendError.Error()
	}
	return Session{
		Key:   s.key,
		State: m.state, RemoteState: m.remoteState,
		Diagnostic: m.diag, RemoteDiagnostic: m.remoteDiag,
		LocalDiscriminator: m.localDiscriminator, RemoteDiscriminator: m.remoteDiscriminator,
		TransmitInterval: m.transmitInterval(), DetectionTime: m.detectionTime(),
		Since: m.since, Downs: m.downs,
		Sent: s.sent, Received: s.received, Discarded: s.discarded,
		SendError: sendError,
	}
}

func closeAll(fds []int) error {
	var errs []error
	for _, fd := range fds {
		if err := unix.Close(fd); err != nil {
			errs = append(errs, fmt.Errorf("close socket: %w", err))
		}
	}
	return errors.Join(errs...)
}
