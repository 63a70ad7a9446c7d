package main

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/fairway-lb/fairway/api/v1alpha2"
	"github.com/fairway-lb/fairway/test/bench/measure"
	"github.com/fairway-lb/fairway/test/lab"
)

// What is promised for 10,000 routes announced by three nodes.
const (
	routesLimit        = 3 * time.Second
	speakerMemoryLimit = 150 << 20
)

// manyRoutes announces thousands of routes at once: on sessions that are up, on
// new sessions, and by speakers that start.
func (g *bgpBench) manyRoutes() error {
	if err := g.fillRoutes(); err != nil {
		return err
	}
	t := g.report.table(fmt.Sprintf("%d routes, announced by %d nodes", g.routes, len(g.nodes)))
	if err := g.routesAtOnce(t); err != nil {
		return err
	}
	if err := g.speakerMemory(t, "when they had announced them"); err != nil {
		return err
	}
	for _, way := range []struct {
		what     string
		withdraw func() error
		announce func() error
		promised bool
	}{
		{"from the creation of both BgpPeers", g.deletePeers, g.createPeers, true},
		{"from the start of all speakers", func() error { // at once, which no roll-out does
			if err := g.deletePeers(); err != nil {
				return err
			}
			if err := g.killSpeakers(); err != nil {
				return err
			}
			return g.createPeers()
		}, g.startSpeakers, false},
	} {
		if err := way.withdraw(); err != nil {
			return err
		}
		if err := g.announceAll(t, way.what, way.promised, way.announce); err != nil {
			return err
		}
	}
	return g.speakerMemory(t, "after their start")
}

// routesAtOnce lets an Eip that is announced to nobody be announced to all.
func (g *bgpBench) routesAtOnce(t *table) error {
	err := g.editEip(bigPool, func(eip *v1alpha2.Eip) { eip.Spec.BGP = &v1alpha2.BgpAdvertisement{Peers: []string{"nobody"}} })
	if err != nil {
		return err
	}
	if err := g.awaitCount(0); err != nil {
		return err
	}
	return g.announceAll(t, "from the change of an Eip, sessions being up", true, func() error {
		return g.editEip(bigPool, func(eip *v1alpha2.Eip) { eip.Spec.BGP = nil })
	})
}

// announceAll measures from just before a change until the routers' kernels
// have all routes with all next hops. What is promised is the time from the
// first route on: until a session is there GoBGP and the router wait seconds.
func (g *bgpBench) announceAll(t *table, what string, promised bool, change func() error) error {
	watches, err := g.watchRoutes()
	if err != nil {
		return err
	}
	defer watches.close()
	usedBefore, err := g.cpuTimes()
	if err != nil {
		return err
	}
	begin := time.Now()
	if err := change(); err != nil {
		return err
	}
	t.row(what)
	for i, router := range g.routers {
		first, last, err := g.awaitComplete(watches[i])
		if err != nil {
			return err
		}
		kind := router.Options().Kind
		t.row(fmt.Sprintf("  until all are in the kernel of %s", kind), round(last.Sub(begin)), "the first after "+round(first.Sub(begin)))
		if took := last.Sub(first); promised {
			t.verdict(took < routesLimit, fmt.Sprintf("%s: %s has all %s after the first, less than %s", what, kind, round(took), round(routesLimit)))
		}
	}
	used, err := g.cpuTimes()
	if err != nil {
		return err
	}
	var row []string
	for _, node := range g.Nodes() {
		p := g.speakers[node.Name()]
		row = append(row, round(used[p]-usedBefore[p]))
	}
	t.row("  CPU of each speaker", row...)
	return nil
}

// awaitComplete waits until a router's kernel has all routes with all next hops,
// and returns when it had the first route, and when it had all.
func (g *bgpBench) awaitComplete(watch *lab.RouteWatch) (first, last time.Time, err error) {
	err = g.patiently(func(ctx context.Context) error {
		if _, err := watch.WaitCount(ctx, poolsPrefix(), g.routes); err != nil {
			return err
		}
		pools := poolsPrefix()
		return measure.Until(ctx, func() (bool, error) {
			complete := map[netip.Prefix]time.Time{}
			first, last = time.Time{}, time.Time{}
			for _, change := range watch.Changes(netip.Prefix{}) {
				switch {
				case !pools.Contains(change.Prefix.Addr()):
					continue
				case len(change.NextHops) != len(g.nodes):
					delete(complete, change.Prefix)
				case complete[change.Prefix].IsZero():
					complete[change.Prefix] = change.Time
					last = change.Time
				}
				if first.IsZero() {
					first = change.Time
				}
			}
			return len(complete) == g.routes, watch.Err()
		})
	})
	return first, last, err
}

// fillRoutes gives as many Services an endpoint as there are to be routes. The
// Services may be there already.
func (g *bgpBench) fillRoutes() error {
	begin := time.Now()
	var spare []string
	for name, history := range g.journal.Histories() {
		ofBigPool := strings.HasPrefix(history.Address, "10.128.")
		if ofBigPool && !slices.Contains(g.announced, name) {
			spare = append(spare, name)
		}
	}
	slices.Sort(spare)
	missing := max(0, g.routes-len(g.announced))
	if n := missing - len(spare); n > 0 {
		names, err := g.creator.Services(g.ctx, "routed", bigPool, n)
		if err != nil {
			return err
		}
		spare = append(spare, names...)
	}
	chosen := spare[:missing]
	if err := g.creator.EndpointSlices(g.ctx, g.Nodes()[0].Name(), chosen...); err != nil {
		return err
	}
	g.report.progress("there are as many Services with endpoints as routes after %v", time.Since(begin).Round(time.Millisecond))
	if err := g.journal.Await(g.ctx, missing, chosen...); err != nil {
		return err
	}
	g.report.progress("they have addresses after %v", time.Since(begin).Round(time.Millisecond))
	g.announced = append(g.announced, chosen...)
	return g.awaitCount(g.routes)
}

// cpuTimes are what processes have used.
type cpuTimes map[*lab.Process]time.Duration

func (g *bgpBench) cpuTimes() (cpuTimes, error) {
	times := cpuTimes{}
	for _, p := range g.speakers {
		if !p.Running() {
			continue // one that is started later has used nothing yet
		}
		used, err := measure.CPUTime(p.Pid())
		if err != nil {
			return nil, err
		}
		times[p] = used
	}
	return times, nil
}

func (g *bgpBench) killSpeakers() error {
	for _, p := range g.speakers {
		if err := p.Kill(); err != nil {
			return err
		}
	}
	return nil
}

// speakerMemory looks at every speaker.
func (g *bgpBench) speakerMemory(t *table, when string) error {
	var row []string
	var most int64
	for _, node := range g.Nodes() {
		memory, err := measure.ReadMemory(g.speakers[node.Name()].Pid())
		if err != nil {
			return err
		}
		most = max(most, memory.Resident)
		row = append(row, fmt.Sprintf("%s, peak %s", mebibytes(memory.Resident), mebibytes(memory.Peak)))
	}
	t.row("memory of each speaker "+when, row...)
	t.verdict(most < speakerMemoryLimit, fmt.Sprintf("no speaker has more than %s resident %s, less than %s", mebibytes(most), when, mebibytes(speakerMemoryLimit)))
	return nil
}
