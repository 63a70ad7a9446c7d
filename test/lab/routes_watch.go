package lab

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// RouteChangeKind says what happened to a prefix.
type RouteChangeKind int

const (
	// RouteFound is a route that was there when the watch began.
	RouteFound RouteChangeKind = iota + 1
	// RouteAdded is a route to a prefix that had none.
	RouteAdded
	// RouteReplaced is a route in the place of another, or other next hops of it.
	RouteReplaced
	// RouteDeleted leaves the prefix without a route.
	RouteDeleted
)

func (k RouteChangeKind) String() string {
	switch k {
	case RouteFound:
		return "found"
	case RouteAdded:
		return "added"
	case RouteReplaced:
		return "replaced"
	case RouteDeleted:
		return "deleted"
	default:
		return fmt.Sprintf("RouteChangeKind(%d)", int(k))
	}
}

// RouteChange is one message of a kernel about a route.
type RouteChange struct {
	Time     time.Time
	Prefix   netip.Prefix
	Kind     RouteChangeKind
	NextHops []NextHop // after the change, sorted by address
}

// Gap is a time in which a prefix had no route, between two in which it had.
type Gap struct{ From, To time.Time }

// Duration is the gap's length.
func (g Gap) Duration() time.Duration { return g.To.Sub(g.From) }

// routeBuffer holds the kernel's messages while the recorder is not scheduled:
// 64 MiB are some 50,000 of them.
const routeBuffer = 64 << 20

// RouteWatch records the changes of a kernel's main table, from its beginning
// until it is closed. Its methods are safe for concurrent use.
//
// The kernel says nothing when an IPv4 route disappears because its link was
// set down. It does not disappear when a cable is cut.
type RouteWatch struct {
	what    string
	begin   time.Time
	only    []netip.Prefix
	names   linkNames
	table   routeTable // the recorder's own
	stop    chan struct{}
	stopped chan struct{}
	close   func()

	mu      sync.Mutex // guards what follows
	history []RouteChange
	changed chan struct{} // closed, and replaced by another one, at a change
	err     error
	closed  bool
}

// WatchRoutes begins to record the changes of all routes, or of those to some
// prefixes. Close ends it; the record stays readable.
func (n *Namespace) WatchRoutes(prefixes ...netip.Prefix) (*RouteWatch, error) {
	w := &RouteWatch{
		what:    n.name,
		begin:   time.Now(),
		only:    prefixes,
		table:   routeTable{},
		stop:    make(chan struct{}),
		stopped: make(chan struct{}),
		changed: make(chan struct{}),
	}
	w.close = sync.OnceFunc(func() { close(w.stop) })
	updates := make(chan netlink.RouteUpdate, 1024)
	err := netlink.RouteSubscribeWithOptions(updates, w.stop, netlink.RouteSubscribeOptions{
		Namespace:              &n.handle,
		ErrorCallback:          w.fail,
		ReceiveBufferSize:      routeBuffer,
		ReceiveBufferForceSize: true,
	})
	if err != nil {
		return nil, fmt.Errorf("watch the routes of %s: %w", n.name, err)
	}
	// What changes from here on is told twice, which does no harm.
	err = n.Do(func() (err error) {
		if w.names, err = readLinkNames(); err != nil {
			return err
		}
		return eachRoute(unix.AF_UNSPEC, func(r netlink.Route) {
			if w.watches(destination(r)) {
				w.table.add(r)
				w.record(RouteChange{Time: w.begin, Prefix: destination(r), Kind: RouteFound})
			}
		})
	})
	go w.run(updates)
	if err != nil {
		w.Close()
		return nil, fmt.Errorf("watch the routes of %s: %w", n.name, err)
	}
	return w, nil
}

func (w *RouteWatch) run(updates <-chan netlink.RouteUpdate) {
	defer close(w.stopped)
	for update := range updates {
		if prefix := destination(update.Route); counts(update.Route) && w.watches(prefix) {
			w.take(time.Now(), prefix, update)
		}
	}
}

func (w *RouteWatch) take(now time.Time, prefix netip.Prefix, update netlink.RouteUpdate) {
	_, had := w.table[prefix]
	if update.Type == unix.RTM_NEWROUTE {
		w.table.add(update.Route)
	} else {
		w.table.remove(update.Route)
	}
	_, has := w.table[prefix]
	change := RouteChange{Time: now, Prefix: prefix, Kind: RouteReplaced}
	switch {
	case !had && !has:
		return // deleted before the watch began
	case !had:
		change.Kind = RouteAdded
	case !has:
		change.Kind = RouteDeleted
	}
	w.record(change)
}

// record completes a change by what the table says now.
func (w *RouteWatch) record(change RouteChange) {
	change.NextHops = w.table.best(change.Prefix, w.names)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.history = append(w.history, change)
	w.wake()
}

func (w *RouteWatch) fail(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.closed { // closing ends the subscription with an error too
		w.err = errors.Join(w.err, fmt.Errorf("watch the routes of %s: %w", w.what, err))
		w.wake()
	}
}

func (w *RouteWatch) wake() {
	close(w.changed)
	w.changed = make(chan struct{})
}

func (w *RouteWatch) watches(prefix netip.Prefix) bool {
	return len(w.only) == 0 || slices.Contains(w.only, prefix)
}

// Close ends the record. Closing twice does nothing.
func (w *RouteWatch) Close() {
	w.mu.Lock()
	w.closed = true
	w.mu.Unlock()
	w.close()
	<-w.stopped
}

// Err says why the record is incomplete: messages were lost. A test that proves
// an absence of changes has to ask.
func (w *RouteWatch) Err() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.err
}

// Changes returns the record for one prefix, in order; for all prefixes if it
// is the zero Prefix.
func (w *RouteWatch) Changes(prefix netip.Prefix) []RouteChange {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(w.history), func(c RouteChange) bool {
		return prefix.IsValid() && c.Prefix != prefix
	})
}

// Gaps returns when the prefix had no route, although it had one before and
// after; the last gap has no end (To is zero) if the prefix has no route now.
func (w *RouteWatch) Gaps(prefix netip.Prefix) []Gap {
	var gaps []Gap
	for _, c := range w.Changes(prefix) {
		switch {
		case c.Kind == RouteDeleted:
			gaps = append(gaps, Gap{From: c.Time})
		case c.Kind == RouteAdded && len(gaps) > 0:
			gaps[len(gaps)-1].To = c.Time
		}
	}
	return gaps
}

// Wait waits until the route to the prefix has just these next hops, none for
// no route, and returns when that came to be: the beginning of the watch if it
// was so all the time.
func (w *RouteWatch) Wait(ctx context.Context, prefix netip.Prefix, want ...netip.Addr) (time.Time, error) {
	want = slices.Clone(want)
	slices.SortFunc(want, netip.Addr.Compare)
	var have []netip.Addr
	since := w.begin
	at, err := w.await(ctx, func(c RouteChange) {
		if c.Prefix != prefix {
			return
		}
		if now := gateways(c.NextHops); !slices.Equal(now, have) {
			have, since = now, c.Time
		}
	}, func() (time.Time, bool) { return since, slices.Equal(have, want) })
	if err != nil {
		return time.Time{}, fmt.Errorf("wait until %s has the route to %s via %v; it has it via %v: %w", w.what, prefix, want, have, err)
	}
	return at, nil
}

// WaitCount waits until so many prefixes inside of within have a route, and
// returns the time of the change that made it so.
func (w *RouteWatch) WaitCount(ctx context.Context, within netip.Prefix, count int) (time.Time, error) {
	present := map[netip.Prefix]bool{}
	last := w.begin
	at, err := w.await(ctx, func(c RouteChange) {
		if !contains(within, c.Prefix) {
			return
		}
		before := len(present)
		if c.Kind == RouteDeleted {
			delete(present, c.Prefix)
		} else {
			present[c.Prefix] = true
		}
		if len(present) != before {
			last = c.Time
		}
	}, func() (time.Time, bool) { return last, len(present) == count })
	if err != nil {
		return time.Time{}, fmt.Errorf("wait until %s has %d routes in %s; it has %d: %w", w.what, count, within, len(present), err)
	}
	return at, nil
}

// await shows every change to see, in order, and asks done whenever there is no
// newer one.
func (w *RouteWatch) await(ctx context.Context, see func(RouteChange), done func() (time.Time, bool)) (time.Time, error) {
	for next := 0; ; {
		w.mu.Lock()
		news, changed, err := w.history[next:], w.changed, w.err
		w.mu.Unlock()
		for _, c := range news {
			see(c)
		}
		next += len(news)
		if at, ok := done(); ok {
			return at, err
		}
		if err != nil {
			return time.Time{}, err
		}
		select {
		case <-changed:
		case <-w.stopped:
			return time.Time{}, errors.New("the watch was closed")
		case <-ctx.Done():
			return time.Time{}, context.Cause(ctx)
		}
	}
}

// WaitRoute waits until the kernel's route to the prefix has just these next
// hops, none for no route. To measure a time, begin with [Namespace.WatchRoutes].
func (n *Namespace) WaitRoute(ctx context.Context, prefix netip.Prefix, want ...netip.Addr) error {
	w, err := n.WatchRoutes(prefix)
	if err != nil {
		return err
	}
	defer w.Close()
	_, err = w.Wait(ctx, prefix, want...)
	return err
}

func gateways(hops []NextHop) []netip.Addr {
	var addrs []netip.Addr
	for _, hop := range hops {
		addrs = append(addrs, hop.Via)
	}
	return addrs
}
