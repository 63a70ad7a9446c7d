package measure

import (
	"context"
	"fmt"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
	watchtools "k8s.io/client-go/tools/watch"
)

// Journal follows the Services of a namespace and keeps how each one changed.
// The API server sends a watcher every version of an object, so none is
// missed. It is safe for concurrent use.
type Journal struct {
	mu       sync.Mutex
	services map[string]*followed
	changed  chan struct{} // closed at the next event, and replaced
	err      error         // why the journal ended
}

// History is how a Service changed since it was created, or since the journal
// began.
type History struct {
	// Created and Addressed are when the watch showed the Service, and it
	// with an address.
	Created, Addressed time.Time
	// Address is the first one in its status, "" if it has none.
	Address string
	// StatusWrites counts versions with another status, ObjectWrites those
	// that differ elsewhere.
	StatusWrites, ObjectWrites int
}

type followed struct {
	History
	last *corev1.Service
}

// Follow starts a journal, which ends with the context.
func Follow(ctx context.Context, client kubernetes.Interface, namespace string) (*Journal, error) {
	services := client.CoreV1().Services(namespace)
	list, err := services.List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, fmt.Errorf("listing Services: %w", err)
	}
	// The API server ends every watch some time, and one that is slow at once.
	events, err := watchtools.NewRetryWatcherWithContext(ctx, list.ResourceVersion, &cache.ListWatch{
		WatchFuncWithContext: func(ctx context.Context, options metav1.ListOptions) (watch.Interface, error) {
			return services.Watch(ctx, options)
		},
	})
	if err != nil {
		return nil, fmt.Errorf("watching Services: %w", err)
	}
	j := &Journal{services: map[string]*followed{}, changed: make(chan struct{})}
	now := time.Now()
	for i := range list.Items {
		j.record(watch.Event{Type: watch.Added, Object: &list.Items[i]}, now)
	}
	go func() {
		defer events.Stop()
		for event := range events.ResultChan() {
			j.record(event, time.Now())
		}
		j.end(fmt.Errorf("the watch of Services in %s ended", namespace))
	}()
	return j, nil
}

func (j *Journal) record(event watch.Event, now time.Time) {
	svc, ok := event.Object.(*corev1.Service)
	if !ok {
		j.end(fmt.Errorf("the watch of Services sent %s %v", event.Type, event.Object))
		return
	}
	svc.ManagedFields = nil
	j.mu.Lock()
	defer j.mu.Unlock()
	f := j.services[svc.Name]
	switch {
	case event.Type == watch.Deleted:
		delete(j.services, svc.Name)
	case f == nil || f.last.UID != svc.UID:
		f = &followed{History: History{Created: now}, last: svc}
		j.services[svc.Name] = f
	default:
		if !equality.Semantic.DeepEqual(f.last.Status, svc.Status) {
			f.StatusWrites++
		} else {
			f.ObjectWrites++
		}
		f.last = svc
	}
	if f != nil {
		f.Address = ""
		if ingress := svc.Status.LoadBalancer.Ingress; len(ingress) > 0 {
			f.Address = ingress[0].IP
		}
		if f.Addressed.IsZero() && f.Address != "" {
			f.Addressed = now
		}
	}
	j.notify()
}

func (j *Journal) end(err error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.err == nil {
		j.err = err
	}
	j.notify()
}

// notify wakes those who wait; the lock is held.
func (j *Journal) notify() {
	close(j.changed)
	j.changed = make(chan struct{})
}

// Histories returns the history of every Service that exists, by name.
func (j *Journal) Histories() map[string]History {
	j.mu.Lock()
	defer j.mu.Unlock()
	histories := make(map[string]History, len(j.services))
	for name, f := range j.services {
		histories[name] = f.History
	}
	return histories
}

// Reset forgets what was counted. The Services stay known.
func (j *Journal) Reset() {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, f := range j.services {
		f.StatusWrites, f.ObjectWrites = 0, 0
	}
}

// Changed returns the names of the Services that were written since they were
// created, or since Reset.
func (j *Journal) Changed() []string {
	var names []string
	for name, h := range j.Histories() {
		if h.StatusWrites+h.ObjectWrites > 0 {
			names = append(names, name)
		}
	}
	return names
}

// Await waits until so many of the named Services have an address.
func (j *Journal) Await(ctx context.Context, n int, names ...string) error {
	lacking := "" // one that has none keeps all from having one
	for {
		j.mu.Lock()
		got := 0
		if n < len(names) || !j.lacks(lacking) {
			got, lacking = j.addressed(names)
		}
		changed, err := j.changed, j.err
		j.mu.Unlock()
		if got == n {
			return nil
		}
		if err != nil {
			return fmt.Errorf("waiting for %d addresses: %w", n, err)
		}
		select {
		case <-changed:
		case <-ctx.Done():
			j.mu.Lock()
			got, lacking = j.addressed(names)
			j.mu.Unlock()
			return fmt.Errorf("waiting for %d addresses, there are %d; Service %q has none: %w", n, got, lacking, context.Cause(ctx))
		}
	}
}

// addressed counts the Services that have an address, and names one that has
// none; the lock is held.
func (j *Journal) addressed(names []string) (n int, lacking string) {
	for _, name := range names {
		if !j.has(name) {
			lacking = name
			continue
		}
		n++
	}
	return n, lacking
}

func (j *Journal) has(name string) bool {
	f := j.services[name]
	return f != nil && len(f.last.Status.LoadBalancer.Ingress) > 0
}

// lacks tells whether a Service, if one is named, has no address.
func (j *Journal) lacks(name string) bool { return name != "" && !j.has(name) }
