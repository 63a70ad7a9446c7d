package controller

import (
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
	addr, refusal := ipam.ReadAddress(field, text)
	wish.Address = addr
	return wish, refusal
}

func keyOf(svc *corev1.Service) ipam.ServiceKey {
	return ipam.ServiceKey{Namespace: svc.Namespace, Name: svc.Name}
}
