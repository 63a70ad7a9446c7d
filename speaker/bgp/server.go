package bgp

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"sync"

	"github.com/go-logr/logr"
	gobgp "github.com/osrg/gobgp/v3/pkg/server"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/fairway-lb/fairway/speaker/bfd"
	"github.com/fairway-lb/fairway/speaker/plan"
)

// Options of a Server.
type Options struct {
	Log logr.Logger
	// Registerer gets the metrics fairway_bgp_… and fairway_bfd_…; nil means none
	// are registered.
	Registerer prometheus.Registerer
}

// Server is a node's BGP router. It is told the whole desired state, and makes
// GoBGP equal to it by what has changed; nothing that it announces and no
// session is given up for a change that does not concern it. All methods may be
// called from any goroutine; those that change something wait for each other.
type Server struct {
	log     logr.Logger
	changed chan struct{}
	wake    chan struct{}
	ended   chan struct{} // closed by Stop
	journal *journal
	bfd     *bfd.Server

	mu     sync.Mutex
	bgp    *gobgp.BgpServer
	router *Router // that runs, nil for none
	// started is set once a router has run in the life of the process. Until
	// then neighbors may hold routes that an earlier process has announced.
	started   bool
	leaving   bool
	neighbors map[string]*neighbor // by name
	unwatch   func()               // ends the watch of links, nil while there is none
	table     table
	policy    *Policy // that is in force
	guard     guardInput
	// version changes with all that announced counts depend on.
	version uint64
}

// PeerError is why a session is not as it was to be.
type PeerError struct {
	Name string // of the Peer
	Err  error
}

func (e *PeerError) Error() string { return fmt.Sprintf("BgpPeer %s: %v", e.Name, e.Err) }

// Unwrap returns Err.
func (e *PeerError) Unwrap() error { return e.Err }

// New returns a Server without a router. It opens no socket until Configure.
func New(o Options) *Server {
	s := &Server{
		log:       o.Log,
		changed:   make(chan struct{}, 1),
		wake:      make(chan struct{}, 1),
		ended:     make(chan struct{}),
		neighbors: make(map[string]*neighbor),
		table:     newTable(),
	}
	s.journal = newJournal(o.Log, func() { signal(s.wake) })
	s.bfd = bfd.New(bfd.Options{Log: o.Log, Registerer: o.Registerer, Notify: s.pathChanged})
	if o.Registerer != nil {
		o.Registerer.MustRegister(collector{s})
	}
	go s.follow()
	return s
}

// signal puts a value into a channel of capacity 1, unless there is one.
func signal(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// Changed gets a value when sessions may have changed their state.
func (s *Server) Changed() <-chan struct{} { return s.changed }

// follow tends to the sessions whenever the state of one has changed.
func (s *Server) follow() {
	for {
		select {
		case <-s.ended:
			return
		case <-s.wake:
		}
		s.mu.Lock()
		s.version++
		s.tend()
		s.mu.Unlock()
		signal(s.changed)
	}
}

// Announce makes routes for prefixes what they are to be, nil for none. Other
// prefixes stay as they are. While there is no router the routes are kept for the
// next one. A call returns when GoBGP has the routes; what changed is on its way
// to the neighbors then, one UPDATE for a route that has changed.
func (s *Server) Announce(routes map[netip.Prefix]*plan.Route) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.table.want(routes)
	if s.router == nil {
		return nil
	}
	return s.applyRoutes()
}

// Configure makes router, sessions, policy and BFD equal to config. What could
// not be done is in the error, which joins a *PeerError for each session that is
// not as it was to be with other errors; the rest is done, and the next call
// tries again.
//
// Changing the AS, identifier or listening addresses of the router ends all
// sessions, a session's own parameters that one; nothing else does.
func (s *Server) Configure(ctx context.Context, config Config) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.leaving {
		return errors.New("the BGP router is being stopped")
	}
	if s.router != nil && (config.Router == nil || !reflect.DeepEqual(*s.router, *config.Router)) {
		s.stopRouter(ctx)
	}
	if config.Router == nil {
		return s.applyBFD()
	}
	if s.router == nil {
		if err := s.startRouter(ctx, config.Router); err != nil {
			return errors.Join(err, s.applyBFD())
		}
	}
	var errs []error
	s.wantPeers(config.Peers)
	if err := s.applyPolicy(config.Policy); err != nil {
		errs = append(errs, err)
	}
	errs = append(errs, s.applyPeers()...)
	s.started = true
	if err := s.applyBFD(); err != nil {
		errs = append(errs, err)
	}
	s.tend()
	return errors.Join(errs...)
}

// Leave prepares for the end of the process: what happens to sessions from now on
// is left alone. Neither BGP nor BFD says a word. When the process ends, the
// connections do, and neighbors keep the routes for the restart time (RFC 4724);
// a BFD session that was taken down before that, with AdminDown, would have some
// of them (FRR 8.4) drop the session with the routes.
func (s *Server) Leave() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.leaving = true
}

// Stop ends all sessions with a Cease, or when ctx does, without. The Server
// cannot be used any more.
func (s *Server) Stop(ctx context.Context) {
	s.Leave()
	s.mu.Lock()
	if s.router != nil {
		s.stopRouter(ctx)
	}
	select {
	case <-s.ended:
	default:
		close(s.ended)
	}
	s.mu.Unlock()
	s.closeBFD()
}

// closeBFD is called without the mutex: an event may be waiting for it.
func (s *Server) closeBFD() {
	if err := s.bfd.Close(); err != nil {
		s.log.Error(err, "closing BFD")
	}
}
