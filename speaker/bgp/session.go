package bgp

import (
	"context"
	"net/netip"
	"slices"
	"strings"
	"time"

	api "github.com/osrg/gobgp/v3/api"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/fairway-lb/fairway/speaker/bfd"
)

// Session is a session with a neighbor as it is at the moment.
type Session struct {
	// Name is that of the Peer.
	Name string
	// Neighbor is the neighbor's address; the zero value where it is found on a
	// link and has not been yet.
	Neighbor netip.Addr
	// State is IDLE, CONNECT, ACTIVE, OPENSENT, OPENCONFIRM or ESTABLISHED (RFC
	// 4271, 8.2.2), AdminState is UP, DOWN, or PFX_CT after too many prefixes.
	State, AdminState string
	LocalAS, PeerAS   uint32
	// RouterID is the neighbor's BGP identifier, the zero value until it is known.
	RouterID netip.Addr
	// Since is when the session was established or ceased to be, the zero value
	// for one that has never been.
	Since time.Time
	// Reason is, in an operator's words, why the session is not established: why
	// it was lost, and why none has come up since. Lost is the first of them, which
	// stays while the next session is established.
	Reason, Lost string
	// ConnectRetry, HoldTime and KeepaliveInterval are the configured ones,
	// NegotiatedHoldTime is that of the session.
	ConnectRetry, HoldTime, KeepaliveInterval, NegotiatedHoldTime time.Duration
	// Flaps counts how often the session was lost.
	Flaps          uint64
	Sent, Received Messages
	Families       []FamilyCount
	// BFD is the session that watches the path, nil without.
	BFD *bfd.Session
}

// Established says whether routes are exchanged.
func (s Session) Established() bool { return s.State == established }

// The states that are told apart; the others are only shown.
const (
	idle        = "IDLE"
	established = "ESTABLISHED"

	adminUp       = "UP"
	adminDown     = "DOWN"
	adminPrefixes = "PFX_CT"
)

// Messages counts messages by type since the session was configured.
type Messages struct {
	Open, Update, Notification, Keepalive, Refresh, Discarded, Total uint64
}

// FamilyCount is the traffic of an address family in paths: those announced, those
// that the neighbor sends, and those of them that are used, which is none.
type FamilyCount struct {
	IPv6                          bool
	Announced, Received, Accepted uint64
}

// Sessions returns all sessions that Configure was told of last, sorted by name,
// none without a router.
func (s *Server) Sessions() []Session {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.router == nil {
		return nil
	}
	watched := make(map[bfd.Key]bfd.Session)
	for _, b := range s.bfd.Sessions() {
		watched[b.Key] = b
	}
	sessions := make([]Session, 0, len(s.neighbors))
	for _, n := range s.sorted() {
		v := s.snapshot(n)
		if n.want.BFD != nil {
			if b, ok := watched[n.bfdKey()]; ok {
				v.BFD = &b
			}
		}
		sessions = append(sessions, v)
	}
	return sessions
}

// snapshot is one session.
func (s *Server) snapshot(n *neighbor) Session {
	e := entry{state: idle, admin: adminUp}
	if n.added != nil {
		e = s.journal.of(n.key())
	}
	v := Session{
		Name: n.want.Name, Neighbor: n.address,
		State: e.state, AdminState: e.admin,
		LocalAS: n.want.LocalAS, PeerAS: n.want.AS,
		Since: e.since, Reason: e.reason(), Lost: e.lost, Flaps: e.flaps,
		ConnectRetry: n.want.ConnectRetry, HoldTime: n.want.HoldTime, KeepaliveInterval: n.want.KeepaliveInterval,
	}
	if n.want.Password != "" && e.attempt != "" && strings.HasSuffix(e.attempt, "i/o timeout") {
		v.Reason += "; the neighbor does not answer, perhaps because its password is another"
	}
	if v.LocalAS == 0 {
		v.LocalAS = s.router.AS
	}
	if n.err != nil && !v.Established() {
		if v.Reason != "" {
			v.Reason += "; "
		}
		v.Reason += n.err.Error()
	}
	for _, f := range n.want.Families {
		v.Families = append(v.Families, FamilyCount{IPv6: f.IPv6})
	}
	if v.Established() {
		s.count(n)
	}
	p := n.seen
	if p == nil {
		return v
	}
	v.Sent, v.Received = messagesOf(p.State.Messages.Sent), messagesOf(p.State.Messages.Received)
	if v.PeerAS == 0 {
		v.PeerAS = p.State.PeerAsn
	}
	v.RouterID, _ = netip.ParseAddr(p.State.RouterId)
	if v.Established() {
		v.NegotiatedHoldTime = time.Duration(p.Timers.State.NegotiatedHoldTime) * time.Second
		for i := range min(len(v.Families), len(p.AfiSafis), len(n.announced)) {
			v.Families[i].Announced = n.announced[i]
			// What the guard rejects is accepted in GoBGP's books.
			v.Families[i].Received = p.AfiSafis[i].State.GetReceived()
		}
	}
	return v
}

// count asks GoBGP about an established session. About others it has little to
// say, and reads what it says while another of its goroutines writes it. What the
// operator's policy leaves of the routes only GoBGP knows, by applying it to all of
// them, so that is asked for only when something has changed.
func (s *Server) count(n *neighbor) {
	again := s.policy != nil && n.counted != s.version
	err := s.bgp.ListPeer(context.Background(), &api.ListPeerRequest{Address: n.key(), EnableAdvertised: again}, func(p *api.Peer) {
		n.seen = p
		if again {
			n.counted, n.announced = s.version, announcedOf(p)
		}
	})
	if err != nil {
		s.log.Error(err, "reading the state of a BGP session", "neighbor", n.key())
	}
	if s.policy == nil {
		total := s.table.classes.count(n.want.Name)
		n.announced = n.announced[:0]
		for _, f := range n.want.Families {
			switch {
			case f.IPv6 && n.address.Is4() && !n.want.NextHop6.IsValid():
				n.announced = append(n.announced, 0)
			case f.IPv6:
				n.announced = append(n.announced, uint64(total[1]))
			default:
				n.announced = append(n.announced, uint64(total[0]))
			}
		}
	}
}

// announcedOf reads what listPeers was asked for. GoBGP counts the End-of-RIB
// marker of a session with graceful restart as a path.
func announcedOf(p *api.Peer) []uint64 {
	marker := uint64(0)
	if p.GracefulRestart.Enabled && slices.ContainsFunc(p.State.RemoteCap, func(c *anypb.Any) bool {
		return c.MessageIs(&api.GracefulRestartCapability{})
	}) {
		marker = 1
	}
	counts := make([]uint64, 0, len(p.AfiSafis))
	for _, f := range p.AfiSafis {
		counts = append(counts, f.State.GetAdvertised()-min(marker, f.State.GetAdvertised()))
	}
	return counts
}

func messagesOf(m *api.Message) Messages {
	return Messages{
		Open: m.GetOpen(), Update: m.GetUpdate(), Notification: m.GetNotification(), Keepalive: m.GetKeepalive(),
		Refresh: m.GetRefresh(), Discarded: m.GetDiscarded(), Total: m.GetTotal(),
	}
}
