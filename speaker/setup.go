package speaker

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/source"

	"github.com/fairway-lb/fairway/api/v1alpha2"
)

// IndexEndpointSlices makes the manager's cache find the EndpointSlices of a
// Service. It is to be called before the cache is started.
func IndexEndpointSlices(ctx context.Context, mgr manager.Manager) error {
	byService := func(object client.Object) []string {
		return []string{object.GetLabels()[discoveryv1.LabelServiceName]}
	}
	if err := mgr.GetFieldIndexer().IndexField(ctx, &discoveryv1.EndpointSlice{}, sliceIndex, byService); err != nil {
		return fmt.Errorf("indexing EndpointSlices by Service: %w", err)
	}
	return nil
}

// linksPause is how soon a second look at this node's links follows the first:
// a node on which pods start, or to which routes are being told, signals
// without end.
const linksPause = 100 * time.Millisecond

// Setup has the manager call the speaker's Reconcile, by one worker, for
// whatever its decisions rest on: Services, EndpointSlices, Nodes, Eips, and
// signals that the members or this node's links changed.
func (s *Speaker) Setup(mgr manager.Manager, members, links <-chan struct{}) error {
	c, err := controller.NewTyped("speaker", mgr, controller.TypedOptions[request]{
		Reconciler:              s,
		MaxConcurrentReconciles: 1, // the worker owns the speaker's state
		NeedLeaderElection:      new(bool),
	})
	if err != nil {
		return fmt.Errorf("making the speaker's worker: %w", err)
	}
	all := func(context.Context, client.Object) []request { return []request{{kind: everything}} }
	specOrLabels := predicate.Or[client.Object](predicate.TypedGenerationChangedPredicate[client.Object]{}, predicate.TypedLabelChangedPredicate[client.Object]{})
	sources := []source.TypedSource[request]{
		// All sources are started before the worker is.
		source.TypedFunc[request](func(_ context.Context, queue workqueue.TypedRateLimitingInterface[request]) error {
			s.queue = queue
			return nil
		}),
		source.TypedKind(mgr.GetCache(), &corev1.Service{}, requestsFor(&s.arrivals, func(svc *corev1.Service) types.NamespacedName {
			return client.ObjectKeyFromObject(svc)
		}), predicate.TypedFuncs[*corev1.Service]{
			CreateFunc: func(e event.TypedCreateEvent[*corev1.Service]) bool { return holdsAddress(e.Object) },
			UpdateFunc: func(e event.TypedUpdateEvent[*corev1.Service]) bool {
				return holdsAddress(e.ObjectOld) || holdsAddress(e.ObjectNew)
			},
		}),
		source.TypedKind(mgr.GetCache(), &discoveryv1.EndpointSlice{}, requestsFor(&s.arrivals, func(slice *discoveryv1.EndpointSlice) types.NamespacedName {
			return types.NamespacedName{Namespace: slice.Namespace, Name: slice.Labels[discoveryv1.LabelServiceName]}
		})),
		source.TypedKind(mgr.GetCache(), client.Object(&corev1.Node{}), handler.TypedEnqueueRequestsFromMapFunc(all), predicate.TypedFuncs[client.Object]{
			UpdateFunc: func(e event.TypedUpdateEvent[client.Object]) bool {
				return s.nodeChanged(e.ObjectOld, e.ObjectNew)
			},
		}),
		source.TypedKind(mgr.GetCache(), client.Object(&v1alpha2.Eip{}), handler.TypedEnqueueRequestsFromMapFunc(all), predicate.TypedGenerationChangedPredicate[client.Object]{}),
		source.TypedKind(mgr.GetCache(), client.Object(&v1alpha2.BgpConf{}), handler.TypedEnqueueRequestsFromMapFunc(all), specOrLabels),
		source.TypedKind(mgr.GetCache(), client.Object(&v1alpha2.BgpPeer{}), handler.TypedEnqueueRequestsFromMapFunc(all), specOrLabels),
		source.TypedKind(mgr.GetCache(), client.Object(&corev1.Secret{}), s.referredTo(), predicate.TypedResourceVersionChangedPredicate[client.Object]{}),
		source.TypedKind(mgr.GetCache(), client.Object(&corev1.ConfigMap{}), s.referredTo(), predicate.TypedResourceVersionChangedPredicate[client.Object]{}),
		source.TypedChannel(s.Held.changed, passOn()),
		source.TypedChannel(s.drains, passOn()),
		source.TypedChannel(s.forwarding, passOn()),
		onSignal(members, request{kind: everything}, 0),
		onSignal(links, request{kind: nodeLinks}, linksPause),
	}
	for _, src := range sources {
		if err := c.Watch(src); err != nil {
			return fmt.Errorf("watching: %w", err)
		}
	}
	return nil
}

// requestsFor enqueues a oneService request for the Service that an object
// belongs to, and notes when it came.
func requestsFor[T client.Object](arrivals *arrivals, serviceOf func(T) types.NamespacedName) handler.TypedEventHandler[T, request] {
	type queue = workqueue.TypedRateLimitingInterface[request]
	add := func(q queue, services ...types.NamespacedName) {
		for _, service := range slices.Compact(services) {
			r := request{kind: oneService, service: service}
			arrivals.note(r)
			q.Add(r)
		}
	}
	return handler.TypedFuncs[T, request]{
		CreateFunc: func(_ context.Context, e event.TypedCreateEvent[T], q queue) { add(q, serviceOf(e.Object)) },
		UpdateFunc: func(_ context.Context, e event.TypedUpdateEvent[T], q queue) {
			add(q, serviceOf(e.ObjectOld), serviceOf(e.ObjectNew))
		},
		DeleteFunc: func(_ context.Context, e event.TypedDeleteEvent[T], q queue) { add(q, serviceOf(e.Object)) },
	}
}

// referredTo has the router looked at again for the Secrets and ConfigMaps that
// BgpPeers or the BgpConf name, and for no others of the namespace.
func (s *Speaker) referredTo() handler.TypedEventHandler[client.Object, request] {
	return handler.TypedEnqueueRequestsFromMapFunc(func(ctx context.Context, object client.Object) []request {
		named, err := s.names(ctx, object)
		if err == nil && !named {
			return nil
		}
		return []request{{kind: routerConfig}} // which comes across the error itself
	})
}

// names tells whether BGP's configuration refers to a Secret or ConfigMap.
func (s *Speaker) names(ctx context.Context, object client.Object) (bool, error) {
	if _, isConfigMap := object.(*corev1.ConfigMap); isConfigMap {
		var conf v1alpha2.BgpConf
		err := s.Reader.Get(ctx, types.NamespacedName{Name: v1alpha2.BgpConfName}, &conf)
		return conf.Spec.Policy == object.GetName(), client.IgnoreNotFound(err)
	}
	peers, err := s.bgpPeers(ctx)
	return slices.ContainsFunc(peers, func(peer *v1alpha2.BgpPeer) bool {
		conf := peer.Spec.Conf
		return conf != nil && conf.PasswordSecretRef != nil && conf.PasswordSecretRef.Name == object.GetName()
	}), err
}

// passOn enqueues requests that come through a channel as they are.
func passOn() handler.TypedEventHandler[request, request] {
	return handler.TypedEnqueueRequestsFromMapFunc(func(_ context.Context, r request) []request { return []request{r} })
}

// onSignal enqueues a request for each signal, but not more often than once in
// a pause: the signals that come meanwhile are one, after it.
func onSignal(signals <-chan struct{}, r request, pause time.Duration) source.TypedSource[request] {
	return source.TypedFunc[request](func(ctx context.Context, queue workqueue.TypedRateLimitingInterface[request]) error {
		go forward(ctx, signals, pause, func() { queue.Add(r) })
		return nil
	})
}

// forward calls f for signals until they end or ctx is done.
func forward(ctx context.Context, signals <-chan struct{}, pause time.Duration, f func()) {
	for {
		select {
		case <-ctx.Done():
			return
		case _, ok := <-signals:
			if !ok {
				return
			}
			f()
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
	}
}

// nodeChanged tells whether an update of a Node matters. Most do not: kubelets
// write a Node's status every few minutes. This node's own labels choose its
// neighbors.
func (s *Speaker) nodeChanged(old, updated client.Object) bool {
	was, okOld := old.(*corev1.Node)
	is, okNew := updated.(*corev1.Node)
	return !okOld || !okNew || planNode(was, s.IgnoreExcludeLabel) != planNode(is, s.IgnoreExcludeLabel) ||
		is.Name == s.NodeName && !maps.Equal(was.Labels, is.Labels)
}
