package ipvs

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/fairway-lb/fairway/dataplane"
	"github.com/fairway-lb/fairway/dataplane/service"
)

var (
	clusterIP = service.Frontend{Kind: service.ClusterIP, Address: netip.MustParseAddrPort("10.96.0.1:80")}
	vip       = service.Frontend{Kind: service.LoadBalancer, Address: netip.MustParseAddrPort("198.18.0.1:80")}
	nodePort  = service.Frontend{Kind: service.NodePort, Address: netip.MustParseAddrPort("0.0.0.0:30000")}
	here      = netip.MustParseAddrPort("10.244.0.2:8080")
	there     = netip.MustParseAddrPort("10.244.1.2:8080")
)

func named(name string) service.PortName {
	return service.PortName{NamespacedName: types.NamespacedName{Namespace: "default", Name: name}, Protocol: service.TCP}
}

func testPlanner() planner {
	return planner{
		families:  families,
		options:   Options{Scheduler: "rr"},
		nodePorts: [2][]netip.Addr{{netip.MustParseAddr("172.16.0.1"), netip.MustParseAddr("192.168.9.1")}},
	}
}

// text lists what a plan has, without hairpins.
func (n *plan) text() string {
	var lines []string
	for e, within := range n.entries {
		if e.set == hairpinsSet {
			continue
		}
		line := fmt.Sprintf("%s %s:%d", sets[e.set].name, e.addr, e.port)
		if e.source.IsValid() {
			line += " " + e.source.String()
		}
		if within.within {
			line += " -> " + within.address.String()
		}
		lines = append(lines, line)
	}
	for k, v := range n.virtuals {
		kind := "virtual"
		if k.within {
			kind = "within"
		}
		var endpoints []string
		for e, w := range v.weights {
			endpoints = append(endpoints, fmt.Sprintf("%s*%d", e.Addr(), w))
		}
		slices.Sort(endpoints)
		lines = append(lines, fmt.Sprintf("%s %s %s/%#x/%d %v", kind, k.address, v.scheduler.name, v.flags(), v.timeout, endpoints))
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

func TestPlan(t *testing.T) {
	both, local := []netip.AddrPort{here, there}, []netip.AddrPort{here}
	for _, test := range []struct {
		name string
		port service.Port
		want string
	}{
		{"cluster IP", service.Port{Frontends: []service.Frontend{clusterIP}, Cluster: both, Usable: true}, `
cluster-ips 10.96.0.1:80
virtual 10.96.0.1:80 rr/0x0/0 [10.244.0.2*1 10.244.1.2*1]`},
		{"nobody", service.Port{Frontends: []service.Frontend{clusterIP, vip, nodePort}, ExternalPolicy: service.Local}, `
reject 10.96.0.1:80
reject 172.16.0.1:30000
reject 192.168.9.1:30000
reject 198.18.0.1:80`},
		{"policy Local, nobody here", service.Port{Frontends: []service.Frontend{clusterIP, vip}, InternalPolicy: service.Local, ExternalPolicy: service.Local, Cluster: []netip.AddrPort{there}, Usable: true}, `
drop 10.96.0.1:80
external-drop 198.18.0.1:80
within 198.18.0.1:80 -> 198.18.0.1:80
within 198.18.0.1:80 rr/0x0/0 [10.244.1.2*1]`},
		{"policy Local", service.Port{Frontends: []service.Frontend{nodePort}, ExternalPolicy: service.Local, Cluster: both, Local: local, Usable: true}, `
virtual 172.16.0.1:30000 rr/0x0/0 [10.244.0.2*1]
virtual 192.168.9.1:30000 rr/0x0/0 [10.244.0.2*1]
within 0.0.0.0:30000 rr/0x0/0 [10.244.0.2*1 10.244.1.2*1]
within 172.16.0.1:30000 -> 0.0.0.0:30000
within 192.168.9.1:30000 -> 0.0.0.0:30000`},
		{"affinity within the node is a hash", service.Port{Frontends: []service.Frontend{vip}, ExternalPolicy: service.Local, Cluster: both, Local: local, Usable: true, Affinity: time.Hour}, `
virtual 198.18.0.1:80 rr/0x1/3600 [10.244.0.2*1]
within 198.18.0.1:80 -> 198.18.0.1:80
within 198.18.0.1:80 mh/0x8/0 [10.244.0.2*1 10.244.1.2*1]`},
		{"source ranges", service.Port{Frontends: []service.Frontend{vip}, Cluster: local, Usable: true, SourceRanges: []netip.Prefix{netip.MustParsePrefix("172.16.0.0/24"), netip.MustParsePrefix("0.0.0.0/0")}}, `
allowed 198.18.0.1:80 0.0.0.0/1
allowed 198.18.0.1:80 128.0.0.0/1
allowed 198.18.0.1:80 172.16.0.0/24
allowed 198.18.0.1:80 198.18.0.1/32
masquerade 198.18.0.1:80
restricted 198.18.0.1:80
virtual 198.18.0.1:80 rr/0x0/0 [10.244.0.2*1]`},
		{"weights", service.Port{Frontends: []service.Frontend{vip}, Cluster: both, Usable: true, Weights: []service.Weight{{Endpoint: there, Weight: 7}}}, `
masquerade 198.18.0.1:80
virtual 198.18.0.1:80 wrr/0x0/0 [10.244.0.2*1 10.244.1.2*7]`},
		{"scheduler", service.Port{Frontends: []service.Frontend{clusterIP}, Cluster: local, Usable: true, Scheduler: "sh", Hash: service.HashSourcePort, Weights: []service.Weight{{Endpoint: here, Weight: 2}}}, `
cluster-ips 10.96.0.1:80
virtual 10.96.0.1:80 sh/0x18/0 [10.244.0.2*2]`},
		{"hash", service.Port{Frontends: []service.Frontend{clusterIP}, Cluster: local, Usable: true, Hash: service.HashSource}, `
cluster-ips 10.96.0.1:80
virtual 10.96.0.1:80 mh/0x8/0 [10.244.0.2*1]`},
		{"hash with ports", service.Port{Frontends: []service.Frontend{clusterIP}, Cluster: local, Usable: true, Hash: service.HashSourcePort, Affinity: time.Minute}, `
cluster-ips 10.96.0.1:80
virtual 10.96.0.1:80 mh/0x19/60 [10.244.0.2*1]`},
	} {
		t.Run(test.name, func(t *testing.T) {
			l := testPlanner()
			l.config.NodeAddresses = []netip.Addr{netip.MustParseAddr("172.16.0.1")}
			if got := l.plan(named("s"), &test.port).text(); got != strings.TrimSpace(test.want) {
				t.Errorf("got\n%s\nwant%s", got, test.want)
			}
		})
	}
}

// Whatever the way, what is desired in the end follows from what ports there are.
func TestDesiredIsWithoutHistory(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	// All want the same few frontends, so that they are each other's rivals.
	frontends := []service.Frontend{clusterIP, vip, nodePort, {Kind: service.ExternalIP, Address: netip.MustParseAddrPort("172.16.0.1:30000")}}
	pick := func() *service.Port {
		p := &service.Port{Usable: true, ExternalPolicy: service.Policy(random.IntN(2))}
		for _, f := range frontends {
			if random.IntN(2) == 0 {
				p.Frontends = append(p.Frontends, f)
			}
		}
		for _, e := range []netip.AddrPort{here, there} {
			if random.IntN(2) == 0 {
				p.Cluster = append(p.Cluster, e)
			}
		}
		return p
	}
	d := newDesired(testPlanner())
	for step := range 2000 {
		name := named(fmt.Sprint(random.IntN(5)))
		c := service.PortChange{Name: name, Before: d.ports[name], After: pick()}
		if c.Before != nil && random.IntN(3) == 0 {
			c.After = nil
		}
		d.apply([]service.PortChange{c})
		if step%50 == 0 {
			d.move([2][]netip.Addr{testPlanner().nodePorts[0][:1+random.IntN(2)]})
		}
		fresh := newDesired(d.planner)
		for name, p := range d.ports {
			fresh.apply([]service.PortChange{{Name: name, After: p}})
		}
		if !reflect.DeepEqual(d.virtuals, fresh.virtuals) || !maps.Equal(d.addresses, fresh.addresses) || len(d.entries) != len(fresh.entries) {
			t.Fatalf("after %d steps: %v\nfrom scratch: %v", step, d.virtuals, fresh.virtuals)
		}
		for k, e := range d.entries {
			if f := fresh.entries[k]; f == nil || f.count != e.count {
				t.Fatalf("after %d steps: %v is wanted %d times", step, k, e.count)
			}
		}
	}
	for name, p := range maps.Clone(d.ports) {
		d.apply([]service.PortChange{{Name: name, Before: p}})
	}
	if n := len(d.entries) + len(d.virtuals) + len(d.rivals) + len(d.addresses) + len(d.plans); n != 0 {
		t.Errorf("%d things are wanted by nobody", n)
	}
}

// What is compared with the kernel is in proportion to the change.
func TestWorkIsInProportion(t *testing.T) {
	var first int
	for _, count := range []int{10, 5000} {
		d := newDesired(testPlanner())
		port := func(i int, endpoints ...netip.AddrPort) service.PortChange {
			at := netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 96, byte(i >> 8), byte(i)}), 80)
			return service.PortChange{Name: named(fmt.Sprint(i)), After: &service.Port{
				Frontends: []service.Frontend{{Kind: service.ClusterIP, Address: at}}, Usable: true, Cluster: endpoints}}
		}
		for i := range count {
			d.apply([]service.PortChange{port(i, here)})
		}
		d.dirty = newDirty()
		d.apply([]service.PortChange{port(count/2, here, there)})
		n := len(d.dirty.entries) + len(d.dirty.virtuals) + len(d.dirty.addresses)
		if first == 0 {
			first = n
		}
		if n != first || n > 5 {
			t.Errorf("with %d ports a change concerns %d things, with fewer %d", count, n, first)
		}
	}
}

func TestOptions(t *testing.T) {
	for _, name := range Schedulers() {
		if err := (Options{Scheduler: name}).check(); err != nil {
			t.Error(err)
		}
	}
	for _, name := range []string{"", "wrrr", "mh-port"} {
		if err := (Options{Scheduler: name}).check(); err == nil || !strings.Contains(err.Error(), "use one of rr, wrr,") {
			t.Errorf("scheduler %q: %v", name, err)
		}
	}
	if got := (Options{Scheduler: "mh", HashPorts: true}).schedulerOf(&service.Port{}); got != (scheduler{"mh", flagFallback | flagPort}) {
		t.Errorf("mh with ports is %v", got)
	}
}

func TestNodePortAddresses(t *testing.T) {
	n := &nodeAddresses{others: map[netip.Addr]struct{}{}, own: map[netip.Addr]struct{}{netip.MustParseAddr("198.18.0.1"): {}}}
	for _, a := range []string{"127.0.0.1", "172.16.0.1", "192.168.9.1", "::1", "fe80::1", "fd00::1"} {
		n.others[netip.MustParseAddr(a)] = struct{}{}
	}
	if got := fmt.Sprint(n.nodePorts(&dataplane.Config{})); got != "[[172.16.0.1 192.168.9.1] [fd00::1]]" {
		t.Error(got)
	}
	config := dataplane.Config{NodePortAddresses: []netip.Prefix{netip.MustParsePrefix("192.168.0.0/16")}}
	if got := fmt.Sprint(n.nodePorts(&config)); got != "[[192.168.9.1] [fd00::1]]" {
		t.Error(got)
	}
}
