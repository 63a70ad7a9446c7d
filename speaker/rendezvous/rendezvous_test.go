package rendezvous

import (
	"crypto/sha256"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
)

// The formula is part of the interface: a node of another implementation
// must come to the same result.
func TestOfIsSha256OfNodeAndAddress(t *testing.T) {
	for node, addr := range map[string]string{"n1": "192.168.93.231", "worker-p002": "2001:db8::1"} {
		if got, want := Of(netip.MustParseAddr(addr), node), Rank(sha256.Sum256([]byte(node+"#"+addr))); got != want {
			t.Errorf("Of(%s, %s) = %x, want %x", addr, node, got, want)
		}
	}
}

func TestFirst(t *testing.T) {
	nodes := []string{"n1", "n2", "n3", "n4", "n5"}
	wins := map[string]int{}
	addr := netip.MustParseAddr("10.0.0.0")
	for range 1000 {
		addr = addr.Next()
		first := First(addr, nodes)
		wins[first]++
		slices.Reverse(nodes)
		if again := First(addr, nodes); again != first {
			t.Fatalf("%s: %s or %s, depending on the order of the nodes", addr, first, again)
		}
		others := slices.DeleteFunc(slices.Clone(nodes), func(n string) bool { return n == "n3" })
		if without := First(addr, others); first != "n3" && without != first {
			t.Fatalf("%s moved from %s to %s when n3 went", addr, first, without)
		}
	}
	for _, node := range nodes {
		if wins[node] < 130 || wins[node] > 270 {
			t.Errorf("%s wins %d of 1000 addresses among 5 nodes: not spread", node, wins[node])
		}
	}
	if first := First(addr, nil); first != "" {
		t.Errorf("First among no nodes = %q", first)
	}
}

func BenchmarkFirst(b *testing.B) {
	addr := netip.MustParseAddr("192.168.93.231")
	for _, n := range []int{3, 50, 500} {
		nodes := make([]string, n)
		for i := range nodes {
			nodes[i] = fmt.Sprintf("node-%d%s", i, strings.Repeat("x", 10))
		}
		b.Run(fmt.Sprintf("nodes=%d", n), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				First(addr, nodes)
			}
		})
	}
}
