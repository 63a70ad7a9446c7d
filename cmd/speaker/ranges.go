package main

import (
	"reflect"
	"sync"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"

	"github.com/fairway-lb/fairway/dataplane"
)

// ranges follow what the cluster says of the dataplane's configuration: where
// this node's pods have their addresses, and where cluster IPs come from.
type ranges struct {
	flags  forwarding
	reopen func(dataplane.Config) // is told of a configuration that is another
	log    logr.Logger

	mu       sync.Mutex
	config   dataplane.Config // that the backend has
	complete bool             // all objects are here that there were at the start
	node     *corev1.Node     // nil before it is told
	services serviceCIDRs     // nil if nobody tells of them
}

// setNode takes this Node as it is now.
func (r *ranges) setNode(node *corev1.Node) {
	r.change(func() { r.node = node })
}

// setServiceCIDR takes a ServiceCIDR as it is now.
func (r *ranges) setServiceCIDR(c *networkingv1.ServiceCIDR) {
	r.change(func() {
		if r.services == nil {
			r.services = serviceCIDRs{}
		}
		r.services[c.Name] = c
	})
}

// deleteServiceCIDR is told that a ServiceCIDR is gone.
func (r *ranges) deleteServiceCIDR(c *networkingv1.ServiceCIDR) {
	r.change(func() { delete(r.services, c.Name) })
}

// loaded says that all objects were handed in that there were at the start. A
// part of them is no configuration.
func (r *ranges) loaded() {
	r.change(func() { r.complete = true })
}

// change has the backend made anew if it is to have another configuration.
func (r *ranges) change(what func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	what()
	if !r.complete {
		return
	}
	next, err := r.next()
	if err != nil {
		r.log.Error(err, "The dataplane keeps the configuration that it has")
		return
	}
	if reflect.DeepEqual(next, r.config) {
		return
	}
	r.log.Info("The dataplane is configured anew", "pods", next.Pods, "serviceCIDRs", next.ServiceCIDRs)
	r.config = next
	r.reopen(next)
}

func (r *ranges) next() (dataplane.Config, error) {
	next, err := r.config, error(nil)
	if r.node != nil {
		if next.Pods, err = r.flags.detector(r.node); err != nil {
			return next, err
		}
	}
	if r.services != nil {
		if next.ServiceCIDRs, err = r.services.prefixes(); err != nil {
			return next, err
		}
	}
	return next, next.Check()
}
