package lab

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"
)

var (
	errNoDaemon   = errors.New("the router has no daemon")
	errNoNeighbor = errors.New("the daemon knows no such neighbor")
)

// BGPSession is a session as the router's daemon sees it.
type BGPSession struct {
	Neighbor netip.Addr
	// State is of RFC 4271 8.2.2: Idle, Connect, Active, OpenSent, OpenConfirm,
	// Established. BIRD has "Down" and "Passive" besides, which mean Idle and
	// Active.
	State    string
	RemoteAS uint32
	// LastError is the daemon's words about why the session went down last.
	LastError string
	// Hold and Keepalive are the negotiated times.
	Hold, Keepalive time.Duration
	// PrefixesReceived is how many routes of the neighbor the router accepted,
	// of both families.
	PrefixesReceived int
	// Flaps is how often the session went down; FRR only.
	Flaps int
}

// Established is the State of a session that is up.
const Established = "Established"

// BGPRoute is what the router's daemon has for a prefix.
type BGPRoute struct {
	Prefix netip.Prefix
	Paths  []BGPPath // the best one first
}

// BGPPath is one of the ways that neighbors offered.
type BGPPath struct {
	Neighbor netip.Addr // who offered it; the zero Addr for an own route
	NextHops []netip.Addr
	ASPath   []uint32
	Origin   string // IGP, EGP or incomplete
	// LocalPref and MED are nil if the path has none. FRR gives every path of an
	// eBGP neighbor none, BIRD gives it 100.
	LocalPref, MED   *uint32
	Communities      []string // "65535:0", sorted
	LargeCommunities []string // "65000:1:2", sorted
	Best             bool
	// Stale is a path that is kept during the neighbor's graceful restart.
	Stale bool
}

// BFDSession is a BFD session as the router's daemon sees it.
type BFDSession struct {
	Neighbor netip.Addr
	State    string // AdminDown, Down, Init or Up
	// MinTx and MinRx are the router's own intervals, DetectionTime is what they
	// and the neighbor's came to; BIRD tells the last one only, as Timeout.
	MinTx, MinRx, DetectionTime time.Duration
	Multihop                    bool
	// Diagnostic and RemoteDiagnostic are FRR's words; "" with BIRD.
	Diagnostic, RemoteDiagnostic string
	// Downs is how often the session went down; FRR only.
	Downs int
}

// Show asks the daemon with a command of its own, vtysh's or birdc's, and
// returns the text: "show bgp summary", "show protocols all".
func (r *Router) Show(ctx context.Context, command string) (string, error) {
	return ask(r, fmt.Sprintf("%q of router %s", command, r.name), func(d routingDaemon) (string, error) {
		return d.show(ctx, command)
	})
}

// Session returns the session with a neighbor.
func (r *Router) Session(ctx context.Context, neighbor netip.Addr) (BGPSession, error) {
	return ask(r, fmt.Sprintf("session of router %s with %s", r.name, neighbor), func(d routingDaemon) (BGPSession, error) {
		return d.session(ctx, neighbor)
	})
}

// WaitSession waits until the session with the neighbor is Established.
func (r *Router) WaitSession(ctx context.Context, neighbor netip.Addr) error {
	return r.AwaitSession(ctx, neighbor, "is "+Established, func(s BGPSession) bool { return s.State == Established })
}

// WaitNoSession waits until there is no Established session with the neighbor.
func (r *Router) WaitNoSession(ctx context.Context, neighbor netip.Addr) error {
	return r.AwaitSession(ctx, neighbor, "is not "+Established, func(s BGPSession) bool { return s.State != Established })
}

// AwaitSession asks for the session until the condition, whose words are what,
// holds. A neighbor that the daemon does not know is a session in state Idle.
func (r *Router) AwaitSession(ctx context.Context, neighbor netip.Addr, what string, condition func(BGPSession) bool) error {
	return poll(ctx, fmt.Sprintf("the session of router %s with %s %s", r.name, neighbor, what), func() error {
		s, err := r.Session(ctx, neighbor)
		switch {
		case errors.Is(err, errNoNeighbor):
			s = BGPSession{Neighbor: neighbor, State: "Idle"}
		case err != nil:
			return err
		}
		if !condition(s) {
			return fmt.Errorf("it is %+v", s)
		}
		return nil
	})
}

// BGPRoute returns what the daemon has for a prefix; no paths if it has none.
func (r *Router) BGPRoute(ctx context.Context, prefix netip.Prefix) (BGPRoute, error) {
	return ask(r, fmt.Sprintf("BGP route of router %s to %s", r.name, prefix), func(d routingDaemon) (BGPRoute, error) {
		return d.route(ctx, prefix)
	})
}

// AwaitBGPRoute asks for the route until the condition, whose words are what,
// holds, and returns the route.
func (r *Router) AwaitBGPRoute(ctx context.Context, prefix netip.Prefix, what string, condition func(BGPRoute) bool) (BGPRoute, error) {
	var route BGPRoute
	err := poll(ctx, fmt.Sprintf("the BGP route of router %s to %s %s", r.name, prefix, what), func() (err error) {
		if route, err = r.BGPRoute(ctx, prefix); err != nil {
			return err
		}
		if !condition(route) {
			return fmt.Errorf("it is %+v", route)
		}
		return nil
	})
	return route, err
}

// BFD returns the BFD session with a neighbor.
func (r *Router) BFD(ctx context.Context, neighbor netip.Addr) (BFDSession, error) {
	return ask(r, fmt.Sprintf("BFD session of router %s with %s", r.name, neighbor), func(d routingDaemon) (BFDSession, error) {
		return d.bfd(ctx, neighbor)
	})
}

// WaitBFD waits until the BFD session with the neighbor has that state.
func (r *Router) WaitBFD(ctx context.Context, neighbor netip.Addr, state string) error {
	return poll(ctx, fmt.Sprintf("the BFD session of router %s with %s is %s", r.name, neighbor, state), func() error {
		s, err := r.BFD(ctx, neighbor)
		if err == nil && s.State != state {
			err = fmt.Errorf("it is %+v", s)
		}
		return err
	})
}

// Shutdown ends the session with a NOTIFICATION (Cease, Administrative Shutdown,
// RFC 8203) that says the reason, until [Router.Enable]. FRR cannot do it to a
// neighbor out of a Range.
func (r *Router) Shutdown(ctx context.Context, neighbor netip.Addr, reason string) error {
	return r.act("shut down", neighbor, func(d routingDaemon) error { return d.shutdown(ctx, neighbor, reason) })
}

// Enable takes back a Shutdown.
func (r *Router) Enable(ctx context.Context, neighbor netip.Addr) error {
	return r.act("enable", neighbor, func(d routingDaemon) error { return d.enable(ctx, neighbor) })
}

// Clear ends the session with a NOTIFICATION (Cease, Administrative Reset) and
// lets it come up again.
func (r *Router) Clear(ctx context.Context, neighbor netip.Addr) error {
	return r.act("clear", neighbor, func(d routingDaemon) error { return d.clear(ctx, neighbor) })
}

func (r *Router) act(what string, neighbor netip.Addr, f func(routingDaemon) error) error {
	_, err := ask(r, fmt.Sprintf("%s the session of router %s with %s", what, r.name, neighbor), func(d routingDaemon) (struct{}, error) {
		return struct{}{}, f(d)
	})
	return err
}

// ask puts a question, whose words are what, to the router's daemon.
func ask[T any](r *Router, what string, question func(routingDaemon) (T, error)) (T, error) {
	var answer T
	err := errNoDaemon
	if r.daemon != nil {
		answer, err = question(r.daemon)
	}
	if err != nil {
		return answer, fmt.Errorf("%s: %w", what, err)
	}
	return answer, nil
}
