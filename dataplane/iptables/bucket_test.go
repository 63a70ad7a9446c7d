package iptables

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/fairway-lb/fairway/dataplane/service"
)

func TestBucketPath(t *testing.T) {
	for _, test := range []struct {
		of   bucket
		want string
	}{
		{servicesTree.ofAddr(netip.MustParseAddr("10.96.7.163")), `
FAIRWAY-AT-3A: -d 0.0.7.0/0.0.15.0 -j FAIRWAY-AT-3A7
FAIRWAY-AT-3: -d 0.0.0.160/0.0.0.240 -j FAIRWAY-AT-3A
FAIRWAY-SERVICES: -d 0.0.0.3/0.0.0.15 -j FAIRWAY-AT-3`},
		{hairpinsTree.ofAddr(netip.MustParseAddr("fd00::f:12")), `
FAIRWAY-HP-21: -d ::/::f00 -j FAIRWAY-HP-210
FAIRWAY-HP-2: -d ::10/::f0 -j FAIRWAY-HP-21
FAIRWAY-HAIRPINS: -d ::2/::f -j FAIRWAY-HP-2`},
		{nodePortsTree.ofPort(service.IPv4, service.SCTP, 65535), `
FAIRWAY-NP-SCTP-512-65024: -p sctp -m sctp --dport 65520:65535 -j FAIRWAY-NP-SCTP-16-65520
FAIRWAY-NODEPORTS: -p sctp -m sctp --dport 65024:65535 -j FAIRWAY-NP-SCTP-512-65024`},
	} {
		got := ""
		for b := test.of; b.depth > 0; b = b.parent() {
			got += b.parent().name() + ": " + b.rule()
			if len(b.name()) > 28 {
				t.Errorf("%s is longer than the kernel takes", b.name())
			}
		}
		if want := strings.TrimPrefix(test.want, "\n") + "\n"; got != want {
			t.Errorf("got\n%swant\n%s", got, want)
		}
	}
}

// Addresses that were given one after the other, and as by chance, are few in a
// bucket; so are ports.
func TestBucketsAreSmall(t *testing.T) {
	inARow, byChance, byPort := map[string]int{}, map[string]int{}, map[string]int{}
	a := netip.MustParseAddr("198.18.0.0")
	for i := range 10_000 {
		inARow[servicesTree.ofAddr(a).name()]++
		a = a.Next()
		x := uint32(i) * 2654435761 // Knuth's multiplicative hash
		byChance[servicesTree.ofAddr(netip.AddrFrom4([4]byte{10, 96, byte(x >> 24), byte(x >> 16)})).name()]++
	}
	for port := 30000; port < 32768; port++ {
		byPort[nodePortsTree.ofPort(service.IPv4, service.TCP, uint16(port)).name()]++
	}
	for what, counts := range map[string]map[string]int{"in a row": inARow, "by chance": byChance, "ports": byPort} {
		most := 0
		for _, n := range counts {
			most = max(most, n)
		}
		limit := map[string]int{"in a row": 3, "by chance": 5, "ports": 16}[what]
		if most > limit {
			t.Errorf("%s: %d in one of %d buckets, want %d at most", what, most, len(counts), limit)
		}
	}
}
