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
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

// written is a recorder that keeps the texts.
type written struct {
	texts []string
	about []string
}

func (w *written) Eventf(regarding, _ runtime.Object, _, _, _, text string, args ...any) {
	w.texts = append(w.texts, fmt.Sprintf(text, args...))
	w.about = append(w.about, regarding.(*corev1.ObjectReference).ResourceVersion)
}

// TestPaced has many events written: a burst at once, the rest at the rate, a
// late warning before them; and what there is no room for is counted.
func TestPaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var w written
		scheme := runtime.NewScheme()
		if err := corev1.AddToScheme(scheme); err != nil {
			t.Fatal(err)
		}
		svc := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: "svc", ResourceVersion: "1"}}
		registry := prometheus.NewRegistry()
		p, err := NewPaced(&w, scheme, logr.Discard(), registry)
		if err != nil {
			t.Fatal(err)
		}
		const excess = 3
		for i := range maxQueued + excess {
			p.Eventf(svc, nil, corev1.EventTypeNormal, "", "", "%d", i)
		}
		families, err := registry.Gather()
		if err != nil {
			t.Fatal(err)
		}
		if n := families[0].GetMetric()[0].GetCounter().GetValue(); n != excess {
			t.Errorf("%v dropped, want %d", n, excess)
		}
		svc.ResourceVersion = "2" // as a controller does that goes on
		ctx, stop := context.WithCancel(t.Context())
		stopped := make(chan error)
		go func() { stopped <- p.Start(ctx) }()
		synctest.Wait()
		if n := len(w.texts); n != burst || w.texts[burst-1] != fmt.Sprint(burst-1) {
			t.Errorf("%d written at once, want %d in order", n, burst)
		}
		if w.about[0] != "1" {
			t.Errorf("the event is about version %s of the object, want that of the time it was told of, 1", w.about[0])
		}
		p.Eventf(svc, nil, corev1.EventTypeWarning, "", "", "warning")
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
