package main

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/util/retry"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fairway-lb/fairway/api/v1alpha2"
	"github.com/fairway-lb/fairway/test/bench/measure"
)

// memoryLimit is what the controller may have with 10,000 Services.
const memoryLimit = 150 << 20

// memory fills the cluster and looks at the controller's memory, now that it
// has allocated everything itself.
func (b *bench) memory() error {
	missing := b.cached - len(b.journal.Histories())
	begin := time.Now()
	if err := b.fill("cached", max(0, missing)); err != nil {
		return err
	}
	b.report.progress("%d more Services took %v", missing, time.Since(begin).Round(time.Millisecond))
	if err := b.settle(); err != nil {
		return err
	}
	memory, err := measure.ReadMemory(b.controller.Pid())
	if err != nil {
		return err
	}
	work, err := b.work()
	if err != nil {
		return err
	}
	t := b.report.table(fmt.Sprintf("Memory of the controller with %d Services, all with an address", len(b.journal.Histories())))
	t.row("after it allocated them", "resident "+mebibytes(memory.Resident), "peak "+mebibytes(memory.Peak))
	t.row("reconciles until then", fmt.Sprint(work.Reconciles))
	b.report.memory = t
	b.report.limit(memory.Resident, memoryLimit)
	return nil
}

// restart stops the controller and measures until it allocates again.
func (b *bench) restart() error {
	before, err := b.writes()
	if err != nil {
		return err
	}
	b.journal.Reset()
	if err := b.controller.Stop(b.ctx); err != nil {
		return err
	}
	probe, err := b.creator.Services(b.ctx, "restart", bigPool, 1)
	if err != nil {
		return err
	}
	begin := time.Now()
	if err := b.startController(); err != nil {
		return err
	}
	if err := b.journal.Await(b.ctx, 1, probe...); err != nil {
		return err
	}
	took := time.Since(begin)
	if err := b.settle(); err != nil {
		return err
	}
	writes, err := b.writes()
	if err != nil {
		return err
	}
	memory, err := measure.ReadMemory(b.controller.Pid())
	if err != nil {
		return err
	}
	b.report.memory.row("after a restart", "resident "+mebibytes(memory.Resident), "peak "+mebibytes(memory.Peak))
	b.report.limit(memory.Resident, memoryLimit)

	work, err := b.work()
	if err != nil {
		return err
	}
	changed := b.journal.Changed()
	others := len(changed) - 1 // without the one that waited
	t := b.report.table(fmt.Sprintf("A restart with %d Services, and one that waits", len(b.journal.Histories())-1))
	t.row("from the start of the process to the address of the one that waited", round(took))
	t.row("reconciles", fmt.Sprint(work.Reconciles))
	t.row("writes, those for the one that waited included", writes.Since(before).String())
	t.row("other Services that were written to", fmt.Sprint(others))
	t.verdict(others == 0, "no Service was written to but the one that waited")
	return nil
}

// edits counts what one change costs.
func (b *bench) edits() error {
	t := b.report.costs(fmt.Sprintf("One change among %d Services", len(b.journal.Histories())))
	for _, edit := range []struct {
		what string
		do   func() error
	}{
		{"an annotation of a Service", func() error {
			return b.editService("burst-7", func(svc *corev1.Service) { svc.Annotations["example.com/touched"] = "1" })
		}},
		{"a port of a Service", func() error {
			return b.editService("burst-7", func(svc *corev1.Service) { svc.Spec.Ports[1].Port = 8443 })
		}},
		{"a Service asks for another address", func() error {
			return b.editService("burst-7", func(svc *corev1.Service) {
				svc.Annotations[v1alpha2.AnnotationAddress] = "10.128.200.7"
			})
		}},
		{"a pool is disabled", func() error { return b.editEip(bigPool, func(eip *v1alpha2.Eip) { eip.Spec.Disable = true }) }},
		{"a pool is enabled", func() error { return b.editEip(bigPool, func(eip *v1alpha2.Eip) { eip.Spec.Disable = false }) }},
		{"a pool grows", func() error {
			return b.editEip(bigPool, func(eip *v1alpha2.Eip) { eip.Spec.Addresses = []v1alpha2.PoolAddress{"10.130.0.0/24"} })
		}},
	} {
		if err := b.costRow(t, edit.what, edit.do); err != nil {
			return err
		}
	}
	return nil
}

// fullPool counts what a change costs when hundreds wait for addresses of a
// full pool.
func (b *bench) fullPool() error {
	holders, err := b.creator.Services(b.ctx, "holder", smallPool, smallSize)
	if err != nil {
		return err
	}
	if err := b.journal.Await(b.ctx, smallSize, holders...); err != nil {
		return err
	}
	waiters, err := b.creator.Services(b.ctx, "waiter", smallPool, b.waiting)
	if err != nil {
		return err
	}
	if err := b.settle(); err != nil {
		return err
	}
	t := b.report.costs(fmt.Sprintf("One change in a full pool of %d while %d Services wait, among %d", smallSize, b.waiting, len(b.journal.Histories())))
	// served waits until so many of those that waited have an address.
	served := func(n int) error {
		ctx, cancel := context.WithTimeout(b.ctx, patience)
		defer cancel()
		return b.journal.Await(ctx, n, waiters...)
	}
	for _, edit := range []struct {
		what string
		do   func() error
	}{
		{"a Service is deleted: one that waits is served", func() error {
			if err := b.clientset.CoreV1().Services(namespace).Delete(b.ctx, holders[3], metav1.DeleteOptions{}); err != nil {
				return fmt.Errorf("deleting Service %s: %w", holders[3], err)
			}
			return served(1)
		}},
		{fmt.Sprintf("the pool grows by %d: %d are served", moreSize, moreSize), func() error {
			grow := func(eip *v1alpha2.Eip) { eip.Spec.Addresses = []v1alpha2.PoolAddress{moreAddresses} }
			if err := b.editEip(smallPool, grow); err != nil {
				return err
			}
			return served(1 + moreSize)
		}},
		{"an annotation of one that waits", func() error {
			return b.editService(waiters[len(waiters)-1], func(svc *corev1.Service) { svc.Annotations["example.com/touched"] = "1" })
		}},
		{"another pool is disabled", func() error { return b.editEip(bigPool, func(eip *v1alpha2.Eip) { eip.Spec.Disable = true }) }},
		{"another pool is enabled", func() error { return b.editEip(bigPool, func(eip *v1alpha2.Eip) { eip.Spec.Disable = false }) }},
	} {
		if err := b.costRow(t, edit.what, edit.do); err != nil {
			return err
		}
	}
	return nil
}

// costRow makes a change and adds what it cost to a table.
func (b *bench) costRow(t *table, what string, change func() error) error {
	work, written, err := b.cost(change)
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	row := []string{fmt.Sprint(work.Reconciles)}
	for _, target := range []measure.Target{measure.ServiceStatus, measure.Services, measure.EipStatus, measure.Events} {
		row = append(row, fmt.Sprint(written.Done[target]))
	}
	t.row(what, append(row, fmt.Sprint(written.TotalRefused()))...)
	return nil
}

// editService changes a Service with an update, which is not counted as the
// controller's.
func (b *bench) editService(name string, edit func(*corev1.Service)) error {
	services := b.clientset.CoreV1().Services(namespace)
	svc, err := services.Get(b.ctx, name, metav1.GetOptions{})
	if err != nil {
		return fmt.Errorf("reading Service %s: %w", name, err)
	}
	edit(svc)
	if _, err := services.Update(b.ctx, svc, metav1.UpdateOptions{}); err != nil {
		return fmt.Errorf("updating Service %s: %w", name, err)
	}
	return nil
}

func (b *bench) editEip(name string, edit func(*v1alpha2.Eip)) error {
	err := retry.RetryOnConflict(retry.DefaultRetry, func() error { // the controller writes its status
		var eip v1alpha2.Eip
		if err := b.objects.Get(b.ctx, named(name), &eip); err != nil {
			return err
		}
		edit(&eip)
		return b.objects.Update(b.ctx, &eip)
	})
	if err != nil {
		return fmt.Errorf("editing Eip %s: %w", name, err)
	}
	return nil
}

// named is the key of an object that is in no namespace.
func named(name string) client.ObjectKey { return client.ObjectKey{Name: name} }
