package controller

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/fairway-lb/fairway/controller/ipam"
)

// reconcileService gives a Service the address that it wants, or takes back
// what it has if it wants none.
func (r *reconciler) reconcileService(ctx context.Context, req request) (reconcile.Result, error) {
	svc := &corev1.Service{}
	switch err := r.client.Get(ctx, req.NamespacedName, svc); {
	case apierrors.IsNotFound(err):
		delete(r.written, req)
		r.forget(req)
		return reconcile.Result{}, nil
	case err != nil:
		return reconcile.Result{}, fmt.Errorf("reading Service %s: %w", req.NamespacedName, err)
	case r.written.stale(req, svc.ResourceVersion):
		return reconcile.Result{RequeueAfter: staleDelay}, nil
	}
	r.adopt(svc)
	if !wanted(svc, r.options.DefaultLoadBalancer) {
		return reconcile.Result{}, r.release(ctx, req, svc)
	}
	return reconcile.Result{}, r.assign(ctx, req, svc)
}

// assign decides on a Service's address and writes it down. Nothing is
// written that is there already.
func (r *reconciler) assign(ctx context.Context, req request, svc *corev1.Service) error {
	held, warned, err := r.decide(ctx, svc)
	if err != nil || !held.Held() {
		return err
	}
	assigned, err := r.record(ctx, req, svc, held)
	if err != nil {
		r.events.failed(svc, reasonUpdateServiceStatus, err)
		return err
	}
	if assigned {
		r.events.assigned(svc, held)
	}
	if !warned {
		r.events.satisfied(svc)
	}
	if left := r.ipam.Settle(keyOf(svc)); len(left) > 0 {
		r.events.released(svc, left, fmt.Sprintf("the Service has %s now", held.Address))
		r.freed(left)
	}
	return nil
}

// decide asks the allocator, and warns the Service's owner if not all is as
// it should be.
func (r *reconciler) decide(ctx context.Context, svc *corev1.Service) (held ipam.Allocation, warned bool, err error) {
	labels, err := r.namespaceLabels(ctx, svc.Namespace)
	if err != nil {
		return ipam.Allocation{}, false, err
	}
	key := keyOf(svc)
	before, _ := r.ipam.Lookup(key)
	held = before
	wish, refusal := wishOf(svc, labels)
	if refusal == nil {
		held, refusal = r.ipam.Assign(wish)
	}
	if held != before {
		r.touch(before, held)
	}
	if refusal != nil {
		r.waiting[key] = waiter{created: svc.CreationTimestamp.Time, reason: refusal.Reason, holds: held.Held()}
		r.events.refused(svc, held, refusal)
		return held, true, nil
	}
	delete(r.waiting, key)
	owner, conflict := r.ipam.Conflict(key)
	if conflict {
		r.events.conflict(svc, held, owner)
	}
	return held, conflict, nil
}

// record writes an allocation into the Service: the mark and the ingress. A
// Service gets its mark first, so that it is found when this process dies
// between the two. One that moves gets its ingress first: a label that
// names the old pool beside the new address tells how far the move got, the
// other way round it would say that the old address had come from the new
// pool.
func (r *reconciler) record(ctx context.Context, req request, svc *corev1.Service, held ipam.Allocation) (assigned bool, err error) {
	_, leaving := r.ipam.Lookup(keyOf(svc))
	if len(leaving) > 0 {
		if assigned, err = r.recordIngress(ctx, req, svc, held, leaving); err != nil {
			return false, err
		}
		return assigned, r.recordMark(ctx, req, svc, held)
	}
	if err = r.recordMark(ctx, req, svc, held); err != nil {
		return false, err
	}
	return r.recordIngress(ctx, req, svc, held, nil)
}

func (r *reconciler) recordMark(ctx context.Context, req request, svc *corev1.Service, held ipam.Allocation) error {
	original := svc.DeepCopy()
	if !mark(svc, held.Pool) {
		return nil
	}
	return r.patch(ctx, req, r.patchObject, svc, original)
}

func (r *reconciler) recordIngress(ctx context.Context, req request, svc *corev1.Service, held ipam.Allocation, leaving []ipam.Allocation) (changed bool, err error) {
	original := svc.DeepCopy()
	if !publish(svc, held, leaving) {
		return false, nil
	}
	return true, r.patch(ctx, req, r.patchStatus, svc, original)
}

// release takes back what a Service has. The address is free for others when
// the Service does not show it any more. A Service that is not marked and
// holds nothing is not touched.
func (r *reconciler) release(ctx context.Context, req request, svc *corev1.Service) error {
	held, gone := r.ipam.Lookup(keyOf(svc))
	if held.Held() {
		gone = append([]ipam.Allocation{held}, gone...)
	}
	original := svc.DeepCopy()
	if withdraw(svc, gone) {
		if err := r.patch(ctx, req, r.patchStatus, svc, original); client.IgnoreNotFound(err) != nil {
			r.events.failed(svc, reasonReleaseIPFailed, err)
			return err
		}
	}
	original = svc.DeepCopy()
	if unmark(svc) {
		if err := r.patch(ctx, req, r.patchObject, svc, original); client.IgnoreNotFound(err) != nil {
			r.events.failed(svc, reasonReleaseIPFailed, err)
			return err
		}
	}
	if len(gone) > 0 {
		r.events.released(svc, gone, whyReleased(svc))
	}
	r.forget(req)
	return nil
}

func whyReleased(svc *corev1.Service) string {
	switch {
	case !svc.DeletionTimestamp.IsZero():
		return "the Service is being deleted"
	case svc.Spec.Type != corev1.ServiceTypeLoadBalancer:
		return "the Service is no longer of type LoadBalancer"
	default:
		return "the Service no longer asks for a Fairway address"
	}
}

// forget drops all that is known of a Service, and frees what it held.
func (r *reconciler) forget(req request) {
	key := ipam.ServiceKey(req.NamespacedName)
	delete(r.waiting, key)
	r.events.forget(req)
	r.freed(r.ipam.Release(key))
}

// freed follows up on addresses that nobody has any more.
func (r *reconciler) freed(gone []ipam.Allocation) {
	if len(gone) == 0 {
		return
	}
	r.touch(gone...)
	r.retry(r.waiting.forAddress())
}

// touch has the pools of allocations looked at, because their use changed.
func (r *reconciler) touch(allocations ...ipam.Allocation) {
	for _, allocation := range allocations {
		if allocation.Pool != "" {
			r.queue.Add(requestForEip(allocation.Pool))
		}
		if pool, ok := r.ipam.PoolContaining(allocation.Address); ok && pool != allocation.Pool {
			r.queue.Add(requestForEip(pool))
		}
	}
}

// namespaceLabels returns nil for a namespace that is not known yet; its
// Services are looked at again when it is.
func (r *reconciler) namespaceLabels(ctx context.Context, name string) (map[string]string, error) {
	namespace := &corev1.Namespace{}
	if err := r.client.Get(ctx, types.NamespacedName{Name: name}, namespace); client.IgnoreNotFound(err) != nil {
		return nil, fmt.Errorf("reading Namespace %s: %w", name, err)
	}
	return namespace.Labels, nil
}
