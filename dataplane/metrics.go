package dataplane

import (
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/fairway-lb/fairway/dataplane/service"
)

// Metrics say how the kernel keeps up.
type Metrics struct {
	duration prometheus.Histogram
	errors   prometheus.Counter
	healed   prometheus.Counter
	ports    prometheus.Gauge
	latency  prometheus.Histogram
	last     prometheus.Gauge
}

// NewMetrics registers fairway_dataplane_sync_duration_seconds,
// fairway_dataplane_sync_errors_total, fairway_dataplane_repairs_total,
// fairway_dataplane_service_ports,
// fairway_dataplane_programming_duration_seconds and
// fairway_dataplane_last_sync_timestamp_seconds. backend is the value of the
// label that all have.
func NewMetrics(backend string, registerer prometheus.Registerer) (*Metrics, error) {
	labels := prometheus.Labels{"backend": backend}
	buckets := prometheus.ExponentialBuckets(0.0005, 2, 16) // half a millisecond to 16 s
	m := &Metrics{
		duration: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "fairway_dataplane_sync_duration_seconds", ConstLabels: labels, Buckets: buckets,
			Help: "How long it took to change the kernel once.",
		}),
		errors: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "fairway_dataplane_sync_errors_total", ConstLabels: labels,
			Help: "Attempts to change the kernel that failed.",
		}),
		healed: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "fairway_dataplane_repairs_total", ConstLabels: labels,
			Help: "How often someone else had changed what is Fairway's in the kernel.",
		}),
		ports: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "fairway_dataplane_service_ports", ConstLabels: labels,
			Help: "Service ports in the kernel, of both IP families.",
		}),
		latency: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "fairway_dataplane_programming_duration_seconds", ConstLabels: labels, Buckets: buckets,
			Help: "From the news of a Service or EndpointSlice until the kernel follows it.",
		}),
		last: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "fairway_dataplane_last_sync_timestamp_seconds", ConstLabels: labels,
			Help: "When the kernel last was as the objects want it, in seconds since 1970.",
		}),
	}
	for _, c := range []prometheus.Collector{m.duration, m.errors, m.healed, m.ports, m.latency, m.last} {
		if err := registerer.Register(c); err != nil {
			return nil, fmt.Errorf("register the metrics of the dataplane: %w", err)
		}
	}
	return m, nil
}

func (m *Metrics) synced(took time.Duration, err error) {
	m.duration.Observe(took.Seconds())
	if err != nil {
		m.errors.Inc()
		return
	}
	m.last.SetToCurrentTime()
}

// made counts changes in; since is when the first was heard of.
func (m *Metrics) made(changes []service.PortChange, since time.Time) {
	n := 0
	for _, c := range changes {
		if c.Before == nil {
			n++
		}
		if c.After == nil {
			n--
		}
	}
	m.ports.Add(float64(n))
	if len(changes) > 0 && !since.IsZero() {
		m.latency.Observe(time.Since(since).Seconds())
	}
}
