package controller

import (
	"context"
	"fmt"
	"time"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"

	"github.com/fairway-lb/fairway/api/v1alpha2"
	"github.com/fairway-lb/fairway/internal/note"
)

// reconcileTimeout bounds one decision with its few calls of the API server:
// there is one worker, and a call that hangs must not hold up all others.
const reconcileTimeout = 30 * time.Second

// A write that fails is tried again soon, then ever less often: the first
// attempts get over a short disturbance, and the longest delay is how long a
// Service may go on waiting when a long one is over.
const (
	minRetryDelay = 50 * time.Millisecond
	maxRetryDelay = 30 * time.Second
)

// Options are the controller's settings.
type Options struct {
	// Namespace is where Fairway itself lives.
	Namespace string
	// DefaultLoadBalancer takes every Service of type LoadBalancer that
	// names no class, annotated or not.
	DefaultLoadBalancer bool
	// Registerer is where the metrics go.
	Registerer prometheus.Registerer
	// Network has the Nodes, BgpConfs and BgpPeers.
	Network NetworkCache
}

// CacheOptions returns what the manager's cache is to keep for a controller
// in a namespace: of all Secrets, only the speakers' gossip key.
func CacheOptions(namespace string) cache.Options {
	return cache.Options{
		DefaultTransform: cache.TransformStripManagedFields(),
		ByObject: map[client.Object]cache.ByObject{
			&v1alpha2.Eip{}:   {Transform: keepLegacyFields},
			&corev1.Service{}: {Transform: trimService},
			&corev1.Secret{}: {
				Namespaces: map[string]cache.Config{namespace: {}},
				Field:      fields.OneTermEqualSelector("metadata.name", GossipSecretName),
			},
		},
	}
}

// trimService takes out of a Service, for the cache, what grows with it and is
// read by nobody: there are thousands. What is not there is not written either.
func trimService(object any) (any, error) {
	if svc, ok := object.(*corev1.Service); ok {
		svc.ManagedFields = nil
		delete(svc.Annotations, corev1.LastAppliedConfigAnnotation)
	}
	return object, nil
}

// Setup has the manager run the controller while it is the leader.
func Setup(mgr manager.Manager, o Options) error {
	events, err := note.NewPaced(mgr.GetEventRecorder("fairway-controller"), mgr.GetScheme(), mgr.GetLogger().WithName("events"), o.Registerer)
	if err != nil {
		return fmt.Errorf("registering the metrics of events: %w", err)
	}
	if err := mgr.Add(events); err != nil {
		return fmt.Errorf("adding to the manager: %w", err)
	}
	r := newReconciler(mgr, o, events)
	if err := r.metrics.register(o.Registerer); err != nil {
		return err
	}
	c, err := controller.NewTyped("fairway", mgr, workerOptions(r, mgr.GetLogger().WithName("controller")))
	if err != nil {
		return fmt.Errorf("making the controller's worker: %w", err)
	}
	for _, src := range r.sources(mgr.GetCache()) {
		if err := c.Watch(src); err != nil {
			return fmt.Errorf("watching: %w", err)
		}
	}
	return setupBGPKeeper(mgr, o.Network)
}

// workerOptions are those of a worker that looks at one object at a time.
func workerOptions(r reconcile.TypedReconciler[request], log logr.Logger) controller.TypedOptions[request] {
	return controller.TypedOptions[request]{
		Reconciler:              r,
		MaxConcurrentReconciles: 1, // the worker owns what it knows
		ReconciliationTimeout:   reconcileTimeout,
		RateLimiter:             workqueue.NewTypedItemExponentialFailureRateLimiter[request](minRetryDelay, maxRetryDelay),
		LogConstructor: func(req *request) logr.Logger {
			if req == nil {
				return log
			}
			return log.WithValues("kind", req.kind, "namespace", req.Namespace, "name", req.Name)
		},
	}
}

// sources are what makes the worker look at something.
func (r *reconciler) sources(c cache.Cache) []source.TypedSource[request] {
	return []source.TypedSource[request]{
		// All sources are started before the worker is.
		source.TypedFunc[request](func(_ context.Context, queue workqueue.TypedRateLimitingInterface[request]) error {
			r.queue = queue
			queue.Add(request{kind: gossipKeyRequest, NamespacedName: types.NamespacedName{Namespace: r.options.Namespace, Name: GossipSecretName}})
			return nil
		}),
		source.TypedKind(c, &v1alpha2.Eip{}, enqueue[*v1alpha2.Eip](eipRequest)),
		source.TypedKind(c, &corev1.Namespace{}, enqueue[*corev1.Namespace](namespaceRequest), predicate.TypedLabelChangedPredicate[*corev1.Namespace]{}),
		source.TypedKind(c, &corev1.Service{}, enqueue[*corev1.Service](serviceRequest), predicate.TypedFuncs[*corev1.Service]{
			CreateFunc: func(e event.TypedCreateEvent[*corev1.Service]) bool { return r.concerns(e.Object) },
			UpdateFunc: func(e event.TypedUpdateEvent[*corev1.Service]) bool {
				return r.concerns(e.ObjectOld) || r.concerns(e.ObjectNew)
			},
		}),
		source.TypedKind(c, &corev1.Secret{}, enqueue[*corev1.Secret](gossipKeyRequest), predicate.TypedFuncs[*corev1.Secret]{
			CreateFunc: func(event.TypedCreateEvent[*corev1.Secret]) bool { return false },
			UpdateFunc: func(event.TypedUpdateEvent[*corev1.Secret]) bool { return false },
		}),
	}
}

// enqueue asks for an object to be looked at.
func enqueue[T client.Object](kind requestKind) handler.TypedEventHandler[T, request] {
	return handler.TypedEnqueueRequestsFromMapFunc(func(_ context.Context, object T) []request {
		return []request{{kind: kind, NamespacedName: client.ObjectKeyFromObject(object)}}
	})
}
