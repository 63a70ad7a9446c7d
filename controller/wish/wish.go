// Package wish reads what a Service asks for: the one reading of its
// annotations and fields, for those who decide and those who warn.
package wish

import (
	"maps"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/fairway-lb/fairway/api/v1alpha2"
	"github.com/fairway-lb/fairway/controller/ipam"
)

// Of reads what a Service asks for. Of a request that cannot be read, the rest
// is returned beside the refusal. Keys of other generations and of MetalLB
// count where Fairway's own are absent.
func Of(svc *corev1.Service, namespaceLabels map[string]string, eipExists func(string) bool) (ipam.Request, *ipam.Refusal) {
	req := ipam.Request{
		Service:         KeyOf(svc),
		NamespaceLabels: namespaceLabels,
		ServiceLabels:   maps.Clone(svc.Labels), // the Service's own are changed when it is marked
		Families:        familiesOf(svc),
		DualStack:       dualStackOf(svc),
		Ports:           portsOf(svc),
		Selector:        labels.FormatLabels(svc.Spec.Selector),
		Local:           svc.Spec.ExternalTrafficPolicy == corev1.ServiceExternalTrafficPolicyLocal,
	}
	_, req.Pools = Pools(svc, eipExists)
	_, req.Protocol = Protocol(svc)
	_, req.ShareKey = First(svc, v1alpha2.AnnotationShare, v1alpha2.MetalLBPrefix+v1alpha2.MetalLBShare, v1alpha2.MetalLBDeprecatedPrefix+v1alpha2.MetalLBShare)
	field, text := Addresses(svc)
	addresses, refusal := ipam.ReadAddresses(field, text)
	req.Addresses = addresses
	return req, refusal
}

// Addresses returns the field with the addresses that a Service asks for, and
// its text, "" if there is none.
func Addresses(svc *corev1.Service) (field, text string) {
	if key, text := First(svc, v1alpha2.AnnotationAddress, v1alpha2.LegacyAnnotationAddress); text != "" {
		return "annotation " + key, text
	}
	if svc.Spec.LoadBalancerIP != "" {
		return "spec.loadBalancerIP", svc.Spec.LoadBalancerIP
	}
	key, text := First(svc, v1alpha2.MetalLBPrefix+v1alpha2.MetalLBAddresses, v1alpha2.MetalLBDeprecatedPrefix+v1alpha2.MetalLBAddresses)
	return "annotation " + key, text
}

// Pools returns the annotation that names Eips, "" if none does, and their
// names.
func Pools(svc *corev1.Service, eipExists func(string) bool) (key string, names []string) {
	key, text := First(svc, v1alpha2.AnnotationPool, v1alpha2.LegacyAnnotationPool)
	if text == "" {
		key, text = First(svc, v1alpha2.MetalLBPrefix+v1alpha2.MetalLBPool, v1alpha2.MetalLBDeprecatedPrefix+v1alpha2.MetalLBPool)
		if text == "" || !metalLBPoolCounts(svc, text, eipExists) {
			return "", nil
		}
	}
	for name := range strings.SplitSeq(text, ",") {
		if name = strings.TrimSpace(name); name != "" {
			names = append(names, name)
		}
	}
	return key, names
}

// metalLBPoolCounts tells whether the name of a MetalLB pool is meant as that
// of an Eip. A Service that has an address keeps it when an Eip comes that has
// the name by chance.
func metalLBPoolCounts(svc *corev1.Service, name string, eipExists func(string) bool) bool {
	if label := svc.Labels[v1alpha2.LabelPool]; label != "" {
		return label == name
	}
	return eipExists(name) || len(svc.Status.LoadBalancer.Ingress) == 0
}

// Protocol returns the annotation that asks for a protocol, and its value, ""
// if there is none.
func Protocol(svc *corev1.Service) (key, value string) {
	return First(svc, v1alpha2.AnnotationProtocol, v1alpha2.LegacyAnnotationProtocol)
}

// First returns the first of several annotations that is there and not
// empty, and the first key if none is.
func First(svc *corev1.Service, keys ...string) (key, value string) {
	for _, key := range keys {
		if value := svc.Annotations[key]; value != "" {
			return key, value
		}
	}
	return keys[0], ""
}

func familiesOf(svc *corev1.Service) []ipam.Family {
	families := make([]ipam.Family, len(svc.Spec.IPFamilies))
	for i, family := range svc.Spec.IPFamilies {
		families[i] = ipam.Family(family)
	}
	return families
}

func dualStackOf(svc *corev1.Service) ipam.DualStack {
	if svc.Spec.IPFamilyPolicy == nil {
		return ipam.SingleStack
	}
	return ipam.DualStack(*svc.Spec.IPFamilyPolicy)
}

func portsOf(svc *corev1.Service) []ipam.Port {
	ports := make([]ipam.Port, len(svc.Spec.Ports))
	for i, port := range svc.Spec.Ports {
		ports[i] = ipam.Port{Protocol: string(port.Protocol), Number: uint16(port.Port)}
	}
	return ports
}

// KeyOf names a Service.
func KeyOf(svc *corev1.Service) ipam.ServiceKey {
	return ipam.ServiceKey{Namespace: svc.Namespace, Name: svc.Name}
}
