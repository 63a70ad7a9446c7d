package controller

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"

	"github.com/fairway-lb/fairway/api/v1alpha2"
	"github.com/fairway-lb/fairway/controller/wish"
)

// wanted tells whether a Service asks Fairway for an address, or goes on to
// ask for the one it has.
func wanted(svc *corev1.Service, defaultLoadBalancer bool) bool {
	if svc.Spec.Type != corev1.ServiceTypeLoadBalancer || !svc.DeletionTimestamp.IsZero() {
		return false
	}
	if class := svc.Spec.LoadBalancerClass; class != nil {
		return *class == v1alpha2.LoadBalancerClass
	}
	value := svc.Annotations[v1alpha2.AnnotationLoadBalancer]
	return defaultLoadBalancer || value == v1alpha2.LoadBalancerValue || value == v1alpha2.LegacyLoadBalancerValue
}

// marked tells whether a Service carries our label or finalizer.
func marked(svc *corev1.Service) bool {
	_, labelled := svc.Labels[v1alpha2.LabelPool]
	return labelled || controllerutil.ContainsFinalizer(svc, v1alpha2.FinalizerService)
}

// hasCondition tells whether a Service carries a condition of ours.
func hasCondition(svc *corev1.Service) bool {
	return meta.FindStatusCondition(svc.Status.Conditions, v1alpha2.ConditionAllocated) != nil ||
		meta.FindStatusCondition(svc.Status.Conditions, v1alpha2.ConditionTrafficPolicyConflict) != nil
}

// recordedPool is the pool that a Service's address is recorded as coming
// from: by our label, else by MetalLB's annotation.
func recordedPool(svc *corev1.Service) string {
	if label := svc.Labels[v1alpha2.LabelPool]; label != "" {
		return label
	}
	_, pool := wish.First(svc, v1alpha2.MetalLBPrefix+v1alpha2.MetalLBAllocatedFrom, v1alpha2.MetalLBDeprecatedPrefix+v1alpha2.MetalLBAllocatedFrom)
	return pool
}

// ofOtherClass tells whether a Service belongs to another implementation.
func ofOtherClass(svc *corev1.Service) bool {
	class := svc.Spec.LoadBalancerClass
	return class != nil && *class != v1alpha2.LoadBalancerClass
}

// concerns tells whether there can be anything to do for a Service. All
// others are never touched.
func (r *reconciler) concerns(svc *corev1.Service) bool {
	return marked(svc) || hasCondition(svc) || wanted(svc, r.options.DefaultLoadBalancer)
}

// unmark removes our label and finalizer.
func unmark(svc *corev1.Service) (changed bool) {
	changed = marked(svc)
	delete(svc.Labels, v1alpha2.LabelPool)
	controllerutil.RemoveFinalizer(svc, v1alpha2.FinalizerService)
	return changed
}
