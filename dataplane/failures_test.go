package dataplane

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fairway-lb/fairway/dataplane/service"
)

// codes are the answers to /healthz and /livez.
func (d *desk) codes() [2]int {
	var codes [2]int
	for i, path := range []string{"/healthz", "/livez"} {
		w := httptest.NewRecorder()
		d.Health.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
		codes[i] = w.Code
	}
	return codes
}

// Whatever it is that the kernel does not follow, /healthz says so after a
// minute, and not before; what worked is not forgotten, and once the kernel
// follows /healthz says that.
func TestHealthTellsTheTruth(t *testing.T) {
	broken := errors.New("the lock is held")
	for _, test := range []struct {
		what  string
		fails func(*desk) (heal bool)
	}{
		{"a change", func(d *desk) bool {
			d.backend.err = broken
			d.serve("10.0.0.2")
			return false
		}},
		{"what others have undone", func(d *desk) bool {
			d.backend.err = broken
			return true
		}},
		{"the first time, without a Service", func(d *desk) bool {
			d.run.backend, d.openErr = nil, broken
			return false
		}},
	} {
		t.Run(test.what, func(t *testing.T) {
			d := newDesk(t)
			for _, f := range families {
				d.Health.Updated(f) // as Start does
			}
			d.SetNode(&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1"}})
			d.Loaded()
			d.serve("10.0.0.1")
			d.step(false)
			if got := d.codes(); got != [2]int{200, 200} {
				t.Fatalf("at first: %v", got)
			}
			heal := test.fails(d)
			begin := d.now
			for d.now.Sub(begin) < 2*time.Minute {
				again := d.step(heal)
				if again == 0 {
					t.Fatal("not tried again")
				}
				heal = false
				want := [2]int{200, 200}
				if d.now.Sub(begin) >= time.Minute { // the limit of newDesk
					want = [2]int{503, 503}
				}
				if got := d.codes(); got != want {
					t.Fatalf("after %v: %v, want %v", d.now.Sub(begin), got, want)
				}
				d.now = d.now.Add(again)
			}
			d.backend.err, d.openErr = nil, nil
			d.step(false)
			if got := d.codes(); got != [2]int{200, 200} {
				t.Errorf("in the end: %v", got)
			}
		})
	}
}

// Conntrack that cannot be asked is asked again with growing pauses, and is no
// reason to touch the rules.
func TestCleaningIsTriedAgain(t *testing.T) {
	d := newDesk(t)
	d.Loaded()
	d.serve("10.0.0.1")
	broken, calls, next := errors.New("no such module"), 0, time.Time{}
	d.Clean = func([]service.PortChange) (again time.Time, err error) { calls++; return next, broken }
	var pauses []time.Duration
	for range 10 {
		pause := d.step(false)
		pauses = append(pauses, pause)
		d.now = d.now.Add(pause)
	}
	want := []time.Duration{100, 200, 400, 800, 1600, 3200, 6400, 12800, 25600, 30000}
	for i := range want {
		want[i] *= time.Millisecond
	}
	if !slices.Equal(pauses, want) {
		t.Errorf("pauses of %v, want %v", pauses, want)
	}
	if len(d.backend.applied) != 1 || calls != 10 {
		t.Errorf("applied %d times, cleaned %d times", len(d.backend.applied), calls)
	}
	next = d.now.Add(time.Second)
	if again := d.step(false); again != time.Second {
		t.Errorf("with other things to do it is done again in %v", again)
	}
	broken = nil
	if again := d.step(false); again != time.Second {
		t.Errorf("again in %v", again)
	}
	broken, next = errors.New("no such module"), time.Time{}
	if again := d.step(false); again != lastBackoff {
		t.Errorf("what was put off, and fails again, is done again in %v", again)
	}
	broken = nil
	if again := d.step(false); again != 0 {
		t.Errorf("again in %v", again)
	}
}

// What forwarded before is removed in the end, however often that fails: of two
// dataplanes, that which is not kept up leads to pods that are gone.
func TestFormerDataplaneIsRemoved(t *testing.T) {
	d := newDesk(t)
	d.Loaded()
	d.serve("10.0.0.1")
	broken, calls := errors.New("the lock is held"), 0
	d.Opened = func() error { calls++; return broken }
	if again := d.step(false); again != firstBackoff {
		t.Errorf("again in %v, want %v", again, firstBackoff)
	}
	<-d.Synced() // it forwards, whatever else there is
	broken = nil
	d.now = d.now.Add(firstBackoff)
	if again := d.step(false); again != 0 || calls != 2 {
		t.Errorf("again in %v, after %d calls", again, calls)
	}
	d.serve("10.0.0.2")
	if d.step(false); calls != 2 {
		t.Errorf("removed %d times", calls)
	}
}
