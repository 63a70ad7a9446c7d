package layer2

import (
	"github.com/prometheus/client_golang/prometheus"
)

// metrics have no label for the address: pools can have thousands.
type metrics struct {
	registerer prometheus.Registerer
	received   *prometheus.CounterVec
	replied    *prometheus.CounterVec
	gratuitous *prometheus.CounterVec
	withheld   *prometheus.CounterVec
	announced  *prometheus.GaugeVec
	errors     *prometheus.CounterVec
}

// placeMetrics are those of one port, looked up once.
type placeMetrics struct {
	received, replied                     prometheus.Counter
	gratuitous, withheld                  prometheus.Counter
	openErrors, receiveErrors, sendErrors prometheus.Counter
	announced                             prometheus.Gauge
	forget                                func() // removes the gauge
}

func newMetrics(reg prometheus.Registerer) (*metrics, error) {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: "fairway", Subsystem: "layer2", Name: name, Help: help,
		}, labels)
	}
	m := &metrics{
		registerer: reg,
		received: counter("requests_received_total",
			"ARP requests and neighbor solicitations that the kernel's filter passed to the speaker.", "family"),
		replied: counter("replies_sent_total",
			"ARP replies and solicited neighbor advertisements sent.", "family"),
		gratuitous: counter("gratuitous_sent_total",
			"Gratuitous ARP frames and unsolicited neighbor advertisements sent.", "family"),
		withheld: counter("withheld_total",
			"Replies and announcements not sent because the speaker had just been stopped for so long that another may own the addresses.", "family"),
		announced: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Namespace: "fairway", Subsystem: "layer2", Name: "announced_addresses",
			Help: "Addresses that this node answers for by layer 2.",
		}, []string{"family", "interface"}),
		errors: counter("errors_total",
			"Failed operations on sockets, by operation: open, receive, send.", "family", "operation"),
	}
	if reg == nil {
		return m, nil
	}
	for _, c := range m.collectors() {
		if err := reg.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}

func (m *metrics) unregister() {
	if m.registerer == nil {
		return
	}
	for _, c := range m.collectors() {
		m.registerer.Unregister(c)
	}
}

func (m *metrics) collectors() []prometheus.Collector {
	return []prometheus.Collector{m.received, m.replied, m.gratuitous, m.withheld, m.announced, m.errors}
}

func (m *metrics) place(at place) *placeMetrics {
	f := string(at.family)
	return &placeMetrics{
		received:      m.received.WithLabelValues(f),
		replied:       m.replied.WithLabelValues(f),
		gratuitous:    m.gratuitous.WithLabelValues(f),
		withheld:      m.withheld.WithLabelValues(f),
		openErrors:    m.errors.WithLabelValues(f, "open"),
		receiveErrors: m.errors.WithLabelValues(f, "receive"),
		sendErrors:    m.errors.WithLabelValues(f, "send"),
		announced:     m.announced.WithLabelValues(f, at.link),
		forget:        func() { m.announced.DeleteLabelValues(f, at.link) },
	}
}
