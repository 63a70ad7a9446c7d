package measure

import (
	"context"
	"fmt"
)

// metricsURL is where the controller serves its metrics, on its own host.
const metricsURL = "http://127.0.0.1:50052/metrics"

// Host is where the controller runs; lab.Host is one.
type Host interface {
	Get(ctx context.Context, url string) (string, error)
}

// Work is what the controller did since it started.
type Work struct {
	Reconciles int
	CPU        float64 // seconds
}

// ReadWork asks the controller on a host what it did.
func ReadWork(ctx context.Context, host Host) (Work, error) {
	text, err := host.Get(ctx, metricsURL)
	if err != nil {
		return Work{}, fmt.Errorf("reading the metrics of the controller: %w", err)
	}
	return parseWork(text)
}

func parseWork(text string) (Work, error) {
	var w Work
	reconciles, err := samplesOf(text, "controller_runtime_reconcile_total")
	if err != nil {
		return Work{}, err
	}
	for _, s := range reconciles {
		if s.labels["controller"] == "fairway" {
			w.Reconciles += int(s.value)
		}
	}
	cpu, err := samplesOf(text, "process_cpu_seconds_total")
	if err != nil {
		return Work{}, err
	}
	for _, s := range cpu {
		w.CPU += s.value
	}
	return w, nil
}

// Since returns the work after an earlier reading of the same process.
func (w Work) Since(before Work) Work {
	return Work{Reconciles: w.Reconciles - before.Reconciles, CPU: w.CPU - before.CPU}
}
