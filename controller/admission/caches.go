package admission

import (
	"context"
	"fmt"
	"net/netip"
	"sync"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/selection"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fairway-lb/fairway/api/v1alpha2"
)

// retryInterval is how long admission waits before it tries again what it
// could not do.
const retryInterval = 5 * time.Second

// caches reads the cluster from caches. It never waits for them.
type caches struct {
	// shared is the manager's, with what the controller needs, too.
	shared cache.Cache
	// nodes has the Nodes. It is apart, because the controller waits for all
	// that the manager's cache watches.
	nodes cache.Cache
	log   logr.Logger

	mu        sync.Mutex
	informers informers
}

// informers are what caches reads; none before they are started.
type informers struct {
	eips, services, nodes cache.Informer
}

// Start has the caches watch what admission needs, also while another
// controller holds the Lease. It is a manager.Runnable.
func (c *caches) Start(ctx context.Context) error {
	for {
		started, err := c.start(ctx)
		if err == nil {
			c.mu.Lock()
			c.informers = started
			c.mu.Unlock()
			return nil
		}
		c.log.Error(err, "Admission cannot judge objects by others, trying again")
		select {
		case <-time.After(retryInterval):
		case <-ctx.Done():
			return nil
		}
	}
}

// NeedLeaderElection says that every controller answers the API server.
func (c *caches) NeedLeaderElection() bool { return false }

func (c *caches) start(ctx context.Context) (started informers, err error) {
	for _, i := range []struct {
		cache  cache.Cache
		object client.Object
		into   *cache.Informer
	}{
		{c.shared, &v1alpha2.Eip{}, &started.eips},
		{c.shared, &corev1.Service{}, &started.services},
		{c.nodes, &corev1.Node{}, &started.nodes},
	} {
		if *i.into, err = i.cache.GetInformer(ctx, i.object, cache.BlockUntilSynced(false)); err != nil {
			return informers{}, fmt.Errorf("watching %T: %w", i.object, err)
		}
	}
	return started, nil
}

// cluster returns what there is, nil before the cache knows.
func (c *caches) cluster(ctx context.Context) (*Cluster, error) {
	c.mu.Lock()
	have := c.informers
	c.mu.Unlock()
	if have.eips == nil || !have.eips.HasSynced() || !have.services.HasSynced() {
		return nil, nil
	}
	// Nobody changes what the decisions are made from.
	var eips v1alpha2.EipList
	if err := c.shared.List(ctx, &eips, client.UnsafeDisableDeepCopy); err != nil {
		return nil, fmt.Errorf("listing Eips: %w", err)
	}
	cluster := &Cluster{Eips: eips.Items}
	if !have.nodes.HasSynced() {
		return cluster, nil
	}
	var nodes corev1.NodeList
	if err := c.nodes.List(ctx, &nodes, client.UnsafeDisableDeepCopy); err != nil {
		return nil, fmt.Errorf("listing Nodes: %w", err)
	}
	for i := range nodes.Items {
		for _, address := range nodes.Items[i].Status.Addresses {
			if addr, err := netip.ParseAddr(address.Address); err == nil && address.Type == corev1.NodeInternalIP {
				cluster.NodeAddresses = append(cluster.NodeAddresses, addr.Unmap())
			}
		}
	}
	return cluster, nil
}

// labelled returns the Services that carry v1alpha2.LabelPool.
func (c *caches) labelled(ctx context.Context) ([]corev1.Service, error) {
	var services corev1.ServiceList
	if err := c.shared.List(ctx, &services, client.UnsafeDisableDeepCopy, client.HasLabels{v1alpha2.LabelPool}); err != nil {
		return nil, fmt.Errorf("listing Services: %w", err)
	}
	return services.Items, nil
}

// bgpIn asks the API server what there is to announce addresses by BGP with.
func bgpIn(ctx context.Context, live client.Reader) (*BGP, error) {
	conf := &metav1.PartialObjectMetadata{}
	conf.SetGroupVersionKind(v1alpha2.GroupVersion.WithKind("BgpConf"))
	err := live.Get(ctx, types.NamespacedName{Name: v1alpha2.BgpConfName}, conf)
	if client.IgnoreNotFound(err) != nil {
		return nil, fmt.Errorf("reading BgpConf %s: %w", v1alpha2.BgpConfName, err)
	}
	bgp := &BGP{Configured: err == nil && conf.DeletionTimestamp.IsZero() && !leftToCNI(conf)}
	ours, err := labels.NewRequirement(v1alpha2.LabelCNI, selection.DoesNotExist, nil)
	if err != nil {
		return nil, fmt.Errorf("selecting BgpPeers: %w", err)
	}
	peers := &metav1.PartialObjectMetadataList{}
	peers.SetGroupVersionKind(v1alpha2.GroupVersion.WithKind("BgpPeerList"))
	if err := live.List(ctx, peers, client.Limit(1), client.MatchingLabelsSelector{Selector: labels.NewSelector().Add(*ours)}); err != nil {
		return nil, fmt.Errorf("listing BgpPeers: %w", err)
	}
	bgp.Peered = len(peers.Items) > 0
	return bgp, nil
}
