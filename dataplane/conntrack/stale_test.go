package conntrack

import (
	"fmt"
	"iter"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/types"

	"github.com/fairway-lb/fairway/dataplane/service"
)

func name(of string, protocol service.Protocol, family service.Family) service.PortName {
	return service.PortName{NamespacedName: types.NamespacedName{Namespace: "default", Name: of}, Protocol: protocol, Family: family}
}

// port is written "10.96.0.1:53 node:30053 > 10.0.0.1:5353": frontends and
// serving endpoints. "" is no port.
func port(text string) *service.Port {
	if text == "" {
		return nil
	}
	p := &service.Port{}
	before, after, _ := strings.Cut(text, ">")
	for _, f := range strings.Fields(before) {
		kind := service.ClusterIP
		if number, is := strings.CutPrefix(f, "node:"); is {
			kind, f = service.NodePort, "0.0.0.0:"+number
		} else if number, is := strings.CutPrefix(f, "node6:"); is {
			kind, f = service.NodePort, "[::]:"+number
		}
		p.Frontends = append(p.Frontends, service.Frontend{Kind: kind, Address: netip.MustParseAddrPort(f)})
	}
	for _, e := range strings.Fields(after) {
		p.Serving = append(p.Serving, netip.MustParseAddrPort(e))
	}
	slices.SortFunc(p.Serving, netip.AddrPort.Compare)
	return p
}

// world is service ports over time.
type world map[service.PortName]*service.Port

// set makes changes: pairs of a name and a port.
func (w world) set(changes ...any) (list []service.PortChange) {
	for i := 0; i < len(changes); i += 2 {
		name, after := changes[i].(service.PortName), port(changes[i+1].(string))
		list = append(list, service.PortChange{Name: name, Before: w[name], After: after})
		if w[name] = after; after == nil {
			delete(w, name)
		}
	}
	return list
}

func (w world) ports() iter.Seq2[service.PortName, *service.Port] {
	return func(yield func(service.PortName, *service.Port) bool) {
		for name, port := range w {
			if !yield(name, port) {
				return
			}
		}
	}
}

// entry is of UDP and written "10.96.0.1:53 > 10.0.0.1:5353": the destination
// and the reply's source. Without the latter it is not translated.
func entry(text string) Entry {
	to, from, translated := strings.Cut(text, " > ")
	if !translated {
		from = to
	}
	client := netip.MustParseAddrPort("192.0.2.9:4000")
	if strings.HasPrefix(text, "[") {
		client = netip.MustParseAddrPort("[2001:db8::9]:4000")
	}
	return Entry{service.UDP, client, netip.MustParseAddrPort(to), netip.MustParseAddrPort(from), client}
}

var local = []netip.Prefix{netip.MustParsePrefix("192.0.2.1/32"), netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("2001:db8::1/128")}

// TestStale makes changes to a world and asks of entries.
func TestStale(t *testing.T) {
	dns, app := name("dns", service.UDP, service.IPv4), name("app", service.UDP, service.IPv4)
	dns6 := name("dns", service.UDP, service.IPv6)
	for _, test := range []struct {
		name        string
		before, now []any
		stale, kept []string
	}{
		{
			name:   "an endpoint is replaced",
			before: []any{dns, "10.96.0.1:53 203.0.113.1:53 > 10.0.0.1:53 10.0.0.2:53"},
			now:    []any{dns, "10.96.0.1:53 203.0.113.1:53 > 10.0.0.2:53 10.0.0.3:53"},
			stale:  []string{"10.96.0.1:53 > 10.0.0.1:53", "203.0.113.1:53 > 10.0.0.1:53"},
			kept:   []string{"10.96.0.1:53 > 10.0.0.2:53", "10.96.0.1:53 > 10.0.0.3:53", "10.96.0.1:54 > 10.0.0.1:53", "10.96.0.2:53 > 10.0.0.1:53", "10.0.0.1:53"},
		},
		{
			name:   "another port of the same endpoint",
			before: []any{dns, "10.96.0.1:53 > 10.0.0.1:53"}, now: []any{dns, "10.96.0.1:53 > 10.0.0.1:5353"},
			stale: []string{"10.96.0.1:53 > 10.0.0.1:53"}, kept: []string{"10.96.0.1:53 > 10.0.0.1:5353"},
		},
		{
			name:   "no endpoints are left",
			before: []any{dns, "10.96.0.1:53 node:30053 > 10.0.0.1:53"}, now: []any{dns, "10.96.0.1:53 node:30053"},
			kept: []string{"10.96.0.1:53 > 10.0.0.1:53", "10.96.0.1:53", "192.0.2.1:30053 > 10.0.0.1:53"},
		},
		{
			name:   "the first endpoint: black holes go",
			before: []any{dns, "10.96.0.1:53 node:30053"}, now: []any{dns, "10.96.0.1:53 node:30053 > 10.0.0.1:53"},
			stale: []string{"10.96.0.1:53", "192.0.2.1:30053"}, kept: []string{"10.96.0.1:53 > 10.0.0.1:53", "192.0.2.7:30053"},
		},
		{
			name:  "a Service",
			now:   []any{dns, "10.96.0.1:53 > 10.0.0.1:53"},
			stale: []string{"10.96.0.1:53", "10.96.0.1:53 > 10.0.0.9:53"}, kept: []string{"10.96.0.1:53 > 10.0.0.1:53"},
		},
		{
			name:   "a load-balancer address",
			before: []any{dns, "10.96.0.1:53 > 10.0.0.1:53"}, now: []any{dns, "10.96.0.1:53 203.0.113.1:53 > 10.0.0.1:53"},
			stale: []string{"203.0.113.1:53"}, kept: []string{"203.0.113.2:53", "10.96.0.1:53 > 10.0.0.1:53"},
		},
		{
			name:   "the Service goes: its flows stay",
			before: []any{dns, "10.96.0.1:53 node:30053 > 10.0.0.1:53"}, now: []any{dns, ""},
			kept: []string{"10.96.0.1:53 > 10.0.0.1:53", "10.96.0.1:53", "192.0.2.1:30053 > 10.0.0.1:53"},
		},
		{
			name:   "another Service has its address at once",
			before: []any{dns, "10.96.0.1:53 > 10.0.0.1:53"}, now: []any{dns, "", app, "10.96.0.1:53 > 10.0.0.2:53"},
			stale: []string{"10.96.0.1:53 > 10.0.0.1:53"}, kept: []string{"10.96.0.1:53 > 10.0.0.2:53"},
		},
		{
			name: "or later", now: []any{app, "10.96.0.1:53 > 10.0.0.2:53"},
			stale: []string{"10.96.0.1:53 > 10.0.0.1:53"},
		},
		{
			name:   "a node port is the node's",
			before: []any{dns, "10.96.0.1:53 node:30053 > 10.0.0.1:53"}, now: []any{dns, "10.96.0.1:53 node:30053 > 10.0.0.2:53"},
			stale: []string{"192.0.2.1:30053 > 10.0.0.1:53", "127.0.0.1:30053 > 10.0.0.1:53", "10.96.0.1:53 > 10.0.0.1:53"},
			kept:  []string{"192.0.2.7:30053", "192.0.2.7:30053 > 10.0.0.1:53", "10.0.0.1:30053", "192.0.2.1:30054"},
		},
		{
			name:   "an external IP of the node goes before the node port of another",
			before: []any{dns, "10.96.0.1:53 node:30053 > 10.0.0.1:53", app, "10.96.0.2:30053 192.0.2.1:30053 > 10.0.0.9:1"},
			now:    []any{dns, "10.96.0.1:53 node:30053 > 10.0.0.2:53"},
			stale:  []string{"127.0.0.1:30053 > 10.0.0.9:1", "192.0.2.1:30053 > 10.0.0.1:53"},
			kept:   []string{"192.0.2.1:30053 > 10.0.0.9:1"},
		},
		{
			name:   "and leaves its address to it",
			before: []any{dns, "10.96.0.1:53 node:30053 > 10.0.0.1:53", app, "10.96.0.2:30053 192.0.2.1:30053 > 10.0.0.9:1"},
			now:    []any{app, "10.96.0.2:30053 > 10.0.0.9:1"},
			stale:  []string{"192.0.2.1:30053 > 10.0.0.9:1"},
			kept:   []string{"192.0.2.1:30053 > 10.0.0.1:53"},
		},
		{
			name:   "an external IP without endpoints is no node port",
			before: []any{dns, "10.96.0.1:53 node:30053 > 10.0.0.1:53", app, "192.0.2.1:30053"},
			now:    []any{dns, "10.96.0.1:53 node:30053 > 10.0.0.2:53"},
			kept:   []string{"192.0.2.1:30053 > 10.0.0.1:53"},
		},
		{
			name:   "IPv6",
			before: []any{dns6, "[fd00::1]:53 node6:30053 > [fd01::1]:53"}, now: []any{dns6, "[fd00::1]:53 node6:30053 > [fd01::2]:53"},
			stale: []string{"[fd00::1]:53 > [fd01::1]:53", "[2001:db8::1]:30053"},
			kept:  []string{"[fd00::1]:53 > [fd01::2]:53", "[2001:db8::2]:30053", "192.0.2.1:30053"},
		},
		{
			name:   "what did not change is not looked at",
			before: []any{dns, "10.96.0.1:53 > 10.0.0.1:53", app, "10.96.0.2:54 > 10.0.0.2:54"},
			now:    []any{app, "10.96.0.2:54 > 10.0.0.3:54"},
			stale:  []string{"10.96.0.2:54 > 10.0.0.2:54"},
			kept:   []string{"10.96.0.1:53 > 10.0.0.9:53"},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := world{}
			w.set(test.before...)
			stale := Find(w.set(test.now...), w.ports())
			for _, text := range test.stale {
				if !stale.Has(entry(text), NewAddresses(local)) {
					t.Errorf("%s is kept", text)
				}
			}
			for _, text := range test.kept {
				if stale.Has(entry(text), NewAddresses(local)) {
					t.Errorf("%s is stale", text)
				}
			}
		})
	}
}

// TestPolicyFlips changes what is not about endpoints: flows stay, and what
// was not translated goes.
func TestPolicyFlips(t *testing.T) {
	w, dns := world{}, name("dns", service.UDP, service.IPv4)
	w.set(dns, "203.0.113.1:53 > 10.0.0.1:53")
	changes := w.set(dns, "203.0.113.1:53 > 10.0.0.1:53")
	changes[0].Before.ExternalPolicy = service.Local
	stale := Find(changes, w.ports())
	if !stale.Has(entry("203.0.113.1:53"), Addresses{}) || stale.Has(entry("203.0.113.1:53 > 10.0.0.1:53"), Addresses{}) {
		t.Error("not exactly what is not translated is stale")
	}
}

func TestOnlyUDP(t *testing.T) {
	for _, protocol := range []service.Protocol{service.TCP, service.SCTP} {
		w := world{}
		stale := Find(w.set(name("web", protocol, service.IPv4), "10.96.0.1:53 > 10.0.0.1:53"), w.ports())
		if stale.Any(service.IPv4) {
			t.Errorf("a change of %s is looked at", protocol)
		}
		stale = Find(w.set(name("dns", service.UDP, service.IPv4), "10.96.0.1:53 > 10.0.0.1:53"), w.ports())
		e := entry("10.96.0.1:53 > 10.0.0.9:53")
		if !stale.Has(e, Addresses{}) {
			t.Error("an entry of UDP is kept")
		}
		if e.Protocol = protocol; stale.Has(e, Addresses{}) {
			t.Errorf("an entry of %s is stale", protocol)
		}
	}
}

func TestNeeds(t *testing.T) {
	w := world{}
	stale := Find(w.set(name("dns", service.UDP, service.IPv4), "10.96.0.1:53 > 10.0.0.1:53"), w.ports())
	if !stale.Any(service.IPv4) || stale.Any(service.IPv6) || stale.NeedsLocal(service.IPv4) {
		t.Error("a cluster IP needs a look at its family, and not at the node's addresses")
	}
	stale = Find(w.set(name("dns", service.UDP, service.IPv6), "[fd00::1]:53 node6:30053"), w.ports())
	if stale.Any(service.IPv4) || !stale.NeedsLocal(service.IPv6) {
		t.Error("a node port needs the node's addresses of its family alone")
	}
	stale = Find(nil, nil)
	if stale.Any(service.IPv4) || stale.Any(service.IPv6) {
		t.Error("no change is looked at")
	}
}

// BenchmarkHas looks at an entry, among 10,000 UDP Services.
func BenchmarkHas(b *testing.B) {
	w := world{}
	var changes []service.PortChange
	for i := range 10_000 {
		changes = append(changes, w.set(name(fmt.Sprint(i), service.UDP, service.IPv4),
			fmt.Sprintf("10.96.%d.%d:53 node:%d > 10.0.0.1:53 10.0.0.2:53", i>>8, i&255, 20000+i))...)
	}
	stale, addresses := Find(changes, w.ports()), NewAddresses(local)
	entries := []Entry{entry("10.96.0.1:53 > 10.0.0.2:53"), entry("192.0.2.1:20001 > 10.0.0.2:53"), entry("198.51.100.1:443")}
	b.ReportAllocs()
	for b.Loop() {
		for _, e := range entries {
			if stale.Has(e, addresses) {
				b.Fatal(e)
			}
		}
	}
}
