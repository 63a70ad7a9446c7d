package admission

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/fairway-lb/fairway/api/v1alpha2"
	"github.com/fairway-lb/fairway/controller/ipam"
	"github.com/fairway-lb/fairway/controller/wish"
)

// ReviewService says what of a Service will not do what it seems to; a Service
// is never refused. With byDefault, Services of no class are Fairway's without
// an annotation. Without a cluster, nothing is said about Eips.
func ReviewService(svc *corev1.Service, byDefault bool, cluster *Cluster) []string {
	warnings := unknownKeys(svc)
	if reason := notOurs(svc, byDefault); reason != "" {
		return append(warnings, reason)
	}
	if svc.Spec.Type != corev1.ServiceTypeLoadBalancer {
		return warnings
	}
	for _, keys := range [][2]string{
		{v1alpha2.AnnotationPool, v1alpha2.LegacyAnnotationPool},
		{v1alpha2.AnnotationAddress, v1alpha2.LegacyAnnotationAddress},
		{v1alpha2.AnnotationProtocol, v1alpha2.LegacyAnnotationProtocol},
	} {
		ours, theirs := svc.Annotations[keys[0]], svc.Annotations[keys[1]]
		if ours != "" && theirs != "" && ours != theirs {
			warnings = append(warnings, fmt.Sprintf("annotation %s has no effect beside %s: remove it", keys[1], keys[0]))
		}
	}
	addressField, addresses, addressWarnings := requestedAddresses(svc)
	warnings = append(warnings, addressWarnings...)
	poolKey, pools := wish.Pools(svc, cluster.hasEip)
	if cluster != nil {
		warnings = append(warnings, missingPools(poolKey, pools, cluster)...)
	}
	named := ""
	switch {
	case len(pools) > 0:
		named = "annotation " + poolKey
	case len(addresses) > 0:
		named = addressField
	}
	return append(warnings, protocolWarning(svc, named, pools, addresses, cluster)...)
}

// notOurs says why Fairway leaves a Service alone that has keys of it, "" if
// the Service is Fairway's or was not meant to be.
func notOurs(svc *corev1.Service, byDefault bool) string {
	mark, marked := svc.Annotations[v1alpha2.AnnotationLoadBalancer]
	optIn := mark == v1alpha2.LoadBalancerValue || mark == v1alpha2.LegacyLoadBalancerValue
	class := svc.Spec.LoadBalancerClass
	asksBy, asks := wish.First(svc, v1alpha2.AnnotationPool, v1alpha2.AnnotationAddress, v1alpha2.AnnotationShare, v1alpha2.LegacyAnnotationPool, v1alpha2.LegacyAnnotationAddress)
	switch {
	case svc.Spec.Type != corev1.ServiceTypeLoadBalancer:
		if optIn {
			return fmt.Sprintf("annotation %s has no effect on a Service of type %s: set spec.type to LoadBalancer to get an address", v1alpha2.AnnotationLoadBalancer, svc.Spec.Type)
		}
	case class != nil && *class == v1alpha2.LoadBalancerClass:
	case class != nil:
		if optIn {
			return fmt.Sprintf("annotation %s has no effect: spec.loadBalancerClass %s leaves the Service to another load balancer", v1alpha2.AnnotationLoadBalancer, *class)
		}
	case optIn || byDefault:
	case marked:
		return fmt.Sprintf("annotation %s is %.40q and has no effect: only %q has Fairway serve the Service", v1alpha2.AnnotationLoadBalancer, mark, v1alpha2.LoadBalancerValue)
	case asks != "":
		return fmt.Sprintf("annotation %s has no effect: add annotation %s: %s to have Fairway serve the Service", asksBy, v1alpha2.AnnotationLoadBalancer, v1alpha2.LoadBalancerValue)
	}
	return ""
}

// requestedAddresses returns the addresses that a Service asks for, the field
// that says so, and what is wrong with what it says.
func requestedAddresses(svc *corev1.Service) (field string, addresses []netip.Addr, warnings []string) {
	field, text := wish.Addresses(svc)
	addresses, refusal := ipam.ReadAddresses(field, text)
	if refusal != nil {
		return field, nil, []string{refusal.Message}
	}
	const specField = "spec.loadBalancerIP"
	if field == specField || svc.Spec.LoadBalancerIP == "" {
		return field, addresses, nil
	}
	overridden, refusal := ipam.ReadAddresses(specField, svc.Spec.LoadBalancerIP)
	if refusal != nil || !sameAddresses(overridden, addresses) {
		warnings = append(warnings, fmt.Sprintf("%s %.40s has no effect: %s asks for %.80s", specField, svc.Spec.LoadBalancerIP, field, text))
	}
	return field, addresses, warnings
}

func sameAddresses(a, b []netip.Addr) bool {
	slices.SortFunc(a, netip.Addr.Compare)
	slices.SortFunc(b, netip.Addr.Compare)
	return slices.Equal(a, b)
}

// missingPools tells of names that no Eip has. Those in MetalLB's keys may be
// meant for MetalLB.
func missingPools(key string, pools []string, cluster *Cluster) []string {
	if strings.HasPrefix(key, v1alpha2.MetalLBPrefix) || strings.HasPrefix(key, v1alpha2.MetalLBDeprecatedPrefix) {
		return nil
	}
	var warnings []string
	for _, pool := range pools {
		if !cluster.hasEip(pool) {
			warnings = append(warnings, fmt.Sprintf("annotation %s names Eip %.80s, which does not exist (yet)", key, pool))
		}
	}
	return warnings
}

// protocolWarning tells of a protocol annotation that is ignored, unless all
// is as it says anyway: OpenELB's users name protocol and pool together. named
// is what makes it ignored, "" if nothing does.
func protocolWarning(svc *corev1.Service, named string, pools []string, addresses []netip.Addr, cluster *Cluster) []string {
	key, protocol := wish.Protocol(svc)
	switch {
	case protocol == "":
		return nil
	case named == "":
		if !slices.Contains([]string{v1alpha2.ProtocolBGP, v1alpha2.ProtocolLayer2, v1alpha2.ProtocolVIP}, protocol) {
			return []string{fmt.Sprintf("annotation %s is %.40q, so no Eip serves the Service: it can be bgp, layer2 or vip", key, protocol)}
		}
		return nil
	case cluster != nil && !slices.ContainsFunc(meant(pools, addresses, cluster.Eips), func(eip *v1alpha2.Eip) bool { return protocolOf(eip) != protocol }):
		return nil
	}
	return []string{fmt.Sprintf("annotation %s has no effect beside %s: the protocol is that of the Eip", key, named)}
}

// meant returns the Eips that a Service names, or else those that have an
// address that it names.
func meant(pools []string, addresses []netip.Addr, eips []v1alpha2.Eip) []*v1alpha2.Eip {
	var found []*v1alpha2.Eip
	for i := range eips {
		eip := &eips[i]
		if len(pools) > 0 {
			if slices.Contains(pools, eip.Name) {
				found = append(found, eip)
			}
			continue
		}
		if set, err := eip.Spec.AddressSet(); err == nil && slices.ContainsFunc(addresses, set.Contains) {
			found = append(found, eip)
		}
	}
	return found
}

func protocolOf(eip *v1alpha2.Eip) string {
	if eip.Spec.Protocol == "" {
		return v1alpha2.ProtocolBGP
	}
	return eip.Spec.Protocol
}
