// Package speaker announces load-balancer addresses from one node. Watches
// and the live members become a plan. By layer 2, the addresses that the plan
// gives to this node are claimed from the other members, and those that are
// held are answered for on the wire; by BGP, every node that the plan finds
// able announces the address to its neighbors.
package speaker

import (
	"context"
	"maps"
	"net/netip"
	"runtime/debug"
	"slices"
	"time"

	"k8s.io/client-go/tools/events"
	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/fairway-lb/fairway/api/v1alpha2"
	"github.com/fairway-lb/fairway/dataplane"
	"github.com/fairway-lb/fairway/speaker/layer2"
	"github.com/fairway-lb/fairway/speaker/membership"
	"github.com/fairway-lb/fairway/speaker/plan"
)

// Config is what a Speaker needs. All but IgnoreExcludeLabel, Readiness and
// Forwarding is required.
type Config struct {
	// NodeName is the Node that the speaker runs on.
	NodeName string
	// IgnoreExcludeLabel makes nodes candidates although they carry the label
	// node.kubernetes.io/exclude-from-external-load-balancers.
	IgnoreExcludeLabel bool
	// Reader reads from a cache in which EndpointSlices have the index that
	// Setup makes.
	Reader client.Reader
	// Members are the live speakers, this one among them.
	Members Members
	// Held are the addresses that this node answers for.
	Held *Held
	// BGP is this node's router.
	BGP BGP
	// Readiness says for which addresses the node forwards traffic. nil leaves
	// that to others, such as kube-proxy.
	Readiness *dataplane.Readiness
	// Forwarding is closed when the node forwards all traffic that it did before
	// the process began, or nil.
	Forwarding <-chan struct{}
	// Events are written to the API server in the background.
	Events events.EventRecorder
}

// Members is what the speaker needs of membership.Cluster.
type Members interface {
	Members() []membership.Member
	SetServed(scopes []string)
	Want(want map[netip.Addr]string)
}

// Speaker announces what the plan gives to this node. Its state belongs to the
// one worker that calls Reconcile.
type Speaker struct {
	Config
	chooseLink func(spec string) (layer2.Link, error)

	view      plan.View
	pools     *pools // nil until the first look at everything
	loaded    bool   // all Services have been read
	book      book
	strays    map[netip.Addr]stray
	owned     owned
	announcer announcer
	reports   reports
	arrivals  arrivals
	queue     workqueue.TypedRateLimitingInterface[request] // the worker's own
	// forwarding are requests that come from the dataplane.
	forwarding chan event.TypedGenericEvent[request]
	drains     chan event.TypedGenericEvent[request]
	drained    chan struct{} // closed when the node has drained before the end
}

// stray is an address in use that no Eip contains any more.
type stray struct {
	pool   string // the Eip that it belongs to all the same
	scopes []string
}

// owned are the addresses that the plan gives to this node, with the Services
// that are reached at them, more than one where an address is shared, and the
// link that each is to be announced on.
type owned map[netip.Addr]map[subject]string

// New returns a Speaker that claims nothing yet.
func New(config Config) *Speaker {
	return &Speaker{
		Config:     config,
		chooseLink: layer2.Choose,
		book:       newBook(),
		strays:     map[netip.Addr]stray{},
		owned:      owned{},
		announcer:  newAnnouncer(config.BGP),
		reports:    newReports(config.NodeName, config.Events),
		forwarding: make(chan event.TypedGenericEvent[request]),
		drains:     make(chan event.TypedGenericEvent[request], 1),
		drained:    make(chan struct{}),
	}
}

// Reconcile brings what this node announces up to date with what the request
// names.
func (s *Speaker) Reconcile(ctx context.Context, r request) (reconcile.Result, error) {
	arrived := s.arrivals.take(r)
	err := s.reconcile(ctx, r, arrived)
	if err != nil && !arrived.IsZero() {
		s.arrivals.put(r, arrived) // it is tried again
	}
	return reconcile.Result{}, err
}

func (s *Speaker) reconcile(ctx context.Context, r request, arrived time.Time) error {
	switch r.kind {
	case heldAddresses:
		s.reports.held(s.Held.Addresses(), s.owned)
		s.withdrawn(s.Readiness.Retiring())
		return nil
	case reportsDue:
		s.after(request{kind: reportsDue}, s.reports.write(s.view, time.Now()))
		return nil
	case routerConfig:
		if !s.loaded {
			return nil // the first look at everything makes the router
		}
		return s.configure(ctx)
	case shutdown:
		s.announcer.drain.stopping = true
	case nodeLinks:
		// Every pod that starts or ends changes a link and a route.
		if same, err := s.poolsAreSame(ctx); err != nil || same {
			return err
		}
	}
	first := !s.loaded
	if first {
		if err := s.awaitForwarding(ctx); err != nil {
			return err
		}
	}
	all := first || r.kind != oneService
	if all {
		if err := s.refresh(ctx); err != nil {
			return err
		}
	}
	// An address may have several Services. They are all looked at before the
	// first decision, or it would be made without some of them; and before the
	// first session, or neighbors that kept routes would lose some.
	var stale []netip.Addr
	switch {
	case first:
		if err := s.readServices(ctx); err != nil {
			return err
		}
		s.loaded = true
	case r.kind == oneService:
		var err error
		if stale, err = s.readService(ctx, r.service); err != nil {
			return err
		}
	}
	if all {
		stale = slices.Collect(maps.Keys(s.book.tenants))
	}
	s.decideAll(stale, all, first)
	if s.reports.due() {
		s.after(request{kind: reportsDue}, reportDelay)
	}
	err := s.announcer.announce(arrived)
	if err == nil {
		s.withdrawn(stale)
	}
	if conflicts, changed := s.announcer.routes.Conflicts(); changed {
		s.reports.disagreements(s.view, s.pools, conflicts)
	}
	if all && err == nil {
		// After the routes: a neighbor that kept those of a former process is
		// to find them all the same.
		err = s.configure(ctx)
		s.endDrain()
	}
	if first {
		// What the API server sent to fill the caches is garbage now, and would stay
		// resident: little is made after this.
		go debug.FreeOSMemory()
	}
	return err
}

// endDrain tells Drain when there is nothing left to withdraw.
func (s *Speaker) endDrain() {
	if d := &s.announcer.drain; d.stopping && d.done {
		select {
		case <-s.drained:
		default:
			close(s.drained)
		}
	}
}

// after has the worker look at something again.
func (s *Speaker) after(r request, delay time.Duration) {
	if s.queue != nil && delay > 0 {
		s.queue.AddAfter(r, delay)
	}
}

// poolsAreSame tells whether this node can announce the same addresses on the
// same links as at the last look.
func (s *Speaker) poolsAreSame(ctx context.Context) (bool, error) {
	pools, err := s.readPools(ctx)
	return err == nil && pools.same(s.pools), err
}

// refresh renews what all decisions rest on: nodes, pools, members.
func (s *Speaker) refresh(ctx context.Context) error {
	nodes, err := s.nodes(ctx)
	if err != nil {
		return err
	}
	if err := s.readBGP(ctx); err != nil {
		return err
	}
	pools, err := s.readPools(ctx)
	if err != nil {
		return err
	}
	s.pools = pools
	s.view = plan.View{Nodes: nodes}
	for _, member := range s.Members.Members() {
		s.view.Members = append(s.view.Members, plan.Member{Name: member.Name, Serves: member.Serves})
	}
	s.reports.pools(s.view, pools)
	a := &s.announcer
	s.after(request{kind: everything}, a.drain.look(s.view, s.NodeName, a.routes.Len() > 0, time.Now()))
	// Third-party next hops do not suffer from what happens to this node.
	a.routes.Drain(a.drain.marks() && !a.thirdParty())
	return nil
}

// decideAll renews the decisions for some addresses and claims what follows
// from them. What was so before this process began is no news.
func (s *Speaker) decideAll(addresses []netip.Addr, linksChanged, first bool) {
	now := time.Now()
	claims, served := false, linksChanged
	for _, addr := range addresses {
		c, v := s.decide(addr, now, first)
		claims, served = claims || c, served || v
	}
	if served {
		s.Members.SetServed(s.served())
	}
	if claims {
		s.Members.Want(s.owned.links())
		s.reports.held(s.Held.Addresses(), s.owned)
	}
}

// decide renews the decision for one address. It tells whether what this node
// owns changed, and whether what it has to say that it serves may have.
func (s *Speaker) decide(addr netip.Addr, now time.Time, first bool) (claims, served bool) {
	address, p, link, served := s.address(addr)
	tenants := s.book.tenants[addr]
	if p != nil && address.Pool.AnnouncedBy() == v1alpha2.ProtocolBGP {
		d := s.decideBGP(address, p)
		s.reports.decided(addr, tenants, s.announcer.explain(d), now)
		if s.announcer.unrouted() == "" {
			s.reports.routed(s.view, addr, tenants, d, !first)
		} else {
			s.reports.unrouted(addr)
		}
		return s.owned.set(addr, nil), served
	}
	s.announcer.routes.Set(addr, nil)
	s.reports.unrouted(addr)
	decision := s.view.Layer2(address)
	s.reports.decided(addr, tenants, decision.Explain, now)

	// What this node's links allow is known here a little earlier than among
	// the members, this one included.
	if link == "" || decision.Owner != s.NodeName || !s.Readiness.Announce(addr) {
		return s.owned.set(addr, nil), served
	}
	reached := make(map[subject]string, len(tenants))
	for _, t := range tenants {
		if decision.Reaches(t.Service) {
			reached[t.subject()] = link
		}
	}
	return s.owned.set(addr, reached), served
}

// address returns what the plan has to know of an address, the Eip that it
// belongs to, nil if to none, and the link on which this node can announce it
// by layer 2, "" if on none. It keeps the strays, and tells whether they
// changed.
func (s *Speaker) address(addr netip.Addr) (a plan.Address, p *pool, link string, changed bool) {
	tenants := s.book.tenants[addr]
	a.Addr, a.Tenants = addr, make([]plan.Tenant, 0, len(tenants))
	for _, t := range tenants {
		a.Tenants = append(a.Tenants, t.Tenant)
		if p == nil { // the senior is the one to say, where Eips overlap
			p = s.pools.of(t.pool, addr)
		}
	}
	before, wasStray := s.strays[addr]
	if p == nil || p.Protocol != v1alpha2.ProtocolLayer2 || p.set.Contains(addr) {
		delete(s.strays, addr)
		if p != nil {
			a.Pool = p.Pool
			a.Scopes, link = p.block(addr)
		}
		return a, p, link, wasStray
	}
	if !wasStray || before.pool != p.Name {
		changed = true
		s.strays[addr] = stray{p.Name, strayScopes(p.Name, addr)}
	}
	if _, ok := p.stray(addr); ok {
		link = p.link.Name
	}
	a.Pool, a.Scopes = p.Pool, s.strays[addr].scopes
	return a, p, link, changed
}

// served returns the scopes that this node can serve: none while its kernel
// does not follow the Services.
func (s *Speaker) served() []string {
	if !s.Readiness.Fit() {
		return nil
	}
	var scopes []string
	for _, p := range s.pools.sorted {
		scopes = append(scopes, p.scopes()...)
	}
	for addr, stray := range s.strays {
		if p := s.pools.get(stray.pool); p != nil {
			if subnet, ok := p.stray(addr); ok {
				scopes = append(scopes, subnetScope(p.Name, subnet))
			}
		}
	}
	slices.Sort(scopes)
	return slices.Compact(scopes)
}

// set replaces the Services that are reached at an address, none for one that
// this node does not own.
func (o owned) set(addr netip.Addr, reached map[subject]string) (changed bool) {
	if maps.Equal(o[addr], reached) {
		return false
	}
	if len(reached) == 0 {
		delete(o, addr)
	} else {
		o[addr] = reached
	}
	return true
}

// links returns the link that each address is to be announced on.
func (o owned) links() map[netip.Addr]string {
	links := make(map[netip.Addr]string, len(o))
	for addr, services := range o {
		for _, link := range services { // the same for all
			links[addr] = link
			break
		}
	}
	return links
}
