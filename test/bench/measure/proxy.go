package measure

import (
	"context"
	"fmt"
	"time"
)

// ServiceProxy is where a service proxy serves its metrics, on its own node,
// and the histogram in which it has how long it took to change the kernel.
type ServiceProxy struct{ URL, Syncs string }

// The service proxies that there are.
var (
	KubeProxy = ServiceProxy{"http://127.0.0.1:10249/metrics", "kubeproxy_sync_proxy_rules_duration_seconds"}
	Dataplane = ServiceProxy{speakerMetricsURL, "fairway_dataplane_sync_duration_seconds"}
)

// Syncing returns for how long the proxy of a host has changed the kernel since
// it started. Where it does so for each IP family, that is the longest.
func (p ServiceProxy) Syncing(ctx context.Context, host Host) (time.Duration, error) {
	text, err := host.Get(ctx, p.URL)
	if err != nil {
		return 0, fmt.Errorf("reading the metrics of a service proxy: %w", err)
	}
	return p.parse(text)
}

func (p ServiceProxy) parse(text string) (time.Duration, error) {
	metrics, err := metricsOf(text, p.Syncs)
	if err != nil {
		return 0, err
	}
	if len(metrics) == 0 {
		return 0, fmt.Errorf("there is no metric %s", p.Syncs)
	}
	var longest float64
	for _, m := range metrics {
		longest = max(longest, m.GetHistogram().GetSampleSum())
	}
	return time.Duration(longest * float64(time.Second)), nil
}
