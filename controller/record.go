package controller

import (
	"cmp"
	"context"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/fairway-lb/fairway/api/v1alpha2"
	"github.com/fairway-lb/fairway/controller/ipam"
	"github.com/fairway-lb/fairway/controller/wish"
)

// record writes an outcome into the Service. The finalizer comes first, so
// that the Service is found when this process dies in between. The label is
// written together with the ingress: if one of them named another pool than
// the other is from, the next process could not tell whether a move was under
// way or the pool's addresses had changed.
func (r *reconciler) record(ctx context.Context, req request, svc *corev1.Service, outcome ipam.Outcome) (gained []ipam.Allocation, err error) {
	_, leaving := r.ipam.Lookup(wish.KeyOf(svc))
	was := svc.Labels[v1alpha2.LabelPool]
	if len(outcome.Held) > 0 && !controllerutil.ContainsFinalizer(svc, v1alpha2.FinalizerService) {
		if err := r.recordMark(ctx, req, svc, was); err != nil {
			return nil, err
		}
	}
	if gained, err = r.recordStatus(ctx, req, svc, outcome, leaving); err != nil {
		return nil, err
	}
	if len(outcome.Held) == 0 {
		return gained, r.recordUnmark(ctx, req, svc)
	}
	label := labelFor(svc, outcome.Held)
	if svc.Labels[v1alpha2.LabelPool] != label { // there was no status to write
		if err := r.recordMark(ctx, req, svc, label); err != nil {
			return nil, err
		}
	}
	if was != "" && was != label {
		r.queue.Add(requestForEip(was)) // it has one address less to wait for
	}
	return gained, nil
}

// labelFor is the pool that a Service is to be labelled with. A foreign
// address has none, and changes no label.
func labelFor(svc *corev1.Service, held []ipam.Allocation) string {
	return cmp.Or(held[0].Pool, svc.Labels[v1alpha2.LabelPool])
}

// recordMark has a Service that holds something carry our finalizer and a
// label, "" for none.
func (r *reconciler) recordMark(ctx context.Context, req request, svc *corev1.Service, label string) error {
	if err := r.applyMark(ctx, req, svc, label); err != nil {
		return err
	}
	_, slow := r.disputes.wroteMark(req, label, r.now())
	r.reportDispute(ctx, svc, slow)
	return nil
}

// recordUnmark takes the mark from a Service that holds nothing, because its
// pool was deleted by force.
func (r *reconciler) recordUnmark(ctx context.Context, req request, svc *corev1.Service) error {
	original := svc.DeepCopy()
	if !unmark(svc) {
		return nil
	}
	if err := r.patch(ctx, req, r.patchObject, svc, original); err != nil {
		return err
	}
	_, slow := r.disputes.wroteMark(req, "", r.now())
	r.reportDispute(ctx, svc, slow)
	return nil
}

// recordStatus writes ingress, label and conditions, and returns the addresses
// that the Service shows now and did not before.
func (r *reconciler) recordStatus(ctx context.Context, req request, svc *corev1.Service, outcome ipam.Outcome, leaving []ipam.Allocation) (gained []ipam.Allocation, err error) {
	before := svc.Status.LoadBalancer.Ingress
	ingress := before
	if len(outcome.Held) > 0 || len(leaving) > 0 {
		ingress = ingressWith(before, outcome.Held, leaving)
	}
	conditions, over := conditionsOf(svc, outcome, r.ipam.PolicyConflict(wish.KeyOf(svc)))
	if equality.Semantic.DeepEqual(ingress, before) && sameConditions(svc, conditions) && !over {
		return nil, nil
	}
	for _, allocation := range outcome.Held {
		if !slices.ContainsFunc(before, isEntryOf(allocation)) {
			gained = append(gained, allocation)
		}
	}
	label := ""
	if len(outcome.Held) > 0 {
		label = labelFor(svc, outcome.Held)
	}
	switch {
	case over || len(outcome.Held) == 0 && len(leaving) > 0:
		// An apply does not take away what another manager has set too.
		err = r.replaceStatus(ctx, req, svc, label, ingress, conditions)
	case len(outcome.Held) == 0: // the ingress is that of others
		err = r.applyStatus(ctx, req, svc, "", nil, conditions)
	default:
		err = r.applyStatus(ctx, req, svc, label, ingress, conditions)
	}
	if err != nil {
		return nil, err
	}
	again, slow := r.disputes.wroteStatus(req, addressesText(outcome.Held)+messagesOf(conditions), r.now())
	r.reportDispute(ctx, svc, slow)
	if again {
		return nil, nil // it came back, it is not new
	}
	if len(before) == 0 && len(gained) > 0 {
		r.metrics.latency.Observe(r.now().Sub(svc.CreationTimestamp.Time).Seconds())
	}
	return gained, nil
}

// replaceStatus writes ingress, label and conditions, and takes away those
// conditions of ours that are not among them.
func (r *reconciler) replaceStatus(ctx context.Context, req request, svc *corev1.Service, label string, ingress []corev1.LoadBalancerIngress, conditions []metav1.Condition) error {
	original := svc.DeepCopy()
	svc.Status.LoadBalancer.Ingress = ingress
	if label != "" {
		metav1.SetMetaDataLabel(&svc.ObjectMeta, v1alpha2.LabelPool, label)
	}
	if meta.FindStatusCondition(conditions, v1alpha2.ConditionTrafficPolicyConflict) == nil {
		meta.RemoveStatusCondition(&svc.Status.Conditions, v1alpha2.ConditionTrafficPolicyConflict)
	}
	for _, condition := range conditions {
		setCondition(&svc.Status.Conditions, condition, r.now())
	}
	return r.patch(ctx, req, r.patchStatus, svc, original)
}

// reportDispute names the one who undoes what we write, when that has begun to
// slow us down. The cache does not know, because managed fields are not kept
// there.
func (r *reconciler) reportDispute(ctx context.Context, svc *corev1.Service, slow bool) {
	if !slow {
		return
	}
	live := &corev1.Service{}
	if err := r.live.Get(ctx, client.ObjectKeyFromObject(svc), live); err != nil {
		log.FromContext(ctx).Info("Somebody undoes what is written into the Service, and it cannot be read who", "error", err.Error())
		return
	}
	r.events.disputed(svc, otherManager(live))
}

// recordWithdrawal removes addresses, our conditions and our mark from a
// Service.
func (r *reconciler) recordWithdrawal(ctx context.Context, req request, svc *corev1.Service, gone []ipam.Allocation) (changed bool, err error) {
	original := svc.DeepCopy()
	svc.Status.LoadBalancer.Ingress = ingressWithout(svc.Status.LoadBalancer.Ingress, gone)
	meta.RemoveStatusCondition(&svc.Status.Conditions, v1alpha2.ConditionAllocated)
	meta.RemoveStatusCondition(&svc.Status.Conditions, v1alpha2.ConditionTrafficPolicyConflict)
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
