package bfd

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
)

// Options of a Server.
type Options struct {
	// Log gets a line for each change of a session's state.
	Log logr.Logger
	// Registerer gets the metrics fairway_bfd_…; nil means none are registered.
	Registerer prometheus.Registerer
	// Notify is told of changes of sessions, those of each in their order, by a
	// goroutine of its own: it may block, and may call Set and Sessions. Changes
	// of one session that it was too slow for become one, with the last state,
	// and Lost if one had it. Sessions that Set removes and Close ends have no event.
	// nil means that nobody is told.
	Notify func(Event)
}

// Server runs the BFD sessions of a network namespace. Its methods may be called
// from any goroutine.
type Server struct {
	log     logr.Logger
	metrics *metrics
	changes *notifier

	mu     sync.Mutex
	engine *engine // nil until there is a session
	// sessions and listeners are replaced only while the engine's thread waits for
	// Set; what a session points to is the thread's.
	sessions  map[Key]*session
	listeners map[kind]int
	closed    bool
}

// ErrClosed is what a closed Server answers.
var ErrClosed = errors.New("BFD server is closed")

// SessionError is why a session that was wanted is not there.
type SessionError struct {
	Key Key
	Err error
}

func (e *SessionError) Error() string {
	return fmt.Sprintf("begin BFD session with %v: %v", e.Key, e.Err)
}

// Unwrap returns Err.
func (e *SessionError) Unwrap() error { return e.Err }

// New returns a Server without sessions. It opens no socket and starts no thread
// until Set is given a session.
func New(o Options) *Server {
	m, err := newMetrics(o.Registerer)
	if err != nil {
		// The sessions matter more than their metrics.
		o.Log.Error(err, "Register BFD metrics")
	}
	return &Server{
		log:     o.Log,
		metrics: m,
		changes: newNotifier(func(e Event) {
			o.Log.Info("BFD session changed", "neighbor", e.Key.String(), "state", e.State.String(),
				"diagnostic", e.Diagnostic.String(), "lost", e.Lost)
			if o.Notify != nil {
				o.Notify(e)
			}
		}),
	}
}

// Set makes the sessions equal to the wanted ones. Sessions that stay as they are
// go on undisturbed; one whose profile changed keeps its state and negotiates
// the change (RFC 5880, 6.8.3); one that is not wanted any more tells the neighbor
// AdminDown, which harms nothing that depends on it.
//
// Sockets are opened in the network namespace of the calling thread: the ports for
// reception, UDP 3784 and 4784, only while there are sessions that need them.
// Sessions that could not be begun are absent; the error joins a *SessionError
// for each. Calling Set again tries again, and follows an interface whose index
// has changed.
func (s *Server) Set(wanted map[Key]Profile) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return ErrClosed
	}
	if s.engine == nil {
		if len(wanted) == 0 {
			return nil
		}
		engine, err := startEngine(s.log, s.metrics, s.changes)
		if err != nil {
			return err
		}
		s.engine = engine
		go s.changes.run()
	}

	next, errs := s.open(wanted)
	listeners, more := s.listen(next)
	errs = append(errs, more...)
	errs = append(errs, s.swap(next, listeners, wanted))
	return errors.Join(errs...)
}

// open returns the sessions that are wanted and can be: those that are there, and
// new ones, which have sockets already.
func (s *Server) open(wanted map[Key]Profile) (map[Key]*session, []error) {
	next := map[Key]*session{}
	var errs []error
	for _, key := range sortedKeys(wanted) {
		session, err := s.openOne(key, wanted[key], next)
		if err != nil {
			errs = append(errs, &SessionError{key, err})
			continue
		}
		next[key] = session
	}
	return next, errs
}

func (s *Server) openOne(key Key, p Profile, others map[Key]*session) (*session, error) {
	if err := errors.Join(key.check(), p.check(key)); err != nil {
		return nil, err
	}
	ifindex, err := zoneIndex(key.Neighbor)
	if err != nil {
		return nil, err
	}
	if old := s.sessions[key]; old != nil && old.ifindex == ifindex {
		return old, nil
	}
	socket, err := dial(key, ifindex)
	if err != nil {
		return nil, err
	}
	return &session{
		key: key, ifindex: ifindex, socket: socket,
		to:      sockaddr(key.Neighbor, key.kind().port(), ifindex, key.kind()),
		machine: newMachine(p, newDiscriminator(s.sessions, others), rand.Float64, time.Now()),
	}, nil
}

// newDiscriminator returns one that no session has: unpredictable, so that who
// does not see the packets cannot make them up (RFC 5880, 9).
func newDiscriminator(others ...map[Key]*session) uint32 {
next:
	for {
		d := rand.Uint32()
		for _, sessions := range others {
			for _, session := range sessions {
				if session.machine.localDiscriminator == d {
					continue next
				}
			}
		}
		if d != 0 {
			return d
		}
	}
}

// listen returns the sockets that receive the packets of the sessions, and takes
// those sessions out whose socket cannot be had.
func (s *Server) listen(sessions map[Key]*session) (map[kind]int, []error) {
	listeners, failed := map[kind]int{}, map[kind]error{}
	var errs []error
	for _, key := range sortedKeys(sessions) {
		k := key.kind()
		fd, open := listeners[k]
		if !open {
			fd, open = s.listeners[k]
		}
		if !open && failed[k] == nil {
			fd, failed[k] = listen(k)
		}
		if failed[k] != nil {
			errs = append(errs, &SessionError{key, failed[k]}, closeAll([]int{sessions[key].socket}))
			delete(sessions, key)
			continue
		}
		listeners[k] = fd
	}
	return listeners, errs
}

// swap puts sessions and listeners in the place of the present ones.
func (s *Server) swap(next map[Key]*session, listeners map[kind]int, wanted map[Key]Profile) error {
	var unused []int
	s.engine.do(func() {
		for key, old := range s.sessions {
			if next[key] != old {
				s.engine.remove(old)
				unused = append(unused, old.socket)
			}
		}
		s.engine.listeners = listeners
		for key, session := range next {
			if s.sessions[key] != session {
				s.engine.add(session)
			} else if p := wanted[key]; p != session.machine.profile {
				s.engine.apply(session, session.machine.configure(p, time.Now()))
			}
		}
	})
	for k, fd := range s.listeners {
		if _, used := listeners[k]; !used {
			unused = append(unused, fd)
		}
	}
	s.sessions, s.listeners = next, listeners
	return closeAll(unused)
}

// Sessions returns all sessions, sorted by neighbor.
func (s *Server) Sessions() []Session {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.engine == nil || s.closed {
		return nil
	}
	var all []Session
	s.engine.do(func() {
		for _, session := range s.sessions {
			all = append(all, session.state())
		}
	})
	slices.SortFunc(all, func(a, b Session) int { return compareKeys(a.Key, b.Key) })
	return all
}

// Close tells every neighbor AdminDown, closes the sockets and ends what runs
// in the background. No call of Notify begins after it; it does not wait for one
// that has begun. A closed Server stays closed, and closing it again does nothing.
func (s *Server) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil
	}
	s.closed = true
	defer s.metrics.unregister()
	if s.engine == nil {
		return nil
	}
	close(s.changes.stop)
	return errors.Join(s.swap(nil, nil, nil), s.engine.stop())
}

func sortedKeys[V any](m map[Key]V) []Key { return slices.SortedFunc(maps.Keys(m), compareKeys) }

func compareKeys(a, b Key) int {
	multihop := 0
	if a.Multihop != b.Multihop {
		multihop = 1
		if b.Multihop {
			multihop = -1
		}
	}
	return cmp.Or(a.Neighbor.Compare(b.Neighbor), a.Local.Compare(b.Local), multihop)
}
