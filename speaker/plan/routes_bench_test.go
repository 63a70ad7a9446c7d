package plan

import (
	"fmt"
	"net/netip"
	"testing"
)

// address returns the nth of 10.0.0.0/16.
func address(n int) netip.Addr { return netip.AddrFrom4([4]byte{10, 0, byte(n >> 8), byte(n)}) }

// full is a table of 10,000 addresses of an Eip.
func full(pool *Announcement) *Routes {
	r := NewRoutes()
	for i := range 10_000 {
		r.Set(address(i), pool)
	}
	return r
}

func BenchmarkRoutesFill(b *testing.B) {
	for _, length := range []int{32, 24, 16} {
		pool := eip("pool", "10.0.0.0/16", func(a *Advertisement) { a.Length4 = length })
		b.Run(fmt.Sprintf("10000 addresses in /%d", length), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				full(pool).Changes()
			}
		})
	}
}

// BenchmarkRoutesOneChange: one address among 10,000 goes and comes.
func BenchmarkRoutesOneChange(b *testing.B) {
	for _, length := range []int{32, 24, 16} {
		pool := eip("pool", "10.0.0.0/16", func(a *Advertisement) { a.Length4 = length })
		b.Run(fmt.Sprintf("of 10000 in /%d", length), func(b *testing.B) {
			r := full(pool)
			r.Changes()
			b.ReportAllocs()
			for b.Loop() {
				r.Set(address(5000), nil)
				r.Changes()
				r.Set(address(5000), pool)
				r.Changes()
			}
		})
	}
}

// Memory and work of one change do not depend on how many addresses there are.
func TestOneChangeAllocatesLittle(t *testing.T) {
	pool := eip("pool", "10.0.0.0/16", func(a *Advertisement) { a.Length4 = 16 })
	r := full(pool)
	r.Changes()
	allocations := testing.AllocsPerRun(100, func() {
		r.Set(address(5000), nil)
		r.Changes()
		r.Set(address(5000), pool)
		r.Changes()
	})
	if allocations > 4 {
		t.Errorf("%v allocations", allocations)
	}
}
