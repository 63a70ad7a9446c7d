package dataplane

import (
	"net/netip"
	"slices"
	"sync"
	"time"
)

// Readiness keeps what is announced and what is in the kernel in order: an
// address is announced only while traffic for it is forwarded, and forwarding
// ends only when the address is withdrawn. Its methods are safe for concurrent
// use. A nil Readiness is that of a node whose forwarding is left to others,
// where every address may be announced.
type Readiness struct {
	mu        sync.Mutex
	fit       bool
	forwarded map[netip.Addr]bool
	announced map[netip.Addr]bool
	left      map[netip.Addr]time.Time // when what was announced was withdrawn
	retiring  map[netip.Addr]time.Time // since when forwarding is to end
	wake      func()                   // the dataplane, when an address was withdrawn
}

const (
	// withdrawalTimeout bounds how long the kernel is kept from following the
	// objects for the sake of an address that somebody has yet to withdraw:
	// much longer than a speaker takes that looks at 10,000 Services.
	withdrawalTimeout = 2 * time.Second
	// withdrawalTime is what neighbors need to act on a withdrawal. FRR's work
	// queue holds one for about 60 ms.
	withdrawalTime = 250 * time.Millisecond
)

// NewReadiness returns a Readiness of nothing.
func NewReadiness() *Readiness {
	return &Readiness{
		forwarded: map[netip.Addr]bool{},
		announced: map[netip.Addr]bool{},
		left:      map[netip.Addr]time.Time{},
		retiring:  map[netip.Addr]time.Time{},
		wake:      func() {},
	}
}

// Announce asks whether an address may be announced. If so it counts as
// announced until Withdrawn.
func (r *Readiness) Announce(addr netip.Addr) bool {
	if r == nil {
		return true
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, ends := r.retiring[addr]; ends || !r.forwarded[addr] {
		return false
	}
	r.announced[addr] = true
	delete(r.left, addr)
	return true
}

// Withdrawn says that an address is announced no longer, if it ever was.
func (r *Readiness) Withdrawn(addr netip.Addr) {
	if r == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.announced[addr] {
		return
	}
	delete(r.announced, addr)
	r.left[addr] = time.Now()
	if _, ends := r.retiring[addr]; ends {
		r.wake()
	}
}

// Retiring are the addresses that are to be withdrawn, because traffic for them
// is about to be forwarded no longer, sorted.
func (r *Readiness) Retiring() []netip.Addr {
	if r == nil {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	var addrs []netip.Addr
	for addr := range r.retiring {
		if r.announced[addr] {
			addrs = append(addrs, addr)
		}
	}
	slices.SortFunc(addrs, netip.Addr.Compare)
	return addrs
}

// Fit tells whether the kernel follows the objects. A node where it does not,
// for some seconds, should leave addresses to others.
func (r *Readiness) Fit() bool {
	if r == nil {
		return true
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.fit
}

func (r *Readiness) setFit(fit bool) (changed bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	changed = r.fit != fit
	r.fit = fit
	return changed
}

// retire asks whether forwarding for an address may end. If not, nobody may
// begin to announce it, and it is to be asked again at the time returned, or
// when woken.
func (r *Readiness) retire(addr netip.Addr, now time.Time) (may, begins bool, again time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	since, ends := r.retiring[addr]
	if !ends {
		since = now
		r.retiring[addr] = now
	}
	if left, was := r.left[addr]; was {
		again = left.Add(withdrawalTime)
	}
	if r.announced[addr] {
		again = since.Add(withdrawalTimeout)
	}
	return !now.Before(again), !ends, again
}

// stay takes retire back. It tells whether there was one.
func (r *Readiness) stay(addr netip.Addr) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	_, ended := r.retiring[addr]
	delete(r.retiring, addr)
	return ended
}

// setForwarded says whether traffic for an address is forwarded now.
func (r *Readiness) setForwarded(addr netip.Addr, forwarded bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.retiring, addr)
	if forwarded {
		r.forwarded[addr] = true
		return
	}
	delete(r.forwarded, addr)
	delete(r.left, addr)
}
