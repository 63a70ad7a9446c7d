package iptables

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/fairway-lb/fairway/dataplane"
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

func named(name string, family service.Family) service.PortName {
	return service.PortName{NamespacedName: types.NamespacedName{Namespace: "default", Name: name}, Port: "http", Protocol: service.TCP, Family: family}
}

// recorder writes down what it is handed, with ID for the digest of the port.
type recorder struct {
	id    string
	lines []string
}

func (r *recorder) add(table int, chain, rules string) {
	for rule := range strings.Lines(rules) {
		line := tableNames[table] + " " + chain + " " + strings.TrimSpace(rule)
		r.lines = append(r.lines, strings.ReplaceAll(line, r.id, "ID"))
	}
}

func (r *recorder) chain(table int, name, rules string)               { r.add(table, name, rules) }
func (r *recorder) item(table int, to bucket, _ string, rules string) { r.add(table, to.name(), rules) }

func TestPortRules(t *testing.T) {
	clusterIP := service.Frontend{Kind: service.ClusterIP, Address: at("10.96.7.163:80")}
	vip := service.Frontend{Kind: service.LoadBalancer, Address: at("198.18.0.1:80")}
	nodePort := service.Frontend{Kind: service.NodePort, Address: at("0.0.0.0:30080")}
	two := all("10.244.0.2:8080", "10.244.1.2:8080")
	pods := dataplane.Detector{CIDRs: []netip.Prefix{netip.MustParsePrefix("10.244.0.0/24")}}
	for _, test := range []struct {
		what   string
		port   service.Port
		config dataplane.Config
		family service.Family
		want   string
	}{
		{"a cluster IP", service.Port{Frontends: []service.Frontend{clusterIP}, NeedsCluster: true, Cluster: two, Usable: true}, dataplane.Config{Pods: pods}, service.IPv4, `
filter FAIRWAY-AT-3A7 -d 10.96.7.163/32 -g FAIRWAY-REFUSE
nat FAIRWAY-AT-3A7 -d 10.96.7.163/32 -p tcp -m tcp --dport 80 -j FAIRWAY-MARK-OTHERS
nat FAIRWAY-AT-3A7 -d 10.96.7.163/32 -p tcp -m tcp --dport 80 -g FAIRWAY-SVC-ID
nat FAIRWAY-SVC-ID -p tcp -m comment --comment "default/a:http" -m statistic --mode random --probability 0.50000000000 -j DNAT --to-destination 10.244.0.2:8080
nat FAIRWAY-SVC-ID -p tcp -j DNAT --to-destination 10.244.1.2:8080
nat FAIRWAY-HP-200 -s 10.244.0.2/32 -d 10.244.0.2/32 -j MASQUERADE --random-fully
nat FAIRWAY-HP-201 -s 10.244.1.2/32 -d 10.244.1.2/32 -j MASQUERADE --random-fully`},
		{"a NodePort with policy Local and affinity", service.Port{Frontends: []service.Frontend{nodePort}, ExternalPolicy: service.Local,
			NeedsCluster: true, NeedsLocal: true, Cluster: two[1:], Local: two[:1], Usable: true, Affinity: time.Minute}, dataplane.Config{Pods: pods}, service.IPv4, `
nat FAIRWAY-NP-TCP-16-30080 -p tcp -m tcp --dport 30080 -g FAIRWAY-EXT-ID
nat FAIRWAY-EXT-ID -s 10.244.0.0/24 -g FAIRWAY-SVC-ID
nat FAIRWAY-EXT-ID -m addrtype --src-type LOCAL -j FAIRWAY-MARK
nat FAIRWAY-EXT-ID -m addrtype --src-type LOCAL -g FAIRWAY-SVC-ID
nat FAIRWAY-EXT-ID -g FAIRWAY-LOC-ID
nat FAIRWAY-SVC-ID -p tcp -m comment --comment "default/a:http" -m recent --update --seconds 60 --reap --name LIST2 --mask 255.255.255.255 --rsource -j DNAT --to-destination 10.244.1.2:8080
nat FAIRWAY-SVC-ID -p tcp -m recent --set --name LIST2 --mask 255.255.255.255 --rsource -j DNAT --to-destination 10.244.1.2:8080
nat FAIRWAY-LOC-ID -p tcp -m comment --comment "default/a:http" -m recent --update --seconds 60 --reap --name LIST1 --mask 255.255.255.255 --rsource -j DNAT --to-destination 10.244.0.2:8080
nat FAIRWAY-LOC-ID -p tcp -m recent --set --name LIST1 --mask 255.255.255.255 --rsource -j DNAT --to-destination 10.244.0.2:8080
nat FAIRWAY-HP-200 -s 10.244.0.2/32 -d 10.244.0.2/32 -j MASQUERADE --random-fully
nat FAIRWAY-HP-201 -s 10.244.1.2/32 -d 10.244.1.2/32 -j MASQUERADE --random-fully`},
		{"source ranges, one with the node", service.Port{Frontends: []service.Frontend{vip}, NeedsCluster: true, Cluster: two[:1], Usable: true,
			SourceRanges: []netip.Prefix{netip.MustParsePrefix("172.16.0.0/24")}},
			dataplane.Config{NodeAddresses: []netip.Addr{netip.MustParseAddr("172.16.0.1")}}, service.IPv4, `
nat FAIRWAY-AT-100 -d 198.18.0.1/32 -p tcp -m tcp --dport 80 -g FAIRWAY-SRC-ID
filter FAIRWAY-AT-100 -d 198.18.0.1/32 -p tcp -m tcp --dport 80 -j DROP
nat FAIRWAY-SRC-ID -s 172.16.0.0/24 -g FAIRWAY-EXT-ID
nat FAIRWAY-SRC-ID -s 198.18.0.1/32 -d 198.18.0.1/32 -g FAIRWAY-EXT-ID
nat FAIRWAY-SRC-ID -j ACCEPT
nat FAIRWAY-EXT-ID -j FAIRWAY-MARK
nat FAIRWAY-EXT-ID -g FAIRWAY-SVC-ID
nat FAIRWAY-SVC-ID -p tcp -m comment --comment "default/a:http" -j DNAT --to-destination 10.244.0.2:8080
nat FAIRWAY-HP-200 -s 10.244.0.2/32 -d 10.244.0.2/32 -j MASQUERADE --random-fully`},
		{"source ranges without endpoints", service.Port{Frontends: []service.Frontend{vip}, NeedsCluster: true,
			SourceRanges: []netip.Prefix{netip.MustParsePrefix("172.16.0.0/24")}}, dataplane.Config{}, service.IPv4, `
nat FAIRWAY-AT-100 -d 198.18.0.1/32 -p tcp -m tcp --dport 80 -j ACCEPT
filter FAIRWAY-AT-100 -s 172.16.0.0/24 -d 198.18.0.1/32 -p tcp -m tcp --dport 80 -g FAIRWAY-REFUSE
filter FAIRWAY-AT-100 -d 198.18.0.1/32 -p tcp -m tcp --dport 80 -j DROP`},
		{"policy Local without local endpoints", service.Port{Frontends: []service.Frontend{clusterIP, nodePort}, InternalPolicy: service.Local, ExternalPolicy: service.Local,
			NeedsCluster: true, NeedsLocal: true, Cluster: two[1:], Usable: true}, dataplane.Config{}, service.IPv4, `
filter FAIRWAY-AT-3A7 -d 10.96.7.163/32 -g FAIRWAY-REFUSE
nat FAIRWAY-AT-3A7 -d 10.96.7.163/32 -p tcp -m tcp --dport 80 -j ACCEPT
filter FAIRWAY-AT-3A7 -d 10.96.7.163/32 -p tcp -m tcp --dport 80 -j DROP
nat FAIRWAY-NP-TCP-16-30080 -p tcp -m tcp --dport 30080 -g FAIRWAY-EXT-ID
filter FAIRWAY-NP-TCP-16-30080 -p tcp -m tcp --dport 30080 -j DROP
nat FAIRWAY-EXT-ID -m addrtype --src-type LOCAL -j FAIRWAY-MARK
nat FAIRWAY-EXT-ID -m addrtype --src-type LOCAL -g FAIRWAY-SVC-ID
nat FAIRWAY-EXT-ID -j ACCEPT
nat FAIRWAY-SVC-ID -p tcp -m comment --comment "default/a:http" -j DNAT --to-destination 10.244.1.2:8080
nat FAIRWAY-HP-201 -s 10.244.1.2/32 -d 10.244.1.2/32 -j MASQUERADE --random-fully`},
		{"IPv6", service.Port{Frontends: []service.Frontend{{Kind: service.ExternalIP, Address: at("[fd00:19::1a2]:443")}}, NeedsCluster: true,
			Cluster: all("[fd00:244::2]:8443"), Usable: true}, dataplane.Config{}, service.IPv6, `
nat FAIRWAY-AT-2A1 -d fd00:19::1a2/128 -p tcp -m tcp --dport 443 -j FAIRWAY-MARK
nat FAIRWAY-AT-2A1 -d fd00:19::1a2/128 -p tcp -m tcp --dport 443 -g FAIRWAY-SVC-ID
nat FAIRWAY-SVC-ID -p tcp -m comment --comment "default/a:http" -j DNAT --to-destination [fd00:244::2]:8443
nat FAIRWAY-HP-200 -s fd00:244::2/128 -d fd00:244::2/128 -j MASQUERADE --random-fully`},
	} {
		name := named("a", test.family)
		r := &recorder{id: digest(name.String())}
		portRules(name, &test.port, &test.config, r)
		got := strings.Join(r.lines, "\n")
		for i, e := range two {
			got = strings.ReplaceAll(got, listName(name, e), fmt.Sprintf("LIST%d", i+1))
		}
		if want := strings.TrimSpace(test.want); got != want {
			t.Errorf("%s: got\n%s\nwant\n%s", test.what, got, want)
		}
	}
}

// Whatever came and went, what is to be is as if it had never been otherwise.
func TestContentForgets(t *testing.T) {
	config := dataplane.Config{}
	must(t, config.Check())
	s := newSide(service.IPv4, &config, &tool{}, false, false)
	port := func(ip string) *service.Port {
		return &service.Port{Frontends: []service.Frontend{{Kind: service.ClusterIP, Address: at(ip + ":80")}}, NeedsCluster: true, Cluster: all("10.244.0.2:80"), Usable: true}
	}
	for _, c := range s.contents {
		c.settle(s.known.hash)
	}
	digests := func() [2]uint64 { return [2]uint64{s.contents[nat].digest, s.contents[filter].digest} }
	empty, chains := digests(), slices.Sorted(maps.Keys(s.contents[nat].chains))
	a, b := named("a", service.IPv4), named("b", service.IPv4)
	change := func(name service.PortName, before, after *service.Port) service.PortChange {
		return service.PortChange{Name: name, Before: before, After: after}
	}
	replace := func(name service.PortName, before, after *service.Port) {
		s.replace([]service.PortChange{change(name, before, after)})
	}
	replace(a, nil, port("10.96.0.1"))
	replace(b, nil, port("10.96.1.1")) // in the same branch, with the same endpoint
	replace(a, port("10.96.0.1"), port("10.96.0.2"))
	for _, c := range s.contents {
		if len(c.settle(s.known.hash)) == 0 {
			t.Error("a port changed nothing")
		}
	}
	replace(a, port("10.96.0.2"), port("10.96.0.2"))
	for i, c := range s.contents {
		if changes := c.settle(s.known.hash); len(changes) > 0 {
			t.Errorf("%s: %v for a port that is the same", tableNames[i], changes)
		}
	}
	replace(a, port("10.96.0.2"), nil)
	for _, change := range s.contents[nat].settle(s.known.hash) {
		if strings.HasPrefix(change.chain, prefix+"HP-") {
			t.Errorf("%s went, which another port needs", change.chain)
		}
	}
	replace(b, port("10.96.1.1"), nil)
	for _, c := range s.contents {
		c.settle(s.known.hash)
	}
	// A frontend goes from one port to another, whichever is named first.
	for _, from := range []service.PortName{a, b} {
		to := map[service.PortName]service.PortName{a: b, b: a}[from]
		settled := func() [2]uint64 {
			for _, c := range s.contents {
				c.settle(s.known.hash)
			}
			return digests()
		}
		replace(to, nil, port("10.96.0.1"))
		want := settled()
		replace(to, port("10.96.0.1"), nil)
		replace(from, nil, port("10.96.0.1"))
		both := []service.PortChange{change(a, nil, nil), change(b, nil, nil)}
		for i := range both {
			if both[i].Name == from {
				both[i].Before = port("10.96.0.1")
			} else {
				both[i].After = port("10.96.0.1")
			}
		}
		s.replace(both)
		if settled() != want {
			t.Errorf("the frontend of %s is not as if it had always been that of %s", from, to)
		}
		replace(to, port("10.96.0.1"), nil)
		settled()
	}
	if digests() != empty {
		t.Error("not as it was before")
	}
	if now := slices.Sorted(maps.Keys(s.contents[nat].chains)); !slices.Equal(now, chains) {
		t.Errorf("chains were %v, are %v", chains, now)
	}
}

func TestInput(t *testing.T) {
	got := input(nat, []change{
		{"FAIRWAY-A", text{}, text{"-j RETURN\n", true}},
		{"FAIRWAY-B", text{"-j FAIRWAY-C\n", true}, text{"-j FAIRWAY-A\n", true}},
		{"FAIRWAY-C", text{"-j DROP\n", true}, text{}},
	}, []hook{{"OUTPUT", "-j FAIRWAY-C\n"}, {"INPUT", "-j FAIRWAY-B\n"}}, []hook{{"OUTPUT", "-j FAIRWAY-A\n"}, {"OUTPUT", "-j FAIRWAY-B\n"}, {"INPUT", "-j FAIRWAY-B\n"}})
	want := `*nat
:FAIRWAY-A - [0:0]
:FAIRWAY-B - [0:0]
:FAIRWAY-C - [0:0]
-A FAIRWAY-A -j RETURN
-A FAIRWAY-B -j FAIRWAY-A
-D OUTPUT -j FAIRWAY-C
-I OUTPUT 1 -j FAIRWAY-B
-I OUTPUT 1 -j FAIRWAY-A
-X FAIRWAY-C
COMMIT
`
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if in := input(filter, nil, nil, nil); in != "" {
		t.Errorf("no change is %q", in)
	}
}

// Half-way, all that is refused before or after is, but a cluster IP that is
// new; and nothing is refused as a port without a Service that is one.
func TestWiden(t *testing.T) {
	port, other := "-d 10.96.0.1/32 -p tcp -m tcp --dport 80 ", "-d 10.96.0.1/32 -p tcp -m tcp --dport 81 "
	catchAll := "-d 10.96.0.1/32 " + proceed(refuseChain)
	for _, test := range []struct{ what, before, after, half string }{
		{"an endpoint less", catchAll, port + proceed(refuseChain) + catchAll, port + proceed(refuseChain) + catchAll},
		{"an endpoint more", port + drop + catchAll, catchAll, port + drop + catchAll},
		{"another verdict", port + drop + catchAll, port + proceed(refuseChain) + catchAll, port + proceed(refuseChain) + port + drop + catchAll},
		{"a Service more", "", catchAll, ""},
		{"a Service less", other + drop + catchAll, "", other + drop + catchAll},
	} {
		if got := union(test.before, test.after); got != test.half {
			t.Errorf("%s: got\n%swant\n%s", test.what, got, test.half)
		}
	}
}
