package ipam

import (
	"container/heap"
	"net/netip"
	"time"
)

// freed is an address that was in use and is not any more.
type freed struct {
	addr netip.Addr
	// at is when it was freed, and number orders those freed at one time.
	at     time.Time
	number uint64
	// until is when its quarantine ends.
	until time.Time
}

// queue holds freed addresses in an order; any can be taken out of it.
type queue struct {
	before func(a, b *freed) bool
	items  []*freed // a container/heap
	places map[netip.Addr]int
}

func newQueue(before func(a, b *freed) bool) queue {
	return queue{before: before, places: map[netip.Addr]int{}}
}

func (q *queue) has(addr netip.Addr) bool {
	_, ok := q.places[addr]
	return ok
}

// first returns the one that is before all others, nil if there is none.
func (q *queue) first() *freed {
	if len(q.items) == 0 {
		return nil
	}
	return q.items[0]
}

func (q *queue) add(f freed) {
	heap.Push((*freedHeap)(q), &f)
}

func (q *queue) remove(addr netip.Addr) {
	if place, ok := q.places[addr]; ok {
		heap.Remove((*freedHeap)(q), place)
	}
}

// filter keeps those that it is told to, changed as it is told to, in an
// order that may be new.
func (q *queue) filter(before func(a, b *freed) bool, keep func(*freed) bool) {
	kept := newQueue(before)
	for _, f := range q.items {
		if keep(f) {
			kept.places[f.addr] = len(kept.items)
			kept.items = append(kept.items, f)
		}
	}
	*q = kept
	heap.Init((*freedHeap)(q))
}

func byAddress(a, b *freed) bool { return a.addr.Less(b.addr) }

func byAge(a, b *freed) bool {
	if !a.at.Equal(b.at) {
		return a.at.Before(b.at)
	}
	return a.number < b.number
}

func byEnd(a, b *freed) bool { return a.until.Before(b.until) }

// freedHeap is a queue as container/heap sees it.
type freedHeap queue

func (h *freedHeap) Len() int           { return len(h.items) }
func (h *freedHeap) Less(i, j int) bool { return h.before(h.items[i], h.items[j]) }
func (h *freedHeap) Swap(i, j int) {
	h.items[i], h.items[j] = h.items[j], h.items[i]
	h.places[h.items[i].addr], h.places[h.items[j].addr] = i, j
}

func (h *freedHeap) Push(x any) {
	f := x.(*freed)
	h.places[f.addr] = len(h.items)
	h.items = append(h.items, f)
}

func (h *freedHeap) Pop() any {
	last := len(h.items) - 1
	f := h.items[last]
	h.items[last] = nil
	h.items = h.items[:last]
	delete(h.places, f.addr)
	return f
}
