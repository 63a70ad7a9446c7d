package main

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"time"

	"github.com/fairway-lb/fairway/api/v1alpha2"
	"github.com/fairway-lb/fairway/test/lab"
)

// What BFD is measured with, and how long a next hop may stay after its cable
// was cut. The detection takes at most 300 ms of it, and 250 ms on average: the
// last packet came up to an interval before the cut.
const (
	bfdInterval   = 100 * time.Millisecond
	bfdMultiplier = 3
	cutLimit      = 350 * time.Millisecond
)

// cutPercentile is which of the cuts has to keep the limit: the slowest, but
// with FRR the median, because its queues hold a change for 70 ms (10 ms and
// 50 ms in bgpd, 10 ms in zebra).
func cutPercentile(kind lab.RouterKind) int {
	if kind == lab.FRR {
		return 50
	}
	return 100
}

// cutCables cuts the cables of nodes, one after the other, and measures until
// the routers' kernels do not use the node any more.
func (g *bgpBench) cutCables() error {
	err := g.editPeers(func(spec *v1alpha2.BgpPeerSpec) {
		interval := int32(bfdInterval / time.Millisecond)
		spec.BFD = &v1alpha2.BFD{MinTx: interval, MinRx: interval, DetectMultiplier: bfdMultiplier}
	})
	if err != nil {
		return err
	}
	route, err := g.prefixOf(g.announced[0])
	if err != nil {
		return err
	}
	watches, err := g.watchRoutes()
	if err != nil {
		return err
	}
	defer watches.close()
	took := make([][]time.Duration, len(watches))
	for i := range g.cuts {
		node := g.Nodes()[i%len(g.nodes)]
		if err := g.awaitWhole(watches, route); err != nil {
			return err
		}
		others := slices.DeleteFunc(slices.Clone(g.nodes), func(a netip.Addr) bool { return a == node.Addr4() })
		begin := time.Now()
		if err := node.SetLink(false); err != nil {
			return err
		}
		gone, err := g.wait(watches, route, others...)
		if err != nil {
			return err
		}
		for r := range took {
			took[r] = append(took[r], gone[r].Sub(begin))
		}
		if err := node.SetLink(true); err != nil {
			return err
		}
	}
	t := g.report.table(fmt.Sprintf("%d cut cables, BFD %v three times", g.cuts, bfdInterval))
	for r, router := range g.routers {
		kind := router.Options().Kind
		slices.Sort(took[r])
		percent := cutPercentile(kind)
		last := percentile(took[r], percent)
		t.row(fmt.Sprintf("from the cut until the kernel of %s has one next hop less", kind), distribution(took[r])...)
		t.verdict(last < cutLimit, fmt.Sprintf("%d %% of the cuts are out of %s's routes within %s, less than %s", percent, kind, round(last), round(cutLimit)))
	}
	return g.awaitWhole(watches, route)
}

// awaitWhole waits until all sessions, those of BFD too, are up and the route
// has all next hops.
func (g *bgpBench) awaitWhole(watches routeWatches, route netip.Prefix) error {
	if err := g.awaitSessions(); err != nil {
		return err
	}
	for _, router := range g.routers {
		for _, node := range g.nodes {
			if err := g.patiently(func(ctx context.Context) error { return router.WaitBFD(ctx, node, "Up") }); err != nil {
				return err
			}
		}
	}
	_, err := g.wait(watches, route, g.nodes...)
	return err
}

// busyProcessors keeps all processors busy and counts what BFD takes for a loss.
func (g *bgpBench) busyProcessors() error {
	route, err := g.prefixOf(g.announced[0])
	if err != nil {
		return err
	}
	watches, err := g.watchRoutes()
	if err != nil {
		return err
	}
	defer watches.close()
	if err := g.awaitWhole(watches, route); err != nil {
		return err
	}
	downsBefore, flapsBefore, err := g.losses()
	if err != nil {
		return err
	}
	changesBefore := changes(watches, route)
	if err := g.spin(); err != nil {
		return err
	}
	downs, flaps, err := g.losses()
	if err != nil {
		return err
	}
	downs, flaps = downs-downsBefore, flaps-flapsBefore
	changed := changes(watches, route) - changesBefore
	t := g.report.table(fmt.Sprintf("%d processors busy for %v, BFD %v three times, %d sessions", runtime.NumCPU(), g.busy, bfdInterval, len(g.nodes)*len(g.routers)))
	t.row("BFD sessions that went down, as the speakers count", fmt.Sprint(downs))
	t.row("BGP sessions that ended", fmt.Sprint(flaps))
	t.row("changes of the routers' routes", fmt.Sprint(changed))
	t.verdict(downs+flaps+changed == 0, "nothing was taken for a loss")
	// The next measurements restart speakers, which BIRD's BFD takes for a loss.
	return g.editPeers(func(spec *v1alpha2.BgpPeerSpec) { spec.BFD = nil })
}

func changes(watches routeWatches, route netip.Prefix) (n int) {
	for _, watch := range watches {
		n += len(watch.Changes(route))
	}
	return n
}

// losses sums up what the speakers lost since they started.
func (g *bgpBench) losses() (downs, flaps int, err error) {
	speakers, err := g.readSpeakers()
	for _, s := range speakers {
		downs += s.BFDDowns
		flaps += s.Flaps
	}
	return downs, flaps, err
}

// spin keeps as many processes running as there are processors, until each
// ends by itself.
func (g *bgpBench) spin() error {
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("finding this program: %w", err)
	}
	var spinners []*lab.Process
	for i := range runtime.NumCPU() {
		p, err := g.ControlPlane().Start(fmt.Sprintf("spin-%d", i), []string{self, "-spin", g.busy.String()}, []string{"GOMAXPROCS=1"})
		if err != nil {
			return err
		}
		spinners = append(spinners, p)
	}
	for _, p := range spinners {
		select {
		case <-p.Done():
		case <-g.ctx.Done():
			return context.Cause(g.ctx)
		}
		if err := p.Err(); err != nil {
			return err
		}
	}
	return nil
}

// keepBusy is what such a process does.
func keepBusy(d time.Duration) {
	for begin := time.Now(); time.Since(begin) < d; {
	}
}
