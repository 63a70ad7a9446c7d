package controller

import (
	"slices"

	"github.com/fairway-lb/fairway/controller/ipam"
)

// line are the Services that wait for room in one pool, in order of age. When
// room is made they are called from the first on, each after the one before
// was looked at, until nobody is left whom the rest of the room may help.
type line struct {
	waiters []*waiter
	cause   *cause  // why they are being called, nil if they are not
	last    *waiter // the last one called
	calling bool    // that one was not looked at yet
}

// cause is what made room.
type cause struct {
	changed    bool     // the pool itself is not what it was
	namespaces []string // those whose Services hold less of the pool
}

func (l *line) join(s *waiter) {
	if i, found := slices.BinarySearchFunc(l.waiters, s, byAge); !found {
		l.waiters = slices.Insert(l.waiters, i, s)
	}
}

func (l *line) leave(s *waiter) {
	if i, found := slices.BinarySearchFunc(l.waiters, s, byAge); found {
		l.waiters = slices.Delete(l.waiters, i, i+1)
	}
}

// begin has the line called from the first on, also if that is going on.
func (l *line) begin(c cause) {
	if l.cause != nil {
		c.changed = c.changed || l.cause.changed
		for _, namespace := range l.cause.namespaces {
			if !slices.Contains(c.namespaces, namespace) {
				c.namespaces = append(c.namespaces, namespace)
			}
		}
	}
	l.cause, l.last = &c, nil
}

// next returns the next one to be looked at, nil when all is done.
func (l *line) next(usage ipam.Usage) *waiter {
	if l.cause == nil {
		return nil
	}
	start := 0
	if l.last != nil {
		i, found := slices.BinarySearchFunc(l.waiters, l.last, byAge)
		if start = i; found {
			start++
		}
	}
	for _, s := range l.waiters[start:] {
		if l.cause.helps(s, usage) {
			l.last, l.calling = s, true
			return s
		}
	}
	l.cause, l.last = nil, nil
	return nil
}

// helps tells whether the room may help one who waits. Without any, a changed
// pool may still help who waits for something else than room.
func (c *cause) helps(s *waiter, usage ipam.Usage) bool {
	if s.reason == ipam.QuotaExceeded {
		// Of several pools, another one may have refused by its quota.
		less := c.changed || slices.Contains(c.namespaces, s.key.Namespace)
		return less || len(s.pools) > 1 && hasRoom(usage, s.lacks)
	}
	if hasRoom(usage, s.lacks) {
		return true
	}
	return c.changed && (s.reason != ipam.PoolExhausted || s.wish.ShareKey != "")
}

// hasRoom tells whether a pool can give an address of one of these families,
// of any if there are none.
func hasRoom(usage ipam.Usage, families []ipam.Family) bool {
	if len(families) == 0 {
		return usage.Free.Sign() > 0
	}
	return slices.ContainsFunc(families, func(f ipam.Family) bool {
		of, ok := usage.Families[f]
		return ok && of.Free.Sign() > 0
	})
}
