package note

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

// written is a recorder that keeps the texts.
type written struct{ texts []string }

func (w *written) Eventf(_, _ runtime.Object, _, _, _, text string, args ...any) {
	w.texts = append(w.texts, fmt.Sprintf(text, args...))
}

// TestPaced has many events written: a burst at once, the rest at the rate, a
// late warning before them; and what there is no room for is counted.
func TestPaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var w written
		registry := prometheus.NewRegistry()
		p, err := NewPaced(&w, logr.Discard(), registry)
		if err != nil {
			t.Fatal(err)
		}
		const excess = 3
		for i := range maxQueued + excess {
			p.Eventf(nil, nil, corev1.EventTypeNormal, "", "", "%d", i)
		}
		families, err := registry.Gather()
		if err != nil {
			t.Fatal(err)
		}
		if n := families[0].GetMetric()[0].GetCounter().GetValue(); n != excess {
			t.Errorf("%v dropped, want %d", n, excess)
		}
		ctx, stop := context.WithCancel(t.Context())
		stopped := make(chan error)
		go func() { stopped <- p.Start(ctx) }()
		synctest.Wait()
		if n := len(w.texts); n != burst || w.texts[burst-1] != fmt.Sprint(burst-1) {
			t.Errorf("%d written at once, want %d in order", n, burst)
		}
		p.Eventf(nil, nil, corev1.EventTypeWarning, "", "", "warning")
		time.Sleep(time.Second)
		synctest.Wait()
		// One waits for its turn already when the warning comes.
		if n := len(w.texts); n != burst+rateLimit || w.texts[burst] != "warning" && w.texts[burst+1] != "warning" {
			t.Errorf("%d written after a second, want %d: the next ones were %v", n, burst+rateLimit, w.texts[burst:min(n, burst+2)])
		}
		stop()
		if err := <-stopped; err != nil {
			t.Error(err)
		}
	})
}
