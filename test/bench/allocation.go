package main

import (
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/fairway-lb/fairway/test/bench/measure"
)

// burstOfServices creates thousands at once.
func (b *bench) burstOfServices() error {
	var names []string
	var created, took time.Duration
	work, written, err := b.cost(func() (err error) {
		begin := time.Now()
		if names, err = b.creator.Services(b.ctx, "burst", bigPool, b.burst); err != nil {
			return err
		}
		created = time.Since(begin)
		err = b.journal.Await(b.ctx, len(names), names...)
		took = time.Since(begin)
		return err
	})
	if err != nil {
		return err
	}
	n := time.Duration(b.burst)
	latencies := b.latencies(names)
	perService := func(target measure.Target) string {
		return fmt.Sprintf("%.2f", float64(written.Done[target])/float64(b.burst))
	}
	t := b.report.table(fmt.Sprintf("%d Services created at once by %d clients", b.burst, measure.Clients))
	t.row("until all were created", round(created), each(created/n))
	t.row("until all had an address", round(took), each(took/n))
	t.row("the controller's CPU", seconds(work.CPU), each(time.Duration(work.CPU*float64(time.Second))/n))
	t.row("from a Service's creation to its address", "p50 "+round(percentile(latencies, 50)), "p99 "+round(percentile(latencies, 99)))
	t.row("reconciles", fmt.Sprint(work.Reconciles), fmt.Sprintf("%.2f each", float64(work.Reconciles)/float64(b.burst)))
	for _, target := range []measure.Target{measure.ServiceStatus, measure.Services, measure.Events, measure.EipStatus} {
		t.row("writes of "+target.String(), fmt.Sprint(written.Done[target]), perService(target)+" each")
	}
	t.row("writes refused, because of conflicts", fmt.Sprint(written.TotalRefused()))
	t.verdict(b.oneStatusWrite(names), "each Service had exactly one write of its status")
	return nil
}

// oneStatusWrite tells whether none had fewer or more.
func (b *bench) oneStatusWrite(names []string) bool {
	histories := b.journal.Histories()
	return !slices.ContainsFunc(names, func(name string) bool { return histories[name].StatusWrites != 1 })
}

// oneByOne creates a Service when the one before has its address, and compares
// with what a client needs that does nothing but the same two writes.
func (b *bench) oneByOne() error {
	names := make([]string, b.single)
	for i := range names {
		name := fmt.Sprintf("single-%d", i)
		names[i] = name
		if err := b.fill(name, 1); err != nil {
			return err
		}
		names[i] += "-0" // as fill calls it
	}
	bare, err := b.twoBareWrites()
	if err != nil {
		return err
	}
	latencies := b.latencies(names)
	p50, p99 := percentile(latencies, 50), percentile(latencies, 99)
	t := b.report.table(fmt.Sprintf("%d Services created one after the other", b.single))
	t.row("from a Service's creation to its address", "p50 "+round(p50), "p99 "+round(p99))
	t.row("two patches by a client that does nothing else", "p50 "+round(percentile(bare, 50)), "p99 "+round(percentile(bare, 99)))
	t.row("ratio", fmt.Sprintf("p50 %.1f", float64(p50)/float64(percentile(bare, 50))))
	return nil
}

// twoBareWrites measures how long the API server takes for a label and a
// finalizer, and then an address, sorted.
func (b *bench) twoBareWrites() ([]time.Duration, error) {
	const (
		object = `{"metadata":{"labels":{"example.com/a":"b"},"finalizers":["example.com/c"]}}`
		status = `{"status":{"loadBalancer":{"ingress":[{"ip":"192.0.2.1"}]}}}`
	)
	services := b.clientset.CoreV1().Services(namespace)
	took := make([]time.Duration, b.single)
	for i := range took {
		svc, err := services.Create(b.ctx, plainService(fmt.Sprintf("plain-%d", i)), metav1.CreateOptions{})
		if err != nil {
			return nil, fmt.Errorf("creating a Service: %w", err)
		}
		begin := time.Now()
		if svc, err = services.Patch(b.ctx, svc.Name, types.MergePatchType, []byte(object), metav1.PatchOptions{}); err != nil {
			return nil, fmt.Errorf("patching a Service: %w", err)
		}
		if svc, err = services.Patch(b.ctx, svc.Name, types.MergePatchType, []byte(status), metav1.PatchOptions{}, "status"); err != nil {
			return nil, fmt.Errorf("patching the status of a Service: %w", err)
		}
		took[i] = time.Since(begin)
		if err := b.removePlain(svc); err != nil {
			return nil, err
		}
	}
	slices.Sort(took)
	return took, nil
}

func (b *bench) removePlain(svc *corev1.Service) error {
	services := b.clientset.CoreV1().Services(namespace)
	svc.Finalizers = nil
	if _, err := services.Update(b.ctx, svc, metav1.UpdateOptions{}); err != nil {
		return fmt.Errorf("updating Service %s: %w", svc.Name, err)
	}
	if err := services.Delete(b.ctx, svc.Name, metav1.DeleteOptions{}); err != nil {
		return fmt.Errorf("deleting Service %s: %w", svc.Name, err)
	}
	return nil
}
