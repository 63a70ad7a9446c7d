package dataplanetest

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/go-logr/logr/testr"
	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/apimachinery/pkg/types"

	"github.com/fairway-lb/fairway/dataplane"
	"github.com/fairway-lb/fairway/dataplane/healthcheck"
	"github.com/fairway-lb/fairway/dataplane/service"
)

// The node's pods get addresses, and cluster IPs come from other ranges: the
// kernel follows, and is as after a start with that configuration. No connection
// fails meanwhile.
func testReconfigure(t *testing.T, subject Subject) {
	c := &Scene{Lab: subject.Lab(t), Frontends: Frontends{1}}
	other := WithPods
	other.ServiceCIDRs = Prefixes("10.97.0.0/16", "fd00:97::/112")
	both := WithPods
	both.ServiceCIDRs = Prefixes("10.96.0.0/16", "10.97.0.0/16", "fd00:96::/112", "fd00:97::/112")
	steps := []struct {
		what   string
		config dataplane.Config
		source Source // of a client at a cluster IP
		want   []string
	}{
		{"no pods", dataplane.Config{}, Own, nil},
		{"pods", WithPods, Translated, nil},
		{"cluster IPs elsewhere", other, Translated, nil},
		{"another ServiceCIDR", both, Translated, nil},
		{"one goes", other, Translated, nil},
		{"none", dataplane.Config{}, Own, nil},
	}
	state := service.NewState(ThisNode)
	state.SetService(NewService(c.Frontends, nil))
	SetEndpoints(state, c.Frontends, OnPod1(c.Lab), OnPod2(c.Lab))
	state.Changes()
	for i := range steps {
		b, err := subject.New(steps[i].config)
		must(t, err)
		must(t, b.Apply(everything(state)))
		steps[i].want = subject.content(t)
		must(t, b.Close())
		must(t, subject.Cleanup())
	}

	syncer := subject.newSyncer(t, steps[0].config)
	syncer.SetService(NewService(c.Frontends, nil))
	SetEndpoints(syncer, c.Frontends, OnPod1(c.Lab), OnPod2(c.Lab))
	syncer.Loaded()
	syncer.awaitApply(t)
	stop := c.Probers("pod1", "pod2")
	for i, step := range steps {
		if i > 0 {
			syncer.Reopen(syncer.open(step.config))
			syncer.awaitApply(t)
		}
		EqualContent(t, step.what, subject.content(t), step.want)
		c.Ask(step.what, c.Client, c.ClusterIP(), 80, step.source, "pod1", "pod2")
		if len(step.config.ServiceCIDRs) > len(other.ServiceCIDRs) {
			c.Ask(step.what, c.Client, Frontends{7}.ClusterIP(), 80, "", Drop)
		}
	}
	stop()
}

// syncer is a Syncer of the subject, and tells when the kernel follows.
type syncer struct {
	*dataplane.Syncer
	subject Subject
	applied chan error
}

// tellingBackend tells what became of each Apply.
type tellingBackend struct {
	dataplane.Backend
	applied chan error
}

func (b tellingBackend) Apply(changes []service.PortChange) error {
	err := b.Backend.Apply(changes)
	select {
	case b.applied <- err:
	default: // nobody has asked for the last
	}
	return err
}

func (s *syncer) open(config dataplane.Config) func() (dataplane.Backend, error) {
	return func() (dataplane.Backend, error) {
		b, err := s.subject.New(config)
		if err != nil {
			return nil, err
		}
		return tellingBackend{b, s.applied}, nil
	}
}

func (s *syncer) awaitApply(t testing.TB) {
	t.Helper()
	select {
	case err := <-s.applied:
		must(t, err)
	case <-time.After(patienceWithBackend):
		t.Fatal("the kernel did not follow in a minute")
	}
}

// newSyncer starts a Syncer, which ends with the test and leaves nothing behind.
func (subject Subject) newSyncer(t *testing.T, config dataplane.Config) *syncer {
	registry := prometheus.NewRegistry()
	metrics, err := dataplane.NewMetrics("test", registry)
	must(t, err)
	health, err := healthcheck.NewProxy(time.Minute, time.Now, registry)
	must(t, err)
	s := &syncer{subject: subject, applied: make(chan error, 1)}
	s.Syncer = dataplane.NewSyncer(dataplane.SyncConfig{
		NodeName:         ThisNode,
		Open:             s.open(config),
		Readiness:        dataplane.NewReadiness(),
		Concerned:        func(context.Context, types.NamespacedName) {},
		FitChanged:       func(context.Context) {},
		Unserved:         func(_ service.Family, err error) { t.Error(err) },
		Failing:          func(err error) { t.Error(err) },
		Health:           health,
		HealthCheckPorts: healthcheck.NewNodePorts(healthcheck.Config{Healthy: health.Healthy}),
		Clean:            func([]service.PortChange) (again time.Time, err error) { return again, nil },
		Found:            func(service.FindingsChange) {},
		Metrics:          metrics,
		Log:              testr.New(t),
	})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Start(ctx) }()
	t.Cleanup(func() {
		cancel()
		must(t, errors.Join(<-ended, subject.Cleanup()))
	})
	return s
}
