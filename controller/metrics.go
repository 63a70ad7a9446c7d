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
	pending   prometheus.Gauge
}

func newMetrics() *metrics {
	return &metrics{
		addresses: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "fairway_ipam_pool_addresses",
			Help: "Number of addresses in a pool.",
		}, []string{"pool"}),
		inUse: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "fairway_ipam_pool_addresses_in_use",
			Help: "Number of addresses of a pool that Services hold.",
		}, []string{"pool"}),
		pending: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "fairway_ipam_pending_services",
			Help: "Number of Services that ask for an address and have none.",
		}),
	}
}

func (m *metrics) register(r prometheus.Registerer) error {
	for _, collector := range []prometheus.Collector{m.addresses, m.inUse, m.pending} {
		if err := r.Register(collector); err != nil {
			return fmt.Errorf("registering metrics: %w", err)
		}
	}
	return nil
}

func (m *metrics) setPool(name string, usage ipam.Usage) {
	total, _ := new(big.Float).SetInt(usage.Total).Float64()
	m.addresses.WithLabelValues(name).Set(total)
	m.inUse.WithLabelValues(name).Set(float64(usage.InUse))
}

func (m *metrics) dropPool(name string) {
	m.addresses.DeleteLabelValues(name)
	m.inUse.DeleteLabelValues(name)
}
