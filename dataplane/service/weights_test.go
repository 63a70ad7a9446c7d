package service

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"github.com/fairway-lb/fairway/api/v1alpha2"
)

// weightsOf returns weights as "10.0.0.1=2 10.0.0.2=0", without ports.
func weightsOf(p *Port) string {
	var list []string
	for _, w := range p.Weights {
		list = append(list, fmt.Sprintf("%s=%d", w.Endpoint.Addr(), w.Weight))
	}
	return strings.Join(list, " ")
}

func TestWeights(t *testing.T) {
	v4 := []any{epSlice("a", "web", "10.0.0.1 here rs", "10.0.0.2 there rs"), epSlice("b", "web", "10.0.0.3 there rs", "10.0.0.4 * rs")}
	v6 := []any{epSlice("c", "web", "fd01::1 here rs", "fd01::2 there rs")}
	for _, test := range []struct {
		name, annotation string
		v4, v6           string
	}{
		{"nothing", "", "", ""},
		{"an address", "10.0.0.1=3", "10.0.0.1=3", ""},
		{"an address of IPv6", "FD01:0::1=3", "", "fd01::1=3"},
		{"an IPv4-mapped address", "::ffff:10.0.0.1=3", "10.0.0.1=3", ""},
		{"a node", "there=3", "10.0.0.2=3 10.0.0.3=3", "fd01::2=3"},
		{"all", "*=3", "10.0.0.1=3 10.0.0.2=3 10.0.0.3=3 10.0.0.4=3", "fd01::1=3 fd01::2=3"},
		{"an address goes before a node, and that before all, in any order", "*=2,there=3,10.0.0.2=4", "10.0.0.1=2 10.0.0.2=4 10.0.0.3=3 10.0.0.4=2", "fd01::1=2 fd01::2=3"},
		{"the weight that all have without saying", "*=2,there=1,10.0.0.1=1", "10.0.0.4=2", "fd01::1=2"},
		{"none and the most", "10.0.0.1=0,10.0.0.2=65535", "10.0.0.1=0 10.0.0.2=65535", ""},
		{"blanks and empty parts", " , 10.0.0.1 =\t3 ,, there= 2,", "10.0.0.1=3 10.0.0.2=2 10.0.0.3=2", "fd01::2=2"},
		{"others", "10.0.0.9=3,elsewhere=2", "", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := feed(newState(), append(append(v4, v6...), svc("web", clusterIPs("10.96.0.1", "fd00::1"), weighted(test.annotation)))...)
			ports := portsOf(s)
			for family, want := range map[Family]string{IPv4: test.v4, IPv6: test.v6} {
				if got := weightsOf(ports[web(family)]); got != want {
					t.Errorf("%s: %q, want %q", family, got, want)
				}
			}
			if findings := findingsOf(s); len(findings) > 0 {
				t.Errorf("findings %q", findings)
			}
		})
	}
}

// TestNodeNamedLikeAnAddress has nodes that are named by their addresses, as
// some installers do: the name means all endpoints there, but those that have
// the address themselves may be meant too.
func TestNodeNamedLikeAnAddress(t *testing.T) {
	for annotation, want := range map[string]string{
		"10.1.0.1=3":             "10.0.0.1=3 10.1.0.1=3",
		"10.1.0.1=3,10.0.0.1=2":  "10.0.0.1=2 10.1.0.1=3",
		"127.0.0.1=3":            "10.0.0.2=3", // as in local clusters
		"010.1.0.1=4,10.1.0.1=3": "10.1.0.1=4", // the second is the same address, and counts for nothing
	} {
		p := read(t, web(IPv4), svc("web", weighted(annotation)), epSlice("a", "web", "10.1.0.1 10.1.0.1 rs", "10.0.0.1 10.1.0.1 rs", "10.0.0.2 127.0.0.1 rs"))
		if got := weightsOf(p); got != want {
			t.Errorf("%s: %q, want %q", annotation, got, want)
		}
	}
}

// TestWeightsOfChosenEndpoints leaves out endpoints that the port does not
// use, and has those of both sets once.
func TestWeightsOfChosenEndpoints(t *testing.T) {
	slice := func() *discoveryv1.EndpointSlice {
		return with(epSlice("a", "web", "10.0.0.1 here rs z=east", "10.0.0.2 here rs z=west", "10.0.0.3 there rs z=east", "10.0.0.4 there rs z=west", "10.0.0.5 here st", "10.0.0.6 here -"),
			func(s *discoveryv1.EndpointSlice) { s.Ports = slicePorts("http/TCP/81", "http/TCP/80") })
	}
	for _, test := range []struct {
		name    string
		changes []func(*corev1.Service)
		want    string
	}{
		{"cluster", nil, "10.0.0.1:80=2 10.0.0.1:81=2 10.0.0.3:80=2 10.0.0.3:81=2"},
		{"local", []func(*corev1.Service){internalLocal}, "10.0.0.1:80=2 10.0.0.1:81=2 10.0.0.2:80=2 10.0.0.2:81=2"},
		{"both", []func(*corev1.Service){internalLocal, nodePort(30080)}, "10.0.0.1:80=2 10.0.0.1:81=2 10.0.0.2:80=2 10.0.0.2:81=2 10.0.0.3:80=2 10.0.0.3:81=2"},
	} {
		t.Run(test.name, func(t *testing.T) {
			p := read(t, web(IPv4), svc("web", append(test.changes, weighted("*=2"))...), slice())
			var list []string
			for _, w := range p.Weights {
				list = append(list, fmt.Sprintf("%s=%d", w.Endpoint, w.Weight))
			}
			if got := strings.Join(list, " "); got != test.want {
				t.Errorf("%s, want %s", got, test.want)
			}
		})
	}
}

func TestPortWeight(t *testing.T) {
	p := read(t, web(IPv4), svc("web", weighted("10.0.0.1=0,10.0.0.3=7")), epSlice("a", "web", "10.0.0.1 here rs", "10.0.0.2 here rs", "10.0.0.3 here rs"))
	for i, want := range []int{0, 1, 7} {
		if got := p.Weight(p.Cluster[i]); got != want {
			t.Errorf("%s has weight %d, want %d", p.Cluster[i], got, want)
		}
	}
	if got := p.Weight(netip.MustParseAddrPort("10.0.0.1:1")); got != 1 {
		t.Errorf("another port of an endpoint has weight %d", got)
	}
	if got := (&Port{}).Weight(p.Cluster[0]); got != 1 {
		t.Errorf("without weights one has weight %d", got)
	}
}

// TestWeightFindings has wrong entries among one that counts.
func TestWeightFindings(t *testing.T) {
	const prefix = "Service default/web: annotation " + v1alpha2.AnnotationWeights
	wrong := func(part string) string {
		return prefix + fmt.Sprintf(" has %q, which is no weight of anything, and has no effect: write it as in worker-1=3, 10.244.1.7=0 or *=2, with a weight from 0 to 65535", part)
	}
	twice := func(key string) string {
		return prefix + fmt.Sprintf(" has more than one weight of %q, the first counts: remove the others", key)
	}
	for _, test := range []struct {
		annotation string
		want       []string
	}{
		{"here=65536", []string{wrong("here=65536")}},
		{"here=-1", []string{wrong("here=-1")}},
		{"here=+1", []string{wrong("here=+1")}},
		{"here=1.5", []string{wrong("here=1.5")}},
		{"here=", []string{wrong("here=")}},
		{"here", []string{wrong("here")}},
		{"here=1=2", []string{wrong("here=1=2")}},
		{"here=18446744073709551617", []string{wrong("here=18446744073709551617")}},
		{"=1", []string{wrong("=1")}},
		{"Here=1", []string{wrong("Here=1")}},
		{"10.0.0.0/8=1", []string{wrong("10.0.0.0/8=1")}},
		{"::1=1", []string{wrong("::1=1")}},
		{"**=1", []string{wrong("**=1")}},
		{"x, y ,x", []string{wrong("x"), wrong("y")}},
		{"10.0.0.1=3", []string{twice("10.0.0.1")}},
		{"::ffff:10.0.0.1=2", []string{twice("::ffff:10.0.0.1")}},
		{"here=1,here=1", []string{twice("here")}},
		{"*=1,*=2", []string{twice("*")}},
		{strings.Repeat("x", 1000), []string{wrong(strings.Repeat("x", 64) + "...")}},
	} {
		t.Run(test.annotation[:min(30, len(test.annotation))], func(t *testing.T) {
			s := feed(newState(), svc("web", weighted("10.0.0.1=2,"+test.annotation+",10.0.0.2=4")), epSlice("a", "web", "10.0.0.1 there rs", "10.0.0.2 there rs"))
			if got := findingsOf(s); !slices.Equal(got, test.want) {
				t.Errorf("findings %q, want %q", got, test.want)
			}
			if got := weightsOf(portsOf(s)[web(IPv4)]); got != "10.0.0.1=2 10.0.0.2=4" {
				t.Errorf("weights %s: the others do not count", got)
			}
		})
	}
}

// TestWeightOfDuplicate has an endpoint in two slices, on other nodes: which
// of them counts does not depend on the order of events.
func TestWeightOfDuplicate(t *testing.T) {
	one, two := epSlice("a", "web", "10.0.0.1 x rs"), epSlice("b", "web", "10.0.0.1 y rs")
	service := svc("web", weighted("x=2,y=3"))
	same, swapped := read(t, web(IPv4), service, one, two), read(t, web(IPv4), service, epSlice("a", "web", "10.0.0.1 y rs"), epSlice("b", "web", "10.0.0.1 x rs"))
	if weightsOf(same) != "10.0.0.1=2" || weightsOf(swapped) != "10.0.0.1=2" {
		t.Errorf("weights %s and %s", weightsOf(same), weightsOf(swapped))
	}
}
