package conntrack

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

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
	p.Cluster = p.Serving
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

// indexes are those of a protocol, by family. They have nothing to search for.
type indexes [2]*index

func newIndexes(protocol service.Protocol) indexes {
	return indexes{{protocol: protocol}, {protocol: protocol}}
}

// follow has the indexes follow changes.
func (x indexes) follow(changes []service.PortChange) {
	for i := range changes {
		x[changes[i].Name.Family].take(&changes[i])
	}
}

// begin decides on the search for what has changed.
func (x indexes) begin() {
	for _, family := range x {
		family.next(time.Now())
	}
}

// forget has nothing be searched for.
func (x indexes) forget() {
	for _, family := range x {
		family.searched, family.changed = nil, nil
	}
}

// entry is of UDP and written "10.96.0.1:53 > 10.0.0.1:5353": the destination
// and the reply's source. Without the latter it is not translated.
// With "TCP " before it, it is of TCP, and with "SYN " it has had no answer yet.
func entry(text string) flow {
	protocol, answered := service.UDP, true
	if rest, is := strings.CutPrefix(text, "TCP "); is {
		protocol, text = service.TCP, rest
	} else if rest, is := strings.CutPrefix(text, "SYN "); is {
		protocol, text, answered = service.TCP, rest, false
	}
	to, from, translated := strings.Cut(text, " > ")
	if !translated {
		from = to
	}
	client := netip.MustParseAddrPort("192.0.2.9:4000")
	if strings.HasPrefix(text, "[") {
		client = netip.MustParseAddrPort("[2001:db8::9]:4000")
	}
	return flow{protocol, client, netip.MustParseAddrPort(to), netip.MustParseAddrPort(from), client, answered}
}

var local = []netip.Prefix{netip.MustParsePrefix("192.0.2.1/32"), netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("2001:db8::1/128")}

var own = newAddressSet(local)

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
			name:   "a node port changes hands",
			before: []any{dns, "10.96.0.1:53 node:30053 > 10.0.0.1:53", app, "10.96.0.2:54 > 10.0.0.2:53"},
			now:    []any{dns, "10.96.0.1:53 > 10.0.0.1:53", app, "10.96.0.2:54 node:30053 > 10.0.0.2:53"},
			stale:  []string{"192.0.2.1:30053 > 10.0.0.1:53"},
			kept:   []string{"192.0.2.1:30053 > 10.0.0.2:53", "10.96.0.1:53 > 10.0.0.1:53"},
		},
		{
			name:   "two Services swap addresses",
			before: []any{dns, "10.96.0.1:53 > 10.0.0.1:53", app, "10.96.0.2:53 > 10.0.0.2:53"},
			now:    []any{dns, "10.96.0.2:53 > 10.0.0.1:53", app, "10.96.0.1:53 > 10.0.0.2:53"},
			stale:  []string{"10.96.0.1:53 > 10.0.0.1:53", "10.96.0.2:53 > 10.0.0.2:53"},
			kept:   []string{"10.96.0.2:53 > 10.0.0.1:53", "10.96.0.1:53 > 10.0.0.2:53"},
		},
		{
			name:   "an external IP of the node goes before the node port of another",
			before: []any{dns, "10.96.0.1:53 node:30053 > 10.0.0.1:53", app, "10.96.0.2:30053 192.0.2.1:30053 > 10.0.0.9:1"},
			now:    []any{dns, "10.96.0.1:53 node:30053 > 10.0.0.2:53"},
			stale:  []string{"127.0.0.1:30053 > 10.0.0.9:1", "127.0.0.1:30053 > 10.0.0.1:53"},
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
		{
			name:   "nor by the number of its port",
			before: []any{dns, "10.96.0.1:53 > 10.0.0.1:53", app, "10.96.0.2:53 > 10.0.0.2:53"},
			now:    []any{app, "10.96.0.2:53 > 10.0.0.3:53"},
			stale:  []string{"10.96.0.2:53 > 10.0.0.2:53"},
			kept:   []string{"10.96.0.1:53 > 10.0.0.9:53"},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			for _, order := range []string{"", ", in the other order"} {
				w, x := world{}, newIndexes(service.UDP)
				x.follow(w.set(test.before...))
				x.forget()
				now := w.set(test.now...)
				if order != "" {
					slices.Reverse(now)
				}
				x.follow(now)
				x.begin()
				stale := func(text string) bool {
					e := entry(text)
					return x[e.family()].stale(&e, &own)
				}
				for _, text := range test.stale {
					if !stale(text) {
						t.Errorf("%s is kept%s", text, order)
					}
				}
				for _, text := range test.kept {
					if stale(text) {
						t.Errorf("%s is stale%s", text, order)
					}
				}
			}
		})
	}
}

// TestPolicyFlips changes what is not about endpoints: flows stay, and what
// was not translated goes.
func TestPolicyFlips(t *testing.T) {
	w, dns, x := world{}, name("dns", service.UDP, service.IPv4), newIndexes(service.UDP)
	x.follow(w.set(dns, "203.0.113.1:53 > 10.0.0.1:53"))
	x.forget()
	changes := w.set(dns, "203.0.113.1:53 > 10.0.0.1:53")
	changes[0].Before.ExternalPolicy = service.Local
	x.follow(changes)
	x.begin()
	black, served := entry("203.0.113.1:53"), entry("203.0.113.1:53 > 10.0.0.1:53")
	if !x[service.IPv4].stale(&black, &own) || x[service.IPv4].stale(&served, &own) {
		t.Error("not exactly what is not translated is stale")
	}
}

// TestProtocols has an index of each protocol judge entries of all.
func TestProtocols(t *testing.T) {
	all := []service.Protocol{service.TCP, service.UDP, service.SCTP}
	if c := NewCleaner(nil); len(c.indexes) != len(all) {
		t.Errorf("indexes of %d protocols", len(c.indexes))
	}
	for _, protocol := range all {
		x := newIndexes(protocol)
		x.follow(world{}.set(name("web", protocol, service.IPv4), "10.96.0.1:53 > 10.0.0.1:53"))
		x.begin()
		for _, other := range all {
			for _, answered := range []bool{false, true} {
				e := entry("10.96.0.1:53 > 10.0.0.9:53")
				e.protocol, e.answered = other, answered
				want := other == protocol && (protocol == service.UDP || !answered)
				if got := x[service.IPv4].stale(&e, &own); got != want {
					t.Errorf("searching %s: an entry of %s (answered: %v) is stale: %v, want %v", protocol, other, answered, got, want)
				}
			}
		}
	}
}

// TestNeeds makes changes to an index and asks what they take to look at.
func TestNeeds(t *testing.T) {
	dns, app := name("dns", service.UDP, service.IPv4), name("app", service.UDP, service.IPv4)
	for _, test := range []struct {
		name          string
		before, now   []any
		search, local bool
	}{
		{name: "nothing"},
		{name: "a cluster IP", now: []any{dns, "10.96.0.1:53 > 10.0.0.1:53"}, search: true},
		{name: "a node port", now: []any{dns, "node:30053 > 10.0.0.1:53"}, search: true, local: true},
		{name: "without endpoints", now: []any{dns, "10.96.0.1:53 node:30053"}},
		{name: "the Service goes", before: []any{dns, "10.96.0.1:53 node:30053 > 10.0.0.1:53"}, now: []any{dns, ""}},
		{name: "the node port of another", before: []any{dns, "node:30053 > 10.0.0.1:53"}, now: []any{app, "10.96.0.1:53 > 10.0.0.1:53"}, search: true},
		{name: "an address uncovers the node port of another", before: []any{dns, "node:30053 > 10.0.0.1:53", app, "192.0.2.1:30053"}, now: []any{app, ""}, search: true, local: true},
	} {
		t.Run(test.name, func(t *testing.T) {
			w, x := world{}, newIndexes(service.UDP)
			x.follow(w.set(test.before...))
			x.forget()
			x.follow(w.set(test.now...))
			x.begin()
			if search, local := x[service.IPv4].needs(); search != test.search || local != test.local {
				t.Errorf("search %v, the node's addresses %v; want %v, %v", search, local, test.search, test.local)
			}
			if search, _ := x[service.IPv6].needs(); search {
				t.Error("the other family is searched")
			}
		})
	}
}

// BenchmarkStale looks at an entry, among 10,000 UDP Services.
func BenchmarkStale(b *testing.B) {
	x := newIndexes(service.UDP)
	x.follow(many(10_000))
	x.begin()
	entries := []flow{entry("10.96.0.1:53 > 10.0.0.2:53"), entry("192.0.2.1:20001 > 10.0.0.2:53"), entry("198.51.100.1:443")}
	b.ReportAllocs()
	for b.Loop() {
		for i := range entries {
			if x[service.IPv4].stale(&entries[i], &own) {
				b.Fatal(entries[i])
			}
		}
	}
}

// BenchmarkChange follows a change of one of 10,000 UDP Services.
func BenchmarkChange(b *testing.B) {
	x := newIndexes(service.UDP)
	all := many(10_000)
	x.follow(all)
	x.forget()
	swap := all[5000]
	swap.Before = swap.After
	b.ReportAllocs()
	for b.Loop() {
		x[service.IPv4].take(&swap)
		if search, _ := x[service.IPv4].next(time.Time{}); !search {
			b.Fatal("nothing to do")
		}
		x[service.IPv4].done()
	}
}

// many are the changes that make n UDP Services of three frontends.
func many(n int) (changes []service.PortChange) {
	w := world{}
	for i := range n {
		changes = append(changes, w.set(name(fmt.Sprint(i), service.UDP, service.IPv4),
			fmt.Sprintf("10.96.%d.%d:53 198.18.%d.%d:53 node:%d > 10.0.0.1:53 10.0.0.2:53", i>>8, i&255, i>>8, i&255, 20000+i))...)
	}
	return changes
}
