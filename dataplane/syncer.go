package dataplane

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/fairway-lb/fairway/dataplane/healthcheck"
	"github.com/fairway-lb/fairway/dataplane/service"
)

// SyncConfig is what a Syncer works with.
type SyncConfig struct {
	NodeName string
	// Open makes the backend, until Reopen says otherwise. It is tried again
	// until it succeeds.
	Open func() (Backend, error)
	// Opened is called once the kernel forwards for the first time: what did so
	// before is to be removed now. nil does nothing.
	Opened func() error
	// Readiness is shared with who announces addresses.
	Readiness *Readiness
	// Concerned is told of Services whose addresses may be announced now, or
	// have to be withdrawn.
	Concerned func(context.Context, types.NamespacedName)
	// FitChanged is told when Readiness.Fit changed.
	FitChanged func(context.Context)
	// Unserved is told, once, that there are Services of a family that the
	// backend does not serve, and why.
	Unserved func(service.Family, error)
	// Failing is told, once for each time, that the kernel has not followed for
	// as long as makes a node unfit, and of the last reason.
	Failing func(error)
	Health  *healthcheck.Proxy
	// HealthCheckPorts serves the health-check node ports.
	HealthCheckPorts *healthcheck.NodePorts
	// Clean deletes stale conntrack entries after changes were made, and returns
	// when it is to be called again, the zero time for never.
	Clean func([]service.PortChange) (again time.Time, err error)
	// Found is told what is found in objects that is not done as they say.
	Found   func(service.FindingsChange)
	Metrics *Metrics
	Log     logr.Logger
}

const (
	// firstBackoff and lastBackoff bound the time from a failure to the next
	// attempt, which doubles.
	firstBackoff = 100 * time.Millisecond
	lastBackoff  = 30 * time.Second
	// fitFor is how long a failure may last before the node is unfit: long
	// enough for another process to let go of a lock.
	fitFor = 5 * time.Second
	// longestPause bounds the pause between two changes of the kernel.
	longestPause = time.Second
)

// Syncer keeps a Backend, and all that goes with it, equal to the objects that
// it is told of. Its methods are safe for concurrent use.
type Syncer struct {
	SyncConfig
	mu     sync.Mutex
	events []func(*service.State)
	since  time.Time // when the first of events came
	wake   chan struct{}
	synced chan struct{}
	loaded bool
	reopen func() (Backend, error) // is to take the place of Open, or nil
}

// NewSyncer returns a Syncer that has no objects yet.
func NewSyncer(config SyncConfig) *Syncer {
	s := &Syncer{SyncConfig: config, wake: make(chan struct{}, 1), synced: make(chan struct{})}
	config.Readiness.mu.Lock()
	config.Readiness.wake = s.signal
	config.Readiness.mu.Unlock()
	return s
}

// Synced is closed once the kernel forwards all that there was at the start.
func (s *Syncer) Synced() <-chan struct{} { return s.synced }

// SetService takes a Service as it is now. The object must not be changed.
func (s *Syncer) SetService(svc *corev1.Service) {
	s.add(func(state *service.State) { state.SetService(svc) })
}

// DeleteService is told that a Service is gone.
func (s *Syncer) DeleteService(name types.NamespacedName) {
	s.add(func(state *service.State) { state.DeleteService(name) })
}

// SetEndpointSlice takes an EndpointSlice as it is now. The object must not be
// changed.
func (s *Syncer) SetEndpointSlice(slice *discoveryv1.EndpointSlice) {
	s.add(func(state *service.State) { state.SetEndpointSlice(slice) })
}

// DeleteEndpointSlice is told that an EndpointSlice is gone.
func (s *Syncer) DeleteEndpointSlice(name types.NamespacedName) {
	s.add(func(state *service.State) { state.DeleteEndpointSlice(name) })
}

// SetNode takes this Node as it is now, nil if it is gone.
func (s *Syncer) SetNode(node *corev1.Node) {
	s.Health.SetNode(node)
	if node != nil {
		s.add(func(state *service.State) { state.SetNode(node) })
	}
}

// Reopen has another backend take over, for a node whose configuration has
// changed, and from now on. What the kernel has goes on working meanwhile.
func (s *Syncer) Reopen(open func() (Backend, error)) {
	s.mu.Lock()
	s.reopen = open
	s.mu.Unlock()
	s.signal()
}

// Loaded says that all Services and EndpointSlices were handed in that there
// were at the start. Nothing is done before.
func (s *Syncer) Loaded() {
	s.mu.Lock()
	s.loaded = true
	s.mu.Unlock()
	s.signal()
}

func (s *Syncer) add(event func(*service.State)) {
	for _, f := range families {
		s.Health.Queued(f)
	}
	s.mu.Lock()
	if len(s.events) == 0 {
		s.since = time.Now()
	}
	s.events = append(s.events, event)
	s.mu.Unlock()
	s.signal()
}

func (s *Syncer) signal() {
	select {
	case s.wake <- struct{}{}:
	default: // it will see this too
	}
}

var families = []service.Family{service.IPv4, service.IPv6}

// run is the state of the worker.
type run struct {
	*Syncer
	ctx     context.Context // of Start
	backend Backend
	state   *service.State
	ledger  *ledger
	owed    []service.PortChange        // the backend has them, the kernel perhaps not
	unclean []service.PortChange        // conntrack entries may be stale by them
	checks  []service.HealthCheckChange // to be served when the kernel follows
	since   time.Time                   // of the first event that is not in the kernel
	backoff time.Duration               // 0 while all is well
	failing time.Time                   // since when
	told    bool                        // that it fails
	passed  map[service.Family]string   // why a family is not served, as was logged
	missed  map[service.Family]string   // likewise, as Unserved was told
	asked   map[service.Family]bool     // there have been Services of it
	begun   bool                        // a round has found all loaded
	opened  bool                        // Opened has succeeded
	// tidyBackoff is the last pause before what is to be tidied up is tried again.
	tidyBackoff time.Duration
}

func newRun(ctx context.Context, s *Syncer) *run {
	return &run{
		Syncer: s, ctx: ctx, state: service.NewState(s.NodeName), ledger: newLedger(s.Readiness),
		passed: map[service.Family]string{}, missed: map[service.Family]string{}, asked: map[service.Family]bool{},
	}
}

// Start works until ctx is done, and leaves the kernel as it is. It implements
// manager.Runnable, and makes up for what fails: it returns no error.
func (s *Syncer) Start(ctx context.Context) error {
	r := newRun(ctx, s)
	for _, f := range families {
		s.Health.Updated(f)
	}
	var changed <-chan struct{}
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		heal := false
		select {
		case <-ctx.Done():
			return r.close()
		case <-s.wake:
		case <-changed:
			heal = true
			s.Log.Info("Someone else changed what is Fairway's in the kernel: it is made as it was")
			s.Metrics.healed.Inc()
		case <-timer.C:
		}
		begin := time.Now()
		again := r.round(begin, heal)
		if r.backend != nil {
			changed = r.backend.Changed()
		}
		timer.Stop()
		if !again.IsZero() {
			timer.Reset(time.Until(again))
		}
		if !r.begun {
			continue // all but the kernel waits for the last object
		}
		// At most half of a processor's time, and what comes meanwhile is one
		// change.
		select {
		case <-ctx.Done():
		case <-time.After(min(time.Since(begin), longestPause)):
		}
	}
}

// NeedLeaderElection implements manager.LeaderElectionRunnable: every speaker
// runs this.
func (s *Syncer) NeedLeaderElection() bool { return false }

// round makes all that is to be made, and makes good what others have undone. It
// returns when to come again without being told, the zero time for never.
func (r *run) round(now time.Time, heal bool) (again time.Time) {
	r.mu.Lock()
	events, since, loaded := r.events, r.since, r.loaded
	r.events = nil
	reopen := r.reopen
	r.reopen = nil
	r.mu.Unlock()
	if reopen != nil {
		r.Open = reopen
		if err := r.closeBackend(); err != nil {
			r.Log.Error(err, "Another takes over all the same")
		}
	}
	for _, event := range events {
		event(r.state)
	}
	if !loaded {
		return time.Time{}
	}
	r.begun = true
	if r.since.IsZero() && len(events) > 0 {
		r.since = since
	}
	for _, f := range families {
		if heal || r.backend == nil {
			r.Health.Queued(f) // the kernel is to follow in this, too
		}
		r.Health.Begin(f)
	}
	changes := r.state.Changes()
	for _, found := range changes.Findings {
		r.Found(found)
	}
	r.checks = append(r.checks, changes.HealthChecks...)
	due, concerned, again := r.ledger.sort(changes.Ports, now)
	r.tell(concerned)
	r.owed = append(r.owed, due...)
	if len(due) > 0 || heal || r.backend == nil || r.backoff > 0 {
		if err := r.apply(due); err != nil {
			// Whoever asks is to hear of an endpoint only when it is reached.
			return sooner(again, r.failed(err, now))
		}
	}
	r.succeeded()
	again = sooner(again, r.tidy(now))
	checks := r.checks
	r.checks = nil
	return sooner(again, r.HealthCheckPorts.Apply(checks, now))
}

// apply has the backend, which is made if there is none yet, follow changes.
func (r *run) apply(due []service.PortChange) error {
	if r.backend == nil {
		backend, err := r.Open()
		if err != nil {
			return err
		}
		r.backend, due = backend, nil
		r.logUnserved()
		for name, port := range r.ledger.standing(r.state.Ports()) {
			due = append(due, service.PortChange{Name: name, After: port})
		}
	}
	begin := time.Now()
	err := r.backend.Apply(due)
	r.Metrics.synced(time.Since(begin), err)
	return err
}

// logUnserved says which families the backend passes over, unless one before did
// for the same reason.
func (r *run) logUnserved() {
	for _, f := range families {
		why := ""
		if err := r.backend.Unserved(f); err != nil {
			why = err.Error()
		}
		if why != "" && r.passed[f] != why {
			r.Log.Info("Traffic of a family is not forwarded, and its addresses are not announced", "family", f.String(), "why", why)
		}
		r.passed[f] = why
	}
}

// tellUnserved tells of a family that the backend passes over, once there are
// Services of it. It returns the ports whose addresses may be announced as they
// might not before, or the reverse.
func (r *run) tellUnserved() (concerned []service.PortName) {
	for _, c := range r.owed {
		if c.After != nil {
			r.asked[c.Name.Family] = true
		}
	}
	for _, f := range families {
		err := r.backend.Unserved(f)
		concerned = append(concerned, r.ledger.serve(f, err == nil, r.state.Ports())...)
		if err != nil && r.asked[f] && r.missed[f] != err.Error() {
			r.missed[f] = err.Error()
			r.Unserved(f, err)
		}
	}
	return concerned
}

// failed makes account of a failure.
func (r *run) failed(err error, now time.Time) (again time.Time) {
	r.backoff = min(max(2*r.backoff, firstBackoff), lastBackoff)
	if r.failing.IsZero() {
		r.failing = now
	}
	r.Log.Error(err, "The kernel does not follow the Services; what it had goes on working", "again", r.backoff, "for", now.Sub(r.failing).Round(time.Millisecond))
	if now.Sub(r.failing) >= fitFor && !r.told {
		r.told = true
		r.Failing(err)
		if r.Readiness.setFit(false) {
			r.FitChanged(r.ctx)
		}
	}
	return now.Add(r.backoff)
}

func (r *run) succeeded() {
	r.backoff, r.failing, r.told = 0, time.Time{}, false
	concerned := append(r.tellUnserved(), r.ledger.made(r.owed)...)
	r.Metrics.made(r.owed, r.since)
	r.unclean = append(r.unclean, r.owed...)
	r.owed, r.since = nil, time.Time{}
	for _, f := range families {
		r.Health.Updated(f)
	}
	if r.Readiness.setFit(true) {
		r.FitChanged(r.ctx)
	}
	select {
	case <-r.synced:
		r.tell(concerned)
	default:
		close(r.synced) // whoever announces has waited for it
	}
}

// tidy removes what is of no use any more, now that the kernel follows:
// rules of before, and stale entries of conntrack. It returns when there is more
// to do, the zero time for never.
func (r *run) tidy(now time.Time) (again time.Time) {
	var failed bool
	if !r.opened && r.Opened != nil {
		if err := r.Opened(); err != nil {
			r.Log.Error(err, "Removing what forwarded before")
			failed = true
		}
	}
	r.opened = !failed
	changes := r.unclean
	r.unclean = nil
	again, err := r.Clean(changes)
	if err != nil { // it remembers what it is to do
		r.Log.Error(err, "Deleting stale entries of conntrack")
		failed = true
	}
	if !failed {
		if again.IsZero() { // nor is anything left that failed before
			r.tidyBackoff = 0
		}
		return again
	}
	r.tidyBackoff = min(max(2*r.tidyBackoff, firstBackoff), lastBackoff)
	return sooner(again, now.Add(r.tidyBackoff))
}

// tell passes the Services of ports on, each once.
func (r *run) tell(ports []service.PortName) {
	services := make([]types.NamespacedName, 0, len(ports))
	for _, p := range ports {
		services = append(services, p.NamespacedName)
	}
	for _, name := range slices.Compact(services) {
		r.Concerned(r.ctx, name)
	}
}

func (r *run) close() error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if err := r.HealthCheckPorts.Close(ctx); err != nil {
		r.Log.Error(err, "Closing the health-check node ports")
	}
	return r.closeBackend()
}

// closeBackend leaves the kernel as it is. Nothing hangs on what it fails to
// give back.
func (r *run) closeBackend() error {
	if r.backend == nil {
		return nil
	}
	backend := r.backend
	r.backend = nil
	if err := backend.Close(); err != nil {
		return fmt.Errorf("closing the dataplane: %w", err)
	}
	return nil
}

// sooner returns the earlier of two times, of which zero is none.
func sooner(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}
