package controller

import (
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"github.com/fairway-lb/fairway/controller/ipam"
)

// ingressWith returns a Service's ingress with the addresses that it holds, in
// their order, and without those that it gave up. While an address of ours is
// there, entries of others stay; when none is, they are of an earlier
// implementation and are replaced.
func ingressWith(ingress []corev1.LoadBalancerIngress, held, leaving []ipam.Allocation) []corev1.LoadBalancerIngress {
	kept := ingressWithout(ingress, leaving)
	places := make([]int, len(held))
	ours := make([]corev1.LoadBalancerIngress, len(held))
	found := len(kept) < len(ingress)
	for i, allocation := range held {
		if places[i] = slices.IndexFunc(kept, isEntryOf(allocation)); places[i] >= 0 {
			found = true
			ours[i] = kept[places[i]]
		}
		ours[i].IP = allocation.Address.String() // also where it is spelled otherwise
	}
	switch {
	case !found:
		return ours
	case len(places) > 0 && places[0] >= 0 && slices.IsSorted(places): // in order already
		for i, place := range places {
			kept[place] = ours[i]
		}
		return kept
	default:
		return append(ours, ingressWithout(kept, held)...)
	}
}

// ingressWithout removes addresses, and nothing else.
func ingressWithout(ingress []corev1.LoadBalancerIngress, gone []ipam.Allocation) []corev1.LoadBalancerIngress {
	return slices.DeleteFunc(slices.Clone(ingress), func(entry corev1.LoadBalancerIngress) bool {
		return slices.ContainsFunc(gone, func(a ipam.Allocation) bool { return isEntryOf(a)(entry) })
	})
}

// isEntryOf finds an address in a Service's status, however it is spelled.
func isEntryOf(allocation ipam.Allocation) func(corev1.LoadBalancerIngress) bool {
	return func(entry corev1.LoadBalancerIngress) bool {
		addr, ok := addressOfEntry(entry)
		return ok && addr == allocation.Address
	}
}

// addressOfEntry reads an entry, false for a host name.
func addressOfEntry(entry corev1.LoadBalancerIngress) (netip.Addr, bool) {
	addr, err := netip.ParseAddr(entry.IP)
	if err != nil || addr.Zone() != "" {
		return netip.Addr{}, false
	}
	return addr.Unmap(), true
}

// addressesIn returns the addresses in a Service's status that are ours to
// keep, the likeliest of each family first: of a marked Service, or one that
// MetalLB marked, those that lie in the pool that it is marked with, else in
// any pool, else any; of others, only those that lie in a pool.
func addressesIn(svc *corev1.Service, pools *ipam.Allocator) []netip.Addr {
	if ofOtherClass(svc) {
		return nil
	}
	recorded := recordedPool(svc)
	var inPool, inAnyPool, anywhere []netip.Addr
	for _, entry := range svc.Status.LoadBalancer.Ingress {
		addr, ok := addressOfEntry(entry)
		if !ok {
			continue
		}
		switch _, inSome := pools.PoolContaining(addr); {
		case pools.Contains(recorded, addr):
			inPool = append(inPool, addr)
		case inSome:
			inAnyPool = append(inAnyPool, addr)
		case recorded != "" || marked(svc):
			anywhere = append(anywhere, addr)
		}
	}
	return slices.Concat(inPool, inAnyPool, anywhere)
}
