package service

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fairway-lb/fairway/api/v1alpha2"
)

// summary returns changes as "+web http -other http", and the checks as
// "32000:0->1".
func summary(c Changes) string {
	var list []string
	for _, p := range c.Ports {
		sign := "~"
		if p.Before == nil {
			sign = "+"
		} else if p.After == nil {
			sign = "-"
		}
		list = append(list, sign+p.Name.Name+" "+p.Name.Port+" "+p.Name.Family.String())
	}
	for _, h := range c.HealthChecks {
		side := func(h *HealthCheck) string {
			if h == nil {
				return "none"
			}
			return fmt.Sprintf("%d:%d", h.Port, h.LocalEndpoints)
		}
		list = append(list, fmt.Sprintf("%s %s %s->%s", h.Service.Name, h.Family, side(h.Before), side(h.After)))
	}
	for _, f := range c.Findings {
		list = append(list, fmt.Sprintf("!%s %d", f.Service.Name, len(f.Findings)))
	}
	return strings.Join(list, ", ")
}

// TestSequence is the life of one state.
func TestSequence(t *testing.T) {
	s := newState()
	two := func(s *corev1.Service) {
		s.Spec.Ports = append(s.Spec.Ports, corev1.ServicePort{Name: "a", Port: 81})
	}
	for _, step := range []struct {
		name string
		do   func()
		want string
	}{
		{"nothing", func() {}, ""},
		{"a slice before its Service", func() { s.SetEndpointSlice(epSlice("a", "web", ready)) }, ""},
		{"its Service", func() { s.SetService(svc("web")) }, "+web http IPv4"},
		{"the same again", func() { feed(s, svc("web"), epSlice("a", "web", ready), nodeIn("east")) }, ""},
		{"what does not matter", func() {
			s.SetService(svc("web", annotation("x", "y"), label("x")))
			s.SetEndpointSlice(with(epSlice("a", "web", ready), func(s *discoveryv1.EndpointSlice) { s.Annotations = map[string]string{"x": "y"} }))
		}, ""},
		{"there and back", func() { s.SetService(svc("web", nodePort(30080))); s.SetService(svc("web")) }, ""},
		{"deleted and made anew", func() { s.DeleteService(named("web")); s.SetService(svc("web", createdAt(2000))) }, ""},
		{"an endpoint that is not ready", func() { s.SetEndpointSlice(epSlice("a", "web", ready, "10.0.0.2 here -")) }, ""},
		{"an endpoint", func() { s.SetEndpointSlice(epSlice("a", "web", ready, "10.0.0.2 here rs")) }, "~web http IPv4"},
		{"an endpoint moves to another slice, seen in both", func() { s.SetEndpointSlice(epSlice("b", "web", "10.0.0.2 here rs")) }, ""},
		{"and then in one", func() { s.SetEndpointSlice(epSlice("a", "web", ready)) }, ""},
		{"weights of others", func() { s.SetService(svc("web", createdAt(2000), weighted("10.0.0.9=2,worker-9=0"))) }, ""},
		{"the weight of an endpoint", func() { s.SetService(svc("web", createdAt(2000), weighted("10.0.0.2=2"))) }, "~web http IPv4"},
		{"the same weight, said otherwise", func() { s.SetService(svc("web", createdAt(2000), weighted(" 10.0.0.2 = 02 , 10.0.0.1=1 "))) }, ""},
		{"the same weight, by the node", func() { s.SetService(svc("web", createdAt(2000), weighted("here=2,10.0.0.1=1"))) }, ""},
		{"another weight", func() { s.SetService(svc("web", createdAt(2000), weighted("10.0.0.2=0"))) }, "~web http IPv4"},
		{"an endpoint with a weight goes", func() { s.DeleteEndpointSlice(named("b")) }, "~web http IPv4"},
		{"and comes back", func() { s.SetEndpointSlice(epSlice("b", "web", "10.0.0.2 here rs")) }, "~web http IPv4"},
		{"no weights", func() { s.SetService(svc("web")) }, "~web http IPv4"},
		{"a weight by a node where no endpoint is", func() { s.SetService(svc("web", weighted("there=3"))) }, ""},
		{"an endpoint moves there", func() { s.SetEndpointSlice(epSlice("b", "web", "10.0.0.2 there rs")) }, "~web http IPv4"},
		{"and to a node unheard of", func() { s.SetEndpointSlice(epSlice("b", "web", "10.0.0.2 elsewhere rs")) }, "~web http IPv4"},
		{"and back, without weights", func() { feed(s, epSlice("b", "web", "10.0.0.2 here rs"), svc("web")) }, ""},
		{"another port", func() { s.SetService(svc("web", two)) }, "+web a IPv4"},
		{"another family", func() { s.SetService(svc("web", two, clusterIPs("10.96.0.1", "fd00::1"))) }, "+web a IPv6, +web http IPv6"},
		{"ports in another order", func() {
			s.SetService(svc("web", two, clusterIPs("fd00::1", "10.96.0.1"), func(s *corev1.Service) { slices.Reverse(s.Spec.Ports) }))
		}, ""},
		{"one port and family less", func() { s.SetService(svc("web")) }, "-web a IPv4, -web a IPv6, -web http IPv6"},
		{"two Services at once, sorted", func() {
			feed(s, svc("z", clusterIPs("10.96.0.3")), svc("b", clusterIPs("10.96.0.4")), svc("web", nodePort(30080)))
		}, "+b http IPv4, ~web http IPv4, +z http IPv4"},
		{"a finding", func() { s.SetService(svc("z", clusterIPs("10.96.0.3"), annotation(v1alpha2.AnnotationHash, "x"))) }, "!z 1"},
		{"the same finding", func() {
			s.SetService(svc("z", clusterIPs("10.96.0.3"), annotation(v1alpha2.AnnotationHash, "x"), createdAt(5)))
		}, ""},
		{"no finding", func() { s.SetService(svc("z", clusterIPs("10.96.0.3"))) }, "!z 0"},
		{"a finding about a slice", func() { s.SetEndpointSlice(epSlice("z", "z", "127.0.0.1 here rs")) }, "!z 1"},
		{"the slice changes its Service", func() { s.SetEndpointSlice(epSlice("z", "b", "10.0.0.9 here rs")) }, "~b http IPv4, !z 0"},
		{"the slice becomes headless", func() {
			s.SetEndpointSlice(with(epSlice("z", "b", "10.0.0.9 here rs"), func(s *discoveryv1.EndpointSlice) { s.Labels[corev1.IsHeadlessService] = "" }))
		}, "~b http IPv4"},
		{"a slice that is not there is deleted", func() { s.DeleteEndpointSlice(named("z")) }, ""},
		{"a Service that is not there is deleted", func() { s.DeleteService(named("none")) }, ""},
		{"the Service goes to another proxy", func() { s.SetService(svc("web", label(v1alpha2.LabelServiceProxyName))) }, "-web http IPv4"},
		{"and comes back, to the slices that outlived it", func() { s.SetService(svc("web")) }, "+web http IPv4"},
		{"a slice goes", func() { s.DeleteEndpointSlice(named("a")) }, "~web http IPv4"},
		{"the Services go", func() { s.DeleteService(named("web")); s.DeleteService(named("b")); s.DeleteService(named("z")) }, "-b http IPv4, -web http IPv4, -z http IPv4"},
		{"the last slice goes", func() { s.DeleteEndpointSlice(named("b")) }, ""},
	} {
		step.do()
		if got := summary(s.Changes()); got != step.want {
			t.Fatalf("%s: %q, want %q", step.name, got, step.want)
		}
	}
	if n := len(s.services) + len(s.slices) + len(s.zoned) + len(s.claims.holders) + len(s.claims.contenders); n > 0 {
		t.Errorf("%d things remain", n)
	}
}

func TestChangeHasBeforeAndAfter(t *testing.T) {
	s := feed(newState(), svc("web"), epSlice("a", "web", ready))
	first := s.Changes().Ports[0]
	s.SetEndpointSlice(epSlice("a", "web", "10.0.0.2 here rs"))
	second := s.Changes().Ports[0]
	if second.Before != first.After || addrs(first.After.Cluster) != "10.0.0.1:8080" || addrs(second.After.Cluster) != "10.0.0.2:8080" {
		t.Errorf("%+v, then %+v", first, second)
	}
}

func TestHealthCheck(t *testing.T) {
	checked := func(s *corev1.Service) {
		ingress("192.0.2.1")(s)
		externalLocal(s)
		s.Spec.HealthCheckNodePort = 32000
		s.Spec.Ports = append(s.Spec.Ports, corev1.ServicePort{Name: "https", Port: 443})
	}
	s := newState()
	for _, step := range []struct {
		name string
		do   func()
		want string
	}{
		{"without endpoints", func() { s.SetService(svc("web", checked)) }, "web IPv4 none->32000:0"},
		{"local ready ones, once for all ports", func() {
			feed(s,
				with(epSlice("a", "web", "10.0.0.1 here rs", "10.0.0.2 here rs", "10.0.0.3 there rs"), func(s *discoveryv1.EndpointSlice) {
					s.Ports = slicePorts("http/TCP/80", "https/TCP/443")
				}),
				with(epSlice("b", "web", "10.0.0.2 here rs"), func(s *discoveryv1.EndpointSlice) { s.Ports = slicePorts("http/TCP/81") }))
		}, "web IPv4 32000:0->32000:2"},
		{"terminating ones do not count, but serve", func() {
			s.DeleteEndpointSlice(named("b"))
			s.SetEndpointSlice(epSlice("a", "web", "10.0.0.1 here st", "10.0.0.2 here st"))
		}, "web IPv4 32000:2->32000:0"},
		{"by family", func() {
			feed(s, svc("web", checked, clusterIPs("10.96.0.1", "fd00::1")), epSlice("c", "web", "fd01::1 here rs"))
		}, "web IPv6 none->32000:1"},
		{"another policy", func() {
			s.SetService(svc("web", checked, func(s *corev1.Service) { s.Spec.ExternalTrafficPolicy = "" }))
		}, "web IPv4 32000:0->none, web IPv6 32000:1->none"},
		{"another type", func() {
			s.SetService(svc("web", checked, func(s *corev1.Service) { s.Spec.Type = corev1.ServiceTypeNodePort }))
		}, ""},
		{"an impossible port", func() {
			s.SetService(svc("web", checked, func(s *corev1.Service) { s.Spec.HealthCheckNodePort = 65537 }))
		}, ""},
	} {
		step.do()
		c := s.Changes()
		c.Ports = nil
		if got := summary(c); got != step.want {
			t.Fatalf("%s: %q, want %q", step.name, got, step.want)
		}
	}
	if n := len(portsOf(feed(s, svc("web", checked)))[web(IPv4)].Local); n != 2 {
		t.Errorf("%d terminating local endpoints serve, want 2", n)
	}
}

func TestZoneChangeConcernsHintedServicesOnly(t *testing.T) {
	s := feed(newState(),
		svc("web"), epSlice("a", "web", "10.0.0.1 there rs z=east", "10.0.0.2 there rs z=west"),
		svc("b", clusterIPs("10.96.0.2")), epSlice("b", "b", "10.0.0.1 there rs n=here"),
		svc("c", clusterIPs("10.96.0.3")), epSlice("c", "c", "10.0.0.1 there rs"),
	)
	s.Changes()
	s.SetNode(&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "there", Labels: map[string]string{corev1.LabelTopologyZone: "west"}}})
	if len(s.dirty) > 0 {
		t.Error("the zone of another Node matters")
	}
	s.SetNode(nodeIn("west"))
	if len(s.dirty) != 1 {
		t.Errorf("%d Services are decided on, want the one with hints", len(s.dirty))
	}
	if got := digits(addrs(portsOf(s)[web(IPv4)].Cluster)); got != "2" {
		t.Errorf("cluster set %s in zone west", got)
	}
	s.SetNode(nodeIn(""))
	if got := digits(addrs(portsOf(s)[web(IPv4)].Cluster)); got != "1 2" {
		t.Errorf("cluster set %s without a zone", got)
	}
	s.SetEndpointSlice(epSlice("a", "web", ready))
	s.Changes()
	s.SetNode(nodeIn("east"))
	if len(s.dirty) > 0 {
		t.Error("a Service that had hints is decided on")
	}
}

func TestOneServiceIsDecidedOn(t *testing.T) {
	s := newState()
	for i := range 100 {
		feed(s, svc(fmt.Sprint("s", i), clusterIPs(fmt.Sprint("10.96.1.", i))), epSlice(fmt.Sprint("e", i), fmt.Sprint("s", i), ready))
	}
	s.Changes()
	for name, do := range map[string]func(){
		"a slice":     func() { s.SetEndpointSlice(epSlice("e7", "s7", "10.0.0.7 here rs")) },
		"a Service":   func() { s.SetService(svc("s7", clusterIPs("10.96.2.7"))) },
		"a slice off": func() { s.DeleteEndpointSlice(named("e7")) },
	} {
		if do(); len(s.dirty) != 1 {
			t.Errorf("%s: %d Services are decided on", name, len(s.dirty))
		}
		s.Changes()
	}
}

func TestNothingIsDecidedOnInVain(t *testing.T) {
	s := feed(newState(), svc("web"), epSlice("a", "web", "10.0.0.1 here rs z=east"))
	s.Changes()
	feed(s, svc("web"), epSlice("a", "web", "10.0.0.1 here rs z=east"), nodeIn("east"))
	if len(s.dirty) > 0 {
		t.Error("what is known already is decided on again")
	}
	s.SetEndpointSlice(with(epSlice("b", "web", ready), func(s *discoveryv1.EndpointSlice) { s.Labels = nil }))
	if len(s.services) != 1 || len(s.slices) != 1 {
		t.Error("a slice of no Service is kept")
	}
}

// TestSetsAreShared has sets with the same members in memory once, also beside
// what they were before.
func TestSetsAreShared(t *testing.T) {
	s := feed(newState(), svc("web", internalLocal, nodePort(30080)), epSlice("a", "web", ready))
	before := portsOf(s)[web(IPv4)]
	if &before.Cluster[0] != &before.Local[0] {
		t.Error("the local set is a copy of the cluster set")
	}
	s.SetService(svc("web", internalLocal, nodePort(30081)))
	if after := portsOf(s)[web(IPv4)]; &after.Cluster[0] != &before.Cluster[0] {
		t.Error("the cluster set is a copy of what it was")
	}
}

func TestPortsAreSorted(t *testing.T) {
	s := newState()
	for _, name := range []string{"c", "a", "b"} {
		object := svc(name, clusterIPs("10.96.0."+fmt.Sprint(int(name[0])), "fd00::"+name), func(s *corev1.Service) {
			s.Spec.Ports = append(s.Spec.Ports, corev1.ServicePort{Name: "http", Protocol: corev1.ProtocolUDP, Port: 80}, corev1.ServicePort{Name: "a", Port: 81})
		})
		s.SetService(object)
	}
	var changed, all []PortName
	for _, c := range s.Changes().Ports {
		changed = append(changed, c.Name)
	}
	for name := range s.Ports() {
		all = append(all, name)
	}
	if len(all) != 18 || !slices.Equal(all, changed) || !slices.IsSortedFunc(all, PortName.Compare) {
		t.Errorf("ports %v, changes %v", all, changed)
	}
	slices.Reverse(changed)
	if slices.SortFunc(changed, PortName.Compare); !slices.Equal(all, changed) {
		t.Errorf("sorted by Compare: %v", changed)
	}
	for range s.Ports() {
		break // is allowed
	}
	if got := all[0].String(); got != "default/a:a/TCP/IPv4" {
		t.Errorf("the first is %s", got)
	}
}
