package measure

import (
	"errors"
	"os"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
)

func TestWritesCountTheControllersVerbsOnly(t *testing.T) {
	before, err := parseWrites(`
# TYPE apiserver_request_total counter
apiserver_request_total{verb="PATCH",resource="services",subresource="",code="200"} 10
`)
	if err != nil {
		t.Fatal(err)
	}
	now, err := parseWrites(`
# TYPE apiserver_request_total counter
apiserver_request_total{verb="PATCH",resource="services",subresource="",code="200"} 12
apiserver_request_total{verb="PATCH",resource="services",subresource="status",code="200"} 1
apiserver_request_total{verb="APPLY",resource="services",subresource="status",code="200"} 2
apiserver_request_total{verb="APPLY",resource="services",subresource="status",code="409"} 1
apiserver_request_total{verb="PUT",resource="services",subresource="",code="200"} 7
apiserver_request_total{verb="POST",resource="services",subresource="",code="201"} 7
apiserver_request_total{verb="POST",resource="events",subresource="",code="201"} 4
apiserver_request_total{verb="PATCH",resource="leases",subresource="",code="200"} 7
`)
	if err != nil {
		t.Fatal(err)
	}
	got := now.Since(before)
	if want := "4 events, 2 services, 3 services/status, 1 services/status refused"; got.String() != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got.Total() != 9 || got.TotalRefused() != 1 {
		t.Errorf("%d done, %d refused, want 9 and 1", got.Total(), got.TotalRefused())
	}
}

func TestWorkIsOfOneController(t *testing.T) {
	work, err := parseWork(`
# TYPE controller_runtime_reconcile_total counter
controller_runtime_reconcile_total{controller="fairway",result="success"} 5
controller_runtime_reconcile_total{controller="fairway",result="error"} 1
controller_runtime_reconcile_total{controller="cert-rotator",result="success"} 9
# TYPE process_cpu_seconds_total counter
process_cpu_seconds_total 1.25
`)
	if err != nil || work != (Work{Reconciles: 6, CPU: 1.25}) {
		t.Errorf("got %+v, %v", work, err)
	}
}

func TestJournal(t *testing.T) {
	j := &Journal{services: map[string]*followed{}, changed: make(chan struct{})}
	at := time.Unix(1000, 0)
	svc := func(uid types.UID, finalizer, ip string) *corev1.Service {
		s := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: "a", UID: uid}}
		if finalizer != "" {
			s.Finalizers = []string{finalizer}
		}
		if ip != "" {
			s.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: ip}}
		}
		return s
	}
	j.record(watch.Event{Type: watch.Added, Object: svc("1", "", "")}, at)
	j.record(watch.Event{Type: watch.Modified, Object: svc("1", "f", "")}, at.Add(1))
	j.record(watch.Event{Type: watch.Modified, Object: svc("1", "f", "10.0.0.1")}, at.Add(2))
	want := History{Created: at, Addressed: at.Add(2), Address: "10.0.0.1", StatusWrites: 1, ObjectWrites: 1}
	if got := j.Histories()["a"]; got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if err := j.Await(t.Context(), 1, "a"); err != nil {
		t.Error(err)
	}
	j.Reset()
	if changed := j.Changed(); len(changed) != 0 {
		t.Errorf("changed after Reset: %v", changed)
	}
	j.record(watch.Event{Type: watch.Modified, Object: svc("2", "", "")}, at.Add(3))
	if got, want := j.Histories()["a"], (History{Created: at.Add(3)}); got != want {
		t.Errorf("created anew: got %+v, want %+v", got, want)
	}
	j.record(watch.Event{Type: watch.Deleted, Object: svc("2", "", "")}, at.Add(4))
	if n := len(j.Histories()); n != 0 {
		t.Errorf("%d Services after the deletion", n)
	}
	j.end(errors.New("over"))
	if err := j.Await(t.Context(), 1); err == nil {
		t.Error("a journal that ended waits for an address")
	}
}

func TestMachine(t *testing.T) {
	m, err := ReadMemory(os.Getpid())
	if err != nil || m.Resident <= 0 || m.Peak < m.Resident {
		t.Errorf("memory %+v, %v", m, err)
	}
	if hardware, err := Hardware(); err != nil || hardware == "" {
		t.Errorf("hardware %q, %v", hardware, err)
	}
}

func TestSettle(t *testing.T) {
	reads := 0
	got, err := Settle(t.Context(), 3*settlePoll, func() (int, error) {
		reads++
		return min(reads, 3), nil
	})
	if err != nil || got != 3 || reads < 5 {
		t.Errorf("settled at %d after %d readings, %v", got, reads, err)
	}
	if _, err := Settle(t.Context(), time.Hour, func() (int, error) { return 0, errors.New("gone") }); err == nil {
		t.Error("a reading that fails is no error")
	}
}
