package controller

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/manager"
)

// NetworkCache is a cache of Nodes, BgpConfs and BgpPeers, cut down to what the
// controller and admission read of them. BgpConfs and BgpPeers are unstructured:
// what is wrong in one that was stored long ago keeps nobody from reading the
// others. It is not the manager's, because the worker that gives addresses waits
// for all that that one watches, and these are none of its business.
type NetworkCache struct{ cache.Cache }

// NewNetworkCache has the manager run a NetworkCache, which watches what it is
// asked for.
func NewNetworkCache(mgr manager.Manager) (NetworkCache, error) {
	c, err := cache.New(mgr.GetConfig(), cache.Options{
		HTTPClient: mgr.GetHTTPClient(),
		Scheme:     mgr.GetScheme(),
		Mapper:     mgr.GetRESTMapper(),
		ByObject: map[client.Object]cache.ByObject{
			&corev1.Node{}:            {Transform: trimNode},
			newObject(bgpConfRequest): {Transform: trimBgpObject},
			newObject(bgpPeerRequest): {Transform: trimBgpObject},
		},
	})
	if err != nil {
		return NetworkCache{}, fmt.Errorf("making a cache of Nodes, BgpConfs and BgpPeers: %w", err)
	}
	network := NetworkCache{c}
	if err := mgr.Add(network); err != nil {
		return NetworkCache{}, fmt.Errorf("adding the cache of Nodes, BgpConfs and BgpPeers: %w", err)
	}
	return network, nil
}

// NeedLeaderElection says that the cache is there also while another controller
// holds the Lease: admission reads it.
func (NetworkCache) NeedLeaderElection() bool { return false }

// trimNode leaves of a Node that it exists, and its addresses.
func trimNode(object any) (any, error) {
	node, ok := object.(*corev1.Node)
	if !ok {
		return object, nil
	}
	trimmed := &corev1.Node{TypeMeta: node.TypeMeta}
	trimmed.Name, trimmed.UID, trimmed.ResourceVersion = node.Name, node.UID, node.ResourceVersion
	trimmed.Status.Addresses = node.Status.Addresses
	return trimmed, nil
}

// trimBgpObject leaves of a BgpConf or BgpPeer which nodes have an entry in its
// status.
func trimBgpObject(object any) (any, error) {
	o, ok := object.(*unstructured.Unstructured)
	if !ok {
		return object, nil
	}
	trimmed := newObject(requestKind(o.GetKind()))
	trimmed.SetName(o.GetName())
	trimmed.SetUID(o.GetUID())
	trimmed.SetResourceVersion(o.GetResourceVersion())
	trimmed.SetDeletionTimestamp(o.GetDeletionTimestamp())
	trimmed.SetFinalizers(o.GetFinalizers())
	field, nodes := entriesOf(o)
	entries := make(map[string]any, len(nodes))
	for _, node := range nodes {
		entries[node] = nil
	}
	trimmed.Object["status"] = map[string]any{field: entries}
	return trimmed, nil
}
