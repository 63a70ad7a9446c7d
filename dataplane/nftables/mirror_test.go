package nftables

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/fairway-lb/fairway/dataplane"
	"github.com/fairway-lb/fairway/dataplane/dataplanetest"
	"github.com/fairway-lb/fairway/dataplane/service"
)

func at(text string) netip.AddrPort { return netip.MustParseAddrPort(text) }

func all(texts ...string) []netip.AddrPort {
	var list []netip.AddrPort
	for _, text := range texts {
		list = append(list, at(text))
	}
	return list
}

func named(name string) service.PortName {
	return service.PortName{NamespacedName: types.NamespacedName{Namespace: "default", Name: name}, Protocol: service.TCP}
}

func (d *delta) String() string {
	var lines []string
	for _, c := range d.newClasses {
		lines = append(lines, "+ chain "+c.String())
	}
	for _, l := range d.newLearns {
		lines = append(lines, "+ chain "+l.String())
	}
	deleted := slices.Concat(d.deleted, d.remains, without(d.paused, d.resumed))
	added := slices.Concat(d.added, without(d.resumed, d.paused))
	slices.SortFunc(deleted, compareChanges)
	slices.SortFunc(added, compareChanges)
	for _, c := range deleted {
		lines = append(lines, "- "+c.set+" "+readKey(c.set, c.key))
	}
	for _, c := range added {
		line := "+ " + c.set + " " + readKey(c.set, c.key)
		if c.end != "" {
			line += " to " + readKey(c.set, c.end)
		}
		switch v := c.value; {
		case v.none:
		case v.endpoint != "":
			line += " : " + readFields(addrPort, v.endpoint)
		case v.class != class{}:
			line += " : " + v.class.String()
		case v.learn != learn{}:
			line += " : " + v.learn.String()
		case v.verdict == dropped:
			line += " : drop"
		default:
			line += " : " + v.verdict.chain
		}
		lines = append(lines, line)
	}
	for _, c := range d.oldClasses {
		lines = append(lines, "- chain "+c.String())
	}
	for _, l := range d.oldLearns {
		lines = append(lines, "- chain "+l.String())
	}
	return strings.Join(lines, "\n")
}

// without leaves the changes that are not among the others.
func without(changes, others []change) []change {
	return slices.DeleteFunc(slices.Clone(changes), func(c change) bool { return slices.Contains(others, c) })
}

func readKey(set, key string) string {
	i := slices.IndexFunc(sets, func(s setSpec) bool { return s.name == set })
	return readFields(sets[i].key, key)
}

// readFields reads a key of IPv4.
func readFields(fields []field, key string) string {
	var words []string
	for _, f := range fields {
		data := []byte(key[:4])
		key = key[4:]
		switch f {
		case saddrField, daddrField:
			words = append(words, netip.AddrFrom4([4]byte(data)).String())
		case protocolField:
			words = append(words, service.Protocol(data[0]).String())
		case portField:
			words = append(words, strconv.Itoa(int(binary.BigEndian.Uint16(data))))
		case slotField:
			words = append(words, strconv.Itoa(int(binary.NativeEndian.Uint32(data))))
		}
	}
	return strings.Join(words, " ")
}

// One mirror lives through a sequence of changes.
func TestMirror(t *testing.T) {
	clusterIP := service.Frontend{Kind: service.ClusterIP, Address: at("10.96.0.1:80")}
	vip := service.Frontend{Kind: service.LoadBalancer, Address: at("198.18.0.1:80")}
	nodePort := service.Frontend{Kind: service.NodePort, Address: at("0.0.0.0:30080")}
	one, two := all("10.244.0.2:8080"), all("10.244.0.2:8080", "10.244.1.2:8080")
	swapped := all("10.244.0.2:8080", "10.244.1.3:8080")
	port := func(edit func(*service.Port)) *service.Port {
		p := &service.Port{Frontends: []service.Frontend{clusterIP}, NeedsCluster: true, Cluster: two, Usable: true}
		if edit != nil {
			edit(p)
		}
		return p
	}
	m := newMirror(service.IPv4, &dataplane.Config{NodeAddresses: []netip.Addr{netip.MustParseAddr("172.16.0.1")}})
	ports := map[string]*service.Port{}
	steps := []struct {
		what, name string
		after      *service.Port
		want       string
	}{
		{"a cluster IP", "a", port(nil), `
+ chain internal-c2
+ cluster-ips 10.96.0.1
+ endpoints 10.96.0.1 TCP 80 0 : 10.244.0.2 8080
+ endpoints 10.96.0.1 TCP 80 1 : 10.244.1.2 8080
+ hairpins 10.244.0.2 10.244.0.2
+ hairpins 10.244.1.2 10.244.1.2
+ services 10.96.0.1 TCP 80 : internal-c2`},
		{"the same again", "a", port(nil), ``},
		{"an endpoint is another", "a", port(func(p *service.Port) { p.Cluster = swapped }), `
- endpoints 10.96.0.1 TCP 80 1
- hairpins 10.244.1.2 10.244.1.2
+ endpoints 10.96.0.1 TCP 80 1 : 10.244.1.3 8080
+ hairpins 10.244.1.3 10.244.1.3`},
		{"another port of that address, of the same class", "b", port(func(p *service.Port) {
			p.Frontends = []service.Frontend{{Kind: service.ClusterIP, Address: at("10.96.0.1:81")}}
		}), `
+ endpoints 10.96.0.1 TCP 81 0 : 10.244.0.2 8080
+ endpoints 10.96.0.1 TCP 81 1 : 10.244.1.2 8080
+ hairpins 10.244.1.2 10.244.1.2
+ services 10.96.0.1 TCP 81 : internal-c2`},
		{"one endpoint less", "a", port(func(p *service.Port) { p.Cluster = one }), `
+ chain internal-c1
- endpoints 10.96.0.1 TCP 80 1
- hairpins 10.244.1.3 10.244.1.3
- services 10.96.0.1 TCP 80
+ services 10.96.0.1 TCP 80 : internal-c1`},
		{"the other is gone", "b", nil, `
- endpoints 10.96.0.1 TCP 81 0
- endpoints 10.96.0.1 TCP 81 1
- hairpins 10.244.1.2 10.244.1.2
- services 10.96.0.1 TCP 81
- chain internal-c2`},
		{"no endpoint", "a", port(func(p *service.Port) { p.Cluster, p.Usable = nil, false }), `
- endpoints 10.96.0.1 TCP 80 0
- hairpins 10.244.0.2 10.244.0.2
- services 10.96.0.1 TCP 80
+ services 10.96.0.1 TCP 80 : refuse
- chain internal-c1`},
		{"none of this node", "a", port(func(p *service.Port) {
			p.Cluster, p.InternalPolicy, p.NeedsLocal = nil, service.Local, true
		}), `
- services 10.96.0.1 TCP 80
+ services 10.96.0.1 TCP 80 : drop`},
		{"gone", "a", nil, `
- cluster-ips 10.96.0.1
- services 10.96.0.1 TCP 80`},
		{"policy Local, affinity", "a", port(func(p *service.Port) {
			p.Frontends = []service.Frontend{nodePort}
			p.ExternalPolicy, p.NeedsLocal, p.Local, p.Affinity = service.Local, true, one, time.Hour
		}), `
+ chain nodeport-external-local-c2-l1-sticky
+ chain nodeport-learn-3600
+ hairpins 10.244.0.2 10.244.0.2
+ hairpins 10.244.1.2 10.244.1.2
+ nodeport-endpoints TCP 30080 0 : 10.244.0.2 8080
+ nodeport-endpoints TCP 30080 1 : 10.244.1.2 8080
+ nodeport-learn TCP 30080 : nodeport-learn-3600
+ nodeport-local-endpoints TCP 30080 0 : 10.244.0.2 8080
+ nodeports TCP 30080 : nodeport-external-local-c2-l1-sticky`},
		{"gone", "a", nil, `
- hairpins 10.244.0.2 10.244.0.2
- hairpins 10.244.1.2 10.244.1.2
- nodeport-endpoints TCP 30080 0
- nodeport-endpoints TCP 30080 1
- nodeport-learn TCP 30080
- nodeport-local-endpoints TCP 30080 0
- nodeports TCP 30080
- chain nodeport-external-local-c2-l1-sticky
- chain nodeport-learn-3600`},
		{"source ranges, merged, with the node", "a", port(func(p *service.Port) {
			p.Frontends, p.Cluster = []service.Frontend{vip}, one
			p.SourceRanges = dataplanetest.Prefixes("172.16.0.0/24", "172.16.0.0/16", "192.0.2.1/32")
		}), `
+ chain external-c1
+ allowed 198.18.0.1 TCP 80 172.16.0.0 to 198.18.0.1 TCP 80 172.16.255.255
+ allowed 198.18.0.1 TCP 80 192.0.2.1 to 198.18.0.1 TCP 80 192.0.2.1
+ allowed 198.18.0.1 TCP 80 198.18.0.1 to 198.18.0.1 TCP 80 198.18.0.1
+ endpoints 198.18.0.1 TCP 80 0 : 10.244.0.2 8080
+ hairpins 10.244.0.2 10.244.0.2
+ restricted 198.18.0.1 TCP 80
+ services 198.18.0.1 TCP 80 : external-c1`},
	}
	for _, s := range steps {
		d := m.apply([]service.PortChange{{Name: named(s.name), Before: ports[s.name], After: s.after}})
		ports[s.name] = s.after
		if got, want := d.String(), strings.TrimPrefix(s.want, "\n"); got != want {
			t.Errorf("%s:\n%s\nwant:\n%s", s.what, got, want)
		}
	}

	// A frontend goes from one Service to another within one change.
	to := port(func(p *service.Port) { p.Frontends, p.Cluster = []service.Frontend{vip}, one })
	d := m.apply([]service.PortChange{{Name: named("b"), After: to}, {Name: named("a"), Before: ports["a"]}})
	want := `- allowed 198.18.0.1 TCP 80 172.16.0.0
- allowed 198.18.0.1 TCP 80 192.0.2.1
- allowed 198.18.0.1 TCP 80 198.18.0.1
- restricted 198.18.0.1 TCP 80`
	if got := d.String(); got != want {
		t.Errorf("from one to another:\n%s\nwant:\n%s", got, want)
	}
}

func TestHomes(t *testing.T) {
	frontend := service.Frontend{Kind: service.ClusterIP, Address: at("10.96.0.1:80")}
	port := func(policy service.Policy, affinity time.Duration, cluster ...string) *service.Port {
		return &service.Port{Frontends: []service.Frontend{frontend}, InternalPolicy: policy, Affinity: affinity, Cluster: all(cluster...)}
	}
	const a, b = "10.244.0.2:80", "10.244.0.3:80"
	for _, test := range []struct {
		what          string
		before, after *service.Port
		want          []string // who may be stayed with; nil if nobody has to ask
	}{
		{"no affinity", port(0, 0, a), port(0, 0, b), nil},
		{"unchanged", port(0, time.Hour, a, b), port(0, time.Hour, a, b), []string{a, b}},
		{"one leaves", port(0, time.Hour, a, b), port(0, time.Hour, b), []string{b}},
		{"one comes", port(0, time.Hour, a), port(0, time.Hour, a, b), []string{a, b}},
		{"another policy", port(0, time.Hour, a), port(service.Local, time.Hour, a), []string{}},
		{"switched off", port(0, time.Hour, a), port(0, 0, a), []string{}},
		{"deleted", port(0, time.Hour, a), nil, []string{}},
	} {
		h := homes{}
		h.add(named("a"), test.before, test.after)
		stay, found := h[elementKey{set: affinitySet, key: frontendKey(frontend, service.TCP)}]
		if found != (test.want != nil) || len(stay) != len(test.want) {
			t.Errorf("%s: got %d endpoints to stay with, %v; want %v", test.what, len(stay), found, test.want)
		}
		for _, e := range test.want {
			if !stay[endpointData(at(e))] {
				t.Errorf("%s: %s is missing", test.what, e)
			}
		}
	}
}
