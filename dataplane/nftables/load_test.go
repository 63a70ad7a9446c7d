package nftables

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"testing"
	"time"

	"github.com/fairway-lb/fairway/dataplane"
	"github.com/fairway-lb/fairway/dataplane/service"
)

// numbered is a port with a cluster IP of its own and a NodePort, and an
// endpoint that all others have too.
func numbered(i int) *service.Port {
	clusterIP := netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 96, byte(i >> 8), byte(i)}), 80)
	return &service.Port{
		Frontends: []service.Frontend{
			{Kind: service.ClusterIP, Address: clusterIP},
			{Kind: service.NodePort, Address: netip.AddrPortFrom(netip.IPv4Unspecified(), uint16(30000+i))},
		},
		NeedsCluster: true, Usable: true,
		Cluster: []netip.AddrPort{at("10.244.0.2:8080"), netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 245, byte(i >> 8), byte(i)}), 8080)},
	}
}

// A table that is made anew is as one to which all ports were added.
func TestLoad(t *testing.T) {
	sticky, hashes := numbered(1), numbered(2)
	sticky.Affinity = time.Hour
	hashes.Hash = service.HashSource
	ports := map[service.PortName]*service.Port{named("sticky"): sticky, named("hashes"): hashes}
	for i := 3; i < 3000; i++ {
		ports[named(fmt.Sprint(i))] = numbered(i)
	}
	var changes []service.PortChange
	filled, applied := newMirror(service.IPv4, &dataplane.Config{}), newMirror(service.IPv4, &dataplane.Config{})
	transactions, elements := 0, 0
	l := &loader{batch: newBatch(), commit: func(b *batch) error {
		transactions++
		elements += b.elements
		if b.elements > chunk {
			t.Errorf("a transaction has %d elements", b.elements)
		}
		return nil
	}}
	l.begin(service.IPv4, &dataplane.Config{})
	for name, p := range ports {
		filled.fill(name, p, l)
		changes = append(changes, service.PortChange{Name: name, After: p})
	}
	l.flush()
	l.next()
	d := applied.apply(changes)
	if want := len(d.added) + len(d.resumed); elements != want || l.err != nil {
		t.Errorf("%d elements were added (%v), want %d", elements, l.err, want)
	}
	if want := elements/chunk + 1; transactions != want {
		t.Errorf("there were %d transactions, want %d", transactions, want)
	}
	if !maps.Equal(filled.counts, applied.counts) || !maps.Equal(filled.classes, applied.classes) || !maps.Equal(filled.learns, applied.learns) || !maps.Equal(filled.numbers.of, applied.numbers.of) {
		t.Errorf("the mirror is not what it is after a change to the same")
	}
}

// What failed is not followed by what needs it.
func TestLoadEndsWithAFailure(t *testing.T) {
	failure, transactions := errors.New("no"), 0
	l := &loader{batch: newBatch(), commit: func(*batch) error { transactions++; return failure }}
	l.next()
	l.next()
	if transactions != 1 || !errors.Is(l.err, failure) {
		t.Errorf("there were %d transactions, and the error is %v", transactions, l.err)
	}
}
