package speaker

import (
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// ConvergenceHistogram registers fairway_bgp_convergence_seconds: from the API
// event of a Service or EndpointSlice until the changed routes were handed to
// the BGP sessions, which send them at once.
func ConvergenceHistogram(registerer prometheus.Registerer) (observe func(time.Duration), err error) {
	histogram := prometheus.NewHistogram(prometheus.HistogramOpts{
		Name: "fairway_bgp_convergence_seconds",
		Help: "Time from the API event of a Service or EndpointSlice until the changed routes were handed to the BGP sessions.",
		// 0.5 ms is a change on an idle node, 16 s a cluster that starts.
		Buckets: prometheus.ExponentialBuckets(0.0005, 2, 16),
	})
	if err := registerer.Register(histogram); err != nil {
		return nil, fmt.Errorf("registering metrics: %w", err)
	}
	return func(d time.Duration) { histogram.Observe(d.Seconds()) }, nil
}
