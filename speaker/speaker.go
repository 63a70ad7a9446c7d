// Package speaker announces load-balancer addresses from one node. Watches
// and the live members become a plan; the addresses that the plan gives to
// this node are claimed from the other members, and those that are held are
// answered for on the wire.
package speaker

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/events"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

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
	Log    logr.Logger
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

	view     plan.View
	pools    map[string]pool // nil until the first look at everything
	services map[types.NamespacedName][]decided
	owned    owned
	reports  reports
}

// owned are the addresses that the plan gives to this node, with the Services
// that have them: more than one where an address is shared.
type owned map[netip.Addr]map[types.NamespacedName]string

// decided is one address of a Service and what the plan says of it.
type decided struct {
	plan.Address
	plan.Decision
}

// New returns a Speaker that claims nothing yet.
func New(config Config) *Speaker {
	return &Speaker{
		Config:   config,
		services: map[types.NamespacedName][]decided{},
		owned:    owned{},
		reports:  newReports(config.NodeName, config.Events),
	}
}

// Reconcile brings the claims up to date with what the request names.
func (s *Speaker) Reconcile(ctx context.Context, r request) (reconcile.Result, error) {
	if r.kind == heldAddresses {
		s.reports.held(s.Held.Addresses(), s.owned)
		return reconcile.Result{}, nil
	}
	stale := []types.NamespacedName{r.service}
	if r.kind == everything {
		stale = slices.Collect(maps.Keys(s.services))
	}
	if r.kind == everything || s.pools == nil {
		if err := s.refresh(ctx); err != nil {
			return reconcile.Result{}, err
		}
	}
	changed := false
	for _, name := range stale {
		c, err := s.decide(ctx, name)
		if err != nil {
			return reconcile.Result{}, err
		}
		changed = changed || c
	}
	if changed {
		s.Members.Want(s.owned.links())
	}
	return reconcile.Result{RequeueAfter: s.reports.write(s.view, time.Now())}, nil
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

// decide renews the decisions for one Service's addresses. It tells whether
// what this node owns changed.
func (s *Speaker) decide(ctx context.Context, name types.NamespacedName) (changed bool, err error) {
	addresses, err := s.addresses(ctx, name)
	if err != nil {
		return false, err
	}
	decisions := make([]decided, len(addresses))
	links := make(map[netip.Addr]string, len(addresses))
	for i, address := range addresses {
		decisions[i] = decided{address, s.view.Layer2(address)}
		if decisions[i].Owner == s.NodeName {
			links[address.Addr] = s.pools[address.Pool.Name].link
		}
	}
	for _, old := range s.services[name] {
		if _, still := links[old.Addr]; !still {
			changed = s.owned.remove(old.Addr, name) || changed
		}
	}
	for addr, link := range links {
		changed = s.owned.add(addr, name, link) || changed
	}
	if len(decisions) == 0 {
		delete(s.services, name)
	} else {
		s.services[name] = decisions
	}
	s.reports.decided(name, decisions, time.Now())
	return changed, nil
}

// addresses returns the addresses of a Service that Fairway gave it, none for
// a Service that is gone, going or not ours.
func (s *Speaker) addresses(ctx context.Context, name types.NamespacedName) ([]plan.Address, error) {
	var svc corev1.Service
	if err := s.Reader.Get(ctx, name, &svc); apierrors.IsNotFound(err) {
		return nil, nil
	} else if err != nil {
		return nil, fmt.Errorf("reading Service %s: %w", name, err)
	}
	if !holdsAddress(&svc) || !svc.DeletionTimestamp.IsZero() {
		return nil, nil
	}
	endpointSlices, err := s.endpointSlices(ctx, name)
	if err != nil {
		return nil, err
	}
	return addressesOf(&svc, endpointSlices, s.pools), nil
}

func (o owned) add(addr netip.Addr, svc types.NamespacedName, link string) (changed bool) {
	if old, ok := o[addr][svc]; ok && old == link {
		return false
	}
	if o[addr] == nil {
		o[addr] = map[types.NamespacedName]string{}
	}
	o[addr][svc] = link
	return true
}

func (o owned) remove(addr netip.Addr, svc types.NamespacedName) (changed bool) {
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
		if p.refusal == "" && p.link != "" {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}
