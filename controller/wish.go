package controller

import (
	"net/netip"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/fairway-lb/fairway/api/v1alpha2"
	"github.com/fairway-lb/fairway/controller/ipam"
)

// wishOf reads what a Service asks for. Of a request that cannot be read, the
// rest is returned beside the refusal.
func wishOf(svc *corev1.Service, namespaceLabels map[string]string) (ipam.Request, *ipam.Refusal) {
	wish := ipam.Request{
		Service:         keyOf(svc),
		NamespaceLabels: namespaceLabels,
		Pool:            svc.Annotations[v1alpha2.AnnotationPool],
	}
	for _, family := range svc.Spec.IPFamilies {
		wish.Families = append(wish.Families, ipam.Family(family))
	}
	field, text := "annotation "+v1alpha2.AnnotationAddress, svc.Annotations[v1alpha2.AnnotationAddress]
	if text == "" {
		field, text = "spec.loadBalancerIP", svc.Spec.LoadBalancerIP
	}
	if text == "" {
		return wish, nil
	}
	addr, ok := parseWishedAddress(text)
	if !ok {
		return wish, ipam.InvalidAddress(field, text)
	}
	wish.Address = addr
	return wish, nil
}

// parseWishedAddress reads one plain address: of what a pool's address may
// be, that is what is neither a range nor a CIDR.
func parseWishedAddress(text string) (netip.Addr, bool) {
	r, err := v1alpha2.ParseAddress(text)
	if err != nil || strings.ContainsAny(text, "-/") {
		return netip.Addr{}, false
	}
	return r.From(), true
}

func keyOf(svc *corev1.Service) ipam.ServiceKey {
	return ipam.ServiceKey{Namespace: svc.Namespace, Name: svc.Name}
}
