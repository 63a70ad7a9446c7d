package bgp

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"reflect"
	"runtime/debug"
	"slices"
	"strconv"
	"syscall"
	"time"

	api "github.com/osrg/gobgp/v3/api"
	"github.com/osrg/gobgp/v3/pkg/config/oc"
	wire "github.com/osrg/gobgp/v3/pkg/packet/bgp"
	gobgp "github.com/osrg/gobgp/v3/pkg/server"
)

// stopTimeout is how long neighbors have for taking the Cease when the router is
// stopped. One that takes nothing would hold it up for its hold time.
const stopTimeout = 3 * time.Second

// global is GoBGP's name for its one table.
const global = "global"

// startRouter starts GoBGP, and gives it the routes before any neighbor.
func (s *Server) startRouter(ctx context.Context, r *Router) error {
	addresses, err := listenable(ctx, r)
	if err != nil {
		return err
	}
	if s.bgp == nil {
		s.bgp = gobgp.NewBgpServer(gobgp.LoggerOption(s.journal))
		go s.serve(s.bgp)
	}
	err = s.bgp.StartBgp(ctx, &api.StartBgpRequest{Global: &api.Global{
		Asn:              r.AS,
		RouterId:         r.ID.String(),
		ListenPort:       r.ListenPort,
		ListenAddresses:  addresses,
		Families:         tableFamilies(r.Families),
		UseMultiplePaths: r.UseMultiplePaths,
	}})
	if err != nil {
		s.stopBgp(ctx) // some of the addresses may be listened on already
		return fmt.Errorf("starting the BGP router: %w", err)
	}
	s.router = r
	s.table.reset()
	s.guard = guardInput{}
	return nil
}

// serve runs GoBGP's main loop, which has no end. A message can make it panic: a
// neighbor that sends a second OPEN does. The loop drops that message and goes on.
// It forgets its listeners, though, which stay open until the process ends.
func (s *Server) serve(bgp *gobgp.BgpServer) {
	for {
		func() {
			defer func() {
				if fault := recover(); fault != nil {
					s.log.Error(fmt.Errorf("%v", fault), "GoBGP panicked on a message and goes on without it", "stack", string(debug.Stack()))
				}
			}()
			bgp.Serve()
		}()
	}
}

// stopRouter ends all sessions with a Cease.
func (s *Server) stopRouter(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, stopTimeout)
	defer cancel()
	var ends []<-chan struct{}
	for _, n := range s.neighbors {
		if n.added != nil {
			ends = append(ends, s.journal.expectEnd(n.key()))
			s.remove(n)
		}
	}
	// GoBGP's StopBgp does not mind that a neighbor's messages are being read.
	for _, ended := range ends {
		select {
		case <-ended:
		case <-ctx.Done():
		}
	}
	clear(s.neighbors)
	s.watchLinks(nil)
	s.router = nil
	s.stopBgp(ctx)
	s.version++
	signal(s.changed)
}

// stopBgp stops GoBGP, which waits until the neighbors have taken the Cease. One
// that is given up on is not used again.
func (s *Server) stopBgp(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, stopTimeout)
	defer cancel()
	bgp, done := s.bgp, make(chan error, 1)
	go func() { done <- bgp.StopBgp(ctx, &api.StopBgpRequest{}) }()
	select {
	case err := <-done:
		if err != nil {
			s.log.Error(err, "stopping the BGP router")
		}
	case <-ctx.Done():
		s.bgp = nil
	}
}

// listenable returns the addresses to listen on, or why that is not possible.
// GoBGP would keep the first address when it fails at the second.
func listenable(ctx context.Context, r *Router) ([]string, error) {
	addresses := r.ListenAddresses
	if len(addresses) == 0 {
		addresses = []netip.Addr{netip.IPv4Unspecified(), netip.IPv6Unspecified()}
	}
	var texts []string
	for _, addr := range addresses {
		if r.ListenPort > 0 {
			network := "tcp4"
			if addr.Is6() {
				network = "tcp6"
			}
			l, err := (&net.ListenConfig{}).Listen(ctx, network, net.JoinHostPort(addr.String(), strconv.Itoa(int(r.ListenPort))))
			switch {
			case err == nil:
				err = l.Close()
			case addr.IsUnspecified() && len(r.ListenAddresses) == 0 && errors.Is(err, syscall.EAFNOSUPPORT):
				continue // a node without one of the families
			case errors.Is(err, syscall.EADDRINUSE):
				err = fmt.Errorf("another program on the node uses BGP's port %d: "+
					"set spec.listenPort of BgpConf default to another port, or to -1 to connect to neighbors only: %w", r.ListenPort, err)
			case errors.Is(err, syscall.EADDRNOTAVAIL):
				err = fmt.Errorf("the node does not have the address: remove it from spec.listenAddresses of BgpConf default: %w", err)
			}
			if err != nil {
				return nil, fmt.Errorf("listening on %v: %w", addr, err)
			}
		}
		texts = append(texts, addr.String())
	}
	return texts, nil
}

// tableFamilies are the families that routes are announced for, as GoBGP numbers
// them in a router: those of afi<<16|safi that are unicast, or both.
func tableFamilies(families []uint32) []uint32 {
	var ids []uint32
	for _, f := range []struct {
		family wire.RouteFamily
		name   oc.AfiSafiType
	}{{wire.RF_IPv4_UC, oc.AFI_SAFI_TYPE_IPV4_UNICAST}, {wire.RF_IPv6_UC, oc.AFI_SAFI_TYPE_IPV6_UNICAST}} {
		if len(families) == 0 || slices.Contains(families, uint32(f.family)) {
			ids = append(ids, uint32(f.name.ToInt()))
		}
	}
	return ids
}

// applyPolicy puts the operator's policy and the guard in force, with what
// follows for routes that are announced already.
func (s *Server) applyPolicy(p *Policy) error {
	t := &s.table
	if !reflect.DeepEqual(s.policy, p) {
		s.policy = p
		t.unruled = true
		// Every route is decided on anew, as another path: see classes.
		t.classes.retire()
		t.markAll()
	}
	before, after := s.guard.neighbors, s.guardNeighbors()
	t.unruled = t.unruled || !slices.Equal(before, after)
	if t.classes.meet(after) {
		t.markAll()
	}
	if err := s.applyRoutes(); err != nil {
		return err
	}
	var errs []error
	for _, n := range after {
		i := slices.IndexFunc(before, func(b guardNeighbor) bool { return b.name == n.name })
		if i < 0 || before[i] == n || before[i].address != n.address {
			continue
		}
		err := s.bgp.ResetPeer(context.Background(), &api.ResetPeerRequest{
			Address: n.address.String(), Soft: true, Direction: api.ResetPeerRequest_OUT})
		if err != nil && s.neighbors[n.name].added != nil {
			errs = append(errs, &PeerError{n.name, fmt.Errorf("announcing routes with another next hop: %w", err)})
		}
	}
	return errors.Join(errs...)
}

// setGuard gives GoBGP the policies for the present neighbors and classes;
// those of targets are about to have routes.
func (s *Server) setGuard(targets map[netip.Prefix]*class) error {
	t := &s.table
	wanted := make(map[*class]bool)
	for _, c := range targets {
		wanted[c] = true
	}
	t.classes.sweep(wanted)
	in := guardInput{
		classes:   t.classes.list(),
		prepends:  slices.Sorted(maps.Keys(t.prepends)),
		neighbors: s.guardNeighbors(),
	}
	sets, imports, exports := newGuard(in)
	err := s.bgp.SetPolicies(context.Background(), &api.SetPoliciesRequest{
		DefinedSets: append(sets, s.policy.DefinedSets()...),
		Policies:    append([]*api.Policy{imports, exports}, s.policy.Policies()...),
	})
	if err != nil {
		return fmt.Errorf("setting the policy: %w", err)
	}
	// Until now the policies that were in force are, also those that are gone.
	if err := s.assign(); err != nil {
		return err
	}
	s.guard = in
	t.unruled = false
	return nil
}

// assign puts the guard and the operator's policies in force for all neighbors.
func (s *Server) assign() error {
	for _, a := range []struct {
		direction  api.PolicyDirection
		guard      string
		assignment Assignment
	}{
		{api.PolicyDirection_IMPORT, guardImport, s.policy.Import()},
		{api.PolicyDirection_EXPORT, guardExport, s.policy.Export()},
	} {
		request := &api.PolicyAssignment{Name: global, Direction: a.direction, DefaultAction: api.RouteAction_ACCEPT,
			Policies: []*api.Policy{{Name: a.guard}}}
		if a.assignment.Reject {
			request.DefaultAction = api.RouteAction_REJECT
		}
		for _, name := range a.assignment.Policies {
			request.Policies = append(request.Policies, &api.Policy{Name: name})
		}
		if err := s.bgp.SetPolicyAssignment(context.Background(), &api.SetPolicyAssignmentRequest{Assignment: request}); err != nil {
			return fmt.Errorf("putting the policy in force: %w", err)
		}
	}
	return nil
}
