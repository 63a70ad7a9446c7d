package controller

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	applycorev1 "k8s.io/client-go/applyconfigurations/core/v1"
	applymetav1 "k8s.io/client-go/applyconfigurations/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fairway-lb/fairway/api/v1alpha2"
)

// fieldManager owns what the controller sets in Services, by server-side
// apply: our label and finalizer, the ingress, and our conditions.
const fieldManager = "fairway-controller"

// applyMark has a Service carry our finalizer and a label with the name of a
// pool, "" for none.
func (r *reconciler) applyMark(ctx context.Context, req request, svc *corev1.Service, label string) error {
	mark := applyTo(svc).WithFinalizers(v1alpha2.FinalizerService)
	if label != "" {
		mark.WithLabels(map[string]string{v1alpha2.LabelPool: label})
	}
	if err := r.client.Apply(ctx, mark, client.FieldOwner(fieldManager), client.ForceOwnership); err != nil {
		return refusedWrite(ctx, r.live, req, svc, err)
	}
	return r.wrote(req, svc, mark)
}

// applyStatus writes ingress and conditions, and the label, all at once: the
// status of a Service is written with its metadata. Without an ingress, that of
// others is left alone.
func (r *reconciler) applyStatus(ctx context.Context, req request, svc *corev1.Service, label string, ingress []corev1.LoadBalancerIngress, conditions []metav1.Condition) error {
	status := applycorev1.ServiceStatus()
	for _, condition := range conditions {
		if have := meta.FindStatusCondition(svc.Status.Conditions, condition.Type); have != nil && have.Status == condition.Status {
			condition.LastTransitionTime = have.LastTransitionTime
		} else {
			condition.LastTransitionTime = metav1.NewTime(r.now())
		}
		status.WithConditions(applymetav1.Condition().
			WithType(condition.Type).WithStatus(condition.Status).WithReason(condition.Reason).WithMessage(condition.Message).
			WithObservedGeneration(condition.ObservedGeneration).WithLastTransitionTime(condition.LastTransitionTime))
	}
	if len(ingress) > 0 {
		status.WithLoadBalancer(applycorev1.LoadBalancerStatus().WithIngress(applyIngress(ingress)...))
	}
	applied := applyTo(svc).WithStatus(status)
	if label != "" {
		applied.WithLabels(map[string]string{v1alpha2.LabelPool: label})
	}
	if err := r.client.Status().Apply(ctx, applied, client.FieldOwner(fieldManager), client.ForceOwnership); err != nil {
		return refusedWrite(ctx, r.live, req, svc, err)
	}
	return r.wrote(req, svc, applied)
}

// applyTo starts an apply configuration that counts for this version of this
// Service only: an apply would create one that is gone.
func applyTo(svc *corev1.Service) *applycorev1.ServiceApplyConfiguration {
	return applycorev1.Service(svc.Name, svc.Namespace).WithUID(svc.UID).WithResourceVersion(svc.ResourceVersion)
}

func applyIngress(ingress []corev1.LoadBalancerIngress) []*applycorev1.LoadBalancerIngressApplyConfiguration {
	applied := make([]*applycorev1.LoadBalancerIngressApplyConfiguration, len(ingress))
	for i, entry := range ingress {
		a := applycorev1.LoadBalancerIngress()
		if entry.IP != "" {
			a.WithIP(entry.IP)
		}
		if entry.Hostname != "" {
			a.WithHostname(entry.Hostname)
		}
		if entry.IPMode != nil {
			a.WithIPMode(*entry.IPMode)
		}
		for _, port := range entry.Ports {
			p := applycorev1.PortStatus().WithPort(port.Port).WithProtocol(port.Protocol)
			if port.Error != nil {
				p.WithError(*port.Error)
			}
			a.WithPorts(p)
		}
		applied[i] = a
	}
	return applied
}

// wrote takes over the version that the API server made of a Service.
func (r *reconciler) wrote(req request, svc *corev1.Service, applied *applycorev1.ServiceApplyConfiguration) error {
	if applied.ResourceVersion == nil {
		return fmt.Errorf("writing %s %s: the API server's answer has no version", req.kind, nameOf(req.NamespacedName))
	}
	svc.ResourceVersion = *applied.ResourceVersion
	svc.Labels, svc.Finalizers = applied.Labels, applied.Finalizers
	r.written[req] = svc.ResourceVersion
	return nil
}

// refusedWrite tells what it means that a write was refused. An object that is
// not what it was, or gone, is on its way to the cache. A webhook may answer
// in the same words, though: then the object is what it was.
func refusedWrite(ctx context.Context, live client.Reader, req request, object client.Object, err error) error {
	if apierrors.IsConflict(err) || apierrors.IsNotFound(err) {
		now := object.DeepCopyObject().(client.Object)
		getErr := live.Get(ctx, req.NamespacedName, now)
		if apierrors.IsNotFound(getErr) || (getErr == nil && now.GetResourceVersion() != object.GetResourceVersion()) {
			return errBehind
		}
	}
	return fmt.Errorf("writing %s %s: %w", req.kind, nameOf(req.NamespacedName), err)
}
