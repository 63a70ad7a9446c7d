package service

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/fairway-lb/fairway/api/v1alpha2"
)

// ready is an endpoint, for Services that need one.
const ready = "10.0.0.1 here rs"

func TestFrontends(t *testing.T) {
	proxied := ingress("192.0.2.1", "192.0.2.2", "192.0.2.3")
	for _, test := range []struct {
		name    string
		changes []func(*corev1.Service)
		want    string
	}{
		{"cluster IP", nil, "ClusterIP 10.96.0.1:80"},
		{"cluster IP of an object without clusterIPs", []func(*corev1.Service){func(s *corev1.Service) { s.Spec.ClusterIPs = nil }}, "ClusterIP 10.96.0.1:80"},
		{"cluster IP of the other family only", []func(*corev1.Service){clusterIPs("fd00::1"), ingress("192.0.2.1"), nodePort(30080)}, ""},
		{"headless", []func(*corev1.Service){clusterIPs(corev1.ClusterIPNone)}, ""},
		{"no cluster IP yet", []func(*corev1.Service){clusterIPs("")}, ""},
		{"no cluster IP yet, whatever clusterIPs says", []func(*corev1.Service){func(s *corev1.Service) { s.Spec.ClusterIP = "" }}, ""},
		{"headless, whatever clusterIPs says", []func(*corev1.Service){func(s *corev1.Service) { s.Spec.ClusterIP = corev1.ClusterIPNone }}, ""},
		{"ExternalName", []func(*corev1.Service){func(s *corev1.Service) { s.Spec.Type = corev1.ServiceTypeExternalName }}, ""},
		{"for another proxy", []func(*corev1.Service){label(v1alpha2.LabelServiceProxyName)}, ""},
		{"node port", []func(*corev1.Service){nodePort(30080)}, "ClusterIP 10.96.0.1:80, NodePort 0.0.0.0:30080"},
		{
			"all kinds, sorted", []func(*corev1.Service){nodePort(30080), externalIPs("192.0.2.8", "2001:db8::8"), ingress("192.0.2.10", "192.0.2.9", "2001:db8::9")},
			"ClusterIP 10.96.0.1:80, LoadBalancer 192.0.2.9:80, LoadBalancer 192.0.2.10:80, ExternalIP 192.0.2.8:80, NodePort 0.0.0.0:30080",
		},
		{"load-balancer addresses whatever the type", []func(*corev1.Service){ingress("192.0.2.1"), func(s *corev1.Service) { s.Spec.Type = corev1.ServiceTypeClusterIP }}, "ClusterIP 10.96.0.1:80, LoadBalancer 192.0.2.1:80"},
		{"ipMode VIP and Proxy", []func(*corev1.Service){proxied, func(s *corev1.Service) {
			s.Status.LoadBalancer.Ingress[0].IPMode = new(corev1.LoadBalancerIPModeVIP)
			s.Status.LoadBalancer.Ingress[1].IPMode = new(corev1.LoadBalancerIPModeProxy)
		}}, "ClusterIP 10.96.0.1:80, LoadBalancer 192.0.2.1:80, LoadBalancer 192.0.2.3:80"},
		{"a hostname", []func(*corev1.Service){ingress(""), func(s *corev1.Service) { s.Status.LoadBalancer.Ingress[0].Hostname = "lb" }}, "ClusterIP 10.96.0.1:80"},
		{"an address of two kinds is of the first", []func(*corev1.Service){externalIPs("192.0.2.1", "192.0.2.1"), ingress("192.0.2.1")}, "ClusterIP 10.96.0.1:80, LoadBalancer 192.0.2.1:80"},
		{"leading zeros are decimal", []func(*corev1.Service){externalIPs("192.000.02.010")}, "ClusterIP 10.96.0.1:80, ExternalIP 192.0.2.10:80"},
		{"IPv4-mapped is IPv4", []func(*corev1.Service){externalIPs("::ffff:192.0.2.1")}, "ClusterIP 10.96.0.1:80, ExternalIP 192.0.2.1:80"},
		{"impossible addresses", []func(*corev1.Service){externalIPs("", " ", "x", "127.0.0.1", "0.0.0.0", "224.0.0.1", "169.254.0.1")}, "ClusterIP 10.96.0.1:80"},
		{"impossible ports", []func(*corev1.Service){nodePort(-1), func(s *corev1.Service) {
			s.Spec.Ports = append(s.Spec.Ports, corev1.ServicePort{Name: "http", Port: 0}, corev1.ServicePort{Name: "b", Port: 65536}, corev1.ServicePort{Name: "c", Port: 1, Protocol: "ICMP"})
		}}, "ClusterIP 10.96.0.1:80"},
	} {
		t.Run(test.name, func(t *testing.T) {
			ports := portsOf(feed(newState(), svc("web", test.changes...), epSlice("a", "web", ready)))
			if got := strings.Join(frontends(ports[web(IPv4)]), ", "); got != test.want {
				t.Errorf("frontends %s, want %s", got, test.want)
			}
			delete(ports, web(IPv4))
			delete(ports, web(IPv6))
			if len(ports) > 0 {
				t.Errorf("further ports %v", ports)
			}
		})
	}
}

func TestDualStack(t *testing.T) {
	objects := []any{
		svc("web", clusterIPs("10.96.0.1", "fd00::1"), nodePort(30080), externalIPs("2001:db8::1"), ranges("192.0.2.0/24"), ingress("192.0.2.1", "2001:db8::2")),
		epSlice("a", "web", ready), epSlice("b", "web", "fd01::1 there rs"),
	}
	for family, want := range map[Family]string{
		IPv4: "ClusterIP 10.96.0.1:80, LoadBalancer 192.0.2.1:80, NodePort 0.0.0.0:30080 C[10.0.0.1:8080] usable=true i=Cluster e=Cluster affinity=0 ranges=[192.0.2.0/24]  ",
		IPv6: "ClusterIP [fd00::1]:80, LoadBalancer [2001:db8::2]:80, ExternalIP [2001:db8::1]:80, NodePort [::]:30080 C[[fd01::1]:8080] usable=true i=Cluster e=Cluster affinity=0 ranges=[]  ",
	} {
		if got := text(read(t, web(family), objects...)); got != want {
			t.Errorf("%s:\n%s, want\n%s", family, got, want)
		}
	}
}

func TestSourceRanges(t *testing.T) {
	for _, test := range []struct {
		name   string
		ranges []string
		v4, v6 string
	}{
		{"none is open", nil, "[]", "[]"},
		{"trimmed, sorted, once, without host bits", []string{" 192.0.2.7/24", "10.0.0.0/8\t", "192.0.2.0/24"}, "[10.0.0.0/8 192.0.2.0/24]", "[]"},
		{"by family", []string{"192.0.2.0/24", "2001:db8::/32"}, "[192.0.2.0/24]", "[2001:db8::/32]"},
		{"/0 is open, in its family", []string{"192.0.2.0/24", "0.0.0.0/0", "2001:db8::/32"}, "[]", "[2001:db8::/32]"},
		{"leading zeros are decimal", []string{"010.0.0.0/08"}, "[10.0.0.0/8]", "[]"},
		{"IPv4-mapped is IPv4", []string{"::ffff:10.0.0.0/104"}, "[10.0.0.0/8]", "[]"},
		{"what is no prefix does not count", []string{"", "x", "::ffff:10.0.0.0/9", "192.0.2.0/24"}, "[192.0.2.0/24]", "[]"},
	} {
		t.Run(test.name, func(t *testing.T) {
			object := svc("web", clusterIPs("10.96.0.1", "fd00::1"), ingress("192.0.2.1", "2001:db8::1"), ranges(test.ranges...))
			for family, want := range map[Family]string{IPv4: test.v4, IPv6: test.v6} {
				if got := fmt.Sprint(read(t, web(family), object).SourceRanges); got != want {
					t.Errorf("%s: %s, want %s", family, got, want)
				}
			}
		})
	}
	t.Run("for load-balancer addresses only", func(t *testing.T) {
		if p := read(t, web(IPv4), svc("web", nodePort(30080), externalIPs("192.0.2.1"), ranges("192.0.2.0/24"))); p.SourceRanges != nil {
			t.Errorf("%v without a load-balancer address", p.SourceRanges)
		}
	})
}

func TestSessionAffinity(t *testing.T) {
	sticky := func(seconds *int32) func(*corev1.Service) {
		return func(s *corev1.Service) {
			s.Spec.SessionAffinity = corev1.ServiceAffinityClientIP
			s.Spec.SessionAffinityConfig = &corev1.SessionAffinityConfig{ClientIP: &corev1.ClientIPConfig{TimeoutSeconds: seconds}}
		}
	}
	for _, test := range []struct {
		name   string
		change func(*corev1.Service)
		want   float64
	}{
		{"none", func(s *corev1.Service) {
			sticky(new(int32(60)))(s)
			s.Spec.SessionAffinity = corev1.ServiceAffinityNone
		}, 0},
		{"with a timeout", sticky(new(int32(60))), 60},
		{"the longest", sticky(new(int32(86400))), 86400},
		{"without a timeout", sticky(nil), 10800},
		{"without a config", func(s *corev1.Service) { s.Spec.SessionAffinity = corev1.ServiceAffinityClientIP }, 10800},
		{"an impossible timeout", sticky(new(int32(-1))), 10800},
		{"too long a timeout", sticky(new(int32(86401))), 10800},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := read(t, web(IPv4), svc("web", test.change)).Affinity.Seconds(); got != test.want {
				t.Errorf("%v s, want %v s", got, test.want)
			}
		})
	}
}

func TestAnnotations(t *testing.T) {
	const prefix = "Service default/web: annotation network.kubesphere.io/"
	for _, test := range []struct {
		key, value string
		scheduler  string
		hash       Hash
		finding    string
	}{
		{v1alpha2.AnnotationScheduler, "mh", "mh", HashNone, ""},
		{v1alpha2.AnnotationScheduler, "fair", "", HashNone, prefix + `scheduler is "fair", which is no IPVS scheduler, and has no effect: use one of rr, wrr,`},
		{v1alpha2.AnnotationScheduler, "", "", HashNone, prefix + `scheduler is "", which`},
		{v1alpha2.AnnotationHash, "source", "", HashSource, ""},
		{v1alpha2.AnnotationHash, "source-port", "", HashSourcePort, ""},
		{v1alpha2.AnnotationHash, "Source", "", HashNone, prefix + `hash is "Source" and has no effect: use source or source-port, or remove it`},
		{v1alpha2.AnnotationHash, "", "", HashNone, prefix + `hash is "" and has no effect`},
		{v1alpha2.AnnotationHash, strings.Repeat("x", 1000), "", HashNone, prefix + `hash is "` + strings.Repeat("x", 64) + `..." and`},
	} {
		t.Run(test.key+"="+test.value[:min(9, len(test.value))], func(t *testing.T) {
			s := feed(newState(), svc("web", annotation(test.key, test.value)))
			findings := findingsOf(s)
			if p := portsOf(s)[web(IPv4)]; p.Scheduler != test.scheduler || p.Hash != test.hash {
				t.Errorf("scheduler %q, hash %q", p.Scheduler, p.Hash)
			}
			if test.finding == "" && len(findings) > 0 || test.finding != "" && (len(findings) != 1 || !strings.HasPrefix(findings[0], test.finding)) {
				t.Errorf("findings %q, want %q", findings, test.finding)
			}
		})
	}
}

func TestServiceFindings(t *testing.T) {
	port := func(name string, number, nodePort int32) func(*corev1.Service) {
		return func(s *corev1.Service) {
			s.Spec.Ports = append(s.Spec.Ports, corev1.ServicePort{Name: name, Port: number, NodePort: nodePort})
		}
	}
	for _, test := range []struct {
		name    string
		changes []func(*corev1.Service)
		want    string
	}{
		{"a loopback address", []func(*corev1.Service){externalIPs("127.0.0.1")}, `ExternalIP "127.0.0.1" is a loopback address: the Service is not served there, use another address`},
		{"no address", []func(*corev1.Service){ingress("x")}, `LoadBalancer "x" is no IP address: the Service is not served there, use another address`},
		{"no prefix", []func(*corev1.Service){ranges("x/8")}, `"x/8" in loadBalancerSourceRanges is no prefix and has no effect: write it as in 192.0.2.0/24`},
		{"a port name twice", []func(*corev1.Service){port("http", 81, 0)}, `port name "http" for TCP is there more than once, the first counts: change the others`},
		{"a port twice", []func(*corev1.Service){port("b", 80, 0)}, `port 80/TCP is there more than once, the first counts: change the others`},
		{"a node port twice", []func(*corev1.Service){nodePort(30080), port("b", 81, 30080)}, `nodePort 30080/TCP is there more than once, the first counts: change the others`},
		{"a node port for health checks too", []func(*corev1.Service){nodePort(30080), ingress("192.0.2.1"), externalLocal, func(s *corev1.Service) { s.Spec.HealthCheckNodePort = 30080 }}, `nodePort 30080/TCP, as healthCheckNodePort too, is there more than once, the first counts: change the others`},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got, want := findingsOf(feed(newState(), svc("web", test.changes...))), []string{"Service default/web: " + test.want}; !slices.Equal(got, want) {
				t.Errorf("%q, want %q", got, want)
			}
		})
	}
}

func TestEmptyAddressesAreNoFindings(t *testing.T) {
	if got := findingsOf(feed(newState(), svc("web", externalIPs("", " "), ingress(""), ranges("", " ")))); len(got) > 0 {
		t.Errorf("findings %q", got)
	}
}

func TestSamePortsOfOtherProtocols(t *testing.T) {
	s := feed(newState(), svc("web", nodePort(30080), func(s *corev1.Service) {
		s.Spec.Ports = append(s.Spec.Ports, corev1.ServicePort{Name: "http", Protocol: corev1.ProtocolUDP, Port: 80, NodePort: 30080})
	}))
	if findings := findingsOf(s); len(findings) > 0 {
		t.Errorf("findings %q", findings)
	}
	for name, port := range portsOf(s) {
		if got := strings.Join(frontends(port), ", "); got != "ClusterIP 10.96.0.1:80, NodePort 0.0.0.0:30080" {
			t.Errorf("%s: %s", name, got)
		}
	}
}
