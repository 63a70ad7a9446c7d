package dataplane

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/go-logr/logr/testr"
	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/fairway-lb/fairway/dataplane/healthcheck"
	"github.com/fairway-lb/fairway/dataplane/service"
)

// recorder is a backend that notes what it is told, and fails when asked to.
type recorder struct {
	applied  [][]service.PortChange
	err      error
	unserved error // IPv4 is not
	closed   bool
}

func (r *recorder) Apply(changes []service.PortChange) error {
	r.applied = append(r.applied, changes)
	return r.err
}
func (r *recorder) Changed() <-chan struct{} { return nil }
func (r *recorder) Unserved(f service.Family) error {
	if f == service.IPv4 {
		return r.unserved
	}
	return nil
}
func (r *recorder) Close() error { r.closed = true; return nil }

// desk is a Syncer's worker with all that it tells, round by round.
type desk struct {
	*run
	backend    *recorder
	now        time.Time
	openErr    error
	concerned  []string
	fit        []bool
	failing    []error
	unserved   []string
	cleaned    int
	unanswered time.Time // when Clean is to be called again
	opened     int
}

func newDesk(t *testing.T) *desk {
	d := &desk{backend: &recorder{}, now: time.Now()}
	registry := prometheus.NewRegistry()
	metrics, err := NewMetrics("recorder", registry)
	if err != nil {
		t.Fatal(err)
	}
	health, err := healthcheck.NewProxy(time.Minute, func() time.Time { return d.now }, registry)
	if err != nil {
		t.Fatal(err)
	}
	readiness := NewReadiness()
	s := NewSyncer(SyncConfig{
		NodeName:   "n1",
		Open:       func() (Backend, error) { return d.backend, d.openErr },
		Opened:     func() error { d.opened++; return nil },
		Readiness:  readiness,
		Concerned:  func(_ context.Context, name types.NamespacedName) { d.concerned = append(d.concerned, name.Name) },
		FitChanged: func(context.Context) { d.fit = append(d.fit, readiness.Fit()) },
		Unserved: func(f service.Family, err error) {
			d.unserved = append(d.unserved, f.String()+": "+err.Error())
		},
		Failing:          func(err error) { d.failing = append(d.failing, err) },
		Health:           health,
		HealthCheckPorts: healthcheck.NewNodePorts(healthcheck.Config{Healthy: health.Healthy}),
		Clean: func(changes []service.PortChange) (again time.Time, err error) {
			d.cleaned += len(changes)
			return d.unanswered, nil
		},
		Found:   func(service.FindingsChange) {},
		Metrics: metrics,
		Log:     testr.New(t),
	})
	d.run = newRun(t.Context(), s)
	return d
}

// serve has a Service with the address vip, with or without an endpoint.
func (d *desk) serve(endpoints ...string) {
	svc := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web"},
		Spec: corev1.ServiceSpec{
			Type: corev1.ServiceTypeLoadBalancer, ClusterIP: "10.96.0.1", ClusterIPs: []string{"10.96.0.1"},
			IPFamilies: []corev1.IPFamily{corev1.IPv4Protocol},
			Ports:      []corev1.ServicePort{{Port: 80, Protocol: corev1.ProtocolTCP}},
		},
		Status: corev1.ServiceStatus{LoadBalancer: corev1.LoadBalancerStatus{Ingress: []corev1.LoadBalancerIngress{{IP: vip.String()}}}},
	}
	slice := &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Namespace: "default", Name: "web-1", Labels: map[string]string{discoveryv1.LabelServiceName: "web"}},
		AddressType: discoveryv1.AddressTypeIPv4,
		Ports:       []discoveryv1.EndpointPort{{Name: new(""), Port: new(int32(80)), Protocol: new(corev1.ProtocolTCP)}},
	}
	for _, e := range endpoints {
		slice.Endpoints = append(slice.Endpoints, discoveryv1.Endpoint{Addresses: []string{e}})
	}
	d.SetService(svc)
	d.SetEndpointSlice(slice)
}

// step is one round; it returns in how long the next one is due, 0 for none.
func (d *desk) step(heal bool) time.Duration {
	again := d.round(d.now, heal)
	if again.IsZero() {
		return 0
	}
	return again.Sub(d.now)
}

func TestNothingBeforeAllIsLoaded(t *testing.T) {
	d := newDesk(t)
	d.serve("10.0.0.1")
	d.step(false)
	if len(d.backend.applied) > 0 {
		t.Error("applied a part of the objects")
	}
	select {
	case <-d.Synced():
		t.Error("forwards already")
	default:
	}
	d.Loaded()
	d.step(false)
	if len(d.backend.applied) != 1 || len(d.backend.applied[0]) != 1 || d.cleaned != 1 || d.opened != 1 {
		t.Errorf("applied %v, cleaned %d, opened %d", d.backend.applied, d.cleaned, d.opened)
	}
	<-d.Synced()
	if len(d.concerned) > 0 {
		t.Errorf("whoever announces has waited for it, and is told of %v", d.concerned)
	}
	if !d.Readiness.Announce(vip) {
		t.Error("the address may not be announced")
	}
}

// What conntrack has to be searched for later is searched for then, and is no
// reason to touch the rules.
func TestCleaningHasItsTime(t *testing.T) {
	d := newDesk(t)
	d.Loaded()
	d.serve("10.0.0.1")
	d.unanswered = d.now.Add(time.Second)
	if again := d.step(false); again != time.Second {
		t.Errorf("again in %v", again)
	}
	d.now, d.unanswered = d.unanswered, time.Time{}
	if again := d.step(false); again != 0 || len(d.backend.applied) != 1 {
		t.Errorf("again in %v, applied %d times", again, len(d.backend.applied))
	}
}

// What means nothing for the kernel costs it nothing.
func TestNothingToDo(t *testing.T) {
	d := newDesk(t)
	d.Loaded()
	d.serve("10.0.0.1")
	d.step(false)
	d.serve("10.0.0.1")
	d.SetNode(&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1"}})
	if again := d.step(false); again != 0 || len(d.backend.applied) != 1 {
		t.Errorf("again in %v, applied %d times", again, len(d.backend.applied))
	}
	d.step(true)
	if len(d.backend.applied) != 2 || len(d.backend.applied[1]) != 0 {
		t.Errorf("to heal, applied %v", d.backend.applied)
	}
}

func TestFailureIsMadeUpFor(t *testing.T) {
	d := newDesk(t)
	d.Loaded()
	d.serve()
	d.step(false)
	d.backend.err = errors.New("the lock is held")
	d.serve("10.0.0.1")
	var pauses []time.Duration
	for range 8 {
		pause := d.step(false)
		pauses = append(pauses, pause)
		d.now = d.now.Add(pause)
	}
	want := []time.Duration{100, 200, 400, 800, 1600, 3200, 6400, 12800}
	for i := range want {
		want[i] *= time.Millisecond
	}
	if !slices.Equal(pauses, want) {
		t.Errorf("pauses of %v", pauses)
	}
	if d.Readiness.Announce(vip) {
		t.Error("announced what the kernel does not have")
	}
	if len(d.failing) != 1 || !slices.Equal(d.fit, []bool{true, false}) {
		t.Errorf("said that it fails: %v; fit: %v", d.failing, d.fit)
	}
	if d.Health.Healthy(); d.cleaned != 1 {
		t.Errorf("cleaned up after %d changes", d.cleaned)
	}
	d.backend.err = nil
	if again := d.step(false); again != 0 {
		t.Errorf("again in %v", again)
	}
	if !d.Readiness.Announce(vip) || !slices.Equal(d.concerned, []string{"web"}) || !slices.Equal(d.fit, []bool{true, false, true}) || d.cleaned != 2 {
		t.Errorf("told %v; fit: %v; cleaned %d", d.concerned, d.fit, d.cleaned)
	}
	if n := len(d.backend.applied); len(d.backend.applied[n-1]) != 0 {
		t.Error("told the backend twice")
	}
}

// A backend that cannot be made at first is told all there is by then.
func TestBackendComesLate(t *testing.T) {
	d := newDesk(t)
	d.Loaded()
	d.openErr = errors.New("no such module")
	d.serve("10.0.0.1")
	d.step(false)
	d.serve("10.0.0.2")
	d.step(false)
	d.openErr = nil
	d.step(false)
	if len(d.backend.applied) != 1 || len(d.backend.applied[0]) != 1 {
		t.Fatalf("applied %v", d.backend.applied)
	}
	c := d.backend.applied[0][0]
	if c.Before != nil || !slices.Equal(c.After.Cluster, []netip.AddrPort{netip.MustParseAddrPort("10.0.0.2:80")}) {
		t.Errorf("applied %v -> %v", c.Before, c.After)
	}
}

// The last endpoint goes: whoever announces is told, and the kernel follows
// once the address is withdrawn and the neighbors know.
func TestWithdrawsFirst(t *testing.T) {
	d := newDesk(t)
	d.Loaded()
	d.serve("10.0.0.1")
	d.step(false)
	d.Readiness.Announce(vip)
	d.serve()
	if again := d.step(false); again != withdrawalTimeout || len(d.backend.applied) != 1 || !slices.Equal(d.concerned, []string{"web"}) {
		t.Errorf("again in %v, applied %d times, told %v", again, len(d.backend.applied), d.concerned)
	}
	d.Readiness.Withdrawn(vip)
	select {
	case <-d.wake:
	default:
		t.Error("not woken by the withdrawal")
	}
	d.now = time.Now().Add(withdrawalTime)
	d.step(false)
	if len(d.backend.applied) != 2 {
		t.Errorf("applied %d times", len(d.backend.applied))
	}
}

func TestStartAndEnd(t *testing.T) {
	d := newDesk(t)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- d.Start(ctx) }()
	d.serve("10.0.0.1")
	d.Loaded()
	<-d.Synced()
	cancel()
	if err := <-ended; err != nil || !d.backend.closed {
		t.Errorf("%v, closed %t", err, d.backend.closed)
	}
}

// A family that the backend does not serve is not announced, and it is said once
// when there is a Service of it; another backend may serve it, and then not.
func TestUnserved(t *testing.T) {
	d := newDesk(t)
	d.Loaded()
	d.backend.unserved = errors.New("no IPv4")
	d.step(false)
	if len(d.unserved) > 0 {
		t.Errorf("without a Service, told %v", d.unserved)
	}
	d.serve("10.0.0.1")
	d.step(false)
	d.serve("10.0.0.2")
	d.step(false)
	if !slices.Equal(d.unserved, []string{"IPv4: no IPv4"}) || d.Readiness.Announce(vip) {
		t.Errorf("told %v", d.unserved)
	}
	for _, again := range []struct {
		unserved error
		told     int
	}{{nil, 1}, {errors.New("still no IPv4"), 2}, {nil, 2}} {
		d.concerned = nil
		next := &recorder{unserved: again.unserved}
		d.Reopen(func() (Backend, error) { return next, nil })
		d.step(false)
		if announced := d.Readiness.Announce(vip); announced != (again.unserved == nil) || !slices.Equal(d.concerned, []string{"web"}) || len(d.unserved) != again.told {
			t.Errorf("%v: announced: %t; concerned %v; told %v", again.unserved, announced, d.concerned, d.unserved)
		}
	}
}

// Another backend is told all there is, after the last has let go, and what the
// kernel is still to have until an address is withdrawn.
func TestReopen(t *testing.T) {
	d := newDesk(t)
	d.Loaded()
	d.serve("10.0.0.1")
	d.step(false)
	d.Readiness.Announce(vip)
	next, openErr := &recorder{}, errors.New("the lock is held")
	d.Reopen(func() (Backend, error) {
		if !d.backend.closed {
			t.Error("two backends at a time")
		}
		return next, openErr
	})
	if again := d.step(false); again != firstBackoff || !d.Readiness.Announce(vip) {
		t.Errorf("that it cannot be opened: again in %v", again)
	}
	openErr = nil
	d.DeleteService(types.NamespacedName{Namespace: "default", Name: "web"})
	d.step(false)
	if len(next.applied) != 1 || len(next.applied[0]) != 1 || len(d.backend.applied) != 1 {
		t.Fatalf("applied %v after %v", next.applied, d.backend.applied)
	}
	if c := next.applied[0][0]; c.After == nil || !slices.Equal(c.After.Cluster, []netip.AddrPort{netip.MustParseAddrPort("10.0.0.1:80")}) {
		t.Errorf("what is still announced became %v", c.After)
	}
	d.Readiness.Withdrawn(vip)
	d.now = time.Now().Add(withdrawalTime)
	d.step(false)
	if len(next.applied) != 2 || len(next.applied[1]) != 1 || next.applied[1][0].After != nil || d.opened != 1 {
		t.Errorf("withdrawn: applied %v, opened %d", next.applied, d.opened)
	}
}
