package controller

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/fairway-lb/fairway/api/v1alpha2"
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
	r.adopt(svc, nil)
	return r.assign(ctx, req, svc)
}

// confirm asks the API server itself whether a Service that holds an address
// has this version, "" for none at all. After a change of the leader the
// cache may be older than what was adopted, and an address is freed only if
// the API server bears it out, here or by accepting a write.
func (r *reconciler) confirm(ctx context.Context, req request, version string) error {
	if held, _ := r.ipam.Lookup(ipam.ServiceKey(req.NamespacedName)); len(held) == 0 {
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

// assign decides on a Service's addresses and writes them down. Nothing is
// written that is there already.
func (r *reconciler) assign(ctx context.Context, req request, svc *corev1.Service) error {
	outcome, err := r.decide(ctx, svc)
	if err != nil {
		return err
	}
	if rest := r.disputes.rest(req, r.now()); rest > 0 {
		r.queue.AddAfter(req, rest)
		return nil
	}
	gained, err := r.record(ctx, req, svc, outcome)
	if err != nil {
		r.events.assignFailed(svc, outcome.Held, err)
		return err
	}
	if len(gained) > 0 {
		log.FromContext(ctx).Info("Assigned an address", "addresses", addressesText(gained), "eip", gained[0].Pool, "choice", gained[0].Choice)
		r.events.assigned(svc, gained)
	}
	if outcome.Refusal == nil {
		r.events.satisfied(svc)
	}
	if left := r.ipam.Settle(keyOf(svc)); len(left) > 0 {
		r.reportReleased(ctx, svc, left, whyLeft(outcome))
		r.freed(svc.Namespace, left)
	}
	return nil
}

// decide asks the allocator, and warns the Service's owner if not all is as
// it should be.
func (r *reconciler) decide(ctx context.Context, svc *corev1.Service) (ipam.Outcome, error) {
	labels, err := r.namespaceLabels(ctx, svc.Namespace)
	if err != nil {
		return ipam.Outcome{}, err
	}
	key := keyOf(svc)
	before, _ := r.ipam.Lookup(key)
	wish, refusal := wishOf(svc, labels, r.hasPool)
	outcome := ipam.Outcome{Held: before, Refusal: refusal}
	if refusal == nil {
		outcome = r.ipam.Assign(wish)
	}
	if !slices.Equal(outcome.Held, before) {
		r.touch(before...)
		r.touch(outcome.Held...)
	}
	r.retry(outcome.Recheck)
	r.followSharing(wish, outcome.Held)
	if why := cmp.Or(outcome.Refusal, outcome.Lacks); why != nil {
		r.waiting.add(svc.CreationTimestamp.Time, wish, why, len(outcome.Held) > 0)
	} else {
		r.waiting.remove(key)
	}
	if outcome.Refusal != nil {
		r.events.refused(svc, outcome)
	}
	if len(outcome.Implicit) > 0 {
		r.events.implicitSharing(svc, outcome)
	}
	return outcome, nil
}

// followSharing looks again at those who wait for an address of this Service,
// if what it shares, and on which terms, is not what it was.
func (r *reconciler) followSharing(wish ipam.Request, held []ipam.Allocation) {
	terms := termsOf(wish, held)
	if r.terms[wish.Service] == terms {
		return
	}
	r.terms[wish.Service] = terms
	for _, allocation := range held {
		r.retry(r.waiting.forAddress(allocation.Address))
	}
	if wish.ShareKey != "" && len(held) > 0 {
		r.retry(r.waiting.forKey(wish.ShareKey))
	}
}

// record writes an outcome into the Service: the mark, the ingress, the
// condition. A Service gets its mark first, so that it is found when this
// process dies between the two. One that moves gets its ingress first: a label
// that names the old pool beside the new address tells how far the move got,
// the other way round it would say that the old address had come from the new
// pool.
func (r *reconciler) record(ctx context.Context, req request, svc *corev1.Service, outcome ipam.Outcome) (gained []ipam.Allocation, err error) {
	_, leaving := r.ipam.Lookup(keyOf(svc))
	if len(leaving) > 0 {
		if gained, err = r.recordStatus(ctx, req, svc, outcome, leaving); err != nil {
			return nil, err
		}
		return gained, r.recordMark(ctx, req, svc, outcome.Held)
	}
	if err = r.recordMark(ctx, req, svc, outcome.Held); err != nil {
		return nil, err
	}
	return r.recordStatus(ctx, req, svc, outcome, nil)
}

// recordMark marks a Service that holds something. One that does not, because
// its pool was deleted by force, keeps no mark.
func (r *reconciler) recordMark(ctx context.Context, req request, svc *corev1.Service, held []ipam.Allocation) error {
	if len(held) == 0 {
		original := svc.DeepCopy()
		if !unmark(svc) {
			return nil
		}
		return r.patch(ctx, req, r.patchObject, svc, original)
	}
	if controllerutil.ContainsFinalizer(svc, v1alpha2.FinalizerService) && (held[0].Pool == "" || svc.Labels[v1alpha2.LabelPool] == held[0].Pool) {
		return nil
	}
	if err := r.applyMark(ctx, req, svc, held[0].Pool); err != nil {
		return err
	}
	if _, slow := r.disputes.wroteMark(req, held[0].Pool, r.now()); slow {
		r.reportDispute(ctx, svc)
	}
	return nil
}

// recordStatus writes ingress and condition, and returns the addresses that
// the Service shows now and did not before.
func (r *reconciler) recordStatus(ctx context.Context, req request, svc *corev1.Service, outcome ipam.Outcome, leaving []ipam.Allocation) (gained []ipam.Allocation, err error) {
	before := svc.Status.LoadBalancer.Ingress
	ingress := before
	if len(outcome.Held) > 0 || len(leaving) > 0 {
		ingress = ingressWith(before, outcome.Held, leaving)
	}
	condition := conditionOf(svc, outcome)
	if equality.Semantic.DeepEqual(ingress, before) && sameCondition(svc, condition) {
		return nil, nil
	}
	for _, allocation := range outcome.Held {
		if !slices.ContainsFunc(before, isEntryOf(allocation)) {
			gained = append(gained, allocation)
		}
	}
	switch {
	case len(outcome.Held) == 0 && len(leaving) > 0:
		// An apply does not take away what another manager has set too.
		original := svc.DeepCopy()
		svc.Status.LoadBalancer.Ingress = ingress
		meta.SetStatusCondition(&svc.Status.Conditions, condition)
		return nil, r.patch(ctx, req, r.patchStatus, svc, original)
	case len(outcome.Held) == 0:
		ingress = nil // of others
	}
	if err := r.applyStatus(ctx, req, svc, ingress, condition); err != nil {
		return nil, err
	}
	again, slow := r.disputes.wroteStatus(req, addressesText(outcome.Held)+condition.Message, r.now())
	if slow {
		r.reportDispute(ctx, svc)
	}
	if again {
		return nil, nil // it came back, it is not new
	}
	if len(before) == 0 && len(gained) > 0 {
		r.metrics.latency.Observe(r.now().Sub(svc.CreationTimestamp.Time).Seconds())
	}
	return gained, nil
}

// reportDispute names the one who undoes what we write. The cache does not
// know, because managed fields are not kept there.
func (r *reconciler) reportDispute(ctx context.Context, svc *corev1.Service) {
	live := &corev1.Service{}
	if err := r.live.Get(ctx, client.ObjectKeyFromObject(svc), live); err != nil {
		log.FromContext(ctx).Info("Somebody undoes what is written into the Service, and it cannot be read who", "error", err.Error())
		return
	}
	r.events.disputed(svc, otherManager(live))
}

// release takes back what a Service has. The addresses are free for others
// when the Service does not show them any more. A Service that is not marked
// and holds nothing is not touched.
func (r *reconciler) release(ctx context.Context, req request, svc *corev1.Service) error {
	held, leaving := r.ipam.Lookup(keyOf(svc))
	gone := slices.Concat(held, leaving)
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

// recordWithdrawal removes addresses, our condition and our mark from a
// Service.
func (r *reconciler) recordWithdrawal(ctx context.Context, req request, svc *corev1.Service, gone []ipam.Allocation) (changed bool, err error) {
	original := svc.DeepCopy()
	svc.Status.LoadBalancer.Ingress = ingressWithout(svc.Status.LoadBalancer.Ingress, gone)
	meta.RemoveStatusCondition(&svc.Status.Conditions, v1alpha2.ConditionAllocated)
	if !equality.Semantic.DeepEqual(svc.Status, original.Status) {
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

func whyLeft(outcome ipam.Outcome) string {
	if len(outcome.Held) == 0 {
		return "its Eip is being deleted by force"
	}
	return "the Service has " + addressesText(outcome.Held) + " now"
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
	delete(r.terms, key)
	r.disputes.forget(req)
	r.events.forget(req)
	r.freed(key.Namespace, r.ipam.Release(key))
}

// freed follows up on addresses that a Service of a namespace has no more.
func (r *reconciler) freed(namespace string, gone []ipam.Allocation) {
	r.touch(gone...)
	for _, allocation := range gone {
		addr := allocation.Address
		r.retry(r.ipam.Tenants(addr)) // of several, another is the first now
		r.retry(r.waiting.forAddress(addr))
		for _, pool := range r.poolsOf(allocation) {
			r.waiting.roomMade(pool, namespace)
			r.callNext(pool)
		}
	}
}

// touch has the pools of allocations looked at, because their use changed.
// An Eip whose status was written just now is looked at when it may be
// written again: reading it costs as much as it has addresses in use.
func (r *reconciler) touch(allocations ...ipam.Allocation) {
	for _, allocation := range allocations {
		for _, pool := range r.poolsOf(allocation) {
			r.queue.AddAfter(requestForEip(pool), r.statuses[pool].Add(statusInterval).Sub(r.now()))
		}
	}
}

// poolsOf returns the pool that an address is from, and the one that contains
// it, should that be another.
func (r *reconciler) poolsOf(allocation ipam.Allocation) (pools []string) {
	if allocation.Pool != "" {
		pools = append(pools, allocation.Pool)
	}
	if pool, ok := r.ipam.PoolContaining(allocation.Address); ok && pool != allocation.Pool {
		pools = append(pools, pool)
	}
	return pools
}

func (r *reconciler) hasPool(name string) bool {
	_, ok := r.ipam.Usage(name)
	return ok
}

// callNext has the next Service looked at that waits for room in a pool.
func (r *reconciler) callNext(pool string) {
	usage, ok := r.ipam.Usage(pool)
	if !ok {
		return
	}
	if key, ok := r.waiting.call(pool, usage); ok {
		r.queue.Add(requestForService(key))
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
