package bgp

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"

	api "github.com/osrg/gobgp/v3/api"
	"google.golang.org/protobuf/proto"
)

// neighbor is a session as it is to be and as GoBGP has it.
type neighbor struct {
	want    Peer
	address netip.Addr // the zero value while it is not known
	err     error      // why it is not, or what is wrong with it
	// unsure is set when links have changed since the address was looked up.
	unsure bool
	// added is what GoBGP was given, nil while it has nothing.
	added *api.Peer
	// stale is set while the neighbor may keep routes of a session that this node
	// has not ended (RFC 4724): the next one is to say that their forwarding was
	// preserved, or the neighbor drops them before it has the new ones.
	stale bool
	// losses is the count of lost sessions that stale knows of.
	losses uint64
	// reopen is when a session that was closed for too many prefixes is opened
	// again, and pause how long that was.
	reopen time.Time
	pause  time.Duration
	// seen is what GoBGP said last of the session while it was established, and
	// announced its announced paths by family as of a version of the Server.
	seen      *api.Peer
	announced []uint64
	counted   uint64
}

// key is the neighbor as GoBGP writes it.
func (n *neighbor) key() string { return n.address.String() }

// wantPeers takes the sessions as they are to be, and ends those that are not to
// be any more or not like that. What is added is added by applyPeers, after the
// policy.
func (s *Server) wantPeers(peers []Peer) {
	s.watchLinks(peers)
	gone := maps.Clone(s.neighbors)
	for _, want := range peers {
		n := s.neighbors[want.Name]
		delete(gone, want.Name)
		if n == nil {
			n = &neighbor{stale: !s.started}
			s.neighbors[want.Name] = n
		}
		s.wantPeer(n, want)
	}
	for name, n := range gone {
		if n.added != nil {
			s.remove(n)
		}
		delete(s.neighbors, name)
	}
}

// wantPeer takes one session as it is to be.
func (s *Server) wantPeer(n *neighbor, want Peer) {
	address, err := s.locate(n, want)
	if n.added != nil && (!address.IsValid() || s.needsNewSession(n, want, address)) {
		s.remove(n)
		n.stale = false
	}
	n.want, n.address, n.err = want, address, err
}

// needsNewSession says whether a session cannot become what is wanted while it
// lasts.
func (s *Server) needsNewSession(n *neighbor, want Peer, address netip.Addr) bool {
	was, is := proto.Clone(n.added).(*api.Peer), s.peerOf(want, address)
	for _, p := range []*api.Peer{was, is} {
		p.Timers, p.Conf.AdminDown, p.GracefulRestart.LocalRestarting = nil, false, false
	}
	return !proto.Equal(was, is) ||
		// GoBGP would not withdraw the routes that cannot be announced any more.
		n.want.NextHop4.IsValid() && !want.NextHop4.IsValid() ||
		n.want.NextHop6.IsValid() && !want.NextHop6.IsValid()
}

// applyPeers adds the sessions that are missing, and changes what can be changed
// in those that are there. Whether they are to be down is for tend.
func (s *Server) applyPeers() []error {
	var errs []error
	for _, n := range s.sorted() {
		err := n.err
		switch {
		case n.added != nil:
			err = errors.Join(err, s.applyTimers(n))
		case err == nil:
			err = s.add(n)
		}
		if err != nil {
			errs = append(errs, &PeerError{n.want.Name, err})
		}
	}
	return errs
}

func (s *Server) sorted() []*neighbor {
	return slices.SortedFunc(maps.Values(s.neighbors), func(a, b *neighbor) int { return cmp.Compare(a.want.Name, b.want.Name) })
}

// guardNeighbors are the neighbors as the guard needs them, sorted by name.
func (s *Server) guardNeighbors() []guardNeighbor {
	var list []guardNeighbor
	for _, n := range s.sorted() {
		if n.address.IsValid() {
			list = append(list, guardNeighbor{n.want.Name, n.address, n.want.NextHop4, n.want.NextHop6})
		}
	}
	return list
}

// add gives GoBGP a neighbor.
func (s *Server) add(n *neighbor) error {
	if n.want.Password != "" && n.address.Zone() != "" {
		return errors.New("the kernel has no TCP MD5 passwords for link-local addresses: remove the password or use another address")
	}
	for _, other := range s.neighbors {
		if other != n && other.added != nil && other.address == n.address {
			return fmt.Errorf("spec.conf: BgpPeer %s has the session with %v on this node: remove one of them", other.want.Name, n.address)
		}
	}
	peer := s.peerOf(n.want, n.address)
	peer.Conf.AdminDown = n.want.AdminDown
	peer.GracefulRestart.LocalRestarting = n.stale && peer.GracefulRestart.Enabled
	s.journal.track(n.key(), n.want.AdminDown, peer.GracefulRestart.LocalRestarting)
	if err := s.bgp.AddPeer(context.Background(), &api.AddPeerRequest{Peer: peer}); err != nil {
		s.journal.forget(n.key())
		return err
	}
	n.added = peer
	s.version++
	return nil
}

// remove ends a session with a Cease.
func (s *Server) remove(n *neighbor) {
	ctx := context.Background()
	if n.added.Conf.AuthPassword != "" {
		// GoBGP takes a password off its listeners only when it is changed.
		peer := proto.Clone(n.added).(*api.Peer)
		peer.Conf.AuthPassword, peer.Conf.AdminDown = "", true
		if _, err := s.bgp.UpdatePeer(ctx, &api.UpdatePeerRequest{Peer: peer}); err != nil {
			s.log.Error(err, "taking the password of a BGP neighbor off", "neighbor", n.key())
		}
	}
	if err := s.bgp.DeletePeer(ctx, &api.DeletePeerRequest{Address: n.key()}); err != nil {
		s.log.Error(err, "removing a BGP neighbor", "neighbor", n.key())
	}
	s.journal.forget(n.key())
	n.added = nil
	n.losses, n.reopen, n.pause, n.seen = 0, time.Time{}, 0, nil
	s.version++
	signal(s.changed)
}

// restart ends a session at once, whatever the neighbor and the network do, and
// begins anew, saying that forwarding was preserved.
func (s *Server) restart(n *neighbor, reason string) {
	if err := s.bgp.DeletePeer(context.Background(), &api.DeletePeerRequest{Address: n.key()}); err != nil {
		s.log.Error(err, "restarting a BGP session", "neighbor", n.key())
		return
	}
	if reason != "" {
		s.journal.ended(n.key(), reason)
	}
	n.added, n.stale = nil, true
	n.losses = s.journal.of(n.key()).flaps
	if err := s.add(n); err != nil {
		s.log.Error(err, "restarting a BGP session", "neighbor", n.key())
	}
}

// applyTimers changes the timers, which count for the next session.
func (s *Server) applyTimers(n *neighbor) error {
	timers := timersOf(n.want)
	if proto.Equal(n.added.Timers, timers) {
		return nil
	}
	peer := proto.Clone(n.added).(*api.Peer)
	peer.Timers = timers
	if _, err := s.bgp.UpdatePeer(context.Background(), &api.UpdatePeerRequest{Peer: peer}); err != nil {
		return fmt.Errorf("changing timers: %w", err)
	}
	n.added = peer
	return nil
}
