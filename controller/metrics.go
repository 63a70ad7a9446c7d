package controller

import (
	"fmt"
	"math/big"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/fairway-lb/fairway/controller/ipam"
)

// metrics are what the controller counts.
type metrics struct {
	addresses *prometheus.GaugeVec
	inUse     *prometheus.GaugeVec
	pending   *prometheus.GaugeVec
	latency   prometheus.Histogram
}

func newMetrics() *metrics {
	return &metrics{
		addresses: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "fairway_ipam_pool_addresses",
			Help: "Number of addresses of a family that a pool can give, those in use included.",
		}, []string{"pool", "family"}),
		inUse: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "fairway_ipam_pool_addresses_in_use",
			Help: "Number of addresses of a family of a pool that Services hold.",
		}, []string{"pool", "family"}),
		pending: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "fairway_ipam_pending_services",
			Help: "Number of Services that ask for an address and have none, by the reason.",
		}, []string{"reason"}),
		latency: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "fairway_ipam_allocation_duration_seconds",
			Help: "Time from the creation of a Service to the first address in its status. The API server gives the time of creation in whole seconds.",
			// From what one Service takes on an idle API server to what
			// waits for an operator.
			Buckets: []float64{.05, .1, .25, .5, 1, 2, 5, 10, 30, 60, 300, 3600},
		}),
	}
}

func (m *metrics) register(r prometheus.Registerer) error {
	for _, collector := range []prometheus.Collector{m.addresses, m.inUse, m.pending, m.latency} {
		if err := r.Register(collector); err != nil {
			return fmt.Errorf("registering metrics: %w", err)
		}
	}
	return nil
}

func (m *metrics) setPool(name string, usage ipam.Usage) {
	for _, family := range []ipam.Family{ipam.IPv4, ipam.IPv6} {
		if _, has := usage.Families[family]; !has {
			m.addresses.DeleteLabelValues(name, string(family))
			m.inUse.DeleteLabelValues(name, string(family))
		}
	}
	for family, of := range usage.Families {
		total, _ := new(big.Float).SetInt(of.Total).Float64()
		m.addresses.WithLabelValues(name, string(family)).Set(total)
		m.inUse.WithLabelValues(name, string(family)).Set(float64(of.InUse))
	}
}

func (m *metrics) dropPool(name string) {
	m.addresses.DeletePartialMatch(prometheus.Labels{"pool": name})
	m.inUse.DeletePartialMatch(prometheus.Labels{"pool": name})
}

func (m *metrics) setPending(pending map[ipam.Reason]int) {
	for reason, n := range pending {
		m.pending.WithLabelValues(string(reason)).Set(float64(n))
	}
}
