package service

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
)

// TestDecisionTable goes through the endpoints that a Service may have, and
// what its traffic policies make of them.
func TestDecisionTable(t *testing.T) {
	const (
		lr  = "10.0.0.1 here rs"
		rr  = "10.0.0.2 there rs"
		lst = "10.0.0.3 here st"
		rst = "10.0.0.4 there st"
		lnt = "10.0.0.5 here t"
		rnr = "10.0.0.6 there -"
	)
	for _, test := range []struct {
		name           string
		endpoints      []string
		cluster, local string // last digits of the endpoints; DROP; REJECT
	}{
		{"ready here and there", []string{lr, rr}, "1 2", "1"},
		{"ready here", []string{lr}, "1", "1"},
		{"ready there", []string{rr}, "2", "DROP"},
		{"terminating here, ready there", []string{lst, rr}, "2", "3"},
		{"terminating here and there", []string{lst, rst}, "3 4", "3"},
		{"terminating there", []string{rst}, "4", "DROP"},
		{"terminating there, ready here", []string{lr, rst}, "1", "1"},
		{"ready here and there, terminating here", []string{lr, lst, rr}, "1 2", "1"},
		{"not serving, not ready", []string{lnt, rnr}, "REJECT", "REJECT"},
		{"none", nil, "REJECT", "REJECT"},
	} {
		t.Run(test.name, func(t *testing.T) {
			for _, internal := range []Policy{Cluster, Local} {
				for _, external := range []Policy{Cluster, Local} {
					object := svc("web", ingress("192.0.2.1"), externalIPs("192.0.2.2"))
					object.Spec.Ports[0].NodePort = 30080
					if internal == Local {
						internalLocal(object)
					}
					if external == Local {
						externalLocal(object)
					}
					p := read(t, web(IPv4), object, epSlice("a", "web", test.endpoints...))
					for _, f := range p.Frontends {
						want := test.cluster
						if f.Kind == ClusterIP && internal == Local || f.Kind != ClusterIP && external == Local {
							want = test.local
						}
						if got := chosen(p, f.Kind); got != want {
							t.Errorf("internal %s, external %s: %s goes to %s, want %s", internal, external, f.Kind, got, want)
						}
					}
				}
			}
		})
	}
}

// chosen returns the last digits of what Choose returns.
func chosen(p *Port, kind Kind) string {
	endpoints, verdict := p.Choose(kind)
	if verdict != Forward {
		return strings.ToUpper(verdict.String())
	}
	return digits(addrs(endpoints))
}

// digits returns "10.0.0.1:8080 10.0.0.2:8080" as "1 2".
func digits(addrs string) string {
	return strings.ReplaceAll(strings.ReplaceAll(addrs, "10.0.0.", ""), ":8080", "")
}

func TestEndpointChoice(t *testing.T) {
	for _, test := range []struct {
		name           string
		endpoints      []string
		cluster, local string
	}{
		{"absent conditions mean ready", []string{"10.0.0.1 here *"}, "1", "1"},
		{"ready counts although it terminates (publishNotReadyAddresses)", []string{"10.0.0.1 here rt", "10.0.0.2 here st"}, "1", "1"},
		{"an endpoint of no node is of another", []string{"10.0.0.1 * rs"}, "1", ""},
		{"sorted by address, not by text", []string{"10.0.0.10 here rs", "10.0.0.9 here rs"}, "9 10", "9 10"},

		{"hints for the zone", []string{"10.0.0.1 there rs z=east", "10.0.0.2 there rs z=west"}, "1", ""},
		{"a hint for several zones", []string{"10.0.0.1 there rs z=west z=east", "10.0.0.2 there rs z=west"}, "1", ""},
		{"a zone whose name begins like this one", []string{"10.0.0.1 there rs z=east-1", "10.0.0.2 there rs z=eas"}, "1 2", ""},
		{"one ready endpoint without a hint for a zone", []string{"10.0.0.1 there rs z=east", "10.0.0.2 there rs"}, "1 2", ""},
		{"no hint for this zone", []string{"10.0.0.1 there rs z=west", "10.0.0.2 there rs z=west"}, "1 2", ""},
		{"hints for the node", []string{"10.0.0.1 there rs n=here", "10.0.0.2 there rs n=there"}, "1", ""},
		{"hints for the node go before the zone", []string{"10.0.0.1 there rs n=here z=west", "10.0.0.2 there rs n=there z=east"}, "1", ""},
		{"hints for other nodes, then the zone", []string{"10.0.0.1 there rs n=there z=east", "10.0.0.2 there rs n=there z=west"}, "1", ""},
		{"hints for the node not everywhere, then the zone", []string{"10.0.0.1 there rs n=here z=west", "10.0.0.2 there rs z=east"}, "2", ""},
		{"hints of what is not ready do not matter", []string{"10.0.0.1 there rs z=east", "10.0.0.2 there rs z=west", "10.0.0.3 there st", "10.0.0.4 there -"}, "1", ""},
		{"hints do not matter to the local set", []string{"10.0.0.1 there rs z=east", "10.0.0.2 here rs z=west"}, "1", "2"},
		{"hints do not matter to the fallback", []string{"10.0.0.1 there st z=east", "10.0.0.2 there st z=west"}, "1 2", ""},
		{"a hint of a terminating endpoint makes no hint hold", []string{"10.0.0.1 there rs z=west", "10.0.0.2 there st z=east"}, "1", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			p := read(t, web(IPv4), svc("web", internalLocal, nodePort(30080)), epSlice("a", "web", test.endpoints...))
			if got := digits(addrs(p.Cluster)); got != test.cluster {
				t.Errorf("cluster set %q, want %q", got, test.cluster)
			}
			if got := digits(addrs(p.Local)); got != test.local {
				t.Errorf("local set %q, want %q", got, test.local)
			}
		})
	}
}

// TestAbsentConditions has each condition absent where it matters.
func TestAbsentConditions(t *testing.T) {
	yes, no := new(true), new(false)
	for _, test := range []struct {
		name       string
		conditions discoveryv1.EndpointConditions
		usable     bool
	}{
		{"absent ready is ready", discoveryv1.EndpointConditions{Serving: no, Terminating: no}, true},
		{"absent serving serves", discoveryv1.EndpointConditions{Ready: no, Terminating: yes}, true},
		{"absent terminating does not terminate", discoveryv1.EndpointConditions{Ready: no, Serving: yes}, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			slice := with(epSlice("a", "web", ready), func(s *discoveryv1.EndpointSlice) { s.Endpoints[0].Conditions = test.conditions })
			if p := read(t, web(IPv4), svc("web"), slice); p.Usable != test.usable {
				t.Errorf("usable %v", p.Usable)
			}
			if e := ReadEndpoints([]*discoveryv1.EndpointSlice{slice}, discoveryv1.AddressTypeIPv4); e.Any() != test.usable {
				t.Errorf("ReadEndpoints says %v", e.Any())
			}
		})
	}
}

func TestNodeWithoutZone(t *testing.T) {
	p := read(t, web(IPv4), nodeIn(""), svc("web"), epSlice("a", "web", "10.0.0.1 there rs z=", "10.0.0.2 there rs z=west"))
	if got := digits(addrs(p.Cluster)); got != "1 2" {
		t.Errorf("cluster set %s, want all", got)
	}
}

func TestNeededSets(t *testing.T) {
	for _, test := range []struct {
		name           string
		changes        []func(*corev1.Service)
		cluster, local bool
	}{
		{"cluster IP", nil, true, false},
		{"cluster IP, internal Local", []func(*corev1.Service){internalLocal}, false, true},
		{"cluster IP, external Local without an external frontend", []func(*corev1.Service){externalLocal}, true, false},
		{"node port", []func(*corev1.Service){nodePort(30080)}, true, false},
		{"node port, internal Local", []func(*corev1.Service){nodePort(30080), internalLocal}, true, true},
		{"node port, external Local", []func(*corev1.Service){nodePort(30080), externalLocal}, true, true},
		{"load-balancer address, external Local", []func(*corev1.Service){ingress("192.0.2.1"), externalLocal}, true, true},
		{"external IP, external Local, internal Local", []func(*corev1.Service){externalIPs("192.0.2.1"), externalLocal, internalLocal}, true, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			p := read(t, web(IPv4), svc("web", test.changes...), epSlice("a", "web", "10.0.0.1 here rs"))
			if p.NeedsCluster != test.cluster || p.NeedsLocal != test.local {
				t.Errorf("needs cluster %v, local %v", p.NeedsCluster, p.NeedsLocal)
			}
			if test.cluster != (len(p.Cluster) == 1) || test.local != (len(p.Local) == 1) {
				t.Errorf("cluster set %v, local set %v", p.Cluster, p.Local)
			}
			if !p.Usable {
				t.Error("not usable")
			}
		})
	}
}

func TestDuplicateEndpoints(t *testing.T) {
	for _, test := range []struct {
		name       string
		one, other string
		cluster    string
	}{
		{"the one that does not terminate wins", "10.0.0.1 there st", "10.0.0.1 here rs", "1"},
		{"even if it is not ready", "10.0.0.1 there st", "10.0.0.1 here -", ""},
		{"a ready one wins over one that is not", "10.0.0.1 here -", "10.0.0.1 here rs", "1"},
		{"even if both serve", "10.0.0.1 here s", "10.0.0.1 here rs", "1"},
		{"the same twice is there once", "10.0.0.1 here rs", "10.0.0.1 here rs", "1"},
	} {
		t.Run(test.name, func(t *testing.T) {
			for _, order := range [][2]string{{test.one, test.other}, {test.other, test.one}} {
				for name, objects := range map[string][]any{
					"two slices": {svc("web"), epSlice("a", "web", order[0]), epSlice("b", "web", order[1])},
					"one slice":  {svc("web"), epSlice("a", "web", order[0], order[1])},
				} {
					if got := digits(addrs(read(t, web(IPv4), objects...).Cluster)); got != test.cluster {
						t.Errorf("%s, %q: %q, want %q", name, order, got, test.cluster)
					}
				}
			}
		})
	}
}

func TestServingEndpoints(t *testing.T) {
	endpoints := []string{
		"10.0.0.1 here rs", "10.0.0.2 there rs", "10.0.0.3 here st", "10.0.0.4 there st", "10.0.0.5 here t", "10.0.0.6 there -",
		"10.0.0.7 here r", // publishNotReadyAddresses: it gets traffic, so its flows stay
	}
	for protocolName, want := range map[corev1.Protocol]string{
		corev1.ProtocolUDP: "1 2 3 4 7", corev1.ProtocolTCP: "", corev1.ProtocolSCTP: "",
	} {
		t.Run(string(protocolName), func(t *testing.T) {
			slice := with(epSlice("a", "web", endpoints...), func(s *discoveryv1.EndpointSlice) {
				s.Ports = slicePorts("http/" + string(protocolName) + "/8080")
			})
			name := web(IPv4)
			name.Protocol, _ = readProtocol(protocolName)
			p := read(t, name, svc("web", protocol(protocolName), internalLocal), slice)
			if got := digits(addrs(p.Serving)); got != want {
				t.Errorf("serving %q, want %q", got, want)
			}
			if len(p.Local) == 0 || !slices.IsSortedFunc(p.Serving, netip.AddrPort.Compare) {
				t.Errorf("local %v, serving %v", p.Local, p.Serving)
			}
		})
	}
}
