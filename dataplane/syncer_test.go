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
	applied [][]service.PortChange
	err     error
	closed  bool
}

func (r *recorder) Apply(changes []service.PortChange) error {
	r.applied = append(r.applied, changes)
	return r.err
}
func (r *recorder) Changed() <-chan struct{}      { return nil }
func (r *recorder) Unserved(service.Family) error { return nil }
func (r *recorder) Close() error                  { r.closed = true; return nil }

// desk is a Syncer's worker with all that it tells, round by round.
type desk struct {
	*run
	backend   *recorder
	now       time.Time
	openErr   error
	concerned []string
	fit       []bool
	failing   []error
	cleaned   int
	opened    int
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
		NodeName:         "n1",
		Open:             func() (Backend, error) { return d.backend, d.openErr },
		Opened:           func() error { d.opened++; return nil },
		Readiness:        readiness,
		Concerned:        func(_ context.Context, name types.NamespacedName) { d.concerned = append(d.concerned, name.Name) },
		FitChanged:       func(context.Context) { d.fit = append(d.fit, readiness.Fit()) },
		Failing:          func(err error) { d.failing = append(d.failing, err) },
		Health:           health,
		HealthCheckPorts: healthcheck.NewNodePorts(healthcheck.Config{Healthy: health.Healthy}),
		Clean:            func(changes []service.PortChange) error { d.cleaned += len(changes); return nil },
		Found:            func(service.FindingsChange) {},
		Metrics:          metrics,
		Log:              testr.New(t),
	})
	d.run = &run{Syncer: s, ctx: t.Context(), state: service.NewState("n1"), ledger: newLedger(readiness)}
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
