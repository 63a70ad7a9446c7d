package membership

import (
	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	members      prometheus.Gauge
	held         prometheus.Gauge
	unadvertised prometheus.Gauge
	events       *prometheus.CounterVec
	overridden   prometheus.Counter
	stalls       prometheus.Counter
	applyErrors  prometheus.Counter
	discarded    prometheus.Counter
	takeover     prometheus.Histogram
}

// newMetrics makes the metrics and registers them, if there is a registerer.
func newMetrics(reg prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		members: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "fairway_membership_members",
			Help: "Live speakers in this node's view, itself included.",
		}),
		held: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "fairway_membership_held_addresses",
			Help: "Layer-2 addresses that this node owns.",
		}),
		unadvertised: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "fairway_membership_unadvertised_pools",
			Help: "Pools, and parts of pools, that this node could serve but does not stand for, because they do not fit into a gossip message.",
		}),
		events: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "fairway_membership_events_total",
			Help: "Changes of members, by type: join, leave, update.",
		}, []string{"type"}),
		overridden: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "fairway_membership_claims_overridden_total",
			Help: "Addresses for which the consent of a live member that did not answer was not waited for.",
		}),
		stalls: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "fairway_membership_stalls_total",
			Help: "Times that this process did not run for so long that others may have declared it dead.",
		}),
		applyErrors: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "fairway_membership_apply_errors_total",
			Help: "Failed attempts to make the network interfaces answer for the held addresses.",
		}),
		discarded: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "fairway_membership_messages_discarded_total",
			Help: "Messages of members that were malformed or too many.",
		}),
		takeover: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "fairway_membership_takeover_seconds",
			Help: "Time from wanting an address that is not held until it is announced.",
			// A round trip or two if all goes well; 100 ms per lost
			// message; the failover of another node; an override.
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5},
		}),
	}
	for _, kind := range []eventKind{eventJoin, eventLeave, eventUpdate} {
		m.events.WithLabelValues(string(kind))
	}
	if reg == nil {
		return m, nil
	}
	for i, collector := range m.collectors() {
		if err := reg.Register(collector); err != nil {
			unregister(reg, m.collectors()[:i])
			return nil, err
		}
	}
	return m, nil
}

func (m *metrics) unregister(reg prometheus.Registerer) {
	if reg != nil {
		unregister(reg, m.collectors())
	}
}

func unregister(reg prometheus.Registerer, collectors []prometheus.Collector) {
	for _, collector := range collectors {
		reg.Unregister(collector)
	}
}

func (m *metrics) collectors() []prometheus.Collector {
	return []prometheus.Collector{
		m.members, m.held, m.unadvertised, m.events, m.overridden,
		m.stalls, m.applyErrors, m.discarded, m.takeover,
	}
}
