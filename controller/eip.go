package controller

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/validation"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/fairway-lb/fairway/api/v1alpha2"
	"github.com/fairway-lb/fairway/controller/ipam"
)

// maxQuarantine is that of the CRD's rule, which a write in v1alpha1 passes by.
const maxQuarantine = 24 * time.Hour

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
	pool, readable, invalid := poolOf(eip)
	known := r.hasPool(eip.Name)
	if !readable && known { // it stays as it was, but for what ends it
		before, _ := r.ipam.Pool(eip.Name)
		before.Deleting, before.Rehome = pool.Deleting, pool.Rehome
		pool = before
	}
	unguarded := r.guard(ctx, req, eip, readable)
	if errors.Is(unguarded, errBehind) {
		return reconcile.Result{}, unguarded
	}
	if readable || known {
		r.setPool(pool)
	}
	problem := problemText(invalid, readable, known)
	if invalid != nil {
		r.events.invalidEip(eip, problem)
	}
	if unguarded != nil {
		return reconcile.Result{}, unguarded
	}
	if pool.Deleting {
		if done, err := r.finishDeletion(ctx, req, eip); done || err != nil {
			return reconcile.Result{}, err
		}
	}
	result, err := r.writeStatus(ctx, req, eip, problem)
	if err == nil && invalid == nil && !pool.Deleting {
		r.events.forget(req)
	}
	return result, err
}

// poolOf reads a pool. One whose name or addresses cannot be read is not
// readable; of any other error, what it speaks of has no effect.
func poolOf(eip *v1alpha2.Eip) (pool ipam.Pool, readable bool, err error) {
	pool = ipam.Pool{Name: eip.Name, Deleting: !eip.DeletionTimestamp.IsZero()}
	pool.Rehome = pool.Deleting && isTrue(eip.Annotations[v1alpha2.AnnotationForceDelete])
	if errs := validation.IsValidLabelValue(eip.Name); len(errs) > 0 {
		return pool, false, fmt.Errorf("its name cannot be the value of a label, which Services that hold its addresses carry (%s): create it under a shorter name", strings.Join(errs, "; "))
	}
	blocks, excluded, err := eip.Spec.Blocks()
	if err != nil {
		return pool, false, fmt.Errorf("%w: write an address, a CIDR, or a range whose first address is the lower; an Eip with a wrong spec.address has to be created anew", err)
	}
	pool.Space = ipam.NewSpace(blocks, excluded, eip.Spec.UsingKnownIPs)
	pool.Protocol = eip.Spec.Protocol
	pool.Disabled = eip.Spec.Disable
	pool.Default = isTrue(eip.Annotations[v1alpha2.AnnotationDefaultEip])
	pool.Exclusive = eip.Spec.Exclusive
	pool.Priority = eip.Spec.Priority
	pool.Namespaces = eip.Spec.Namespaces
	pool.NamespaceSelector = eip.Spec.NamespaceSelector
	pool.Rotate = eip.Spec.AllocationPolicy == v1alpha2.AllocationRotate
	if rest := eip.Spec.Quarantine; rest != nil {
		if pool.Quarantine = rest.Duration; pool.Quarantine < 0 || pool.Quarantine > maxQuarantine {
			pool.Quarantine = 0
			err = fmt.Errorf("spec.quarantine %s is not from 0s to 24h, so no address rests: write a duration such as 10m, or remove it", rest.Duration)
		}
	}
	if eip.Spec.ServiceSelector != nil {
		var invalid error
		if pool.ServiceSelector, invalid = metav1.LabelSelectorAsSelector(eip.Spec.ServiceSelector); invalid != nil {
			pool.ServiceSelector = labels.Nothing()
			err = fmt.Errorf("spec.serviceSelector cannot be read, so it selects no Service: %w", invalid)
		}
	}
	if eip.Spec.Sharing != nil {
		pool.SharingNamespaces = eip.Spec.Sharing.Namespaces
	}
	if len(eip.Spec.NamespaceLimits) > 0 {
		pool.NamespaceLimits = make(map[string]int, len(eip.Spec.NamespaceLimits))
		for namespace, limit := range eip.Spec.NamespaceLimits {
			pool.NamespaceLimits[namespace] = int(limit)
		}
	}
	return pool, true, err
}

// problemText says what an invalid spec means, "" if it is valid.
func problemText(invalid error, readable, known bool) string {
	switch {
	case invalid == nil:
		return ""
	case readable:
		return "Part of the Eip has no effect: " + invalid.Error()
	case known:
		return "The change of the Eip has no effect: " + invalid.Error()
	default:
		return "The Eip is not used: " + invalid.Error()
	}
}

// isTrue reads a boolean annotation; OpenELB's users write "True" too.
func isTrue(value string) bool {
	return strings.EqualFold(value, "true")
}

// setPool follows up on what a changed pool means to Services and to other
// pools.
func (r *reconciler) setPool(pool ipam.Pool) {
	overlapped := r.ipam.Overlaps(pool.Name)
	changed, affected := r.ipam.SetPool(pool)
	usage, _ := r.ipam.Usage(pool.Name)
	r.metrics.setPool(pool.Name, usage)
	r.noteDefault(pool.Name, pool.Default && !pool.Deleting)
	if changed {
		r.retry(affected)
		r.lookAtEips(overlapped, r.ipam.Overlaps(pool.Name))
		couldServe := func(asked *ipam.Request) bool { return r.ipam.CouldServe(pool.Name, asked) }
		r.retry(r.waiting.misled(pool.Name, couldServe))
		r.waiting.poolChanged(pool.Name, couldServe)
	}
	r.callNext(pool.Name)
}

func (r *reconciler) dropPool(req request) {
	overlapped := r.ipam.Overlaps(req.Name)
	r.retry(r.ipam.RemovePool(req.Name))
	r.retry(r.waiting.misled(req.Name, func(*ipam.Request) bool { return false }))
	r.lookAtEips(overlapped)
	r.noteDefault(req.Name, false)
	r.metrics.dropPool(req.Name)
	r.events.forget(req)
	delete(r.written, req)
	delete(r.statuses, req.Name)
	delete(r.rested, req.Name)
}

// noteDefault keeps the names of the default pools, and has all of them looked
// at when there is one more or less.
func (r *reconciler) noteDefault(name string, is bool) {
	if _, was := r.defaults[name]; was == is {
		return
	}
	if is {
		r.defaults[name] = struct{}{}
	} else {
		delete(r.defaults, name)
	}
	r.lookAtEips(slices.Sorted(maps.Keys(r.defaults)))
}

// lookAtEips has Eips looked at because what they overlap or compete with has
// changed.
func (r *reconciler) lookAtEips(names ...[]string) {
	for _, name := range slices.Concat(names...) {
		r.queue.Add(requestForEip(name))
	}
}

// guard does what is to be done before the first address is given: without the
// finalizer the Eip could go at any moment. Should the API server refuse, the
// pool serves all the same.
func (r *reconciler) guard(ctx context.Context, req request, eip *v1alpha2.Eip, readable bool) error {
	if err := r.updateLegacyFields(ctx, req, eip); err != nil {
		return err
	}
	return r.ensureFinalizer(ctx, req, eip, readable)
}

// ensureFinalizer has a pool that is in use, and not to go, stay until no
// Service holds an address of it.
func (r *reconciler) ensureFinalizer(ctx context.Context, req request, eip *v1alpha2.Eip, readable bool) error {
	original := eip.DeepCopy()
	if !readable || !eip.DeletionTimestamp.IsZero() || !controllerutil.AddFinalizer(eip, v1alpha2.FinalizerEip) {
		return nil
	}
	if err := r.patch(ctx, req, r.patchObject, eip, original); err != nil {
		eip.Finalizers = original.Finalizers
		return err
	}
	return nil
}

// finishDeletion lets a pool go once no Service holds an address of it.
func (r *reconciler) finishDeletion(ctx context.Context, req request, eip *v1alpha2.Eip) (done bool, err error) {
	if holders := slices.Concat(r.ipam.Holders(eip.Name), r.ipam.OutOfPool(eip.Name)); len(holders) > 0 {
		r.events.deletionWaits(eip, waitsFor(holders))
		return false, nil
	}
	original := eip.DeepCopy()
	if !controllerutil.RemoveFinalizer(eip, v1alpha2.FinalizerEip) {
		return true, nil
	}
	return true, r.patch(ctx, req, r.patchObject, eip, original)
}
