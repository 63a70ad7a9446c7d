package controller

import (
	"context"
	"fmt"
	"strings"
	"time"

	"go4.org/netipx"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/util/validation"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/fairway-lb/fairway/api/v1alpha2"
	"github.com/fairway-lb/fairway/controller/ipam"
)

// statusInterval is the least time between two writes of one Eip's status,
// which every speaker and everybody else who watches Eips is sent.
const statusInterval = time.Second

// reconcileEip tells the allocator of a pool and keeps the pool's status. A
// pool that cannot be used is reported and left out.
func (r *reconciler) reconcileEip(ctx context.Context, req request) (reconcile.Result, error) {
	eip := &v1alpha2.Eip{}
	switch err := r.client.Get(ctx, req.NamespacedName, eip); {
	case apierrors.IsNotFound(err):
		r.dropPool(req)
		return reconcile.Result{}, nil
	case err != nil:
		return reconcile.Result{}, fmt.Errorf("reading Eip %s: %w", req.Name, err)
	case r.written.stale(req, eip.ResourceVersion):
		return reconcile.Result{}, errBehind
	}
	result, err := r.keepEip(ctx, req, eip)
	if err != nil {
		r.events.eipFailed(eip, err)
	}
	return result, err
}

// keepEip does what there is to do for an Eip. One whose finalizer cannot be
// written serves all the same.
func (r *reconciler) keepEip(ctx context.Context, req request, eip *v1alpha2.Eip) (reconcile.Result, error) {
	pool, invalid := poolOf(eip)
	if invalid != nil {
		r.leaveOut(eip, invalid)
	} else {
		r.setPool(pool)
	}
	switch {
	case pool.Deleting:
		if done, err := r.finishDeletion(ctx, req, eip); done || err != nil {
			return reconcile.Result{}, err
		}
	case invalid == nil:
		if err := r.ensureFinalizer(ctx, req, eip); err != nil {
			return reconcile.Result{}, err
		}
	}
	result, err := r.writeStatus(ctx, req, eip)
	if err == nil && invalid == nil && !pool.Deleting {
		r.events.forget(req)
	}
	return result, err
}

// poolOf reads a pool. With an error, only the pool's Name and Deleting are
// set.
func poolOf(eip *v1alpha2.Eip) (ipam.Pool, error) {
	pool := ipam.Pool{Name: eip.Name, Deleting: !eip.DeletionTimestamp.IsZero()}
	if errs := validation.IsValidLabelValue(eip.Name); len(errs) > 0 {
		return pool, fmt.Errorf("its name cannot be the value of a label, which Services that hold its addresses carry (%s): create it under a shorter name", strings.Join(errs, "; "))
	}
	addresses, err := v1alpha2.ParseAddress(eip.Spec.Address)
	if err != nil {
		return pool, fmt.Errorf("its spec.address %q is no address, CIDR or range: %w. Delete it, and create it with a correct address", eip.Spec.Address, err)
	}
	pool.Ranges = []netipx.IPRange{addresses}
	pool.Disabled = eip.Spec.Disable
	pool.Default = strings.EqualFold(eip.Annotations[v1alpha2.AnnotationDefaultEip], "true")
	pool.Priority = eip.Spec.Priority
	pool.Namespaces = eip.Spec.Namespaces
	pool.NamespaceSelector = eip.Spec.NamespaceSelector
	return pool, nil
}

// setPool follows up on what a changed pool means to Services.
func (r *reconciler) setPool(pool ipam.Pool) {
	changed, renamed := r.ipam.SetPool(pool)
	r.retry(renamed)
	if changed && !pool.Disabled && !pool.Deleting {
		r.retry(r.waiting.all())
	}
	if usage, ok := r.ipam.Usage(pool.Name); ok {
		r.metrics.setPool(pool.Name, usage)
	}
}

// leaveOut reports a pool that cannot be used.
func (r *reconciler) leaveOut(eip *v1alpha2.Eip, err error) {
	r.retry(r.ipam.RemovePool(eip.Name))
	r.metrics.dropPool(eip.Name)
	r.events.invalidEip(eip, err)
}

func (r *reconciler) dropPool(req request) {
	r.retry(r.ipam.RemovePool(req.Name))
	r.metrics.dropPool(req.Name)
	r.events.forget(req)
	delete(r.written, req)
	delete(r.statuses, req.Name)
}

func (r *reconciler) ensureFinalizer(ctx context.Context, req request, eip *v1alpha2.Eip) error {
	original := eip.DeepCopy()
	if !controllerutil.AddFinalizer(eip, v1alpha2.FinalizerEip) {
		return nil
	}
	return r.patch(ctx, req, r.patchObject, eip, original)
}

// finishDeletion lets a pool go once no Service holds an address of it.
func (r *reconciler) finishDeletion(ctx context.Context, req request, eip *v1alpha2.Eip) (done bool, err error) {
	if holders := r.ipam.Holders(eip.Name); len(holders) > 0 {
		r.events.deletionWaits(eip, waitsFor(holders))
		return false, nil
	}
	original := eip.DeepCopy()
	if !controllerutil.RemoveFinalizer(eip, v1alpha2.FinalizerEip) {
		return true, nil
	}
	return true, r.patch(ctx, req, r.patchObject, eip, original)
}

// waitsFor names the first Services that hold addresses of a pool.
func waitsFor(holders []ipam.Holder) string {
	const named = 3
	var services []ipam.ServiceKey
	for _, holder := range holders {
		services = append(services, holder.Services...)
	}
	if len(services) == 1 {
		return fmt.Sprintf("The Eip stays until Service %s gives its address up: delete the Service, or have it ask for another Eip", services[0])
	}
	var texts []string
	for _, service := range services[:min(named, len(services))] {
		texts = append(texts, service.String())
	}
	text := strings.Join(texts, ", ")
	if more := len(services) - named; more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	return fmt.Sprintf("The Eip stays until %d Services give their addresses up: %s. Delete the Services, or have them ask for another Eip", len(services), text)
}
