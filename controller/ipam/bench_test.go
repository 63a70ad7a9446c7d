package ipam

import (
	"fmt"
	"net/netip"
	"syscall"
	"testing"
	"time"
)

// 10,000 allocations from an empty pool.
func BenchmarkFill10000(b *testing.B) {
	for _, addresses := range []string{"10.0.0.0/16", "2001:db8::/64"} {
		b.Run(addresses, func(b *testing.B) {
			requests := manyRequests(10_000, named("eip"))
			defer reportCPU(b)()
			for b.Loop() {
				a := New(time.Now)
				a.SetPool(poolOf("eip", addresses))
				for _, r := range requests {
					if out := a.Assign(r); out.Refusal != nil {
						b.Fatal(out.Refusal)
					}
				}
			}
		})
	}
}

// One allocation and its release, of an address in the middle of those in
// use, while so many are: the cost is to be flat.
func BenchmarkAssignRelease(b *testing.B) {
	for _, policy := range []string{"lowest", "rotate and quarantine"} {
		for _, addresses := range []string{"10.0.0.0/16", "2001:db8::/64"} {
			for _, inUse := range []int{1_000, 10_000, 50_000} {
				b.Run(fmt.Sprintf("%s/%s/%d", policy, addresses, inUse), func(b *testing.B) {
					requests := manyRequests(inUse, named("eip"))
					now := time.Now()
					a := New(func() time.Time { now = now.Add(time.Millisecond); return now })
					p := poolOf("eip", addresses)
					if policy != "lowest" {
						p.Rotate, p.Quarantine = true, 10*time.Second
					}
					a.SetPool(p)
					for _, r := range requests {
						a.Assign(r)
					}
					i := 0
					for b.Loop() {
						i = (i + 7919) % inUse
						a.Release(requests[i].Service)
						if out := a.Assign(requests[i]); out.Refusal != nil {
							b.Fatal(out.Refusal)
						}
					}
				})
			}
		}
	}
}

// The same without a name, when there are so many pools.
func BenchmarkAutomaticChoice(b *testing.B) {
	for _, pools := range []int{1, 100, 500} {
		b.Run(fmt.Sprint(pools), func(b *testing.B) {
			a := New(time.Now)
			for i := range pools {
				a.SetPool(poolOf(fmt.Sprintf("eip-%d", i), fmt.Sprintf("10.%d.%d.0/24", i/256, i%256), boundTo("ns")))
			}
			r := req("ns/svc")
			for b.Loop() {
				a.Assign(r)
				a.Release(r.Service)
			}
		})
	}
}

// Taking over 10,000 Services at start.
func BenchmarkAdopt10000(b *testing.B) {
	requests := manyRequests(10_000, named("eip"))
	found := make([][]netip.Addr, len(requests))
	next := addr("10.0.0.0")
	for i := range found {
		found[i] = []netip.Addr{next}
		next = next.Next()
	}
	defer reportCPU(b)()
	for b.Loop() {
		a := New(time.Now)
		a.SetPool(poolOf("eip", "10.0.0.0/16"))
		for i, r := range requests {
			a.Adopt(r, found[i], "eip")
		}
	}
}

// Growing and shrinking a pool while so many addresses are in use, and the
// allocation after it.
func BenchmarkGrow(b *testing.B) {
	for _, inUse := range []int{1_000, 10_000} {
		b.Run(fmt.Sprint(inUse), func(b *testing.B) {
			a := New(time.Now)
			spaces := []Pool{poolOf("eip", "10.0.0.0/16 10.7.0.0/24"), poolOf("eip", "10.0.0.0/16")}
			a.SetPool(spaces[1])
			for _, r := range manyRequests(inUse, named("eip")) {
				a.Assign(r)
			}
			r := req("other/svc", named("eip"))
			for i := 0; b.Loop(); i++ {
				a.SetPool(spaces[i%2])
				a.Assign(r)
				a.Release(r.Service)
			}
		})
	}
}

// A Service that joins and leaves an address which so many share.
func BenchmarkShare(b *testing.B) {
	for _, sharers := range []int{1, 100} {
		b.Run(fmt.Sprint(sharers), func(b *testing.B) {
			a := New(time.Now)
			a.SetPool(poolOf("eip", "10.0.0.0/16"))
			for i := range sharers {
				a.Assign(req(fmt.Sprintf("ns/svc-%d", i), named("eip"), key("k"), ports(1000+i)))
			}
			r := req("ns/svc", named("eip"), key("k"), ports(80))
			for b.Loop() {
				if out := a.Assign(r); out.Held[0].Choice != ChosenBySharing {
					b.Fatal(out)
				}
				a.Release(r.Service)
			}
		})
	}
}

// reportCPU reports the processor time of a benchmark, which is less than the
// time where others use the machine too.
func reportCPU(b *testing.B) func() {
	before := processorTime(b)
	return func() {
		b.ReportMetric(float64((processorTime(b)-before).Microseconds())/1000/float64(b.N), "cpu-ms/op")
	}
}

func processorTime(b *testing.B) time.Duration {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		b.Fatal(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

func manyRequests(n int, changes ...func(*Request)) []Request {
	requests := make([]Request, n)
	for i := range requests {
		requests[i] = req(fmt.Sprintf("ns/svc-%d", i), changes...)
	}
	return requests
}
