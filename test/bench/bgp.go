package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/util/retry"

	"github.com/fairway-lb/fairway/api/v1alpha2"
	"github.com/fairway-lb/fairway/test/bench/measure"
	"github.com/fairway-lb/fairway/test/lab"
)

// The autonomous systems of the nodes and of both routers.
const (
	nodesAS  = 64512
	routerAS = 64513
)

// bgpBench is what is measured with a speaker on every node and two routers.
type bgpBench struct {
	*bench
	routers  []*lab.Router // each has a BgpPeer of its name
	speakers map[string]*lab.Process
	nodes    []netip.Addr // the next hops of every route, in the order of the nodes
	// announced are the Services with an endpoint, in the order of creation.
	announced []string
}

// measureBGP makes all measurements of BGP.
func (b *bench) measureBGP() error {
	g := &bgpBench{bench: b, speakers: map[string]*lab.Process{}}
	return b.steps([]step{
		{"two routers and a speaker on every node", g.start},
		{fmt.Sprintf("%d Services with BGP", b.latency), func() error { return g.latencies("latency", "") }},
		{fmt.Sprintf("%d restarts of speakers", b.restarts), g.gracefulRestarts},
		{fmt.Sprintf("%d cut cables", b.cuts), g.cutCables},
		{fmt.Sprintf("busy processors for %v", b.busy), g.busyProcessors},
		{fmt.Sprintf("%d routes", b.routes), g.manyRoutes},
		{"one change among them", g.oneChange},
		{"Services one after the other among them", func() error {
			return g.latencies("crowded", fmt.Sprintf(", with %d routes there", b.routes))
		}},
	})
}

// start adds the routers and starts the speakers. It returns when all sessions
// are up.
func (g *bgpBench) start() error {
	for _, node := range g.Nodes() {
		g.nodes = append(g.nodes, node.Addr4())
	}
	for _, kind := range []lab.RouterKind{lab.FRR, lab.BIRD} {
		router, err := g.AddRouter(g.ctx, lab.RouterOptions{
			Kind: kind,
			AS:   routerAS,
			Neighbors: []lab.Neighbor{{
				Range: netip.PrefixFrom(g.nodes[0], 24).Masked(),
				AS:    nodesAS,
				IPv4:  true,
				// Their speakers have it only while it is measured.
				BFD: &lab.BFDProfile{MinTx: bfdInterval, MinRx: bfdInterval, Multiplier: bfdMultiplier},
			}},
		})
		if err != nil {
			return err
		}
		g.routers = append(g.routers, router)
	}
	conf := &v1alpha2.BgpConf{ObjectMeta: metav1.ObjectMeta{Name: v1alpha2.BgpConfName}, Spec: v1alpha2.BgpConfSpec{AS: nodesAS}}
	if err := g.objects.Create(g.ctx, conf); err != nil {
		return fmt.Errorf("creating a BgpConf: %w", err)
	}
	if err := g.createPeers(); err != nil {
		return err
	}
	if err := g.startSpeakers(); err != nil {
		return err
	}
	return g.awaitSessions()
}

func (g *bgpBench) createPeers() error {
	for _, router := range g.routers {
		peer := &v1alpha2.BgpPeer{ObjectMeta: metav1.ObjectMeta{Name: router.Name()}, Spec: v1alpha2.BgpPeerSpec{
			Conf: &v1alpha2.PeerConf{NeighborAddress: router.Addr4().String(), PeerAS: routerAS},
		}}
		if err := g.objects.Create(g.ctx, peer); err != nil {
			return fmt.Errorf("creating BgpPeer %s: %w", peer.Name, err)
		}
	}
	return nil
}

// deletePeers also waits until the routers have forgotten all routes.
func (g *bgpBench) deletePeers() error {
	for _, router := range g.routers {
		peer := &v1alpha2.BgpPeer{ObjectMeta: metav1.ObjectMeta{Name: router.Name()}}
		if err := g.objects.Delete(g.ctx, peer); err != nil {
			return fmt.Errorf("deleting BgpPeer %s: %w", peer.Name, err)
		}
	}
	return g.awaitCount(0)
}

// editPeers changes both BgpPeers.
func (g *bgpBench) editPeers(edit func(*v1alpha2.BgpPeerSpec)) error {
	for _, router := range g.routers {
		err := retry.RetryOnConflict(retry.DefaultRetry, func() error { // the speakers write its status
			var peer v1alpha2.BgpPeer
			if err := g.objects.Get(g.ctx, named(router.Name()), &peer); err != nil {
				return err
			}
			edit(&peer.Spec)
			return g.objects.Update(g.ctx, &peer)
		})
		if err != nil {
			return fmt.Errorf("editing BgpPeer %s: %w", router.Name(), err)
		}
	}
	return nil
}

func (g *bgpBench) startSpeakers() error {
	for _, node := range g.Nodes() {
		if err := g.startSpeaker(node.Name()); err != nil {
			return err
		}
	}
	return nil
}

func (g *bgpBench) startSpeaker(node string) (err error) {
	if g.speakers[node], err = g.StartSpeaker(g.ctx, node); err != nil {
		return fmt.Errorf("starting the speaker of %s: %w", node, err)
	}
	return nil
}

// readSpeakers asks all speakers, in the order of the nodes.
func (g *bgpBench) readSpeakers() ([]measure.Speaker, error) {
	var read []measure.Speaker
	for _, node := range g.Nodes() {
		s, err := measure.ReadSpeaker(g.ctx, node)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("node %s: %w", node.Name(), err), g.speakers[node.Name()].Err())
		}
		read = append(read, s)
	}
	return read, nil
}

// awaitSessions waits until every speaker has a session with every router.
func (g *bgpBench) awaitSessions() error {
	for _, router := range g.routers {
		for _, node := range g.nodes {
			if err := g.patiently(func(ctx context.Context) error { return router.WaitSession(ctx, node) }); err != nil {
				return err
			}
		}
	}
	return nil
}

// awaitCount waits until each router's kernel has so many routes to addresses of the pool.
func (g *bgpBench) awaitCount(n int) error {
	for _, router := range g.routers {
		watch, err := router.WatchRoutes()
		if err != nil {
			return err
		}
		err = g.patiently(func(ctx context.Context) error {
			_, err := watch.WaitCount(ctx, poolsPrefix(), n)
			return err
		})
		watch.Close()
		if err != nil {
			return err
		}
	}
	return nil
}

// poolsPrefix has the addresses of all pools.
func poolsPrefix() netip.Prefix { return netip.MustParsePrefix("10.128.0.0/14") }

// patiently bounds what waits for others.
func (g *bgpBench) patiently(wait func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(g.ctx, patience)
	defer cancel()
	return wait(ctx)
}

// prefixOf is the route to a Service's address.
func (g *bgpBench) prefixOf(service string) (netip.Prefix, error) {
	addr, err := netip.ParseAddr(g.journal.Histories()[service].Address)
	if err != nil {
		return netip.Prefix{}, fmt.Errorf("reading the address of Service %s: %w", service, err)
	}
	return netip.PrefixFrom(addr, addr.BitLen()), nil
}

// addService creates a Service that has a ready endpoint, waits until it has
// an address, and returns its route.
func (g *bgpBench) addService(name string) (netip.Prefix, error) {
	if err := g.creator.EndpointSlices(g.ctx, g.Nodes()[0].Name(), name); err != nil {
		return netip.Prefix{}, err
	}
	if err := g.creator.Service(g.ctx, name, bigPool); err != nil {
		return netip.Prefix{}, err
	}
	if err := g.patiently(func(ctx context.Context) error { return g.journal.Await(ctx, 1, name) }); err != nil {
		return netip.Prefix{}, err
	}
	g.announced = append(g.announced, name)
	return g.prefixOf(name)
}

// routeWatches are those of the routers, in their order.
type routeWatches []*lab.RouteWatch

func (g *bgpBench) watchRoutes() (routeWatches, error) {
	var watches routeWatches
	for _, router := range g.routers {
		watch, err := router.WatchRoutes()
		if err != nil {
			watches.close()
			return nil, err
		}
		watches = append(watches, watch)
	}
	return watches, nil
}

func (w routeWatches) close() {
	for _, watch := range w {
		watch.Close()
	}
}

// wait waits until the route has these next hops at every router, and returns
// when that was.
func (g *bgpBench) wait(watches routeWatches, prefix netip.Prefix, hops ...netip.Addr) ([]time.Time, error) {
	times := make([]time.Time, len(watches))
	for i, watch := range watches {
		err := g.patiently(func(ctx context.Context) (err error) {
			times[i], err = watch.Wait(ctx, prefix, hops...)
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	return times, nil
}
