package controller

import (
	"cmp"
	"slices"
	"time"

	"github.com/fairway-lb/fairway/controller/ipam"
)

// waiting are the Services whose request could not be met. They are looked at
// again when something changes that may help them, the oldest first.
type waiting map[ipam.ServiceKey]waiter

type waiter struct {
	created time.Time
	reason  ipam.Reason
	// holds tells that the Service has an address and waits for another.
	holds bool
}

// all returns every Service that waits for what the owner of an Eip can do.
func (w waiting) all() []ipam.ServiceKey {
	return w.where(func(_ ipam.ServiceKey, s waiter) bool { return s.reason != ipam.InvalidRequest })
}

// forAddress returns those whom a freed address may help.
func (w waiting) forAddress() []ipam.ServiceKey {
	return w.where(func(_ ipam.ServiceKey, s waiter) bool {
		return s.reason == ipam.PoolExhausted || s.reason == ipam.AddressInUse
	})
}

// inNamespace returns those whom a changed label of their namespace may help.
func (w waiting) inNamespace(namespace string) []ipam.ServiceKey {
	return w.where(func(key ipam.ServiceKey, s waiter) bool {
		return key.Namespace == namespace && s.reason != ipam.InvalidRequest
	})
}

// withoutAddress counts those that have none.
func (w waiting) withoutAddress() int {
	n := 0
	for _, s := range w {
		if !s.holds {
			n++
		}
	}
	return n
}

func (w waiting) where(keep func(ipam.ServiceKey, waiter) bool) []ipam.ServiceKey {
	var kept []ipam.ServiceKey
	for key, s := range w {
		if keep(key, s) {
			kept = append(kept, key)
		}
	}
	slices.SortFunc(kept, func(a, b ipam.ServiceKey) int {
		return cmp.Or(w[a].created.Compare(w[b].created), cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
	})
	return kept
}
