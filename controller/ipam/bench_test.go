package ipam

import (
	"fmt"
	"net/netip"
	"testing"
)

// 10,000 allocations from an empty pool.
func BenchmarkFill10000(b *testing.B) {
	for _, addresses := range []string{"10.0.0.0/16", "2001:db8::/64"} {
		b.Run(addresses, func(b *testing.B) {
			requests := manyRequests(10_000)
			for b.Loop() {
				a := New()
				a.SetPool(poolOf("eip", addresses))
				for _, r := range requests {
					if _, refusal := a.Assign(r); refusal != nil {
						b.Fatal(refusal)
					}
				}
			}
		})
	}
}

// One allocation and its release, of an address in the middle of those in
// use, while so many are: the cost is to be flat.
func BenchmarkAssignRelease(b *testing.B) {
	for _, addresses := range []string{"10.0.0.0/16", "2001:db8::/64"} {
		for _, inUse := range []int{1_000, 10_000, 50_000} {
			b.Run(fmt.Sprintf("%s/%d", addresses, inUse), func(b *testing.B) {
				requests := manyRequests(inUse)
				a := New()
				a.SetPool(poolOf("eip", addresses))
				for _, r := range requests {
					a.Assign(r)
				}
				i := 0
				for b.Loop() {
					i = (i + 7919) % inUse
					a.Release(requests[i].Service)
					if _, refusal := a.Assign(requests[i]); refusal != nil {
						b.Fatal(refusal)
					}
				}
			})
		}
	}
}

// Taking over 10,000 Services at start.
func BenchmarkAdopt10000(b *testing.B) {
	requests := manyRequests(10_000)
	for b.Loop() {
		a := New()
		a.SetPool(poolOf("eip", "10.0.0.0/16"))
		addr := netip.MustParseAddr("10.0.0.0")
		for _, r := range requests {
			a.Adopt(r, addr, "eip")
			addr = addr.Next()
		}
	}
}

func manyRequests(n int) []Request {
	requests := make([]Request, n)
	for i := range requests {
		requests[i] = req(fmt.Sprintf("ns/svc-%d", i), named("eip"))
	}
	return requests
}
