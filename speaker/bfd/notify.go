package bfd

import (
	"slices"
	"sync"
)

// notifier hands events to a function that may be slow, in their order. The events
// of a session that wait are one: the latest, with Lost if one of them had it. So
// there are never more than sessions.
type notifier struct {
	notify func(Event)
	ready  chan struct{} // capacity 1
	stop   chan struct{}

	mu      sync.Mutex
	pending []Event
}

func newNotifier(notify func(Event)) *notifier {
	return &notifier{notify: notify, ready: make(chan struct{}, 1), stop: make(chan struct{})}
}

func (n *notifier) push(e Event) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if i := n.find(e.Key); i >= 0 {
		e.Lost = e.Lost || n.pending[i].Lost
		n.pending = slices.Delete(n.pending, i, i+1)
	}
	n.pending = append(n.pending, e)
	select {
	case n.ready <- struct{}{}:
	default:
	}
}

// drop forgets what waits for a session that has ended.
func (n *notifier) drop(key Key) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if i := n.find(key); i >= 0 {
		n.pending = slices.Delete(n.pending, i, i+1)
	}
}

func (n *notifier) find(key Key) int {
	return slices.IndexFunc(n.pending, func(e Event) bool { return e.Key == key })
}

func (n *notifier) pop() (Event, bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if len(n.pending) == 0 {
		return Event{}, false
	}
	e := n.pending[0]
	n.pending = n.pending[1:]
	return e, true
}

// run returns after stop is closed and the call that it makes has returned.
func (n *notifier) run() {
	for {
		select {
		case <-n.stop:
			return
		case <-n.ready:
		}
		for e, ok := n.pop(); ok; e, ok = n.pop() {
			n.notify(e)
			select {
			case <-n.stop:
				return
			default:
			}
		}
	}
}
