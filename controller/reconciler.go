package controller

import (
	"context"
	"errors"
	"fmt"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/events"
	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/fairway-lb/fairway/controller/ipam"
)

const (
	// behindDelay is how long to wait for the cache to catch up, in case
	// that no watch event brings what is missing.
	behindDelay = 200 * time.Millisecond
	// adoptionDelay is how long to wait after a failed adoption. Every
	// request of the queue would try again at once otherwise, and each
	// attempt lists all Services.
	adoptionDelay = 5 * time.Second
)

// eipWriteTimeout bounds a write of an Eip. It is a summary that can wait, and
// the API server may call webhooks for it that do not answer; Services are not
// to wait for that.
const eipWriteTimeout = 3 * time.Second

// errBehind says that an object is not at the API server what it is in the
// cache. That is no failure: what is new is on its way here.
var errBehind = errors.New("the cache is behind the API server")

// reconciler is the worker. Its fields belong to the one goroutine that calls
// Reconcile.
type reconciler struct {
	options    Options
	client     client.Client // writes to the API server, reads from the cache
	live       client.Reader // reads from the API server
	queue      workqueue.TypedRateLimitingInterface[request]
	events     *reporter
	metrics    *metrics
	now        func() time.Time
	ipam       *ipam.Allocator
	adopted    bool
	adoptAfter time.Time                     // not to be tried again before
	uids       map[ipam.ServiceKey]types.UID // of the Services known by these names
	waiting    waiting
	written    written
	disputes   disputes
	terms      map[ipam.ServiceKey]uint64 // see termsOf
	statuses   map[string]time.Time       // when an Eip's status was last written
	defaults   map[string]struct{}        // the Eips that are marked as default
	rested     map[string]time.Time       // when the next address of an Eip has rested
}

func newReconciler(mgr manager.Manager, o Options, recorder events.EventRecorder) *reconciler {
	return &reconciler{
		options:  o,
		client:   mgr.GetClient(),
		live:     mgr.GetAPIReader(),
		events:   newReporter(recorder),
		metrics:  newMetrics(),
		now:      time.Now,
		ipam:     ipam.New(time.Now),
		uids:     map[ipam.ServiceKey]types.UID{},
		waiting:  newWaiting(),
		written:  written{},
		disputes: newDisputes(),
		terms:    map[ipam.ServiceKey]uint64{},
		statuses: map[string]time.Time{},
		defaults: map[string]struct{}{},
		rested:   map[string]time.Time{},
	}
}

// Reconcile looks at one object. No decision is made before every Service
// that has an address was adopted.
func (r *reconciler) Reconcile(ctx context.Context, req request) (reconcile.Result, error) {
	if !r.adopted {
		if rest := r.adoptAfter.Sub(r.now()); rest > 0 {
			return reconcile.Result{RequeueAfter: rest}, nil
		}
		if err := r.adoptAll(ctx); err != nil {
			r.adoptAfter = r.now().Add(adoptionDelay)
			return reconcile.Result{}, err
		}
		r.adopted = true
	}
	result, err := r.reconcile(ctx, req)
	r.metrics.setPending(r.waiting.pending)
	if errors.Is(err, errBehind) {
		return reconcile.Result{RequeueAfter: behindDelay}, nil
	}
	return result, err
}

func (r *reconciler) reconcile(ctx context.Context, req request) (reconcile.Result, error) {
	switch req.kind {
	case serviceRequest:
		err := r.reconcileService(ctx, req)
		for _, pool := range r.waiting.lookedAt(ipam.ServiceKey(req.NamespacedName)) {
			r.callNext(pool)
		}
		return reconcile.Result{}, err
	case eipRequest:
		return r.reconcileEip(ctx, req)
	case namespaceRequest:
		r.retry(r.waiting.inNamespace(req.Name))
		return reconcile.Result{}, nil
	case gossipKeyRequest:
		return reconcile.Result{}, r.ensureGossipKey(ctx, req.NamespacedName)
	}
	return reconcile.Result{}, fmt.Errorf("a request of unknown kind %q", req.kind)
}

// retry has Services looked at again, in the order given.
func (r *reconciler) retry(services []ipam.ServiceKey) {
	for _, key := range services {
		r.queue.Add(requestForService(key))
	}
}

// patch writes the difference between two versions of an object, unless
// somebody wrote a version in between, or deleted it.
func (r *reconciler) patch(ctx context.Context, req request, write patchFunc, changed, original client.Object) error {
	if req.kind == eipRequest {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, eipWriteTimeout)
		defer cancel()
	}
	patch := client.MergeFromWithOptions(original, client.MergeFromWithOptimisticLock{})
	if err := write(ctx, changed, patch); err != nil {
		return refusedWrite(ctx, r.live, req, original, err)
	}
	r.written[req] = changed.GetResourceVersion()
	return nil
}

// patchFunc is the Patch of a client or of its status writer.
type patchFunc func(context.Context, client.Object, client.Patch) error

func (r *reconciler) patchObject(ctx context.Context, object client.Object, patch client.Patch) error {
	return r.client.Patch(ctx, object, patch, client.FieldOwner(fieldManager))
}

func (r *reconciler) patchStatus(ctx context.Context, object client.Object, patch client.Patch) error {
	return r.client.Status().Patch(ctx, object, patch, client.FieldOwner(fieldManager))
}

// nameOf writes an object's name as users do.
func nameOf(key types.NamespacedName) string {
	if key.Namespace == "" {
		return key.Name
	}
	return key.String()
}
