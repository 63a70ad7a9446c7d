package ipam

import (
	"math/big"
	"net/netip"
	"time"
)

// pool is a Pool with what the allocator knows of it.
type pool struct {
	Pool
	stocks     map[Family]*stock
	namespaces map[string]int // how many addresses that count here each has
}

// stock is one family of a pool.
type stock struct {
	space Space
	size  *big.Int // how many addresses are not reserved
	used  int      // how many of these are in use, wherever they count
	list  freeList

	held         map[netip.Addr]struct{} // the addresses in use that count here
	heldReserved int                     // how many of these are reserved
}

func newPool(p Pool, now time.Time) *pool {
	made := &pool{stocks: map[Family]*stock{}, namespaces: map[string]int{}}
	for _, family := range bothFamilies() {
		made.stocks[family] = &stock{size: new(big.Int), list: newFreeList(), held: map[netip.Addr]struct{}{}}
	}
	made.set(p, now)
	return made
}

// set changes the pool. What is in use is to be counted anew if the space is
// another.
func (p *pool) set(to Pool, now time.Time) {
	sameSpace := p.Space.Equal(to.Space)
	sameOrder := sameSpace && p.Rotate == to.Rotate
	shorter := to.Quarantine < p.Quarantine
	p.Pool = to
	for family, s := range p.stocks {
		if !sameSpace {
			s.space, s.size = to.Space, to.Space.size(family)
		}
		if !sameOrder {
			s.list.reset(to.Space.of(family), to.Rotate, to.Space.gives)
		}
		if shorter {
			s.list.shorten(now.Add(to.Quarantine))
		}
	}
}

func (p *pool) stock(addr netip.Addr) *stock {
	return p.stocks[FamilyOf(addr)]
}

// use says that an address of the pool is in use.
func (p *pool) use(addr netip.Addr) {
	if s := p.stock(addr); s.space.gives(addr) {
		s.used++
		s.list.use(addr)
	}
}

// free says that an address of the pool is not in use any more.
func (p *pool) free(addr netip.Addr, now time.Time) {
	if s := p.stock(addr); s.space.gives(addr) {
		s.used--
		s.list.free(addr, now, now.Add(p.Quarantine))
	}
}

// hold has an address in use count here.
func (p *pool) hold(addr netip.Addr) {
	s := p.stock(addr)
	s.held[addr] = struct{}{}
	if s.space.Reserves(addr) {
		s.heldReserved++
	}
}

// drop is the opposite of hold.
func (p *pool) drop(addr netip.Addr) {
	s := p.stock(addr)
	delete(s.held, addr)
	if s.space.Reserves(addr) {
		s.heldReserved--
	}
}

// usage counts the family.
func (s *stock) usage(now time.Time) FamilyUsage {
	s.list.expire(now)
	taken := big.NewInt(int64(s.used + len(s.list.resting.items)))
	return FamilyUsage{
		Total: new(big.Int).Add(s.size, big.NewInt(int64(s.heldReserved))),
		Free:  taken.Sub(s.size, taken),
		InUse: len(s.held),
	}
}
