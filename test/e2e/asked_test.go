package e2e

import (
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/fairway-lb/fairway/api/v1alpha2"
)

// request is what a Service asks for.
type request struct {
	pools     []string
	addresses []netip.Addr
	malformed bool
}

func requestOf(svc *corev1.Service) request {
	var r request
	for name := range strings.SplitSeq(svc.Annotations[v1alpha2.AnnotationPool], ",") {
		if name != "" {
			r.pools = append(r.pools, name)
		}
	}
	text := svc.Annotations[v1alpha2.AnnotationAddress]
	if text == "" {
		return r
	}
	for part := range strings.SplitSeq(text, ",") {
		addr, err := netip.ParseAddr(strings.TrimSpace(part))
		if err != nil || slices.ContainsFunc(r.addresses, func(other netip.Addr) bool { return other.Is4() == addr.Is4() }) {
			r.malformed = true
		}
		r.addresses = append(r.addresses, addr)
	}
	return r
}

// satisfies tells whether an address is one that a Service asks for, so that
// it must be left with it.
func satisfies(svc *corev1.Service, addr netip.Addr) bool {
	if !wants(svc) || !usable(svc, addr) {
		return false
	}
	r := requestOf(svc)
	if r.malformed {
		return true // no request to move
	}
	return (len(r.addresses) == 0 || slices.Contains(r.addresses, addr)) && (len(r.pools) == 0 || slices.Contains(r.pools, poolOf(addr)))
}

// usable tells whether an address is of a family that a Service has.
func usable(svc *corev1.Service, addr netip.Addr) bool {
	family := corev1.IPv6Protocol
	if addr.Is4() {
		family = corev1.IPv4Protocol
	}
	return slices.Contains(svc.Spec.IPFamilies, family)
}

// mayShare tells whether two Services, which have the same selector, agree to
// have an address together. A request that cannot be read asks for none.
func mayShare(a, b *corev1.Service, addr netip.Addr) bool {
	key := a.Annotations[v1alpha2.AnnotationShare]
	asks := func(svc *corev1.Service) bool {
		r := requestOf(svc)
		return !r.malformed && slices.Contains(r.addresses, addr)
	}
	consent := key != "" || asks(a) && asks(b)
	if a.Namespace != b.Namespace || key != b.Annotations[v1alpha2.AnnotationShare] || !consent {
		return false
	}
	return !slices.ContainsFunc(a.Spec.Ports, func(port corev1.ServicePort) bool {
		return slices.ContainsFunc(b.Spec.Ports, func(other corev1.ServicePort) bool {
			return port.Port == other.Port && port.Protocol == other.Protocol
		})
	})
}

func wants(svc *corev1.Service) bool {
	return svc.DeletionTimestamp.IsZero() && svc.Spec.Type == corev1.ServiceTypeLoadBalancer &&
		svc.Annotations[v1alpha2.AnnotationLoadBalancer] == v1alpha2.LoadBalancerValue
}

func carriesMark(svc *corev1.Service) bool {
	_, labelled := svc.Labels[v1alpha2.LabelPool]
	return labelled || slices.Contains(svc.Finalizers, v1alpha2.FinalizerService)
}

func addressesOf(svc *corev1.Service) []netip.Addr {
	var addrs []netip.Addr
	for _, ingress := range svc.Status.LoadBalancer.Ingress {
		if addr, err := netip.ParseAddr(ingress.IP); err == nil {
			addrs = append(addrs, addr)
		}
	}
	return addrs
}

// poolOf is the name of the pool whose region an address is in, "" for none.
func poolOf(addr netip.Addr) string {
	for i, name := range chaosPools() {
		if netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(1 + i)}), 16).Contains(addr) {
			return name
		}
	}
	if netip.MustParsePrefix("2001:db8:4::/48").Contains(addr) {
		return poolD
	}
	return ""
}
