package controller

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/fairway-lb/fairway/api/v1alpha2"
)

// finalizerBGP is what OpenELB put on BgpConfs and BgpPeers, the same as on
// Services. Fairway puts none there.
const finalizerBGP = v1alpha2.FinalizerService

// bgpKeeper tidies up BgpConfs and BgpPeers, which the speakers of all nodes
// write their status into: nobody else can remove the entry of a node that is
// gone, or the finalizer of a speaker that is not there any more.
type bgpKeeper struct {
	cached client.Reader // a NetworkCache
	live   client.Reader // reads from the API server
	client client.Client // writes to the API server
}

// Reconcile looks at one BgpConf or BgpPeer. It writes nothing but what is to
// go, so it works for objects that could not be written as they are.
func (k *bgpKeeper) Reconcile(ctx context.Context, req request) (reconcile.Result, error) {
	object := newObject(req.kind)
	if err := k.cached.Get(ctx, req.NamespacedName, object); err != nil {
		if apierrors.IsNotFound(err) {
			return reconcile.Result{}, nil
		}
		return reconcile.Result{}, fmt.Errorf("reading %s %s: %w", req.kind, req.Name, err)
	}
	tidy := k.removeGoneNodes
	if !object.GetDeletionTimestamp().IsZero() {
		tidy = k.letGo
	}
	err := tidy(ctx, req, object)
	if errors.Is(err, errBehind) {
		return reconcile.Result{RequeueAfter: behindDelay}, nil
	}
	return reconcile.Result{}, err
}

// letGo takes OpenELB's finalizer off an object that is being deleted.
func (k *bgpKeeper) letGo(ctx context.Context, req request, object *unstructured.Unstructured) error {
	if !controllerutil.ContainsFinalizer(object, finalizerBGP) {
		return nil
	}
	others := slices.DeleteFunc(object.GetFinalizers(), func(f string) bool { return f == finalizerBGP })
	if err := k.patch(ctx, req, object, k.patchObject, map[string]any{
		"metadata": map[string]any{"resourceVersion": object.GetResourceVersion(), "finalizers": others},
	}); err != nil {
		return err
	}
	log.FromContext(ctx).Info("Removed OpenELB's finalizer from an object that is being deleted")
	return nil
}

// removeGoneNodes removes the status entries of Nodes that do not exist. All
// others are the speakers' own.
func (k *bgpKeeper) removeGoneNodes(ctx context.Context, req request, object *unstructured.Unstructured) error {
	field, nodes := entriesOf(object)
	gone := map[string]any{}
	for _, node := range nodes {
		exists, err := k.nodeExists(ctx, node)
		if err != nil {
			return err
		}
		if !exists {
			gone[node] = nil
		}
	}
	if len(gone) == 0 {
		return nil
	}
	if err := k.patch(ctx, req, object, k.patchStatus, map[string]any{
		"metadata": map[string]any{"resourceVersion": object.GetResourceVersion()},
		"status":   map[string]any{field: gone},
	}); err != nil {
		return err
	}
	log.FromContext(ctx).Info("Removed the status of nodes that do not exist", "nodes", slices.Sorted(maps.Keys(gone)))
	return nil
}

// patch writes changes, which say what version of the object they are for.
func (k *bgpKeeper) patch(ctx context.Context, req request, object *unstructured.Unstructured, write patchFunc, changes map[string]any) error {
	patch, err := json.Marshal(changes)
	if err != nil {
		return fmt.Errorf("writing %s %s: %w", req.kind, req.Name, err)
	}
	if err := write(ctx, object.DeepCopy(), client.RawPatch(types.MergePatchType, patch)); err != nil {
		return refusedWrite(ctx, k.live, req, object, err)
	}
	return nil
}

func (k *bgpKeeper) patchObject(ctx context.Context, object client.Object, patch client.Patch) error {
	return k.client.Patch(ctx, object, patch, client.FieldOwner(fieldManager))
}

func (k *bgpKeeper) patchStatus(ctx context.Context, object client.Object, patch client.Patch) error {
	return k.client.Status().Patch(ctx, object, patch, client.FieldOwner(fieldManager))
}

// nodeExists asks the API server before it says no: a new node's speaker may
// have written its status before the Node is in the cache.
func (k *bgpKeeper) nodeExists(ctx context.Context, name string) (bool, error) {
	key := types.NamespacedName{Name: name}
	err := k.cached.Get(ctx, key, &corev1.Node{}, client.UnsafeDisableDeepCopy)
	if apierrors.IsNotFound(err) {
		node := &metav1.PartialObjectMetadata{}
		node.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("Node"))
		err = k.live.Get(ctx, key, node)
	}
	if err != nil && !apierrors.IsNotFound(err) {
		return false, fmt.Errorf("reading Node %s: %w", name, err)
	}
	return err == nil, nil
}

// newObject returns an empty object of a kind.
func newObject(kind requestKind) *unstructured.Unstructured {
	object := &unstructured.Unstructured{}
	object.SetGroupVersionKind(v1alpha2.GroupVersion.WithKind(string(kind)))
	return object
}

// entriesOf returns the nodes that have an entry in the status of a BgpConf or
// BgpPeer, in order, and the field that holds the entries.
func entriesOf(object *unstructured.Unstructured) (field string, nodes []string) {
	field = "nodesPeerStatus"
	if object.GetKind() == string(bgpConfRequest) {
		field = "nodesConfStatus"
	}
	status, _ := object.Object["status"].(map[string]any)
	entries, _ := status[field].(map[string]any)
	return field, slices.Sorted(maps.Keys(entries))
}
