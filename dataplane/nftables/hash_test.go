package nftables

import (
	"testing"
	"time"

	"github.com/fairway-lb/fairway/dataplane"
	"github.com/fairway-lb/fairway/dataplane/maglev"
	"github.com/fairway-lb/fairway/dataplane/service"
)

// Of the tables of hashing only what differs is sent, and a place is used
// again only when what was there has gone.
func TestHashMirror(t *testing.T) {
	m := newMirror(service.IPv4, &dataplane.Config{})
	ports := map[string]*service.Port{}
	port := func(address string, hash service.Hash, cluster ...string) *service.Port {
		return &service.Port{
			Frontends: []service.Frontend{{Kind: service.LoadBalancer, Address: at(address)}},
			Cluster:   all(cluster...), Usable: len(cluster) > 0, Hash: hash,
		}
	}
	const a, b, c = "10.244.0.2:80", "10.244.0.3:80", "10.244.0.4:80"
	before, err := maglev.New(all(a, b), tableSize)
	must(t, err)
	after, err := maglev.New(all(a, b, c), tableSize)
	must(t, err)
	moved := len(maglev.Diff(before, after))
	if moved > tableSize/2 {
		t.Fatalf("%d of %d slots move for one more endpoint of three", moved, tableSize)
	}
	sticky := port("198.18.0.1:80", service.HashSourcePort, a, b, c)
	sticky.Affinity = time.Hour
	local := port("198.18.0.1:80", service.HashSource, a, b, c)
	local.ExternalPolicy, local.Local = service.Local, all(a)
	type counts struct{ added, deleted, remains int }
	one := func(name string, p *service.Port) []service.PortChange {
		c := service.PortChange{Name: named(name), Before: ports[name], After: p}
		ports[name] = p
		return []service.PortChange{c}
	}
	for _, step := range []struct {
		what    string
		changes []service.PortChange
		slots   counts
		begun   string // the chain
	}{
		{"begins", one("x", port("198.18.0.1:80", service.HashSourcePort, a, b)), counts{added: tableSize}, "external-source-port-0"},
		{"the same", one("x", port("198.18.0.1:80", service.HashSourcePort, a, b)), counts{}, ""},
		{"one more endpoint", one("x", port("198.18.0.1:80", service.HashSourcePort, a, b, c)), counts{added: moved, deleted: moved}, ""},
		{"by the source, for affinity", one("x", sticky), counts{}, "external-source-0"},
		{"Local", one("x", local), counts{added: tableSize}, "external-local-source-0"},
		{"another", one("y", port("198.18.0.2:80", service.HashSource, a)), counts{added: tableSize}, "external-source-1"},
		{"the first is gone as a third comes", append(one("x", nil), one("z", port("198.18.0.3:80", service.HashSource, a))...), counts{added: tableSize, remains: 2 * tableSize}, "external-source-2"},
		{"none", one("z", port("198.18.0.3:80", service.HashSource)), counts{remains: tableSize}, ""},
		{"some again", one("z", port("198.18.0.3:80", service.HashSource, b)), counts{added: tableSize}, "external-source-2"},
		{"by chance", one("z", port("198.18.0.3:80", service.HashNone, b)), counts{remains: tableSize}, "external-c1"},
		{"in the place of the first", one("x", port("198.18.0.1:80", service.HashSource, a)), counts{added: tableSize}, "external-source-0"},
	} {
		d := m.apply(step.changes)
		count := func(changes []change) (n int) {
			for _, c := range changes {
				if c.set == hashedSet {
					n++
				}
			}
			return n
		}
		if got := (counts{count(d.added), count(d.deleted), count(d.remains)}); got != step.slots {
			t.Errorf("%s: slots %+v, want %+v", step.what, got, step.slots)
		}
		begun := ""
		for _, c := range d.newClasses {
			begun += c.String()
		}
		if begun != step.begun || len(d.newLearns) > 0 {
			t.Errorf("%s: chain %q and %d to learn, want %q", step.what, begun, len(d.newLearns), step.begun)
		}
	}
}
