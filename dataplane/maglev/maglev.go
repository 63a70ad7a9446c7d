// Package maglev computes Maglev's lookup tables: which endpoint a flow goes
// to by the hash of its client, so that all nodes agree without talking, and
// few flows move when endpoints come and go (Eisenbud et al., "Maglev: A Fast
// and Reliable Software Network Load Balancer", NSDI 2016, section 3.4).
//
// # The table size
//
// A table has DefaultSize slots, whatever the number of endpoints: another
// size would move nearly all flows. It is a prime, so that each endpoint's
// preferences are a permutation of all slots. With M slots and N endpoints,
// the numbers of slots of endpoints differ by one at most, and so their shares
// by N/M. The flows of others that an endpoint moves when it comes or goes
// follow from N/M too: of 4093 slots, 0.1/N of them with 10 endpoints, 0.9/N
// with 40, 1.5/N with 60 and 3/N with 100; of 16381, 1.3/N with 100. The paper
// has 65537. But every slot is an element of a map in the kernel, for each
// service port.
//
// # The hash
//
// The paper needs two independent hashes of an endpoint. They are the first 16
// bytes of the SHA-256 of its address and port: fixed for all versions and
// architectures, so that nodes agree while they are upgraded; without
// structure for addresses that differ in a bit, which those of endpoints do;
// and in the standard library. It costs little beside filling the table.
package maglev

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
)

const (
	// DefaultSize is the number of slots of a table. Shares of up to 40
	// endpoints differ by 1 % at most; with up to 60, less than 2/N of other
	// flows move.
	DefaultSize = 4093
	// MaxSize is the largest that the paper looks at.
	MaxSize = 655_373
)

// Table is which endpoint each slot leads to. It is not to be changed.
type Table struct {
	// Endpoints are sorted and without duplicates.
	Endpoints []netip.AddrPort
	// Slots are indexes into Endpoints. There are none if there are no
	// endpoints.
	Slots []int32
}

// New returns the table of a size, which is a prime from 2 to MaxSize. It
// depends on the set of endpoints alone, not on their order. With more
// endpoints than slots, those that are sorted last have none.
func New(endpoints []netip.AddrPort, size int) (Table, error) {
	if size > MaxSize || !isPrime(size) {
		return Table{}, fmt.Errorf("make a Maglev table of %d slots: the size must be a prime from 2 to %d", size, MaxSize)
	}
	if len(endpoints) == 0 {
		return Table{}, nil
	}
	sorted := slices.Clone(endpoints)
	for i, e := range sorted {
		sorted[i] = netip.AddrPortFrom(e.Addr().Unmap(), e.Port())
	}
	slices.SortFunc(sorted, netip.AddrPort.Compare)
	sorted = slices.Compact(sorted)
	return Table{sorted, fill(sorted, uint32(size))}, nil
}

// Len returns the number of slots.
func (t Table) Len() int { return len(t.Slots) }

// At returns the endpoint of a slot.
func (t Table) At(slot int) netip.AddrPort { return t.Endpoints[t.Slots[slot]] }

// Change is a slot that leads elsewhere than before. Without a table before or
// after, that endpoint is the zero value.
type Change struct {
	Slot          int
	Before, After netip.AddrPort
}

// Diff returns what becomes of the slots from one table to the next, in
// order: those that moved, and all if either is empty or of another size.
func Diff(before, after Table) []Change {
	// Endpoints are compared once, and slots as numbers then.
	same := make([]int32, len(before.Endpoints)) // in after, or -1
	for i, e := range before.Endpoints {
		j, found := slices.BinarySearchFunc(after.Endpoints, e, netip.AddrPort.Compare)
		if same[i] = int32(j); !found {
			same[i] = -1
		}
	}
	resized := before.Len() != after.Len()
	var changes []Change
	for slot := range max(before.Len(), after.Len()) {
		c := Change{Slot: slot}
		switch {
		case slot >= before.Len():
			c.After = after.At(slot)
		case slot >= after.Len():
			c.Before = before.At(slot)
		case !resized && same[before.Slots[slot]] == after.Slots[slot]:
			continue
		default:
			c.Before, c.After = before.At(slot), after.At(slot)
		}
		changes = append(changes, c)
	}
	return changes
}

func fill(endpoints []netip.AddrPort, size uint32) []int32 {
	turns := make([]permutation, len(endpoints))
	for i, e := range endpoints {
		turns[i] = preferences(e, size)
	}
	return take(turns, size)
}

// take is the paper's Pseudocode 1: the endpoints take turns, and each takes
// the slot it prefers most of those that are left.
func take(turns []permutation, size uint32) []int32 {
	slots := make([]int32, size)
	for i := range slots {
		slots[i] = -1
	}
	for left := size; ; {
		for i := range turns {
			for slots[turns[i].next] >= 0 {
				turns[i].step(size)
			}
			slots[turns[i].next] = int32(i)
			if left--; left == 0 {
				return slots
			}
		}
	}
}

// permutation is an endpoint's order of slots, from the next on.
type permutation struct{ next, skip uint32 }

func preferences(endpoint netip.AddrPort, size uint32) permutation {
	var key [18]byte
	addr := endpoint.Addr().As16()
	copy(key[:], addr[:])
	binary.BigEndian.PutUint16(key[16:], endpoint.Port())
	sum := sha256.Sum256(key[:])
	offset, skip := binary.BigEndian.Uint64(sum[:8]), binary.BigEndian.Uint64(sum[8:16])
	return permutation{uint32(offset % uint64(size)), uint32(skip%uint64(size-1)) + 1}
}

// step goes to the next slot. All are met before one is met again, because the
// size is a prime.
func (p *permutation) step(size uint32) {
	if p.next += p.skip; p.next >= size {
		p.next -= size
	}
}

func isPrime(n int) bool {
	if n < 2 {
		return false
	}
	for d := 2; d*d <= n; d++ {
		if n%d == 0 {
			return false
		}
	}
	return true
}
