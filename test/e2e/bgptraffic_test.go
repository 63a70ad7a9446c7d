package e2e

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/fairway-lb/fairway/test/lab"
)

// traffic is requests to some URLs in turn, each on a connection of its own.
type traffic struct {
	name    string
	cancel  context.CancelFunc
	done    sync.WaitGroup
	mu      sync.Mutex // guards what follows
	asked   int
	failed  []failure
	slowest time.Duration
}

type failure struct {
	begin time.Time
	why   string
}

// ask begins to ask the pods nginx from a namespace, so many times a second.
func (c *cluster) ask(from *lab.Namespace, perSecond int, urls ...string) *traffic {
	ctx, cancel := context.WithCancel(c.t.Context())
	tr := &traffic{name: from.Name(), cancel: cancel}
	c.t.Cleanup(func() { cancel(); tr.done.Wait() })
	tr.done.Go(func() {
		ticker := time.NewTicker(time.Second / time.Duration(perSecond))
		defer ticker.Stop()
		for next := 0; ; next++ {
			select {
			case <-ctx.Done():
				return
			case <-ticker.C:
			}
			tr.done.Go(func() { tr.askOnce(ctx, from, urls[next%len(urls)]) })
		}
	})
	return tr
}

func (tr *traffic) askOnce(ctx context.Context, from *lab.Namespace, url string) {
	begin := time.Now()
	// A request that has begun is not interrupted at the end.
	body, err := from.Get(context.WithoutCancel(ctx), url)
	took := time.Since(begin)
	tr.mu.Lock()
	defer tr.mu.Unlock()
	tr.asked++
	tr.slowest = max(tr.slowest, took)
	if err != nil {
		tr.failed = append(tr.failed, failure{begin, err.Error()})
	} else if !strings.HasPrefix(body, "nginx-") {
		tr.failed = append(tr.failed, failure{begin, fmt.Sprintf("answered by %q", body)})
	}
}

// stop ends the requests, and fails the test if one has failed.
func (tr *traffic) stop(c *cluster) {
	c.t.Helper()
	tr.stopExcept(c, func(failure) bool { return false })
}

// underWay is how long a request may have been under way when a route changed
// for that to be the reason of its failure.
const underWay = 100 * time.Millisecond

// stopUnlessMoved is stop without the requests that were under way when the
// router's route changed: the router may send what follows of a connection to
// another node, which no announcement can help.
func (tr *traffic) stopUnlessMoved(c *cluster, watch *lab.RouteWatch) {
	c.t.Helper()
	tr.stopExcept(c, func(f failure) bool {
		return slices.ContainsFunc(watch.Changes(netip.Prefix{}), func(change lab.RouteChange) bool {
			since := change.Time.Sub(f.begin)
			return since > 0 && since < underWay
		})
	})
}

func (tr *traffic) stopExcept(c *cluster, excused func(failure) bool) {
	c.t.Helper()
	tr.cancel()
	tr.done.Wait()
	all := len(tr.failed)
	failed := slices.DeleteFunc(tr.failed, excused)
	c.t.Logf("%s: %d requests, the slowest took %v; %d failed when the route changed", tr.name, tr.asked, tr.slowest, all-len(failed))
	if tr.asked == 0 {
		c.t.Errorf("%s: no request was made", tr.name)
	}
	for _, f := range failed[:min(len(failed), 5)] {
		c.t.Errorf("%s: the request at %s, one of %d that failed: %s", tr.name, f.begin.Format(time.TimeOnly), len(failed), f.why)
	}
}
