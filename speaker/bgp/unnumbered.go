package bgp

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/vishvananda/netlink"
)

// An unnumbered neighbor is the one router on a link, whatever its address. The
// kernel knows that when the router has sent something, such as a router
// advertisement, and tells when the router is another one.

// lookPause is how soon a second look at the links follows the first: the entry of
// a neighbor that does not answer changes without end.
const lookPause = time.Second

// Why the neighbor on a link is not known.
var (
	errNoneHeard = errors.New("no IPv6 link-local neighbor was heard")
	errAmbiguous = errors.New("only one neighbor may be there")
)

// watchLinks has the kernel's neighbors watched while one of the sessions depends
// on them.
func (s *Server) watchLinks(peers []Peer) {
	needed := slices.ContainsFunc(peers, func(p Peer) bool { return p.Interface != "" })
	switch {
	case needed && s.unwatch == nil:
		ctx, cancel := context.WithCancel(context.Background())
		s.unwatch = cancel
		go s.watch(ctx)
	case !needed && s.unwatch != nil:
		s.unwatch()
		s.unwatch = nil
	}
}

// watch looks for the neighbors again when there may be others.
func (s *Server) watch(ctx context.Context) {
	changed := make(chan struct{}, 1)
	go s.subscribe(ctx, changed)
	for {
		select {
		case <-ctx.Done():
			return
		case <-changed:
		}
		s.linksChanged()
		wait(ctx, lookPause)
	}
}

// subscribe signals changes until ctx is done. A subscription ends when the kernel
// had to drop events, and is begun anew.
func (s *Server) subscribe(ctx context.Context, changed chan<- struct{}) {
	for ctx.Err() == nil {
		if err := listen(ctx, changed); err != nil {
			s.log.Error(err, "watching the neighbors on links")
		}
		wait(ctx, lookPause)
	}
}

// listen signals changes for one subscription.
func listen(ctx context.Context, changed chan<- struct{}) error {
	ctx, end := context.WithCancel(ctx)
	defer end()
	updates := make(chan netlink.NeighUpdate)
	if err := netlink.NeighSubscribeWithOptions(updates, ctx.Done(), netlink.NeighSubscribeOptions{}); err != nil {
		return err
	}
	signal(changed) // for what came before
	for u := range updates {
		if u.IP.To4() == nil && u.IP.IsLinkLocalUnicast() {
			signal(changed)
		}
	}
	return nil
}

func wait(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// linksChanged makes the addresses of all unnumbered neighbors worth a look. That
// of an established session gets it when the session is lost: see tend.
func (s *Server) linksChanged() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, n := range s.neighbors {
		n.unsure = n.want.Interface != ""
	}
	s.relocate()
}

// relocate looks for the neighbors whose links have changed, and replaces the
// sessions with those that are others now.
func (s *Server) relocate() {
	if s.router == nil || s.leaving {
		return
	}
	var found []*neighbor
	for _, n := range s.sorted() {
		if !n.unsure || s.settled(n) {
			continue
		}
		s.wantPeer(n, n.want)
		if n.added == nil && n.err == nil {
			found = append(found, n)
		}
		signal(s.changed)
	}
	if len(found) == 0 {
		return
	}
	if err := s.applyPolicy(s.policy); err != nil {
		s.log.Error(err, "telling the policy of the neighbors on links")
	}
	for _, n := range found {
		n.err = s.add(n)
	}
	if err := s.applyBFD(); err != nil {
		s.log.Error(err, "watching the paths to the neighbors on links")
	}
}

// locate returns the address of the neighbor. A session on the same link keeps its
// own while it is established, and while no other is known.
func (s *Server) locate(n *neighbor, want Peer) (netip.Addr, error) {
	if want.Interface == "" {
		return want.Address, nil
	}
	keeps := n.added != nil && n.want.Interface == want.Interface
	if keeps && s.settled(n) {
		return n.address, nil
	}
	n.unsure = false
	address, err := neighborOn(want.Interface)
	switch {
	case err == nil || !keeps:
		return address, err
	case errors.Is(err, errAmbiguous):
		return n.address, err // it may be either of them
	}
	return n.address, nil
}

// settled says whether a session is established or, by the next message, will be.
func (s *Server) settled(n *neighbor) bool {
	if n.added == nil {
		return false
	}
	state := s.journal.of(n.key()).state
	return state == established || state == "OPENCONFIRM"
}

// neighborOn returns the one neighbor on a link.
func neighborOn(link string) (netip.Addr, error) {
	heard, err := heardOn(link)
	switch {
	case err == nil && len(heard) == 0:
		err = errNoneHeard
	case len(heard) > 1:
		return netip.Addr{}, fmt.Errorf("spec.conf.neighborInterface: %d neighbors are on %s, %v and %v among them: "+
			"remove the others from the link, or set spec.conf.neighborAddress to that of the router: %w", len(heard), link, heard[0], heard[1], errAmbiguous)
	}
	if err != nil {
		return netip.Addr{}, fmt.Errorf("spec.conf.neighborInterface: the router on %s is not known yet; "+
			"it must be the only one on the link, and be heard by router advertisements: %w", link, err)
	}
	return heard[0], nil
}

// heardOn returns the link-local addresses of others on a link, sorted. Those that
// the node has only asked for are not among them.
func heardOn(link string) ([]netip.Addr, error) {
	ifi, err := net.InterfaceByName(link)
	if err != nil {
		return nil, err
	}
	own, err := ifi.Addrs()
	if err != nil {
		return nil, err
	}
	entries, err := netlink.NeighList(ifi.Index, netlink.FAMILY_V6)
	if err != nil {
		return nil, err
	}
	var heard []netip.Addr
	for _, e := range entries {
		addr, ok := netip.AddrFromSlice(e.IP)
		silent := e.State&(netlink.NUD_FAILED|netlink.NUD_INCOMPLETE) != 0
		if !ok || silent || !addr.IsLinkLocalUnicast() ||
			slices.ContainsFunc(own, func(a net.Addr) bool { n, ok := a.(*net.IPNet); return ok && n.IP.Equal(e.IP) }) {
			continue
		}
		heard = append(heard, addr.WithZone(link))
	}
	slices.SortFunc(heard, netip.Addr.Compare)
	return heard, nil
}
