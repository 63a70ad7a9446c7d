package controller

import (
	"context"
	"fmt"
	"math"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/source"

	"github.com/fairway-lb/fairway/api/v1alpha2"
)

// forever is how long the keeper waits for its cache: that it cannot read
// BgpPeers is no reason to end the process, which gives addresses all the same.
const forever = math.MaxInt64

// setupBGPKeeper has the manager run the keeper while it is the leader, with a
// worker of its own.
func setupBGPKeeper(mgr manager.Manager, network NetworkCache) error {
	k := &bgpKeeper{cached: network, live: mgr.GetAPIReader(), client: mgr.GetClient()}
	options := workerOptions(k, mgr.GetLogger().WithName("bgp-keeper"))
	options.CacheSyncTimeout = forever
	c, err := controller.NewTyped("fairway-bgp", mgr, options)
	if err != nil {
		return fmt.Errorf("making the worker for BgpConfs and BgpPeers: %w", err)
	}
	for _, src := range k.sources(network) {
		if err := c.Watch(src); err != nil {
			return fmt.Errorf("watching: %w", err)
		}
	}
	return nil
}

// sources are what makes the keeper look at something: what is there when it
// starts, a Node that goes, and an entry or a deletion that is new.
func (k *bgpKeeper) sources(network NetworkCache) []source.TypedSource[request] {
	return []source.TypedSource[request]{
		source.TypedKind(network, newObject(bgpConfRequest), enqueue[*unstructured.Unstructured](bgpConfRequest), untidy()),
		source.TypedKind(network, newObject(bgpPeerRequest), enqueue[*unstructured.Unstructured](bgpPeerRequest), untidy()),
		source.TypedKind(network, &corev1.Node{}, handler.TypedEnqueueRequestsFromMapFunc(k.withEntryOf), predicate.TypedFuncs[*corev1.Node]{
			CreateFunc: func(event.TypedCreateEvent[*corev1.Node]) bool { return false },
			UpdateFunc: func(event.TypedUpdateEvent[*corev1.Node]) bool { return false },
		}),
	}
}

// untidy keeps away what concerns the speakers only: most changes are of an
// entry that was there before.
func untidy() predicate.TypedFuncs[*unstructured.Unstructured] {
	return predicate.TypedFuncs[*unstructured.Unstructured]{
		UpdateFunc: func(e event.TypedUpdateEvent[*unstructured.Unstructured]) bool {
			return mayBeUntidy(e.ObjectOld, e.ObjectNew)
		},
		DeleteFunc: func(event.TypedDeleteEvent[*unstructured.Unstructured]) bool { return false },
	}
}

func mayBeUntidy(old, updated *unstructured.Unstructured) bool {
	if !updated.GetDeletionTimestamp().IsZero() {
		return controllerutil.ContainsFinalizer(updated, finalizerBGP)
	}
	_, before := entriesOf(old)
	_, now := entriesOf(updated)
	return !slices.Equal(before, now)
}

// withEntryOf returns the objects that have an entry of a Node in their status.
func (k *bgpKeeper) withEntryOf(ctx context.Context, node *corev1.Node) (found []request) {
	for _, kind := range []requestKind{bgpConfRequest, bgpPeerRequest} {
		list := &unstructured.UnstructuredList{}
		list.SetGroupVersionKind(v1alpha2.GroupVersion.WithKind(string(kind) + "List"))
		if err := k.cached.List(ctx, list, client.UnsafeDisableDeepCopy); err != nil {
			log.FromContext(ctx).Error(err, "The status of a node that is gone stays until the controller starts anew", "kind", kind, "node", node.Name)
			continue
		}
		for i := range list.Items {
			if _, nodes := entriesOf(&list.Items[i]); slices.Contains(nodes, node.Name) {
				found = append(found, request{kind, types.NamespacedName{Name: list.Items[i].GetName()}})
			}
		}
	}
	return found
}
