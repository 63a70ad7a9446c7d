package service

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
)

// clusterSet returns the cluster set of the port http of a Service.
func clusterSet(t *testing.T, objects ...any) string {
	t.Helper()
	p := read(t, web(IPv4), objects...)
	if p == nil {
		return "nothing"
	}
	return addrs(p.Cluster)
}

func TestSlicesOfService(t *testing.T) {
	for _, test := range []struct {
		name   string
		change func(*discoveryv1.EndpointSlice)
		want   string
	}{
		{"its own", func(*discoveryv1.EndpointSlice) {}, "10.0.0.1:8080"},
		{"of another Service", func(s *discoveryv1.EndpointSlice) { s.Labels[discoveryv1.LabelServiceName] = "other" }, ""},
		{"of the same Service in another namespace", func(s *discoveryv1.EndpointSlice) { s.Namespace = "other" }, ""},
		{"of no Service", func(s *discoveryv1.EndpointSlice) { s.Labels = nil }, ""},
		{"headless", func(s *discoveryv1.EndpointSlice) { s.Labels[corev1.IsHeadlessService] = "" }, ""},
		{"of names", func(s *discoveryv1.EndpointSlice) { s.AddressType = discoveryv1.AddressTypeFQDN }, ""},
		{"of no type", func(s *discoveryv1.EndpointSlice) { s.AddressType = "" }, ""},
		{"of the other family", func(s *discoveryv1.EndpointSlice) { s.AddressType = discoveryv1.AddressTypeIPv6 }, ""},

		{"a port of another number", func(s *discoveryv1.EndpointSlice) { s.Ports = slicePorts("http/TCP/81") }, "10.0.0.1:81"},
		{"a port of another name", func(s *discoveryv1.EndpointSlice) { s.Ports = slicePorts("https/TCP/8080") }, ""},
		{"a port of another protocol", func(s *discoveryv1.EndpointSlice) { s.Ports = slicePorts("http/UDP/8080") }, ""},
		{"a port of no protocol is TCP", func(s *discoveryv1.EndpointSlice) { s.Ports[0].Protocol = nil }, "10.0.0.1:8080"},
		{"a port of an unknown protocol", func(s *discoveryv1.EndpointSlice) { s.Ports[0].Protocol = new(corev1.Protocol("ICMP")) }, ""},
		{"a port without a name", func(s *discoveryv1.EndpointSlice) { s.Ports[0].Name = nil }, ""},
		{"a port without a number", func(s *discoveryv1.EndpointSlice) { s.Ports[0].Port = nil }, ""},
		{"port 0", func(s *discoveryv1.EndpointSlice) { s.Ports[0].Port = new(int32(0)) }, ""},
		{"port 65536", func(s *discoveryv1.EndpointSlice) { s.Ports[0].Port = new(int32(65536)) }, ""},
		{"no port", func(s *discoveryv1.EndpointSlice) { s.Ports = nil }, ""},
		{"two ports of one name", func(s *discoveryv1.EndpointSlice) { s.Ports = slicePorts("http/TCP/81", "http/TCP/80") }, "10.0.0.1:80 10.0.0.1:81"},

		{"no address", func(s *discoveryv1.EndpointSlice) { s.Endpoints[0].Addresses = nil }, ""},
		{"two addresses, of which the first counts", func(s *discoveryv1.EndpointSlice) { s.Endpoints[0].Addresses = []string{"10.0.0.2", "10.0.0.1"} }, "10.0.0.2:8080"},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := clusterSet(t, svc("web"), with(epSlice("a", "web", ready), test.change)); got != test.want {
				t.Errorf("cluster set %q, want %q", got, test.want)
			}
		})
	}
}

func TestUnnamedPort(t *testing.T) {
	name := web(IPv4)
	name.Port = ""
	p := read(t, name, svc("web", func(s *corev1.Service) { s.Spec.Ports[0].Name = "" }), with(epSlice("a", "web", ready), func(s *discoveryv1.EndpointSlice) {
		s.Ports = slicePorts("/TCP/8080")
	}))
	if got := addrs(p.Cluster); got != "10.0.0.1:8080" {
		t.Errorf("cluster set %q", got)
	}
}

// TestNamedTargetPorts has a port whose number depends on the Pod.
func TestNamedTargetPorts(t *testing.T) {
	got := clusterSet(t, svc("web"), epSlice("a", "web", ready), with(epSlice("b", "web", "10.0.0.2 here rs"), func(s *discoveryv1.EndpointSlice) {
		s.Ports = slicePorts("http/TCP/81")
	}))
	if got != "10.0.0.1:8080 10.0.0.2:81" {
		t.Errorf("cluster set %q", got)
	}
}

func TestThousandPorts(t *testing.T) {
	object, slice := svc("web"), epSlice("a", "web", ready)
	object.Spec.Ports, slice.Ports = nil, nil
	for i := range int32(1000) {
		name := fmt.Sprintf("p%03d", i)
		object.Spec.Ports = append(object.Spec.Ports, corev1.ServicePort{Name: name, Port: i + 1})
		slice.Ports = append(slice.Ports, slicePorts(fmt.Sprintf("%s/TCP/%d", name, i+2000))...)
	}
	ports := portsOf(feed(newState(), object, slice))
	if len(ports) != 1000 {
		t.Fatalf("%d ports", len(ports))
	}
	for name, p := range ports {
		if number := p.Frontends[0].Address.Port(); addrs(p.Cluster) != fmt.Sprintf("10.0.0.1:%d", number+1999) {
			t.Fatalf("%s: port %d leads to %v", name, number, p.Cluster)
		}
	}
}

func TestFlawedEndpoints(t *testing.T) {
	const sentence = "EndpointSlice default/a: endpoint %s and gets no traffic: use an address that other nodes reach"
	for _, test := range []struct {
		endpoint string
		want     string
	}{
		{"127.0.0.5", `"127.0.0.5" is a loopback address`},
		{"::1", `"::1" is a loopback address`},
		{"::ffff:127.0.0.1", `"::ffff:127.0.0.1" is a loopback address`},
		{"169.254.1.1", `"169.254.1.1" is a link-local address`},
		{"fe80::1", `"fe80::1" is a link-local address`},
		{"fe80::1%eth0", `"fe80::1%eth0" is a link-local address`},
		{"fd00::5%eth0", `"fd00::5%eth0" is no IP address`},
		{"224.0.0.1", `"224.0.0.1" is a multicast address`},
		{"ff02::1", `"ff02::1" is a multicast address`},
		{"0.0.0.0", `"0.0.0.0" is the unspecified address`},
		{"::", `"::" is the unspecified address`},
		{"10.0.0", `"10.0.0" is no IP address`},
		{"::ffff:10.0.0.9", `"::ffff:10.0.0.9" is of another IP family`}, // in a slice of IPv6
	} {
		t.Run(test.endpoint, func(t *testing.T) {
			good := "10.0.0.1"
			if strings.Contains(test.endpoint, ":") {
				good = "fd01::1"
			}
			s := feed(newState(), svc("web", clusterIPs("10.96.0.1", "fd00::1")), epSlice("a", "web", good+" here rs", test.endpoint+" here rs"))
			if got, want := findingsOf(s), fmt.Sprintf(sentence, test.want); !slices.Equal(got, []string{want}) {
				t.Errorf("findings %q, want %q", got, want)
			}
			ports := portsOf(s)
			if got := addrs(ports[web(IPv4)].Cluster) + addrs(ports[web(IPv6)].Cluster); !strings.Contains(got, good) || strings.Contains(got, " ") {
				t.Errorf("cluster set %q, want %s alone", got, good)
			}
		})
	}
}

// TestManyFlawedEndpoints has one sentence, the same in any order.
func TestManyFlawedEndpoints(t *testing.T) {
	for _, endpoints := range [][]string{{"127.0.0.1", "127.0.0.2", "0.0.0.0", "127.0.0.3"}, {"127.0.0.3", "0.0.0.0", "127.0.0.2", "127.0.0.1"}} {
		want := []string{
			`EndpointSlice default/a: endpoint "0.0.0.0" is the unspecified address and gets no traffic: use an address that other nodes reach`,
			`EndpointSlice default/a: endpoint "127.0.0.1", as 2 others, is a loopback address and gets no traffic: use an address that other nodes reach`,
		}
		if got := findingsOf(feed(newState(), svc("web"), epSlice("a", "web", endpoints...))); !slices.Equal(got, want) {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

func TestEndpointsThatAreFrontends(t *testing.T) {
	for _, test := range []struct {
		name, endpoint string
		left           bool
	}{
		{"the cluster IP", "10.96.0.1 * rs", true},
		{"the cluster IP, with a node", "10.96.0.1 here rs", true},
		{"a load-balancer address", "192.0.2.1 * rs", true},
		{"an external IP", "192.0.2.2 * rs", true},
		{"a host-network Pod behind a load-balancer address of its node", "192.0.2.1 there rs", false},
		{"a host-network Pod behind an external IP of its node", "192.0.2.2 there rs", false},
		{"an address of another Service", "192.0.2.3 * rs", false},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := feed(newState(),
				svc("web", ingress("192.0.2.1"), externalIPs("192.0.2.2")), epSlice("a", "web", test.endpoint),
				svc("other", clusterIPs("10.96.0.2"), externalIPs("192.0.2.3")))
			var want []string
			if test.left {
				want = []string{fmt.Sprintf("EndpointSlice default/a: endpoint %q is an address of the Service itself and gets no traffic: use the address of what serves", strings.Fields(test.endpoint)[0])}
			}
			if got := findingsOf(s); !slices.Equal(got, want) {
				t.Errorf("findings %q, want %q", got, want)
			}
			if p := portsOf(s)[web(IPv4)]; p.Usable == test.left {
				t.Errorf("usable %v, cluster set %v", p.Usable, p.Cluster)
			}
		})
	}
}
