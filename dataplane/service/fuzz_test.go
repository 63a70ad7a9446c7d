package service

import (
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/fairway-lb/fairway/api/v1alpha2"
)

// dice turn the fuzzer's bytes into decisions.
type dice struct{ data []byte }

func (d *dice) roll(sides int) int {
	if len(d.data) == 0 || sides == 0 {
		return 0
	}
	b := d.data[0]
	d.data = d.data[1:]
	return int(b) % sides
}

// odd returns one of the strings, or what the fuzzer has.
func (d *dice) odd(of ...string) string {
	if i := d.roll(len(of) + 1); i < len(of) {
		return of[i]
	}
	n := min(d.roll(64), len(d.data))
	s := string(d.data[:n])
	d.data = d.data[n:]
	return s
}

// some returns a pointer, or nil.
func some[T any](d *dice, v T) *T {
	if d.roll(4) == 0 {
		return nil
	}
	return &v
}

func (d *dice) number() int32 {
	return [...]int32{0, 80, 443, 30080, 32000, 65535, 65536, -1, 1<<31 - 1, int32(d.roll(256))}[d.roll(10)]
}

func (d *dice) address() string {
	return d.odd("10.96.0.1", "10.96.0.2", "10.0.0.1", "10.0.0.2", "fd00::1", "fd01::1", "192.0.2.1", "127.0.0.1", "::1", "::ffff:10.0.0.1",
		"::ffff:0:0", "fe80::1%eth0", "fd00::1%eth0", "010.0.0.1", "0.0.0.0", "::", "None", "", "255.255.255.255", "ff02::1", "1.2.3.4.5", "00")
}

func (d *dice) protocol() corev1.Protocol {
	return corev1.Protocol(d.odd("TCP", "UDP", "SCTP", "", "tcp"))
}

func (d *dice) addresses() (list []string) {
	for range d.roll(4) {
		list = append(list, d.address())
	}
	return list
}

func (d *dice) meta() metav1.ObjectMeta {
	m := metav1.ObjectMeta{Namespace: d.odd("a", "b"), Name: d.odd("web", "dns", "x"), CreationTimestamp: metav1.Unix(int64(d.roll(3)), 0)}
	for range d.roll(3) {
		if m.Labels == nil {
			m.Labels, m.Annotations = map[string]string{}, map[string]string{}
		}
		m.Labels[d.odd(discoveryv1.LabelServiceName, discoveryv1.LabelServiceName, discoveryv1.LabelServiceName, corev1.IsHeadlessService, v1alpha2.LabelServiceProxyName)] = d.odd("web", "dns", "x")
		m.Annotations[d.odd(v1alpha2.AnnotationHash, v1alpha2.AnnotationScheduler, v1alpha2.AnnotationWeights)] = d.odd("source", "source-port", "rr", "10.0.0.1=2,*=0", "here=3,there=1,fd01::1=7,x")
	}
	return m
}

func (d *dice) service() *corev1.Service {
	s := &corev1.Service{ObjectMeta: d.meta()}
	s.Spec.Type = corev1.ServiceType(d.odd("ClusterIP", "NodePort", "LoadBalancer", "LoadBalancer", "ExternalName"))
	s.Spec.ClusterIP, s.Spec.ClusterIPs, s.Spec.ExternalIPs = d.address(), d.addresses(), d.addresses()
	s.Spec.InternalTrafficPolicy = some(d, corev1.ServiceInternalTrafficPolicy(d.odd("Local", "Cluster")))
	s.Spec.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicy(d.odd("Local", "Cluster"))
	s.Spec.SessionAffinity = corev1.ServiceAffinity(d.odd("ClientIP", "None"))
	s.Spec.SessionAffinityConfig = some(d, corev1.SessionAffinityConfig{ClientIP: some(d, corev1.ClientIPConfig{TimeoutSeconds: some(d, d.number())})})
	s.Spec.HealthCheckNodePort = d.number()
	for range d.roll(4) {
		s.Spec.LoadBalancerSourceRanges = append(s.Spec.LoadBalancerSourceRanges, d.odd("10.0.0.0/8", " 10.1.2.3/8 ", "0.0.0.0/0", "::/0", "fd00::/8", "010.0.0.0/08", "::ffff:10.0.0.0/104", "::ffff:10.0.0.0/9", "/", "", "10.0.0.0/33", "fe80::%eth0/64"))
	}
	for range d.roll(4) {
		mode := some(d, corev1.LoadBalancerIPMode(d.odd("VIP", "Proxy")))
		s.Status.LoadBalancer.Ingress = append(s.Status.LoadBalancer.Ingress, corev1.LoadBalancerIngress{IP: d.address(), IPMode: mode})
	}
	for range d.roll(5) {
		s.Spec.Ports = append(s.Spec.Ports, corev1.ServicePort{Name: d.odd("http", "dns", ""), Protocol: d.protocol(), Port: d.number(), NodePort: d.number()})
	}
	return s
}

func (d *dice) slice() *discoveryv1.EndpointSlice {
	s := &discoveryv1.EndpointSlice{ObjectMeta: d.meta(), AddressType: discoveryv1.AddressType(d.odd("IPv4", "IPv6", "FQDN"))}
	for range d.roll(4) {
		s.Ports = append(s.Ports, discoveryv1.EndpointPort{Name: some(d, d.odd("http", "dns", "")), Protocol: some(d, d.protocol()), Port: some(d, d.number())})
	}
	for range d.roll(5) {
		e := discoveryv1.Endpoint{Addresses: d.addresses(), NodeName: some(d, d.odd(thisNode, "there", ""))}
		e.Conditions = discoveryv1.EndpointConditions{Ready: some(d, d.roll(2) == 0), Serving: some(d, d.roll(2) == 0), Terminating: some(d, d.roll(2) == 0)}
		if d.roll(2) == 0 {
			e.Hints = &discoveryv1.EndpointHints{}
			for range d.roll(3) {
				e.Hints.ForNodes = append(e.Hints.ForNodes, discoveryv1.ForNode{Name: d.odd(thisNode, "there", "")})
				e.Hints.ForZones = append(e.Hints.ForZones, discoveryv1.ForZone{Name: d.odd("east", "west", "")})
			}
		}
		s.Endpoints = append(s.Endpoints, e)
	}
	return s
}

// FuzzState has any objects in any order. Nothing may panic, all that is said
// is sorted and true, and a fresh state comes to the same.
func FuzzState(f *testing.F) {
	f.Add([]byte{})
	for seed := range byte(16) { // what looks like chance, and is the same each time
		data := make([]byte, 1024)
		x := uint32(seed) + 1
		for i := range data {
			x ^= x << 13
			x ^= x >> 17
			x ^= x << 5
			data[i] = byte(x)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		d := &dice{data}
		s := newState()
		services, endpointSlices := map[types.NamespacedName]*corev1.Service{}, map[types.NamespacedName]*discoveryv1.EndpointSlice{}
		backend, checks, findings := map[PortName]*Port{}, map[healthKey]*HealthCheck{}, map[types.NamespacedName][]Finding{}
		zone := "east"
		for len(d.data) > 0 {
			switch d.roll(8) {
			case 0:
				name := types.NamespacedName{Namespace: d.odd("a", "b"), Name: d.odd("web", "dns", "x")}
				delete(services, name)
				s.DeleteService(name)
			case 1:
				name := types.NamespacedName{Namespace: d.odd("a", "b"), Name: d.odd("web", "dns", "x")}
				delete(endpointSlices, name)
				s.DeleteEndpointSlice(name)
			case 2:
				zone = d.odd("east", "west", "")
				s.SetNode(nodeIn(zone))
			case 3, 4:
				object := d.service()
				services[types.NamespacedName{Namespace: object.Namespace, Name: object.Name}] = object
				s.SetService(object)
			default:
				object := d.slice()
				endpointSlices[types.NamespacedName{Namespace: object.Namespace, Name: object.Name}] = object
				s.SetEndpointSlice(object)
			}
			if d.roll(2) == 0 {
				followAny(t, s.Changes(), backend, checks, findings)
			}
		}
		followAny(t, s.Changes(), backend, checks, findings)

		fresh := newState()
		for _, name := range slices.SortedFunc(maps.Keys(endpointSlices), compareNames) {
			fresh.SetEndpointSlice(endpointSlices[name])
		}
		for _, name := range slices.SortedFunc(maps.Keys(services), compareNames) {
			fresh.SetService(services[name])
		}
		fresh.SetNode(nodeIn(zone))
		fresh.Changes()
		same := map[PortName]*Port{}
		for name, port := range fresh.Ports() {
			same[name] = port
		}
		if !maps.EqualFunc(backend, same, (*Port).Equal) {
			t.Fatalf("the ports are\n%s\nbut of a fresh state\n%s", lines(backend), lines(same))
		}
		for name, e := range fresh.services {
			if !slices.Equal(findings[name], e.findings) {
				t.Fatalf("%s: findings\n%v\nbut of a fresh state\n%v", name, findings[name], e.findings)
			}
		}
		owned := map[frontendKey]PortName{}
		for name, port := range backend {
			checkPort(t, name, port, owned)
		}
	})
}

// FuzzWeights has any annotation. What is entered in order is what its entries
// mean one by one, and what is found is what has no effect.
func FuzzWeights(f *testing.F) {
	for _, text := range []string{"", ",", "worker-1=3,10.244.1.7=0,*=2", "a=1,a=2", " fd01::1 = 7 ,*=65536", "::ffff:10.0.0.1=2,10.0.0.1=3", "a==1,=,*,a=-1,a=+1,a=1_0", "127.0.0.1=4", "A=1"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		r := specReader{spec: &spec{}}
		r.weights(text)
		entries := strings.FieldsFunc(text, func(c rune) bool { return c == ',' })
		effective, empty := 0, 0
		again := specReader{spec: &spec{}}
		for _, entry := range entries {
			alone := specReader{spec: &spec{}}
			alone.weights(entry)
			switch w := &alone.spec.weights; {
			case strings.TrimSpace(entry) == "":
				empty++
			case w.none() != (len(alone.spec.findings) == 1):
				t.Fatalf("%q alone: %v, findings %v", entry, w, alone.spec.findings)
			}
			before := len(again.spec.findings)
			if again.weights(entry); len(again.spec.findings) == before && strings.TrimSpace(entry) != "" {
				effective++
			}
		}
		if !again.spec.weights.equal(&r.spec.weights) || !slices.Equal(again.spec.findings, r.spec.findings) {
			t.Fatalf("%q: %v with %v, but entry by entry %v with %v", text, r.spec.weights, r.spec.findings, again.spec.weights, again.spec.findings)
		}
		if len(r.spec.findings)+effective+empty != len(entries) {
			t.Fatalf("%q: %d findings, %d entries count", text, len(r.spec.findings), effective)
		}
		for _, of := range []func(func(int) bool){maps.Values(r.spec.weights.addresses), maps.Values(r.spec.weights.nodes)} {
			for weight := range of {
				if weight < 0 || weight > maxWeight {
					t.Fatalf("%q: a weight of %d", text, weight)
				}
			}
		}
	})
}

type healthKey struct {
	service types.NamespacedName
	family  Family
}

// followAny is follow for any names.
func followAny(t *testing.T, c Changes, ports map[PortName]*Port, checks map[healthKey]*HealthCheck, findings map[types.NamespacedName][]Finding) {
	t.Helper()
	for _, p := range c.Ports {
		if p.Before != ports[p.Name] || p.Before.Equal(p.After) {
			t.Fatalf("%s: %s is no change from %s", p.Name, text(p.After), text(ports[p.Name]))
		}
		if ports[p.Name] = p.After; p.After == nil {
			delete(ports, p.Name)
		}
	}
	for _, h := range c.HealthChecks {
		key := healthKey{h.Service, h.Family}
		if before := checks[key]; (before == nil) != (h.Before == nil) || before != nil && *before != *h.Before || before == nil && h.After == nil {
			t.Fatalf("%v is no change from %v", h, before)
		}
		checks[key] = h.After
	}
	for _, f := range c.Findings {
		findings[f.Service] = f.Findings
		for _, f := range f.Findings {
			if len(f.String()) > 2048 {
				t.Fatalf("a finding of %d bytes", len(f.String()))
			}
		}
	}
	if !slices.IsSortedFunc(c.Ports, func(a, b PortChange) int { return a.Name.Compare(b.Name) }) {
		t.Fatal("the changes are not sorted")
	}
}

// checkPort has what must be true of every port.
func checkPort(t *testing.T, name PortName, p *Port, owned map[frontendKey]PortName) {
	t.Helper()
	for _, set := range [][]netip.AddrPort{p.Cluster, p.Local, p.Serving} {
		for i, at := range set {
			if at.Port() == 0 || FamilyOf(at.Addr()) != name.Family || at.Addr().Is4In6() || i > 0 && set[i-1].Compare(at) >= 0 {
				t.Fatalf("%s has endpoints %v", name, set)
			}
			if addr := at.Addr(); addr.IsLoopback() || addr.IsUnspecified() || addr.IsMulticast() || addr.IsLinkLocalUnicast() {
				t.Fatalf("%s has the endpoint %s", name, at)
			}
		}
	}
	for i, w := range p.Weights {
		if !contains(p.Cluster, w.Endpoint) && !contains(p.Local, w.Endpoint) || w.Weight == 1 || w.Weight < 0 || w.Weight > maxWeight ||
			i > 0 && p.Weights[i-1].Endpoint.Compare(w.Endpoint) >= 0 {
			t.Fatalf("%s has weights %v", name, p.Weights)
		}
	}
	if !p.Usable && len(p.Cluster)+len(p.Local) > 0 || p.Usable && p.NeedsCluster && len(p.Cluster) == 0 {
		t.Fatalf("%s: %s", name, text(p))
	}
	if len(p.Frontends) == 0 {
		t.Fatalf("%s has no frontend", name)
	}
	for _, f := range p.Frontends {
		key := frontendKey{f.Address, name.Protocol}
		if other, taken := owned[key]; taken {
			t.Fatalf("%s leads to %s and %s", f.Address, name, other)
		}
		owned[key] = name
	}
	for i, prefix := range p.SourceRanges {
		if prefix != prefix.Masked() || prefix.Bits() == 0 || i > 0 && p.SourceRanges[i-1].Compare(prefix) >= 0 {
			t.Fatalf("%s has source ranges %v", name, p.SourceRanges)
		}
	}
}
