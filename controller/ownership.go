package controller

import (
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"

	"github.com/fairway-lb/fairway/api/v1alpha2"
	"github.com/fairway-lb/fairway/controller/ipam"
)

// wanted tells whether a Service asks Fairway for an address, or goes on to
// ask for the one it has.
func wanted(svc *corev1.Service, defaultLoadBalancer bool) bool {
	if svc.Spec.Type != corev1.ServiceTypeLoadBalancer || !svc.DeletionTimestamp.IsZero() {
		return false
	}
	if class := svc.Spec.LoadBalancerClass; class != nil {
		return *class == v1alpha2.LoadBalancerClass
	}
	return defaultLoadBalancer || svc.Annotations[v1alpha2.AnnotationLoadBalancer] == v1alpha2.LoadBalancerValue
}

// marked tells whether a Service carries our label or finalizer.
func marked(svc *corev1.Service) bool {
	_, labelled := svc.Labels[v1alpha2.LabelPool]
	return labelled || controllerutil.ContainsFinalizer(svc, v1alpha2.FinalizerService)
}

// ofOtherClass tells whether a Service belongs to another implementation.
func ofOtherClass(svc *corev1.Service) bool {
	class := svc.Spec.LoadBalancerClass
	return class != nil && *class != v1alpha2.LoadBalancerClass
}

// concerns tells whether there can be anything to do for a Service. All
// others are never touched.
func (r *reconciler) concerns(svc *corev1.Service) bool {
	return marked(svc) || wanted(svc, r.options.DefaultLoadBalancer)
}

// addressOf returns the address in a Service's status that is ours to keep:
// of a marked Service the one that lies in the pool it is labelled with, else
// in any pool, else any; of one that is not marked, only one that lies in a
// pool. Entries of other implementations are none.
func addressOf(svc *corev1.Service, poolContaining func(netip.Addr) (string, bool)) (netip.Addr, bool) {
	if ofOtherClass(svc) {
		return netip.Addr{}, false
	}
	var inPool, inAnyPool, anywhere netip.Addr
	for _, entry := range svc.Status.LoadBalancer.Ingress {
		addr, err := netip.ParseAddr(entry.IP)
		if err != nil || addr.Zone() != "" {
			continue
		}
		addr = addr.Unmap()
		switch pool, ok := poolContaining(addr); {
		case ok && pool == svc.Labels[v1alpha2.LabelPool] && !inPool.IsValid():
			inPool = addr
		case ok && !inAnyPool.IsValid():
			inAnyPool = addr
		case !anywhere.IsValid() && marked(svc):
			anywhere = addr
		}
	}
	for _, addr := range []netip.Addr{inPool, inAnyPool, anywhere} {
		if addr.IsValid() {
			return addr, true
		}
	}
	return netip.Addr{}, false
}

// mark makes a Service carry our finalizer and the name of the pool that its
// address is from. A foreign address has none, and changes no label.
func mark(svc *corev1.Service, pool string) (changed bool) {
	changed = controllerutil.AddFinalizer(svc, v1alpha2.FinalizerService)
	if pool == "" || svc.Labels[v1alpha2.LabelPool] == pool {
		return changed
	}
	if svc.Labels == nil {
		svc.Labels = map[string]string{}
	}
	svc.Labels[v1alpha2.LabelPool] = pool
	return true
}

// unmark undoes mark.
func unmark(svc *corev1.Service) (changed bool) {
	changed = marked(svc)
	delete(svc.Labels, v1alpha2.LabelPool)
	controllerutil.RemoveFinalizer(svc, v1alpha2.FinalizerService)
	return changed
}

// publish makes an address appear in a Service's status, in the place of
// those that the Service gave up. While it is there, entries of others are
// left alone; they are replaced only when it is not.
func publish(svc *corev1.Service, held ipam.Allocation, leaving []ipam.Allocation) (changed bool) {
	entry := corev1.LoadBalancerIngress{IP: held.Address.String()}
	ingress := &svc.Status.LoadBalancer.Ingress
	if i := slices.IndexFunc(*ingress, isEntryOf(held)); i >= 0 {
		changed = (*ingress)[i].IP != entry.IP // another spelling
		(*ingress)[i].IP = entry.IP
		return withdraw(svc, leaving) || changed
	}
	for _, gone := range leaving {
		if i := slices.IndexFunc(*ingress, isEntryOf(gone)); i >= 0 {
			(*ingress)[i] = entry
			withdraw(svc, leaving)
			return true
		}
	}
	*ingress = []corev1.LoadBalancerIngress{entry}
	return true
}

// withdraw removes addresses from a Service's status, and nothing else.
func withdraw(svc *corev1.Service, gone []ipam.Allocation) (changed bool) {
	before := len(svc.Status.LoadBalancer.Ingress)
	for _, allocation := range gone {
		svc.Status.LoadBalancer.Ingress = slices.DeleteFunc(svc.Status.LoadBalancer.Ingress, isEntryOf(allocation))
	}
	return len(svc.Status.LoadBalancer.Ingress) != before
}

// isEntryOf finds an address in a Service's status, however it is spelled.
func isEntryOf(allocation ipam.Allocation) func(corev1.LoadBalancerIngress) bool {
	return func(entry corev1.LoadBalancerIngress) bool {
		addr, err := netip.ParseAddr(entry.IP)
		return err == nil && addr.Unmap() == allocation.Address
	}
}
