package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fairway-lb/fairway/api/v1alpha2"
	"github.com/fairway-lb/fairway/test/bench/measure"
	"github.com/fairway-lb/fairway/test/lab"
)

// namespace is where the Services are.
const namespace = "bench"

// The pools. The small one is for those that wait.
const (
	bigPool        = "big"
	bigAddresses   = "10.128.0.0-10.128.255.255"
	smallPool      = "small"
	smallAddresses = "10.129.0.1-10.129.0.20"
	smallSize      = 20
	moreAddresses  = "10.129.1.1-10.129.1.10"
	moreSize       = 10
)

// nodes is how many announce by BGP. The measurements of the controller do
// without them.
const nodes = 3

// patience bounds what takes a second or two; the creation of thousands of
// Services is bounded by the limit of everything.
const patience = time.Minute

// bench is the lab and what is measured in it.
type bench struct {
	*lab.Lab
	sizes
	ctx        context.Context
	stop       context.CancelFunc // ends ctx
	clientset  kubernetes.Interface
	objects    client.Client // of Fairway's kinds
	controller *lab.Process
	journal    *measure.Journal
	creator    *measure.Creator
	report     *report
}

func newBench(ctx context.Context, n sizes, r *report) (_ *bench, err error) {
	b := &bench{sizes: n, report: r}
	b.ctx, b.stop = context.WithCancel(ctx)
	if b.Lab, err = lab.New(b.ctx, lab.Options{Nodes: nodes, Log: r.progress}); err != nil {
		return nil, fmt.Errorf("making a lab: %w", err)
	}
	if err := b.start(); err != nil {
		return nil, errors.Join(err, b.close())
	}
	return b, nil
}

// close removes the lab.
func (b *bench) close() error {
	b.stop() // what watches the API server is not to miss it
	if err := b.Close(); err != nil {
		return fmt.Errorf("removing the lab: %w", err)
	}
	return nil
}

// start starts a cluster with pools and the controller, which works when start
// returns.
func (b *bench) start() error {
	if err := b.StartCluster(b.ctx); err != nil {
		return fmt.Errorf("starting the cluster: %w", err)
	}
	if err := b.Install(b.ctx); err != nil {
		return fmt.Errorf("installing Fairway: %w", err)
	}
	if err := b.EnsureNamespace(b.ctx, namespace); err != nil {
		return err
	}
	if err := b.connect(); err != nil {
		return err
	}
	for name, addresses := range map[string]string{bigPool: bigAddresses, smallPool: smallAddresses} {
		eip := &v1alpha2.Eip{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: v1alpha2.EipSpec{Address: addresses}}
		if err := b.objects.Create(b.ctx, eip); err != nil {
			return fmt.Errorf("creating Eip %s: %w", name, err)
		}
	}
	if err := b.startController(); err != nil {
		return err
	}
	return b.fill("first", 1)
}

func (b *bench) connect() error {
	config, err := b.RESTConfig()
	if err != nil {
		return err
	}
	config.QPS = -1 // the benchmark is not to wait for its own client
	if b.clientset, err = kubernetes.NewForConfig(config); err != nil {
		return fmt.Errorf("making a client: %w", err)
	}
	b.creator = measure.NewCreator(b.clientset, namespace)
	scheme := runtime.NewScheme()
	if err := v1alpha2.AddToScheme(scheme); err != nil {
		return fmt.Errorf("registering the kinds: %w", err)
	}
	if b.objects, err = client.New(config, client.Options{Scheme: scheme}); err != nil {
		return fmt.Errorf("making a client: %w", err)
	}
	b.journal, err = measure.Follow(b.ctx, b.clientset, namespace)
	return err
}

func (b *bench) startController() (err error) {
	if b.controller, err = b.StartController(b.ctx); err != nil {
		return fmt.Errorf("starting the controller: %w", err)
	}
	return nil
}

// measure makes the measurements of the parts that were asked for; each leaves
// its rows in the report.
func (b *bench) measure() error {
	if b.measures(partController) {
		if err := b.measureController(); err != nil {
			return err
		}
	}
	if b.measures(partBGP) {
		return b.measureBGP()
	}
	return nil
}

func (b *bench) measureController() error {
	return b.steps([]step{
		{fmt.Sprintf("%d Services at once", b.burst), b.burstOfServices},
		{fmt.Sprintf("%d Services one after the other", b.single), b.oneByOne},
		{fmt.Sprintf("up to %d Services", b.cached), b.memory},
		{"a restart", b.restart},
		{"one Service edited, one pool edited", b.edits},
		{fmt.Sprintf("a full pool with %d waiting", b.waiting), b.fullPool},
	})
}

// steps makes measurements one after the other.
func (b *bench) steps(steps []step) error {
	if err := b.report.steps(steps); err != nil {
		return errors.Join(err, b.controller.Err())
	}
	return nil
}

// fill creates n Services of the big pool and waits until all have an address.
func (b *bench) fill(prefix string, n int) error {
	names, err := b.creator.Services(b.ctx, prefix, bigPool, n)
	if err != nil {
		return err
	}
	return b.journal.Await(b.ctx, n, names...)
}

// cost counts what a change makes the controller do until it rests again. The
// change itself must not be a patch, which counts as the controller's.
func (b *bench) cost(change func() error) (measure.Work, measure.Writes, error) {
	var none measure.Writes
	before, err := b.work()
	if err != nil {
		return before, none, err
	}
	writes, err := b.writes()
	if err != nil {
		return before, writes, err
	}
	if err := change(); err != nil {
		return before, writes, err
	}
	// An Eip with thousands of addresses in use takes seconds to arrive.
	if err := b.looked(before.Reconciles); err != nil {
		return before, writes, err
	}
	if err := b.settle(); err != nil {
		return before, writes, err
	}
	work, err := b.work()
	if err != nil {
		return work, writes, err
	}
	written, err := b.writes()
	return work.Since(before), written.Since(writes), err
}

// looked waits until the controller has looked at more than it had.
func (b *bench) looked(before int) error {
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	return measure.Until(ctx, func() (bool, error) {
		work, err := b.work()
		return work.Reconciles > before, err
	})
}

// settle waits until the controller rests.
func (b *bench) settle() error {
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	_, err := measure.Settle(ctx, measure.Quiet, func() (int, error) {
		work, err := b.work()
		return work.Reconciles, err
	})
	return err
}

func (b *bench) work() (measure.Work, error) { return measure.ReadWork(b.ctx, b.ControlPlane()) }

func (b *bench) writes() (measure.Writes, error) {
	return measure.ReadWrites(b.ctx, b.clientset.CoreV1().RESTClient())
}

// latencies returns how long Services took from the creation to the address,
// sorted.
func (b *bench) latencies(names []string) []time.Duration {
	histories := b.journal.Histories()
	took := make([]time.Duration, len(names))
	for i, name := range names {
		took[i] = histories[name].Addressed.Sub(histories[name].Created)
	}
	slices.Sort(took)
	return took
}

// percentile of sorted durations.
func percentile(sorted []time.Duration, percent int) time.Duration {
	return sorted[min(len(sorted)-1, len(sorted)*percent/100)]
}

// plainService is one that Fairway does not look at.
func plainService(name string) *corev1.Service {
	svc := measure.Service(namespace, name, bigPool)
	svc.Annotations = nil
	return svc
}
