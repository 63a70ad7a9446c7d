package note

import (
	"context"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/time/rate"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/tools/events"
	"k8s.io/client-go/tools/reference"
)

const (
	// rateLimit is how many events a second a process writes in the long run, and
	// burst how many at once. client-go's broadcaster writes all that it is given at
	// the same time, each on a connection of its own if need be: a change that
	// concerns thousands of Services would make an API server fail that has a lease
	// to renew and routes to tell of.
	rateLimit = 20
	burst     = 100
	// maxQueued is how many events of a type wait, a few hundred bytes each. It is
	// some eight minutes' work; what is older than that is no news.
	maxQueued = 10_000
)

// Paced passes events on to another recorder at a bounded rate, warnings first.
// It is a manager's Runnable, which writes nothing before Start. Its methods are
// safe for concurrent use.
type Paced struct {
	recorder         events.EventRecorder
	scheme           *runtime.Scheme
	log              logr.Logger
	limiter          *rate.Limiter
	warnings, normal chan func() // each writes an event
	dropped          prometheus.Counter
}

// NewPaced returns a recorder in front of another one. The scheme tells the kinds
// of the objects that events are about. What there was no room for is counted by
// the metric fairway_events_dropped_total; the error is that of its registration.
func NewPaced(recorder events.EventRecorder, scheme *runtime.Scheme, log logr.Logger, registerer prometheus.Registerer) (*Paced, error) {
	p := &Paced{
		recorder: recorder,
		scheme:   scheme,
		log:      log,
		limiter:  rate.NewLimiter(rateLimit, burst),
		warnings: make(chan func(), maxQueued),
		normal:   make(chan func(), maxQueued),
		dropped: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "fairway_events_dropped_total",
			Help: "Kubernetes events that were not written because too many were waiting",
		}),
	}
	return p, registerer.Register(p.dropped)
}

// Eventf implements events.EventRecorder. It never waits, and keeps no object: the
// caller may go on to change them.
func (p *Paced) Eventf(regarding, related runtime.Object, eventType, reason, action, text string, args ...any) {
	about, err := p.reference(regarding)
	if err != nil {
		p.log.Error(err, "An event is about an object of an unknown kind", "reason", reason, "text", text)
		return
	}
	with, err := p.reference(related)
	if err != nil {
		p.log.Error(err, "An event is related to an object of an unknown kind", "reason", reason, "text", text)
	}
	queue := p.normal
	if eventType == corev1.EventTypeWarning {
		queue = p.warnings
	}
	select {
	case queue <- func() { p.recorder.Eventf(about, with, eventType, reason, action, text, args...) }:
	default:
		p.dropped.Inc()
	}
}

// reference is what an event says of an object, nil for none.
func (p *Paced) reference(object runtime.Object) (runtime.Object, error) {
	if object == nil {
		return nil, nil
	}
	ref, err := reference.GetReference(p.scheme, object)
	if err != nil {
		return nil, err
	}
	return ref, nil
}

// Start writes events until ctx ends.
func (p *Paced) Start(ctx context.Context) error {
	for {
		if err := p.limiter.Wait(ctx); err != nil {
			break // ctx has ended
		}
		write := p.next(ctx)
		if write == nil {
			break
		}
		write()
	}
	if left := len(p.warnings) + len(p.normal); left > 0 {
		p.log.Info("Stopping before all events were written", "left", left)
	}
	return nil
}

// next waits for an event, nil when ctx ends. A warning comes before what has
// waited longer.
func (p *Paced) next(ctx context.Context) (write func()) {
	select {
	case write = <-p.warnings:
		return write
	default:
	}
	select {
	case write = <-p.warnings:
	case write = <-p.normal:
	case <-ctx.Done():
	}
	return write
}

// NeedLeaderElection implements manager.LeaderElectionRunnable: every process
// may have something to say.
func (p *Paced) NeedLeaderElection() bool { return false }
