package service

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/fairway-lb/fairway/api/v1alpha2"
)

// The session affinity of a Service that does not say for how long, and the
// longest, as in the API.
const (
	defaultAffinity = corev1.DefaultClientIPServiceAffinitySeconds
	maxAffinity     = 86400
)

// spec is what a Service asks for.
type spec struct {
	settings
	weights  weights
	ports    []specPort // sorted by name and protocol
	facets   [2]facet   // by Family
	findings []Finding
}

// settings are what all ports of a Service have in common.
type settings struct {
	created     int64 // seconds since 1970
	internal    Policy
	external    Policy
	hash        Hash
	healthCheck uint16 // node port, 0 for none
	affinity    time.Duration
	scheduler   string
}

// specPort is a port of a Service.
type specPort struct {
	name     string
	protocol Protocol
	port     uint16
	nodePort uint16 // 0 for none
}

// facet is a Service as one IP family sees it.
type facet struct {
	// addresses are sorted by kind and address. There are none if the
	// Service has no cluster IP of the family.
	addresses []address
	ranges    []netip.Prefix
}

type address struct {
	kind Kind
	addr netip.Addr
}

// readService returns nil for a Service that is not for a service proxy, or
// for another one.
func readService(svc *corev1.Service) *spec {
	_, others := svc.Labels[v1alpha2.LabelServiceProxyName]
	if others || svc.Spec.Type == corev1.ServiceTypeExternalName || svc.Spec.ClusterIP == "" || svc.Spec.ClusterIP == corev1.ClusterIPNone {
		return nil
	}
	s := &spec{}
	r := specReader{spec: s, name: types.NamespacedName{Namespace: svc.Namespace, Name: svc.Name}}
	r.settings(svc)
	r.weights(svc.Annotations[v1alpha2.AnnotationWeights])
	r.ports(svc.Spec.Ports)
	if !r.addresses(svc) {
		return nil
	}
	r.sourceRanges(svc.Spec.LoadBalancerSourceRanges)
	slices.SortFunc(s.findings, Finding.compare)
	s.findings = slices.Compact(s.findings)
	return s
}

// equal tells whether two Services ask for the same.
func (s *spec) equal(other *spec) bool {
	if s == nil || other == nil {
		return s == other
	}
	return s.settings == other.settings &&
		s.weights.equal(&other.weights) &&
		slices.Equal(s.ports, other.ports) &&
		slices.Equal(s.findings, other.findings) &&
		s.facets[IPv4].equal(&other.facets[IPv4]) &&
		s.facets[IPv6].equal(&other.facets[IPv6])
}

func (f *facet) equal(other *facet) bool {
	return slices.Equal(f.addresses, other.addresses) && slices.Equal(f.ranges, other.ranges)
}

// has tells whether an address is a frontend's, and of what kind.
func (f *facet) has(addr netip.Addr) (Kind, bool) {
	for _, a := range f.addresses {
		if a.addr == addr {
			return a.kind, true
		}
	}
	return 0, false
}

// specReader reads one Service.
type specReader struct {
	*spec
	name types.NamespacedName
}

func (r specReader) find(reason Reason, value string) {
	r.spec.findings = append(r.spec.findings, Finding{Kind: "Service", Object: r.name, Reason: reason, Value: value})
}

func (r specReader) settings(svc *corev1.Service) {
	s := &r.spec.settings
	s.created = svc.CreationTimestamp.Unix()
	if p := svc.Spec.InternalTrafficPolicy; p != nil && *p == corev1.ServiceInternalTrafficPolicyLocal {
		s.internal = Local
	}
	if svc.Spec.ExternalTrafficPolicy == corev1.ServiceExternalTrafficPolicyLocal {
		s.external = Local
	}
	if svc.Spec.SessionAffinity == corev1.ServiceAffinityClientIP {
		seconds := int32(defaultAffinity)
		if c := svc.Spec.SessionAffinityConfig; c != nil && c.ClientIP != nil && c.ClientIP.TimeoutSeconds != nil {
			if t := *c.ClientIP.TimeoutSeconds; 0 < t && t <= maxAffinity {
				seconds = t
			}
		}
		s.affinity = time.Duration(seconds) * time.Second
	}
	if p := svc.Spec.HealthCheckNodePort; svc.Spec.Type == corev1.ServiceTypeLoadBalancer && s.external == Local && isPort(p) {
		s.healthCheck = uint16(p)
	}
	if v, set := svc.Annotations[v1alpha2.AnnotationScheduler]; set {
		if slices.Contains(schedulers(), v) {
			s.scheduler = v
		} else {
			r.find(ReasonScheduler, quotable(v))
		}
	}
	switch v, set := svc.Annotations[v1alpha2.AnnotationHash]; {
	case !set:
	case v == HashSource.String():
		s.hash = HashSource
	case v == HashSourcePort.String():
		s.hash = HashSourcePort
	default:
		r.find(ReasonHash, quotable(v))
	}
}

// schedulers are those of Linux.
func schedulers() []string {
	return []string{"rr", "wrr", "lc", "wlc", "lblc", "lblcr", "sh", "dh", "sed", "nq", "mh", "fo", "ovf", "twos"}
}

// ports reads the ports. Where two of them claim the same, which the API
// server does not let pass, the first has it.
func (r specReader) ports(ports []corev1.ServicePort) {
	for i := range ports {
		protocol, known := readProtocol(ports[i].Protocol)
		if !known || !isPort(ports[i].Port) {
			continue
		}
		p := specPort{name: ports[i].Name, protocol: protocol, port: uint16(ports[i].Port)}
		if isPort(ports[i].NodePort) {
			p.nodePort = uint16(ports[i].NodePort)
		}
		if r.unlike(&p) {
			r.spec.ports = append(r.spec.ports, p)
		}
	}
	if h := r.spec.healthCheck; h != 0 && r.has(func(p *specPort) bool { return p.protocol == TCP && p.nodePort == h }) {
		r.find(ReasonPortTwice, fmt.Sprintf("nodePort %d/TCP, as healthCheckNodePort too,", h))
		r.spec.healthCheck = 0
	}
	slices.SortFunc(r.spec.ports, func(a, b specPort) int {
		return cmp.Or(strings.Compare(a.name, b.name), cmp.Compare(a.protocol, b.protocol))
	})
}

// unlike tells whether a port can stand beside those before it, and takes a
// node port that one of them has away from it.
func (r specReader) unlike(port *specPort) bool {
	if r.has(func(p *specPort) bool { return p.protocol == port.protocol && p.name == port.name }) {
		r.find(ReasonPortTwice, fmt.Sprintf("port name %q for %s", quotable(port.name), port.protocol))
		return false
	}
	if r.has(func(p *specPort) bool { return p.protocol == port.protocol && p.port == port.port }) {
		r.find(ReasonPortTwice, fmt.Sprintf("port %d/%s", port.port, port.protocol))
		return false
	}
	if port.nodePort != 0 && r.has(func(p *specPort) bool { return p.protocol == port.protocol && p.nodePort == port.nodePort }) {
		r.find(ReasonPortTwice, fmt.Sprintf("nodePort %d/%s", port.nodePort, port.protocol))
		port.nodePort = 0
	}
	return true
}

// has tells whether a port that was read before is as asked.
func (r specReader) has(is func(*specPort) bool) bool {
	for i := range r.spec.ports {
		if is(&r.spec.ports[i]) {
			return true
		}
	}
	return false
}

func isPort(number int32) bool { return 0 < number && number <= 65535 }

// addresses reads the addresses of all kinds, and tells whether there are any.
// A family without a cluster IP has none.
func (r specReader) addresses(svc *corev1.Service) bool {
	clusterIPs := svc.Spec.ClusterIPs
	if len(clusterIPs) == 0 {
		clusterIPs = []string{svc.Spec.ClusterIP}
	}
	for _, text := range clusterIPs {
		r.address(ClusterIP, text)
	}
	var served [2]bool
	for family := range r.facets {
		served[family] = len(r.facets[family].addresses) > 0
	}
	for i := range svc.Status.LoadBalancer.Ingress {
		ingress := &svc.Status.LoadBalancer.Ingress[i]
		if ingress.IPMode == nil || *ingress.IPMode == corev1.LoadBalancerIPModeVIP {
			r.address(LoadBalancer, ingress.IP)
		}
	}
	for _, text := range svc.Spec.ExternalIPs {
		r.address(ExternalIP, text)
	}
	for family := range r.facets {
		f := &r.facets[family]
		if !served[family] {
			f.addresses = nil
			continue
		}
		f.addresses = compactAddresses(f.addresses)
	}
	return served != [2]bool{}
}

func (r specReader) address(kind Kind, text string) {
	if strings.TrimSpace(text) == "" {
		return // a hostname has no IP; the API server lets externalIPs be empty
	}
	addr, flaw := readAddr(text)
	if flaw != flawNone {
		r.find(ReasonFrontendAddress, fmt.Sprintf("%s %q is %s", kind, quotable(text), flaw))
		return
	}
	f := &r.facets[FamilyOf(addr)]
	f.addresses = append(f.addresses, address{kind, addr})
}

// compactAddresses sorts and leaves each address with its first kind. Of
// several cluster IPs of a family, which the API server does not let pass,
// all are served.
func compactAddresses(addresses []address) []address {
	slices.SortFunc(addresses, func(a, b address) int { return cmp.Or(a.addr.Compare(b.addr), cmp.Compare(a.kind, b.kind)) })
	addresses = slices.CompactFunc(addresses, func(a, b address) bool { return a.addr == b.addr })
	slices.SortFunc(addresses, func(a, b address) int { return cmp.Or(cmp.Compare(a.kind, b.kind), a.addr.Compare(b.addr)) })
	return slices.Clip(addresses)
}

// sourceRanges reads loadBalancerSourceRanges. A family that has none of them
// is open, and so is one that has a /0.
func (r specReader) sourceRanges(ranges []string) {
	var open [2]bool
	for _, text := range ranges {
		if text = strings.TrimSpace(text); text == "" {
			continue
		}
		prefix, ok := readPrefix(text)
		if !ok {
			r.find(ReasonSourceRange, quotable(text))
			continue
		}
		family := FamilyOf(prefix.Addr())
		open[family] = open[family] || prefix.Bits() == 0
		r.facets[family].ranges = append(r.facets[family].ranges, prefix)
	}
	for family := range r.facets {
		f := &r.facets[family]
		if open[family] || len(f.addresses) == 0 {
			f.ranges = nil
		}
		slices.SortFunc(f.ranges, netip.Prefix.Compare)
		f.ranges = slices.Clip(slices.Compact(f.ranges))
	}
}
