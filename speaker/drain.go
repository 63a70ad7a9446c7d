package speaker

import (
	"context"
	"fmt"
	"maps"
	"time"

	"sigs.k8s.io/controller-runtime/pkg/event"

	"github.com/fairway-lb/fairway/speaker/plan"
)

// drain has a node that is to announce nothing any more say so for a moment
// before it withdraws (graceful shutdown, RFC 8326): a neighbor that heeds it
// has moved the traffic by then.
type drain struct {
	pause    time.Duration
	stopping bool // the process is about to end

	view plan.View // what decisions on BGP rest on
	fit  plan.Node // this node when it last was to announce
	end  time.Time // of the moment, zero outside of one
	done bool      // the moment is over
}

// look takes a new view of the cluster. announces tells whether there is
// anything to withdraw. It returns when to look again, 0 for no need.
func (d *drain) look(view plan.View, self string, announces bool, now time.Time) (again time.Duration) {
	d.view = view
	node, known := view.Nodes[self]
	if known && !node.Deleting && !node.Excluded && !d.stopping {
		d.fit, d.end, d.done = node, time.Time{}, false
		return 0
	}
	if !d.done && announces && d.end.IsZero() {
		d.end = now.Add(d.pause)
	}
	d.view.Nodes = maps.Clone(view.Nodes)
	if now.Before(d.end) {
		d.view.Nodes[self] = d.fit
		return d.end.Sub(now)
	}
	d.end, d.done = time.Time{}, true
	if d.stopping {
		delete(d.view.Nodes, self)
	}
	return 0
}

// marks tells whether routes are to ask for less preference.
func (d *drain) marks() bool { return !d.end.IsZero() }

// Drain withdraws what this node announces by BGP, after the moment in which
// the neighbors are asked to prefer others. It returns when that is done, or
// with an error when ctx is.
func (s *Speaker) Drain(ctx context.Context) error {
	select {
	case s.drains <- event.TypedGenericEvent[request]{Object: request{kind: shutdown}}:
	case <-ctx.Done():
		return fmt.Errorf("draining: %w", ctx.Err())
	}
	select {
	case <-s.drained:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("draining: %w", ctx.Err())
	}
}
