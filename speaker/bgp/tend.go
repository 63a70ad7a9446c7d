package bgp

import (
	"context"
	"errors"
	"fmt"
	"net"
	"syscall"
	"time"

	api "github.com/osrg/gobgp/v3/api"

	"github.com/fairway-lb/fairway/speaker/bfd"
)

const (
	// steadyTime is how long a session must have lasted for its loss to be worth a
	// restart that preserves forwarding: GoBGP announces all routes to all
	// neighbors then, which one that flaps must not cause again and again.
	steadyTime = time.Minute

	// A session that was closed for too many prefixes is opened again after
	// minPause, then after twice as long each time: a neighbor's mistake may be
	// mended, but until then each try makes it send all its routes.
	minPause = time.Minute
	maxPause = time.Hour
)

// tend does what sessions need that have changed their state. It only compares,
// so it may be called at any time.
func (s *Server) tend() {
	if s.router == nil || s.leaving {
		return
	}
	s.relocate()
	for _, n := range s.neighbors {
		if n.added != nil {
			e := s.journal.of(n.key())
			s.tendAdmin(n, e)
			s.tendStale(n, e)
		}
	}
}

// tendAdmin makes the administrative state what is wanted. GoBGP drops a request
// that comes too soon after another.
func (s *Server) tendAdmin(n *neighbor, e entry) {
	ctx := context.Background()
	var err error
	switch {
	case n.want.AdminDown && e.admin != adminDown:
		err = s.bgp.DisablePeer(ctx, &api.DisablePeerRequest{Address: n.key()})
	case !n.want.AdminDown && e.admin == adminDown:
		err = s.bgp.EnablePeer(ctx, &api.EnablePeerRequest{Address: n.key()})
	case e.admin == adminPrefixes && n.reopen.IsZero():
		if e.uptime >= steadyTime {
			n.pause = 0
		}
		n.pause = min(max(minPause, 2*n.pause), maxPause)
		n.reopen = time.Now().Add(n.pause)
		time.AfterFunc(n.pause, func() { signal(s.wake) })
	case e.admin == adminPrefixes && !time.Now().Before(n.reopen):
		err = s.bgp.EnablePeer(ctx, &api.EnablePeerRequest{Address: n.key()})
	case e.admin == adminUp:
		n.reopen = time.Time{}
	}
	if err != nil {
		s.log.Error(err, "changing the administrative state of a BGP neighbor", "neighbor", n.key())
	}
}

// tendStale sees to it that a session which begins with routes of an earlier one
// at the neighbor says that their forwarding was preserved. GoBGP forgets that
// it was to, for all neighbors, when it has End-of-RIB from the first ones.
func (s *Server) tendStale(n *neighbor, e entry) {
	if e.flaps != n.losses {
		n.losses = e.flaps
		n.stale = e.uptime >= steadyTime
	}
	switch e.state {
	case established:
		n.stale = false
	case idle, "CONNECT", "ACTIVE":
		if n.stale && n.added.GracefulRestart.Enabled && !e.restarting && e.admin == adminUp && !n.want.AdminDown {
			s.restart(n, "")
		}
	}
}

// pathChanged is told by BFD. A lost path ends the session at once: it is not
// left to the hold timer to find out.
func (s *Server) pathChanged(ev bfd.Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	defer signal(s.changed)
	if !ev.Lost || s.router == nil || s.leaving {
		return
	}
	for _, n := range s.neighbors {
		if n.added == nil || n.want.BFD == nil || n.bfdKey() != ev.Key {
			continue
		}
		if e := s.journal.of(n.key()); e.state == established {
			s.restart(n, fmt.Sprintf("BFD lost the path to the neighbor: %v", ev.Diagnostic))
		}
	}
}

// bfdKey is the neighbor's BFD session.
func (n *neighbor) bfdKey() bfd.Key {
	return bfd.Key{Neighbor: n.address, Local: n.want.LocalAddress, Multihop: n.want.BFD.Multihop}
}

// applyBFD makes the BFD sessions those of the present neighbors. What keeps one
// from being there is its neighbor's *PeerError; the rest is about all of them.
func (s *Server) applyBFD() error {
	wanted := make(map[bfd.Key]bfd.Profile)
	watching := make(map[bfd.Key][]*neighbor)
	for _, n := range s.sorted() {
		if n.want.BFD != nil && n.address.IsValid() && !n.want.AdminDown {
			wanted[n.bfdKey()] = *n.want.BFD
			watching[n.bfdKey()] = append(watching[n.bfdKey()], n)
		}
	}
	parts := []error{s.bfd.Set(wanted)}
	if joined, ok := parts[0].(interface{ Unwrap() []error }); ok {
		parts = joined.Unwrap()
	}
	var errs []error
	for _, err := range parts {
		var one *bfd.SessionError
		switch {
		case err == nil:
		case errors.As(err, &one):
			for _, n := range watching[one.Key] {
				errs = append(errs, &PeerError{n.want.Name, n.bfdError(one.Err)})
			}
		default:
			errs = append(errs, fmt.Errorf("BFD: %w", err))
		}
	}
	return errors.Join(errs...)
}

// bfdError says which field keeps the neighbor's BFD session from being there,
// and what to do.
func (n *neighbor) bfdError(err error) error {
	var noInterface *net.OpError
	switch {
	case errors.Is(err, syscall.EADDRNOTAVAIL) && n.want.LocalAddress.IsValid():
		return fmt.Errorf("spec.transport.localAddress %v, which BFD sends from: correct it, "+
			"or leave it out to use the one that the node's routes choose: %w", n.want.LocalAddress, err)
	case errors.Is(err, syscall.EADDRINUSE):
		return fmt.Errorf("spec.bfd: stop the other BFD daemon of the node, or remove spec.bfd: %w", err)
	case n.want.BFD.Multihop && n.address.IsLinkLocalUnicast():
		return fmt.Errorf("spec.bfd.multihop: remove it: %w", err)
	case errors.As(err, &noInterface):
		field := "neighborAddress"
		if n.want.Interface != "" {
			field = "neighborInterface"
		}
		return fmt.Errorf("spec.conf.%s: write the name of an interface that the node has: %w", field, err)
	}
	return fmt.Errorf("spec.bfd: the node will try again; to do without BFD, remove spec.bfd: %w", err)
}
