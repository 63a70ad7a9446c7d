package speaker

import (
	"sync"
	"time"
)

// arrivals remember when the worker was first asked for what it has yet to look
// at. Its methods are safe for concurrent use.
type arrivals struct {
	mu    sync.Mutex
	since map[request]time.Time
}

func (a *arrivals) note(r request) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if _, waits := a.since[r]; waits {
		return
	}
	if a.since == nil {
		a.since = map[request]time.Time{}
	}
	a.since[r] = time.Now()
}

// put takes back what was taken: the request is to come again.
func (a *arrivals) put(r request, since time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.since[r] = since
}

// take returns when a request came first, the zero time if that was not noted.
func (a *arrivals) take(r request) time.Time {
	a.mu.Lock()
	defer a.mu.Unlock()
	since := a.since[r]
	delete(a.since, r)
	return since
}
