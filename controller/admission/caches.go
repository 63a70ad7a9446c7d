package admission

import (
	"context"
	"fmt"
	"net/netip"
	"sync"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fairway-lb/fairway/api/v1alpha2"
)

// retryInterval is how long admission waits before it tries again what it
// could not do.
const retryInterval = 5 * time.Second

// caches reads the cluster from the manager's cache. It never waits for it.
type caches struct {
	cache cache.Cache
	log   logr.Logger

	mu        sync.Mutex
	informers informers
}

// informers are what caches reads; none before they are started.
type informers struct {
	eips, services, nodes cache.Informer
}

// Start has the manager's cache watch what admission needs, also while another
// controller holds the Lease. It runs when the cache does: an informer that
// was there before would keep the manager from starting, should it have no
// rights. It is a manager.Runnable.
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
		object client.Object
		into   *cache.Informer
	}{
		{&v1alpha2.Eip{}, &started.eips},
		{&corev1.Service{}, &started.services},
		{&corev1.Node{}, &started.nodes},
	} {
		if *i.into, err = c.cache.GetInformer(ctx, i.object, cache.BlockUntilSynced(false)); err != nil {
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
	if err := c.cache.List(ctx, &eips, client.UnsafeDisableDeepCopy); err != nil {
		return nil, fmt.Errorf("listing Eips: %w", err)
	}
	var services corev1.ServiceList
	if err := c.cache.List(ctx, &services, client.UnsafeDisableDeepCopy, client.HasLabels{v1alpha2.LabelPool}); err != nil {
		return nil, fmt.Errorf("listing Services: %w", err)
	}
	cluster := &Cluster{Eips: eips.Items, Services: services.Items}
	if !have.nodes.HasSynced() {
		return cluster, nil
	}
	var nodes corev1.NodeList
	if err := c.cache.List(ctx, &nodes, client.UnsafeDisableDeepCopy); err != nil {
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

// TrimNode leaves of a Node what admission reads. It is a cache's transform.
func TrimNode(object any) (any, error) {
	node, ok := object.(*corev1.Node)
	if !ok {
		return object, nil
	}
	trimmed := &corev1.Node{TypeMeta: node.TypeMeta}
	trimmed.Name, trimmed.UID, trimmed.ResourceVersion = node.Name, node.UID, node.ResourceVersion
	trimmed.Status.Addresses = node.Status.Addresses
	return trimmed, nil
}
