package controller

import (
	"cmp"
	"net/netip"
	"slices"
	"time"

	"github.com/fairway-lb/fairway/controller/ipam"
)

// waiting are the Services whose request could not be met. They are looked at
// again when something changes that may help them, the oldest first.
type waiting struct {
	services       map[ipam.ServiceKey]waiter
	withoutAddress int // how many of them hold none
}

type waiter struct {
	created time.Time
	wish    ipam.Request
	reason  ipam.Reason
	// holds tells that the Service has an address and waits for another.
	holds bool
}

func newWaiting() waiting {
	return waiting{services: map[ipam.ServiceKey]waiter{}}
}

func (w *waiting) add(key ipam.ServiceKey, s waiter) {
	w.remove(key)
	w.services[key] = s
	if !s.holds {
		w.withoutAddress++
	}
}

func (w *waiting) remove(key ipam.ServiceKey) {
	if s, ok := w.services[key]; ok && !s.holds {
		w.withoutAddress--
	}
	delete(w.services, key)
}

// all returns every Service that waits for what the owner of an Eip can do.
func (w *waiting) all() []ipam.ServiceKey {
	return w.where(func(_ ipam.ServiceKey, s waiter) bool { return s.reason != ipam.InvalidRequest })
}

// forAddress returns those whom a freed address may help. contains tells
// whether the pool of a name contains it.
func (w *waiting) forAddress(freed netip.Addr, contains func(pool string) bool) []ipam.ServiceKey {
	return w.where(func(_ ipam.ServiceKey, s waiter) bool {
		switch s.reason {
		case ipam.AddressInUse:
			return s.wish.Address == freed
		case ipam.PoolExhausted:
			return s.wish.Pool == "" || contains(s.wish.Pool)
		default:
			return false
		}
	})
}

// inNamespace returns those whom a changed label of their namespace may help.
func (w *waiting) inNamespace(namespace string) []ipam.ServiceKey {
	return w.where(func(key ipam.ServiceKey, s waiter) bool {
		return key.Namespace == namespace && s.reason != ipam.InvalidRequest
	})
}

func (w *waiting) where(keep func(ipam.ServiceKey, waiter) bool) []ipam.ServiceKey {
	var kept []ipam.ServiceKey
	for key, s := range w.services {
		if keep(key, s) {
			kept = append(kept, key)
		}
	}
	slices.SortFunc(kept, func(a, b ipam.ServiceKey) int {
		return cmp.Or(w.services[a].created.Compare(w.services[b].created), cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
	})
	return kept
}
