package layer2

import (
	"context"
	"net/netip"
	"sync"
	"time"
)

// A repeater makes the repeats of all announcements of all ports, from one
// goroutine. An address that is given up meanwhile is skipped by its port.
type repeater struct {
	woken chan struct{}

	mu       sync.Mutex
	schedule *schedule[announced]
}

type announced struct {
	port *port
	addr netip.Addr
}

func newRepeater() *repeater {
	return &repeater{woken: make(chan struct{}, 1), schedule: newSchedule[announced]()}
}

func (r *repeater) add(p *port, addrs []netip.Addr) {
	if len(addrs) == 0 {
		return
	}
	now := time.Now()
	r.mu.Lock()
	for _, a := range addrs {
		r.schedule.start(announced{p, a}, now)
	}
	r.mu.Unlock()
	select {
	case r.woken <- struct{}{}:
	default:
	}
}

func (r *repeater) run(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for ctx.Err() == nil {
		next, due, wait := r.next()
		if due {
			// A frame that cannot be sent is counted by the port; a link that
			// is down gets its announcements anew when it is up.
			_ = next.port.announce(next.addr, false)
			continue
		}
		var elapsed <-chan time.Time
		if wait >= 0 {
			timer.Reset(wait)
			elapsed = timer.C
		}
		select {
		case <-ctx.Done():
		case <-elapsed:
		case <-r.woken:
		}
	}
}

func (r *repeater) next() (announced, bool, time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.schedule.next(time.Now())
}
