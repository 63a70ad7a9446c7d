package controller

import (
	"slices"
	"time"

	"github.com/fairway-lb/fairway/controller/ipam"
)

// followSharing looks again at those who wait for an address of this Service,
// if what it shares, and on which terms, is not what it was.
func (r *reconciler) followSharing(asked ipam.Request, held []ipam.Allocation) {
	terms := termsOf(asked, held)
	if r.terms[asked.Service] == terms {
		return
	}
	r.terms[asked.Service] = terms
	for _, allocation := range held {
		r.retry(r.waiting.forAddress(allocation.Address))
	}
	if asked.ShareKey != "" && len(held) > 0 {
		r.retry(r.waiting.forKey(asked.ShareKey))
	}
}

// freed follows up on addresses that a Service of a namespace has no more.
func (r *reconciler) freed(namespace string, gone []ipam.Allocation) {
	r.touch(gone...)
	for _, allocation := range gone {
		addr := allocation.Address
		r.retry(r.ipam.Tenants(addr)) // of several, another is the first now
		r.retry(r.waiting.forAddress(addr))
		for _, key := range r.ipam.ShareKeys(addr) { // whose ports are fewer
			r.retry(r.waiting.forKey(key))
		}
		for _, pool := range r.poolsOf(allocation) {
			r.waiting.roomMade(pool, namespace)
			r.callNext(pool)
			r.rested[pool] = r.now() // it may rest, and be over before the Eip is looked at
		}
	}
}

// touch has the pools of allocations looked at, because their use changed.
// An Eip whose status was written just now is looked at when it may be
// written again: reading it costs as much as it has addresses in use.
func (r *reconciler) touch(allocations ...ipam.Allocation) {
	for _, allocation := range allocations {
		for _, pool := range r.poolsOf(allocation) {
			r.queue.AddAfter(requestForEip(pool), r.statuses[pool].Add(statusInterval).Sub(r.now()))
		}
	}
}

// poolsOf returns the pool that an address is from, and all that contain it.
func (r *reconciler) poolsOf(allocation ipam.Allocation) []string {
	pools := r.ipam.PoolsContaining(allocation.Address)
	if allocation.Pool != "" && !slices.Contains(pools, allocation.Pool) {
		pools = append(pools, allocation.Pool)
	}
	return pools
}

func (r *reconciler) hasPool(name string) bool {
	_, ok := r.ipam.Usage(name)
	return ok
}

// callNext has the next Service looked at that waits for room in a pool.
func (r *reconciler) callNext(pool string) {
	usage, ok := r.ipam.Usage(pool)
	if !ok {
		return
	}
	if key, ok := r.waiting.call(pool, usage); ok {
		r.queue.Add(requestForService(key))
	}
}

// wakeRested calls those who wait for room in a pool when an address has
// rested long enough since the last look; next is when another one has, zero
// if none rests.
func (r *reconciler) wakeRested(pool string, next, now time.Time) {
	if due := r.rested[pool]; !due.IsZero() && !now.Before(due) {
		r.waiting.roomMade(pool, "")
		r.callNext(pool)
	}
	r.rested[pool] = next
}
