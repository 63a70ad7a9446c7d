package main

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/fairway-lb/fairway/test/bench/measure"
	"github.com/fairway-lb/fairway/test/lab"
)

// latencyLimit is how long a route may take at the median. FRR keeps it in its
// own queues for 60 ms.
func latencyLimit(kind lab.RouterKind) time.Duration {
	if kind == lab.FRR {
		return 90 * time.Millisecond
	}
	return 15 * time.Millisecond
}

// latencies creates Services, each when the route of the one before is
// complete, and measures from the write of the address to the routers' kernels.
func (g *bgpBench) latencies(prefix, circumstances string) error {
	before, err := g.readSpeakers()
	if err != nil {
		return err
	}
	watches, err := g.watchRoutes()
	if err != nil {
		return err
	}
	defer watches.close()
	first, all := make([][]time.Duration, len(watches)), make([][]time.Duration, len(watches))
	for i := range g.latency {
		name := fmt.Sprintf("%s-%d", prefix, i)
		route, err := g.addService(name)
		if err != nil {
			return err
		}
		complete, err := g.wait(watches, route, g.nodes...)
		if err != nil {
			return err
		}
		assigned := g.journal.Histories()[name].Addressed
		for r, watch := range watches {
			first[r] = append(first[r], firstChange(watch, route).Sub(assigned))
			all[r] = append(all[r], complete[r].Sub(assigned))
		}
	}
	t := g.report.table(fmt.Sprintf("%d Services one after the other, announced by %d nodes%s", g.latency, len(g.nodes), circumstances))
	for r, router := range g.routers {
		kind := router.Options().Kind
		slices.Sort(first[r])
		slices.Sort(all[r])
		t.row(fmt.Sprintf("from the address in the status to the route in the kernel of %s", kind), distribution(first[r])...)
		t.row(fmt.Sprintf("until it has %d next hops", len(g.nodes)), distribution(all[r])...)
		median, limit := percentile(all[r], 50), latencyLimit(kind)
		t.verdict(median < limit, fmt.Sprintf("%s has all next hops after %s at the median, less than %s", kind, round(median), round(limit)))
	}
	after, err := g.readSpeakers()
	if err != nil {
		return err
	}
	converged := measure.Histogram{}
	for i := range after {
		converged = converged.Plus(after[i].Convergence.Since(before[i].Convergence))
	}
	p50, n := converged.Percentile(50)
	p95, _ := converged.Percentile(95)
	t.row(fmt.Sprintf("the speakers' fairway_bgp_convergence_seconds (%d)", n), "p50 at most "+round(p50), "p95 at most "+round(p95))
	return nil
}

// firstChange is when the route appeared.
func firstChange(watch *lab.RouteWatch, route netip.Prefix) time.Time {
	return watch.Changes(route)[0].Time
}

func distribution(sorted []time.Duration) []string {
	return []string{"p50 " + round(percentile(sorted, 50)), "p95 " + round(percentile(sorted, 95)), "max " + round(sorted[len(sorted)-1])}
}
