package ipvs

import (
	"fmt"
	"maps"
	"runtime"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
)

// addressBuffer holds the news of addresses that come at once, as with a node
// that starts. More are no loss: what there is is read anyway.
const addressBuffer = 1 << 20

// watch looks at the kernel while nobody calls.
type watch struct {
	namespace netns.NsHandle
	news      chan netlink.AddrUpdate // nil while there is no subscription
	enough    chan struct{}           // ends the subscription
	wake      *time.Timer             // for endpoints of UDP
	due       time.Time               // of wake, or zero; Backend.mu guards it
	stop      chan struct{}
	done      chan struct{}
}

// pause is waited for further news of addresses, and for further endpoints of
// UDP, before one looks: they come in crowds, and of addresses most are ours.
const pause = 200 * time.Millisecond

func (b *Backend) startWatch() (*watch, error) {
	namespace, err := netns.Get()
	if err != nil {
		return nil, fmt.Errorf("find the network namespace: %w", err)
	}
	w := &watch{namespace: namespace, wake: time.NewTimer(time.Hour), stop: make(chan struct{}), done: make(chan struct{})}
	w.wake.Stop()
	if err := w.subscribe(); err != nil {
		namespace.Close()
		return nil, err
	}
	go w.run(b)
	return w, nil
}

func (w *watch) subscribe() error {
	news, enough := make(chan netlink.AddrUpdate), make(chan struct{})
	err := netlink.AddrSubscribeWithOptions(news, enough, netlink.AddrSubscribeOptions{Namespace: &w.namespace, ReceiveBufferSize: addressBuffer, ReceiveBufferForceSize: true})
	if err != nil {
		return fmt.Errorf("listen to changes of addresses: %w", err)
	}
	w.news, w.enough = news, enough
	return nil
}

// unsubscribe has the library close its socket, and take leave.
func (w *watch) unsubscribe() {
	if w.news == nil {
		return
	}
	close(w.enough)
	for range w.news {
		// It may be about to tell something.
	}
	w.news, w.enough = nil, nil
}

// wakeAt has endpoints of UDP looked at then, or before if others are due.
func (w *watch) wakeAt(at time.Time) {
	if soon := time.Now().Add(pause); at.Before(soon) {
		at = soon
	}
	if w.due.IsZero() || at.Before(w.due) {
		w.due = at
		w.wake.Reset(time.Until(at))
	}
}

func (w *watch) close() {
	close(w.stop)
	<-w.done
	w.namespace.Close()
}

func (w *watch) run(b *Backend) {
	defer close(w.done)
	defer w.unsubscribe()
	// The programs that are run belong into the namespace. The thread ends with
	// the goroutine, and nobody else gets it.
	runtime.LockOSThread()
	if err := netns.Set(w.namespace); err != nil {
		b.notify() // an Apply of nothing looks
		return
	}
	look := b.options.Look
	if look == nil {
		ticker := time.NewTicker(lookInterval)
		defer ticker.Stop()
		look = ticker.C
	}
	quiet := time.NewTimer(time.Hour)
	quiet.Stop()
	for {
		select {
		case <-w.stop:
			return
		case <-w.wake.C:
			b.lookAtFlows()
		case <-look:
			b.look()
			if w.news == nil && w.subscribe() == nil {
				b.lookAtAddresses()
			}
		case _, open := <-w.news:
			if !open {
				w.unsubscribe() // it has ended: too much news at once
			}
			quiet.Reset(pause)
		case <-quiet.C:
			b.lookAtAddresses()
		}
	}
}

// look sees to endpoints that are on their way out, and notices what others have
// changed.
func (b *Backend) look() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.stale {
		return // before the first Apply, or it is known
	}
	if b.drain(maps.Keys(b.draining.virtuals)) != nil || b.compare() != nil {
		b.stale = true
	}
	if b.stale {
		b.notify()
	}
}

// lookAtFlows sees to endpoints of UDP that are on their way out.
func (b *Backend) lookAtFlows() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.watch.due = time.Time{}
	if b.stale {
		return
	}
	if b.drain(maps.Keys(b.draining.virtuals)) != nil {
		b.stale = true
		b.notify()
	}
}

// lookAtAddresses notices what addresses of the node, and of ours, have changed.
func (b *Backend) lookAtAddresses() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.stale {
		return
	}
	now, err := b.kernel.link.list()
	if err != nil || !b.actual.addresses.equal(now, &b.desired.config, b.desired.addresses) {
		b.stale = true
		b.notify()
	}
}
