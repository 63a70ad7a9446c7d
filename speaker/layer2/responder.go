package layer2

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
)

// healInterval bounds how often events make the responder look at its links:
// every started pod makes a burst of them, and a socket that fails as soon as
// it is opened must not become a loop.
const healInterval = 100 * time.Millisecond

// retryInterval is for troubles that no event ends, such as a lack of memory.
const retryInterval = 5 * time.Second

// ErrClosed is returned by Sync after Close.
var ErrClosed = errors.New("layer 2 responder is closed")

// An Announcement is an address and the link on which it is answered.
type Announcement struct {
	Addr      netip.Addr
	Interface string // name of the link
}

// A Responder answers ARP and NDP for the addresses of the last Sync. It
// follows its links by itself: one that comes up, or comes back as another
// device of the same name, is answered and announced on again.
type Responder struct {
	log      logr.Logger
	metrics  *metrics
	repeater *repeater
	failed   chan struct{} // a port stopped reading
	stop     context.CancelFunc
	running  sync.WaitGroup

	mu      sync.Mutex
	closed  bool
	gate    func() bool
	want    map[place]addrSet
	ports   map[place]*port
	trouble string // why some of want is not announced
}

// A place is one family on one link: what a socket serves.
type place struct {
	link   string
	family family
}

type addrSet map[netip.Addr]struct{}

// New starts a responder that announces nothing yet. Its metrics are
// registered with reg, which may be nil, until Close.
func New(log logr.Logger, reg prometheus.Registerer) (*Responder, error) {
	m, err := newMetrics(reg)
	if err != nil {
		return nil, fmt.Errorf("register layer 2 metrics: %w", err)
	}
	ctx, stop := context.WithCancel(context.Background())
	changed, err := Watch(ctx)
	if err != nil {
		stop()
		m.unregister()
		return nil, err
	}
	r := &Responder{
		log:      log,
		metrics:  m,
		repeater: newRepeater(),
		failed:   make(chan struct{}, 1),
		stop:     stop,
		gate:     func() bool { return true },
		ports:    map[place]*port{},
	}
	r.running.Go(func() { r.follow(ctx, changed) })
	r.running.Go(func() { r.repeater.run(ctx) })
	return r, nil
}

// Gate makes the responder ask open right before each frame, and not send it
// if the answer is no: the caller may know of a moment in which what it last
// said by Sync is not to be relied on. What is withheld is not made up for; the
// next Sync is expected to bring what changed. It is to be called before the
// first Sync. The function is called by several goroutines, with locks held.
func (r *Responder) Gate(open func() bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.gate = open
}

// Sync makes the wire equal to want. When it returns, no reply or
// announcement for an address that is not in want can leave any more, and
// those that are new are answered and were announced once; the repeats follow
// by themselves. An announcement that cannot be made (no such link, link down,
// no IPv6 link-local address) is part of the error, does not stop the others,
// and is tried again when the link changes and at the next Sync.
func (r *Responder) Sync(want []Announcement) error {
	places, invalid := byPlace(want)
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return ErrClosed
	}
	r.want = places
	err := r.apply()
	r.trouble = text(err)
	return errors.Join(invalid, err)
}

// Close silences every address and releases the sockets. It may be called
// twice.
func (r *Responder) Close() error {
	r.mu.Lock()
	r.closed = true
	for at := range r.ports {
		r.drop(at)
	}
	r.mu.Unlock()
	r.stop()
	r.running.Wait()
	r.metrics.unregister()
	return nil
}

// byPlace sorts announcements by the socket that serves them and refuses what
// is not an address of a host.
func byPlace(want []Announcement) (map[place]addrSet, error) {
	places := map[place]addrSet{}
	var errs []error
	for _, a := range want {
		if err := a.check(); err != nil {
			errs = append(errs, err)
			continue
		}
		at := place{a.Interface, familyOf(a.Addr)}
		if places[at] == nil {
			places[at] = addrSet{}
		}
		places[at][a.Addr] = struct{}{}
	}
	return places, errors.Join(errs...)
}

func (a Announcement) check() error {
	switch {
	case !a.Addr.IsValid(), a.Addr.Is4In6(), a.Addr.Zone() != "",
		a.Addr.IsUnspecified(), a.Addr.IsLoopback(), a.Addr.IsMulticast():
		return fmt.Errorf("cannot announce %s on %q: not a plain unicast address", a.Addr, a.Interface)
	case a.Interface == "":
		return fmt.Errorf("cannot announce %s: no interface given", a.Addr)
	}
	return nil
}

// apply brings the ports to r.want: first all silences, then the rest.
func (r *Responder) apply() error {
	for at, p := range r.ports {
		p.retain(r.want[at])
	}
	var errs []error
	for at := range r.ports {
		if len(r.want[at]) == 0 {
			r.drop(at)
		}
	}
	for _, at := range sortedPlaces(r.want) {
		if err := r.serve(at, r.want[at]); err != nil {
			errs = append(errs, fmt.Errorf("announce %s on %s: %w", sample(r.want[at]), at.link, err))
		}
	}
	return errors.Join(errs...)
}

// serve makes one port answer for addrs and announces those that are new.
func (r *Responder) serve(at place, addrs addrSet) error {
	id, err := identify(at)
	p := r.ports[at]
	if p != nil && (err != nil || p.failed.Load() || p.id != id) {
		r.drop(at)
		p = nil
	}
	if err != nil {
		return err
	}
	if p == nil {
		if p, err = openPort(at, id, r.metrics, r.gate, r.portFailed); err != nil {
			return err
		}
		r.ports[at] = p
		r.log.V(1).Info("Answering on link", "interface", at.link, "family", at.family)
	}
	started, err := p.set(addrs)
	return errors.Join(err, r.announce(p, started))
}

// announce sends the first announcement of each address and plans the others.
// If the link takes no more frames, those left out have their repeats still.
func (r *Responder) announce(p *port, addrs []netip.Addr) error {
	r.repeater.add(p, addrs)
	for _, addr := range addrs {
		if err := p.announce(addr, true); err != nil {
			return fmt.Errorf("first announcement of %s: %w", addr, err)
		}
	}
	return nil
}

func (r *Responder) drop(at place) {
	p := r.ports[at]
	delete(r.ports, at)
	p.close()
	r.log.V(1).Info("Stopped answering on link", "interface", at.link, "family", at.family)
}

// portFailed is called by a port's reader when its socket is of no more use.
func (r *Responder) portFailed() {
	select {
	case r.failed <- struct{}{}:
	default:
	}
}

// follow repairs the ports after changes of links and failures of sockets.
func (r *Responder) follow(ctx context.Context, changed <-chan struct{}) {
	retry := time.NewTicker(retryInterval)
	defer retry.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-changed:
		case <-r.failed:
		case <-retry.C:
			if !r.inTrouble() {
				continue
			}
		}
		r.heal()
		select {
		case <-ctx.Done():
			return
		case <-time.After(healInterval):
		}
	}
}

func (r *Responder) heal() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return
	}
	before := r.trouble
	r.trouble = text(r.apply())
	switch r.trouble {
	case before:
	case "":
		r.log.Info("All addresses are announced again")
	default:
		r.log.Info("Some addresses cannot be announced; trying again when the link changes", "reason", r.trouble)
	}
}

func (r *Responder) inTrouble() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.trouble != ""
}

func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

func sortedPlaces(m map[place]addrSet) []place {
	places := make([]place, 0, len(m))
	for at := range m {
		places = append(places, at)
	}
	slices.SortFunc(places, func(a, b place) int {
		return cmp.Or(cmp.Compare(a.link, b.link), cmp.Compare(a.family, b.family))
	})
	return places
}

// sample names one address of the set and how many there are besides.
func sample(addrs addrSet) string {
	var first netip.Addr
	for a := range addrs {
		if !first.IsValid() || a.Less(first) {
			first = a
		}
	}
	if len(addrs) > 1 {
		return fmt.Sprintf("%s and %d more", first, len(addrs)-1)
	}
	return first.String()
}
