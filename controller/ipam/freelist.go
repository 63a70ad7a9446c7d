package ipam

import (
	"container/heap"
	"net/netip"
	"slices"

	"go4.org/netipx"
)

// freeList finds the lowest free address of one family of a pool in
// logarithmic time, however large the pool and however much of it is in use.
//
// A frontier moves up through the ranges and never back; what was freed below
// it waits in a heap. So no address is ever looked at because of its number
// alone: the frontier passes each address in use once, and the heap has only
// addresses that were in use before.
type freeList struct {
	ranges   []netipx.IPRange // those not passed yet, ascending; the first has the frontier
	frontier netip.Addr       // invalid once all is passed
	freed    addrHeap
	inHeap   map[netip.Addr]struct{}
}

func newFreeList(ranges []netipx.IPRange) *freeList {
	sorted := slices.Clone(ranges)
	slices.SortFunc(sorted, func(a, b netipx.IPRange) int { return a.From().Compare(b.From()) })
	f := &freeList{ranges: sorted, inHeap: map[netip.Addr]struct{}{}}
	if len(sorted) > 0 {
		f.frontier = sorted[0].From()
	}
	return f
}

// lowest returns the lowest address that is not in use, false if all are.
func (f *freeList) lowest(inUse func(netip.Addr) bool) (netip.Addr, bool) {
	for len(f.freed) > 0 {
		if !inUse(f.freed[0]) {
			return f.freed[0], true
		}
		delete(f.inHeap, f.freed[0])
		heap.Pop(&f.freed)
	}
	for f.frontier.IsValid() {
		if !inUse(f.frontier) {
			return f.frontier, true
		}
		f.advance()
	}
	return netip.Addr{}, false
}

// free says that an address in the ranges is not in use any more.
func (f *freeList) free(addr netip.Addr) {
	if f.frontier.IsValid() && !addr.Less(f.frontier) {
		return // the frontier comes by
	}
	if _, ok := f.inHeap[addr]; ok {
		return // it was taken by name meanwhile, and its entry left
	}
	f.inHeap[addr] = struct{}{}
	heap.Push(&f.freed, addr)
}

func (f *freeList) advance() {
	if f.frontier != f.ranges[0].To() {
		f.frontier = f.frontier.Next()
		return
	}
	f.ranges = f.ranges[1:]
	f.frontier = netip.Addr{}
	if len(f.ranges) > 0 {
		f.frontier = f.ranges[0].From()
	}
}

// addrHeap is a container/heap with the lowest address on top.
type addrHeap []netip.Addr

func (h addrHeap) Len() int           { return len(h) }
func (h addrHeap) Less(i, j int) bool { return h[i].Less(h[j]) }
func (h addrHeap) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *addrHeap) Push(x any)        { *h = append(*h, x.(netip.Addr)) }
func (h *addrHeap) Pop() any {
	last := len(*h) - 1
	addr := (*h)[last]
	*h = (*h)[:last]
	return addr
}
