package controller

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/fairway-lb/fairway/controller/ipam"
	"github.com/fairway-lb/fairway/controller/wish"
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
		r.disputes.forget(req)
		return nil
	case err != nil:
		return fmt.Errorf("reading Service %s: %w", req.NamespacedName, err)
	case r.written.stale(req, svc.ResourceVersion):
		return errBehind
	}
	if uid, known := r.uids[wish.KeyOf(svc)]; known && uid != svc.UID {
		// Created anew under the same name: it inherits nothing.
		if err := r.confirm(ctx, req, svc.ResourceVersion); err != nil {
			return err
		}
		r.forget(req)
		r.disputes.forget(req)
	}
	if !wanted(svc, r.options.DefaultLoadBalancer) {
		return r.release(ctx, req, svc)
	}
	r.uids[wish.KeyOf(svc)] = svc.UID
	r.adopt(svc, nil)
	return r.assign(ctx, req, svc)
}

// confirm asks the API server itself whether a Service that holds an address
// has this version, "" for none at all. After a change of the leader the
// cache may be older than what was adopted, and an address is freed only if
// the API server bears it out, here or by accepting a write.
func (r *reconciler) confirm(ctx context.Context, req request, version string) error {
	if held, leaving := r.ipam.Lookup(ipam.ServiceKey(req.NamespacedName)); len(held)+len(leaving) == 0 {
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
	if left := r.ipam.Settle(wish.KeyOf(svc)); len(left) > 0 {
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
	key := wish.KeyOf(svc)
	before, _ := r.ipam.Lookup(key)
	asked, refusal := wish.Of(svc, labels, r.hasPool)
	outcome := ipam.Outcome{Refusal: refusal}
	switch {
	case refusal == nil:
		outcome = r.ipam.Assign(asked)
	case len(before) > 0:
		outcome = r.ipam.Assign(onlyKeeping(asked, before))
		outcome.Refusal, outcome.Lacks = refusal, nil
	}
	if !slices.Equal(outcome.Held, before) {
		r.touch(before...)
		r.touch(outcome.Held...)
		r.retry(r.ipam.PolicyConflict(key).With()) // they are to say so, too
	}
	r.retry(outcome.Recheck)
	r.followSharing(asked, outcome.Held)
	if why := cmp.Or(outcome.Refusal, outcome.Lacks); why != nil {
		r.waiting.add(svc.CreationTimestamp.Time, asked, why, outcome.Held)
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

// onlyKeeping is the request of a Service that asks for what cannot be read:
// what it has, on the terms that it states.
func onlyKeeping(asked ipam.Request, held []ipam.Allocation) ipam.Request {
	asked.Pools, asked.Addresses, asked.Keeps = nil, nil, true
	asked.DualStack = ipam.SingleStack
	if len(held) > 1 {
		asked.DualStack = ipam.PreferDualStack
	}
	for _, allocation := range held {
		asked.Addresses = append(asked.Addresses, allocation.Address)
	}
	return asked
}

// release takes back what a Service has. The addresses are free for others
// when the Service does not show them any more. A Service that is not marked
// and holds nothing is not touched.
func (r *reconciler) release(ctx context.Context, req request, svc *corev1.Service) error {
	if rest := r.disputes.rest(req, r.now()); rest > 0 && svc.DeletionTimestamp.IsZero() {
		r.queue.AddAfter(req, rest)
		return nil
	}
	held, leaving := r.ipam.Lookup(wish.KeyOf(svc))
	gone := slices.Concat(held, leaving)
	withdrawn, err := r.recordWithdrawal(ctx, req, svc, gone)
	if err != nil {
		r.events.releaseFailed(svc, err)
		return err
	}
	if withdrawn {
		_, slow := r.disputes.wroteStatus(req, "", r.now())
		r.reportDispute(ctx, svc, slow)
	} else {
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
	r.events.forget(req)
	r.freed(key.Namespace, r.ipam.Release(key))
}

// namespaceLabels returns nil for a namespace that is not known yet; its
// Services are looked at again when it is.
func (r *reconciler) namespaceLabels(ctx context.Context, name string) (map[string]string, error) {
	namespace := &corev1.Namespace{}
	// The labels are read only, and kept with each Service that holds an address.
	if err := r.client.Get(ctx, types.NamespacedName{Name: name}, namespace, client.UnsafeDisableDeepCopy); client.IgnoreNotFound(err) != nil {
		return nil, fmt.Errorf("reading Namespace %s: %w", name, err)
	}
	return namespace.Labels, nil
}
