package controller

import (
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/fairway-lb/fairway/api/v1alpha2"
	"github.com/fairway-lb/fairway/controller/ipam"
)

// wishOf reads what a Service asks for. Of a request that cannot be read, the
// rest is returned beside the refusal. Keys of other generations and of
// MetalLB count where Fairway's own are absent; the name of a MetalLB pool
// only if there is an Eip of that name.
func wishOf(svc *corev1.Service, namespaceLabels map[string]string, eipExists func(string) bool) (ipam.Request, *ipam.Refusal) {
	wish := ipam.Request{
		Service:         keyOf(svc),
		NamespaceLabels: namespaceLabels,
		ServiceLabels:   svc.Labels,
		Pools:           namedPools(svc, eipExists),
		Families:        familiesOf(svc),
		DualStack:       dualStackOf(svc),
		Ports:           portsOf(svc),
		Selector:        labels.FormatLabels(svc.Spec.Selector),
		Local:           svc.Spec.ExternalTrafficPolicy == corev1.ServiceExternalTrafficPolicyLocal,
	}
	_, wish.Protocol = firstOf(svc, v1alpha2.AnnotationProtocol, v1alpha2.LegacyAnnotationProtocol)
	_, wish.ShareKey = firstOf(svc, v1alpha2.AnnotationShare, v1alpha2.MetalLBPrefix+v1alpha2.MetalLBShare, v1alpha2.MetalLBDeprecatedPrefix+v1alpha2.MetalLBShare)
	field, text := requestedAddresses(svc)
	addresses, refusal := ipam.ReadAddresses(field, text)
	wish.Addresses = addresses
	return wish, refusal
}

// requestedAddresses returns the field with the addresses that a Service asks
// for, and its text.
func requestedAddresses(svc *corev1.Service) (field, text string) {
	if key, text := firstOf(svc, v1alpha2.AnnotationAddress, v1alpha2.LegacyAnnotationAddress); text != "" {
		return "annotation " + key, text
	}
	if svc.Spec.LoadBalancerIP != "" {
		return "spec.loadBalancerIP", svc.Spec.LoadBalancerIP
	}
	key, text := firstOf(svc, v1alpha2.MetalLBPrefix+v1alpha2.MetalLBAddresses, v1alpha2.MetalLBDeprecatedPrefix+v1alpha2.MetalLBAddresses)
	return "annotation " + key, text
}

func namedPools(svc *corev1.Service, eipExists func(string) bool) []string {
	_, text := firstOf(svc, v1alpha2.AnnotationPool, v1alpha2.LegacyAnnotationPool)
	if text == "" {
		_, text = firstOf(svc, v1alpha2.MetalLBPrefix+v1alpha2.MetalLBPool, v1alpha2.MetalLBDeprecatedPrefix+v1alpha2.MetalLBPool)
		if !eipExists(text) {
			return nil
		}
	}
	var pools []string
	for name := range strings.SplitSeq(text, ",") {
		if name = strings.TrimSpace(name); name != "" {
			pools = append(pools, name)
		}
	}
	return pools
}

// firstOf returns the first of several annotations that is there and not
// empty, and the first key if none is.
func firstOf(svc *corev1.Service, keys ...string) (key, value string) {
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

func keyOf(svc *corev1.Service) ipam.ServiceKey {
	return ipam.ServiceKey{Namespace: svc.Namespace, Name: svc.Name}
}
