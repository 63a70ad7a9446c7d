// Package speaker announces load-balancer addresses from one node. Watches
// and the live members become a plan; the addresses that the plan gives to
// this node are claimed from the other members, and those that are held are
// answered for on the wire.
package speaker

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/events"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/fairway-lb/fairway/api/v1alpha2"
	"github.com/fairway-lb/fairway/speaker/membership"
	"github.com/fairway-lb/fairway/speaker/plan"
)

// Config is what a Speaker needs. All but IgnoreExcludeLabel is required.
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
	// Events are written to the API server in the background.
	Events events.EventRecorder
}

// Members is what the speaker needs of membership.Cluster.
type Members interface {
	Members() []membership.Member
	SetServed(pools []string)
	Want(want map[netip.Addr]string)
}

// Speaker claims for this node the addresses that the plan gives to it. Its
// state belongs to the one worker that calls Reconcile.
type Speaker struct {
	Config
	chooseLink func(v1alpha2.EipSpec) (name, refusal string)

	view     plan.View
	pools    map[string]pool // nil until the first look at everything
	services map[types.NamespacedName]planned
	behind   bool // the last look at everything ended in an error
	owned    owned
	reports  reports
}

// subject is a Service as an event names it. Without the UID kubectl describe
// does not show the event.
type subject struct {
	types.NamespacedName
	uid types.UID
}

// planned is a Service and what the plan says of its addresses.
type planned struct {
	subject
	addresses []decided
}

// decided is one address of a Service and what the plan says of it.
type decided struct {
	plan.Address
	plan.Decision
}

// owned are the addresses that the plan gives to this node, with the Services
// that have them, more than one where an address is shared, and the link that
// each is to be announced on.
type owned map[netip.Addr]map[subject]string

// New returns a Speaker that claims nothing yet.
func New(config Config) *Speaker {
	return &Speaker{
		Config:     config,
		chooseLink: chooseLink,
		services:   map[types.NamespacedName]planned{},
		owned:      owned{},
		reports:    newReports(config.NodeName, config.Events),
	}
}

// Reconcile brings the claims up to date with what the request names.
func (s *Speaker) Reconcile(ctx context.Context, r request) (reconcile.Result, error) {
	stale := []types.NamespacedName{r.service}
	switch r.kind {
	case heldAddresses:
		s.reports.held(s.Held.Addresses(), s.owned)
		return reconcile.Result{}, nil
	case nodeLinks:
		// Every pod that starts or ends changes a link and a route.
		if same, err := s.poolsAreSame(ctx); err != nil || same && !s.behind {
			return reconcile.Result{}, err
		}
	}
	all := r.kind != oneService
	if all {
		stale = slices.Collect(maps.Keys(s.services))
	}
	if all || s.pools == nil {
		s.behind = s.behind || all
		if err := s.refresh(ctx); err != nil {
			return reconcile.Result{}, err
		}
	}
	if err := s.decideAll(ctx, stale); err != nil {
		return reconcile.Result{}, err
	}
	s.behind = s.behind && !all
	return reconcile.Result{RequeueAfter: s.reports.write(s.view, time.Now())}, nil
}

// poolsAreSame tells whether this node can announce the same pools on the same
// links as at the last look.
func (s *Speaker) poolsAreSame(ctx context.Context) (bool, error) {
	pools, err := s.readPools(ctx)
	return maps.Equal(pools, s.pools), err
}

// refresh renews what all decisions rest on: nodes, pools, members.
func (s *Speaker) refresh(ctx context.Context) error {
	nodes, err := s.nodes(ctx)
	if err != nil {
		return err
	}
	pools, err := s.readPools(ctx)
	if err != nil {
		return err
	}
	s.pools = pools
	s.Members.SetServed(served(pools))
	s.reports.pools(pools)
	s.view = plan.View{Nodes: nodes}
	for _, member := range s.Members.Members() {
		s.view.Members = append(s.view.Members, plan.Member{Name: member.Name, Serves: member.Serves})
	}
	return nil
}

// decideAll renews the decisions for some Services' addresses and claims what
// follows from them. A Service that cannot be read does not hold up the others.
func (s *Speaker) decideAll(ctx context.Context, names []types.NamespacedName) error {
	changed := false
	var errs []error
	for _, name := range names {
		c, err := s.decide(ctx, name)
		if err != nil {
			errs = append(errs, err)
		}
		changed = changed || c
	}
	if changed {
		s.Members.Want(s.owned.links())
		s.reports.held(s.Held.Addresses(), s.owned)
	}
	return errors.Join(errs...)
}

// decide renews the decisions for one Service's addresses. It tells whether
// what this node owns changed.
func (s *Speaker) decide(ctx context.Context, name types.NamespacedName) (changed bool, err error) {
	now, addresses, err := s.addresses(ctx, name)
	if err != nil {
		return false, err
	}
	decisions := make([]decided, len(addresses))
	links := make(map[netip.Addr]string, len(addresses))
	for i, address := range addresses {
		decisions[i] = decided{address, s.view.Layer2(address)}
		// What this node's links allow is known here a little earlier than
		// among the members, this one included.
		if link := s.pools[address.Pool.Name].link; link != "" && decisions[i].Owner == s.NodeName {
			links[address.Addr] = link
		}
	}
	before := s.services[name]
	for _, old := range before.addresses {
		if _, still := links[old.Addr]; !still || before.subject != now {
			changed = s.owned.remove(old.Addr, before.subject) || changed
		}
	}
	for addr, link := range links {
		changed = s.owned.add(addr, now, link) || changed
	}
	if before.subject != now {
		s.reports.decided(before.subject, nil, time.Now())
	}
	s.reports.decided(now, decisions, time.Now())
	if len(decisions) == 0 {
		delete(s.services, name)
	} else {
		s.services[name] = planned{now, decisions}
	}
	return changed, nil
}

// addresses returns the addresses of a Service that Fairway gave it, none for
// a Service that is gone, going or not ours.
func (s *Speaker) addresses(ctx context.Context, name types.NamespacedName) (subject, []plan.Address, error) {
	var svc corev1.Service
	if err := s.Reader.Get(ctx, name, &svc); apierrors.IsNotFound(err) {
		return subject{}, nil, nil
	} else if err != nil {
		return subject{}, nil, fmt.Errorf("reading Service %s: %w", name, err)
	}
	if !holdsAddress(&svc) || !svc.DeletionTimestamp.IsZero() {
		return subject{}, nil, nil
	}
	endpointSlices, err := s.endpointSlices(ctx, name)
	if err != nil {
		return subject{}, nil, err
	}
	return subject{name, svc.UID}, addressesOf(&svc, endpointSlices, s.pools), nil
}

func (o owned) add(addr netip.Addr, svc subject, link string) (changed bool) {
	if old, ok := o[addr][svc]; ok && old == link {
		return false
	}
	if o[addr] == nil {
		o[addr] = map[subject]string{}
	}
	o[addr][svc] = link
	return true
}

func (o owned) remove(addr netip.Addr, svc subject) (changed bool) {
	if _, ok := o[addr][svc]; !ok {
		return false
	}
	delete(o[addr], svc)
	if len(o[addr]) == 0 {
		delete(o, addr)
	}
	return true
}

// links returns the link that each address is to be announced on. Services
// that share an address have it from one pool, and so on one link.
func (o owned) links() map[netip.Addr]string {
	links := make(map[netip.Addr]string, len(o))
	for addr, services := range o {
		for _, link := range services {
			links[addr] = link
		}
	}
	return links
}

func served(pools map[string]pool) []string {
	var names []string
	for name, p := range pools {
		if p.link != "" {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}
