package controller

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/fairway-lb/fairway/controller/ipam"
)

// reconcileService gives a Service the address that it wants, or takes back
// what it has if it wants none.
func (r *reconciler) reconcileService(ctx context.Context, req request) error {
	svc := &corev1.Service{}
	switch err := r.client.Get(ctx, req.NamespacedName, svc); {
	case apierrors.IsNotFound(err):
		if err := r.confirm(ctx, req, ""); err != nil {
			return err
		}
		delete(r.written, req)
		r.forget(req)
		return nil
	case err != nil:
		return fmt.Errorf("reading Service %s: %w", req.NamespacedName, err)
	case r.written.stale(req, svc.ResourceVersion):
		return errBehind
	}
	if uid, known := r.uids[keyOf(svc)]; known && uid != svc.UID {
		// Created anew under the same name: it inherits nothing.
		if err := r.confirm(ctx, req, svc.ResourceVersion); err != nil {
			return err
		}
		r.forget(req)
	}
	if !wanted(svc, r.options.DefaultLoadBalancer) {
		return r.release(ctx, req, svc)
	}
	r.uids[keyOf(svc)] = svc.UID
	r.adopt(svc)
	return r.assign(ctx, req, svc)
}

// confirm asks the API server itself whether a Service that holds an address
// has this version, "" for none at all. After a change of the leader the
// cache may be older than what was adopted, and an address is freed only if
// the API server bears it out, here or by accepting a write.
func (r *reconciler) confirm(ctx context.Context, req request, version string) error {
	if held, _ := r.ipam.Lookup(ipam.ServiceKey(req.NamespacedName)); !held.Held() {
		return nil
	}
	live := &corev1.Service{} // its version stays "" if it is not found
	if err := r.live.Get(ctx, req.NamespacedName, live); client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("reading Service %s: %w", req.NamespacedName, err)
	}
	if live.ResourceVersion != version {
		return errBehind
	}
	return nil
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
		r.events.assignFailed(svc, held, err)
		return err
	}
	if assigned {
		log.FromContext(ctx).Info("Assigned an address", "address", held.Address, "eip", held.Pool, "choice", held.Choice)
		r.events.assigned(svc, held)
	}
	if !warned {
		r.events.satisfied(svc)
	}
	if left := r.ipam.Settle(keyOf(svc)); len(left) > 0 {
		r.reportReleased(ctx, svc, left, fmt.Sprintf("the Service has %s now", held.Address))
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
		r.waiting.add(key, waiter{created: svc.CreationTimestamp.Time, wish: wish, reason: refusal.Reason, holds: held.Held()})
		r.events.refused(svc, held, refusal)
		return held, true, nil
	}
	r.waiting.remove(key)
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
	withdrawn, err := r.recordWithdrawal(ctx, req, svc, gone)
	if err != nil {
		r.events.releaseFailed(svc, err)
		return err
	}
	if !withdrawn {
		if err := r.confirm(ctx, req, svc.ResourceVersion); err != nil {
			return err
		}
	}
	if len(gone) > 0 {
		r.reportReleased(ctx, svc, gone, whyReleased(svc))
	}
	r.forget(req)
	return nil
}

// recordWithdrawal removes addresses and our mark from a Service.
func (r *reconciler) recordWithdrawal(ctx context.Context, req request, svc *corev1.Service, gone []ipam.Allocation) (changed bool, err error) {
	original := svc.DeepCopy()
	if withdraw(svc, gone) {
		if err := r.patch(ctx, req, r.patchStatus, svc, original); err != nil {
			return false, err
		}
		changed = true
	}
	original = svc.DeepCopy()
	if unmark(svc) {
		return true, r.patch(ctx, req, r.patchObject, svc, original)
	}
	return changed, nil
}

func (r *reconciler) reportReleased(ctx context.Context, svc *corev1.Service, gone []ipam.Allocation, why string) {
	for _, allocation := range gone {
		log.FromContext(ctx).Info("Released an address", "address", allocation.Address, "eip", allocation.Pool, "why", why)
	}
	r.events.released(svc, gone, why)
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
	r.waiting.remove(key)
	delete(r.uids, key)
	r.events.forget(req)
	r.freed(r.ipam.Release(key))
}

// freed follows up on addresses that a Service has no more.
func (r *reconciler) freed(gone []ipam.Allocation) {
	r.touch(gone...)
	for _, allocation := range gone {
		addr := allocation.Address
		if r.ipam.InUse(addr) {
			continue // another Service has it too
		}
		r.retry(r.waiting.forAddress(addr, func(pool string) bool { return r.ipam.Contains(pool, addr) }))
	}
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
