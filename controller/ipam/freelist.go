package ipam

import (
	"net/netip"
	"time"

	"go4.org/netipx"
)

// freeList finds the address of one family of a pool that is to be given
// next, in logarithmic time, however large the pool and however much of it is
// in use.
//
// A frontier moves through the pieces and never back; what was in use and
// freed is remembered, and in quarantine first if there is one. So no address
// is ever looked at because of its number alone: the frontier passes those
// that are or were in use, and no others.
type freeList struct {
	pieces []piece
	todo   []piece    // those that the frontier has not passed; it is at the first
	after  netip.Addr // that the frontier passed last, zero at the beginning
	begun  bool       // todo is set
	rotate bool

	freed   queue // that can be given
	resting queue // that cannot yet
	number  uint64
}

func newFreeList() freeList {
	return freeList{freed: newQueue(byAddress), resting: newQueue(byEnd)}
}

// next returns the address to be given next, false if there is none: the
// lowest, or with rotate, one that was never in use or else the one freed
// first.
func (f *freeList) next(now time.Time, inUse func(netip.Addr) bool) (netip.Addr, bool) {
	f.expire(now)
	unused, oldest := f.unused(inUse), f.freed.first()
	if oldest == nil {
		return unused, unused.IsValid()
	}
	if unused.IsValid() && (f.rotate || unused.Less(oldest.addr)) {
		return unused, true
	}
	return oldest.addr, true
}

// use says that an address is in use now.
func (f *freeList) use(addr netip.Addr) {
	f.freed.remove(addr)
	f.resting.remove(addr)
}

// free says that an address is not in use any more, and when its quarantine
// ends.
func (f *freeList) free(addr netip.Addr, at, until time.Time) {
	f.number++
	it := freed{addr: addr, at: at, number: f.number, until: until}
	if until.After(at) {
		f.resting.add(it)
	} else {
		f.freed.add(it)
	}
}

// rest puts a free address in quarantine.
func (f *freeList) rest(addr netip.Addr, at, until time.Time) {
	f.use(addr)
	f.free(addr, at, until)
}

// skipTo has the frontier begin above an address that is adopted, when it
// rotates.
func (f *freeList) skipTo(addr netip.Addr) {
	if !f.begun && f.after.Less(addr) {
		f.after = addr
	}
}

// expire ends the quarantines that are over.
func (f *freeList) expire(now time.Time) {
	for it := f.resting.first(); it != nil && !it.until.After(now); it = f.resting.first() {
		over := *it
		f.resting.remove(over.addr)
		f.freed.add(over)
	}
}

// reset sets what the list consists of and its order. Of what was freed it
// keeps what gives says.
func (f *freeList) reset(pieces []piece, rotate bool, gives func(netip.Addr) bool) {
	f.pieces, f.rotate, f.begun = pieces, rotate, false
	order := byAddress
	if rotate {
		order = byAge
	}
	keep := func(it *freed) bool { return gives(it.addr) }
	f.freed.filter(order, keep)
	f.resting.filter(byEnd, keep)
}

// shorten ends quarantines at a time, if they are longer.
func (f *freeList) shorten(end time.Time) {
	f.resting.filter(byEnd, func(it *freed) bool {
		if it.until.After(end) {
			it.until = end
		}
		return true
	})
}

// unused returns the address at the frontier, the zero Addr once it has
// passed all.
func (f *freeList) unused(inUse func(netip.Addr) bool) netip.Addr {
	if !f.begun {
		f.begin()
	}
	for len(f.todo) > 0 {
		p := &f.todo[0]
		addr := p.first()
		switch {
		case !addr.IsValid():
			f.todo = f.todo[1:]
		case !inUse(addr) && !f.freed.has(addr) && !f.resting.has(addr):
			return addr
		case addr == p.To():
			f.after, f.todo = addr, f.todo[1:]
		default:
			f.after, p.IPRange = addr, netipx.IPRangeFrom(addr.Next(), p.To())
		}
	}
	return netip.Addr{}
}

// begin puts the frontier at the lowest address, or when it rotates, above
// the last one that it passed, from where it comes round to the lowest.
func (f *freeList) begin() {
	f.begun = true
	f.todo = make([]piece, 0, len(f.pieces)+1)
	var around []piece
	for _, p := range f.pieces {
		switch {
		case !f.rotate || !f.after.IsValid() || f.after.Less(p.From()):
			f.todo = append(f.todo, p)
		case !f.after.Less(p.To()):
			around = append(around, p)
		default:
			f.todo = append(f.todo, piece{netipx.IPRangeFrom(f.after.Next(), p.To()), p.rule})
			around = append(around, piece{netipx.IPRangeFrom(p.From(), f.after), p.rule})
		}
	}
	f.todo = append(f.todo, around...)
}
