package bfd

import (
	"strconv"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics are written by the engine's thread.
type metrics struct {
	registerer                 prometheus.Registerer
	up                         *prometheus.GaugeVec
	downs                      *prometheus.CounterVec
	sent, received, sendErrors prometheus.Counter
	discards                   *prometheus.CounterVec
}

func newMetrics(reg prometheus.Registerer) (*metrics, error) {
	counter := func(name, help string) prometheus.CounterOpts {
		return prometheus.CounterOpts{Namespace: "fairway", Subsystem: "bfd", Name: name, Help: help}
	}
	// A neighbor can have a session for each local address, and over one and
	// several hops.
	labels := []string{"neighbor", "local", "multihop"}
	m := &metrics{
		registerer: reg,
		up: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Namespace: "fairway", Subsystem: "bfd", Name: "session_up",
			Help: "1 if the BFD session with the neighbor is Up, else 0.",
		}, labels),
		downs: prometheus.NewCounterVec(counter("session_downs_total",
			"How often the BFD session with the neighbor has left the state Up."), labels),
		sent:       prometheus.NewCounter(counter("packets_sent_total", "BFD control packets sent.")),
		received:   prometheus.NewCounter(counter("packets_received_total", "BFD control packets received and used.")),
		sendErrors: prometheus.NewCounter(counter("send_errors_total", "BFD control packets that the kernel refused to send.")),
		discards: prometheus.NewCounterVec(counter("packets_discarded_total",
			"BFD control packets received and not used, by reason."), []string{"reason"}),
	}
	if reg == nil {
		return m, nil
	}
	for _, c := range m.collectors() {
		if err := reg.Register(c); err != nil {
			return m, err
		}
	}
	return m, nil
}

func (m *metrics) collectors() []prometheus.Collector {
	return []prometheus.Collector{m.up, m.downs, m.sent, m.received, m.sendErrors, m.discards}
}

func (m *metrics) unregister() {
	if m.registerer == nil {
		return
	}
	for _, c := range m.collectors() {
		m.registerer.Unregister(c)
	}
}

func (m *metrics) discarded(why discard) { m.discards.WithLabelValues(string(why)).Inc() }

// sessionMetrics are those of one session.
type sessionMetrics struct {
	up    prometheus.Gauge
	downs prometheus.Counter
	// forget removes both.
	forget func()
}

func (m *metrics) session(key Key) sessionMetrics {
	local := ""
	if key.Local.IsValid() {
		local = key.Local.String()
	}
	labels := []string{key.Neighbor.String(), local, strconv.FormatBool(key.Multihop)}
	return sessionMetrics{
		up:    m.up.WithLabelValues(labels...),
		downs: m.downs.WithLabelValues(labels...),
		forget: func() {
			m.up.DeleteLabelValues(labels...)
			m.downs.DeleteLabelValues(labels...)
		},
	}
}

// moved is told of the states before and after a change.
func (s sessionMetrics) moved(from, to State) {
	switch {
	case to == Up:
		s.up.Set(1)
	case from == Up:
		s.up.Set(0)
		s.downs.Inc()
	}
}
