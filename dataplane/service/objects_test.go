package service

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/fairway-lb/fairway/api/v1alpha2"
)

// thisNode is the node of all tests, in zone east.
const thisNode = "here"

func newState() *State {
	s := NewState(thisNode)
	s.SetNode(nodeIn("east"))
	return s
}

func nodeIn(zone string) *corev1.Node {
	n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: thisNode}}
	if zone != "" {
		n.Labels = map[string]string{corev1.LabelTopologyZone: zone}
	}
	return n
}

func named(name string) types.NamespacedName {
	return types.NamespacedName{Namespace: "default", Name: name}
}

// svc is a Service with the TCP port 80, named http, with changes.
func svc(name string, changes ...func(*corev1.Service)) *corev1.Service {
	s := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, CreationTimestamp: metav1.Unix(1000, 0)},
		Spec: corev1.ServiceSpec{
			Type:       corev1.ServiceTypeClusterIP,
			ClusterIP:  "10.96.0.1",
			ClusterIPs: []string{"10.96.0.1"},
			Ports:      []corev1.ServicePort{{Name: "http", Protocol: corev1.ProtocolTCP, Port: 80}},
		},
	}
	for _, change := range changes {
		change(s)
	}
	return s
}

func clusterIPs(ips ...string) func(*corev1.Service) {
	return func(s *corev1.Service) { s.Spec.ClusterIP, s.Spec.ClusterIPs = ips[0], ips }
}

func ingress(ips ...string) func(*corev1.Service) {
	return func(s *corev1.Service) {
		s.Spec.Type = corev1.ServiceTypeLoadBalancer
		for _, ip := range ips {
			s.Status.LoadBalancer.Ingress = append(s.Status.LoadBalancer.Ingress, corev1.LoadBalancerIngress{IP: ip})
		}
	}
}

func externalIPs(ips ...string) func(*corev1.Service) {
	return func(s *corev1.Service) { s.Spec.ExternalIPs = ips }
}

func nodePort(port int32) func(*corev1.Service) {
	return func(s *corev1.Service) { s.Spec.Type, s.Spec.Ports[0].NodePort = corev1.ServiceTypeNodePort, port }
}

func protocol(p corev1.Protocol) func(*corev1.Service) {
	return func(s *corev1.Service) { s.Spec.Ports[0].Protocol = p }
}

func internalLocal(s *corev1.Service) {
	s.Spec.InternalTrafficPolicy = new(corev1.ServiceInternalTrafficPolicyLocal)
}

func externalLocal(s *corev1.Service) {
	s.Spec.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyLocal
}

func ranges(prefixes ...string) func(*corev1.Service) {
	return func(s *corev1.Service) { s.Spec.LoadBalancerSourceRanges = prefixes }
}

func annotation(key, value string) func(*corev1.Service) {
	return func(s *corev1.Service) {
		if s.Annotations == nil {
			s.Annotations = map[string]string{}
		}
		s.Annotations[key] = value
	}
}

func weighted(text string) func(*corev1.Service) { return annotation(v1alpha2.AnnotationWeights, text) }

func label(key string) func(*corev1.Service) {
	return func(s *corev1.Service) { s.Labels = map[string]string{key: "x"} }
}

func createdAt(seconds int64) func(*corev1.Service) {
	return func(s *corev1.Service) { s.CreationTimestamp = metav1.Unix(seconds, 0) }
}

// slicePorts are written "http/TCP/8080".
func slicePorts(ports ...string) (list []discoveryv1.EndpointPort) {
	for _, p := range ports {
		parts := strings.Split(p, "/")
		number, _ := strconv.Atoi(parts[2])
		list = append(list, discoveryv1.EndpointPort{Name: &parts[0], Protocol: new(corev1.Protocol(parts[1])), Port: new(int32(number))})
	}
	return list
}

// epSlice is an EndpointSlice of a Service with the port http of 8080. Its
// endpoints are written "address node conditions hints...": the conditions as
// for endpointOn, "*" for absent ones; the hints as n=node and z=zone.
func epSlice(name, of string, endpoints ...string) *discoveryv1.EndpointSlice {
	s := &discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: "default", Name: name,
			Labels: map[string]string{discoveryv1.LabelServiceName: of},
		},
		AddressType: discoveryv1.AddressTypeIPv4,
		Ports:       slicePorts("http/TCP/8080"),
	}
	for _, text := range endpoints {
		s.Endpoints = append(s.Endpoints, parseEndpoint(text))
		if strings.Contains(strings.Fields(text)[0], ":") {
			s.AddressType = discoveryv1.AddressTypeIPv6
		}
	}
	return s
}

func parseEndpoint(text string) discoveryv1.Endpoint {
	fields := strings.Fields(text + " * * ")
	node, is := strings.TrimSuffix(fields[1], "*"), strings.TrimSuffix(fields[2], "*")
	e := endpointOn(node, is)
	e.Addresses = []string{fields[0]}
	for _, hint := range fields[3:] {
		if e.Hints == nil {
			e.Hints = &discoveryv1.EndpointHints{}
		}
		if name, is := strings.CutPrefix(hint, "n="); is {
			e.Hints.ForNodes = append(e.Hints.ForNodes, discoveryv1.ForNode{Name: name})
		} else if name, is := strings.CutPrefix(hint, "z="); is {
			e.Hints.ForZones = append(e.Hints.ForZones, discoveryv1.ForZone{Name: name})
		}
	}
	return e
}

// with changes a slice.
func with(s *discoveryv1.EndpointSlice, change func(*discoveryv1.EndpointSlice)) *discoveryv1.EndpointSlice {
	change(s)
	return s
}

// feed tells a state of objects.
func feed(s *State, objects ...any) *State {
	for _, o := range objects {
		switch o := o.(type) {
		case *corev1.Service:
			s.SetService(o)
		case *discoveryv1.EndpointSlice:
			s.SetEndpointSlice(o)
		case *corev1.Node:
			s.SetNode(o)
		default:
			panic(fmt.Sprintf("%T", o))
		}
	}
	return s
}

// read returns a port of a state that is fed with objects.
func read(t *testing.T, name PortName, objects ...any) *Port {
	t.Helper()
	for n, p := range portsOf(feed(newState(), objects...)) {
		if n == name {
			return p
		}
	}
	return nil
}

// portsOf takes in the changes and returns all ports.
func portsOf(s *State) map[PortName]*Port {
	s.Changes()
	ports := map[PortName]*Port{}
	for name, port := range s.Ports() {
		ports[name] = port
	}
	return ports
}

// web is the port that svc("web") has.
func web(family Family) PortName { return PortName{named("web"), "http", TCP, family} }

// text returns a Port as tests compare it.
func text(p *Port) string {
	if p == nil {
		return "nothing"
	}
	var b strings.Builder
	for i, f := range p.Frontends {
		fmt.Fprintf(&b, "%s%s %s", strings.Repeat(", ", min(i, 1)), f.Kind, f.Address)
	}
	set := func(name string, needed bool, list []netip.AddrPort) {
		if needed {
			fmt.Fprintf(&b, " %s%v", name, list)
		}
	}
	set("C", p.NeedsCluster, p.Cluster)
	set("L", p.NeedsLocal, p.Local)
	set("S", len(p.Serving) > 0, p.Serving)
	fmt.Fprintf(&b, " usable=%v i=%s e=%s", p.Usable, p.InternalPolicy, p.ExternalPolicy)
	fmt.Fprintf(&b, " affinity=%d ranges=%v %s %s", p.Affinity/time.Second, p.SourceRanges, p.Scheduler, p.Hash)
	if len(p.Weights) > 0 {
		fmt.Fprintf(&b, " weights=%v", p.Weights)
	}
	if !p.NeedsCluster && p.Cluster != nil || !p.NeedsLocal && p.Local != nil {
		b.WriteString(" HAS WHAT IT DOES NOT NEED")
	}
	return b.String()
}

// addrs returns addresses of endpoints as "10.0.0.1:80 10.0.0.2:80".
func addrs(list []netip.AddrPort) string {
	return strings.Trim(fmt.Sprint(list), "[]")
}

// frontends returns frontends as "ClusterIP 10.96.0.1:80".
func frontends(p *Port) (list []string) {
	if p == nil {
		return nil
	}
	for _, f := range p.Frontends {
		list = append(list, fmt.Sprintf("%s %s", f.Kind, f.Address))
	}
	return list
}

// findingsOf returns all findings of a state as sentences.
func findingsOf(s *State) (sentences []string) {
	s.Changes()
	for _, e := range s.services {
		for _, f := range e.findings {
			sentences = append(sentences, f.String())
		}
	}
	slices.Sort(sentences)
	return sentences
}
