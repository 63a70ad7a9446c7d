package iptables

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// watchInterval is how soon one notices. What is asked then is small: the
	// size of a table, or whether there were news.
	watchInterval = time.Second
	// lookInterval is how soon one notices what leaves the size of a table as it
	// is: a rule in place of another. It takes reading all rules.
	lookInterval = 10 * time.Minute
)

// watcher looks after the chains of a Backend while that has nothing to do.
type watcher struct {
	sides     []*side
	monitor   *monitor // of flavour nft, or nil
	namespace *os.File
	every     time.Duration // between looks at all rules
	changed   chan struct{}
	quit      chan struct{}
	done      chan struct{}
}

func watch(sides []*side, own *ownProcesses, flavour Flavour) (*watcher, error) {
	w := &watcher{sides: sides, every: lookInterval, changed: make(chan struct{}, 1), quit: make(chan struct{}), done: make(chan struct{})}
	var err error
	if w.namespace, err = os.Open("/proc/thread-self/ns/net"); err != nil {
		return nil, fmt.Errorf("find the network namespace to watch: %w", err)
	}
	if flavour == NFT {
		if w.monitor, err = listen(own); err != nil {
			return nil, errors.Join(err, w.namespace.Close())
		}
	}
	go w.run()
	return w, nil
}

func (w *watcher) run() {
	defer close(w.done)
	// It never gives the thread back, which may not be of the namespace that
	// others expect.
	runtime.LockOSThread()
	if err := enter(w.namespace); err != nil {
		return // an Apply without changes looks too
	}
	ticks := time.NewTicker(watchInterval)
	defer ticks.Stop()
	looked := time.Now()
	for {
		select {
		case <-w.quit:
			return
		case now := <-ticks.C:
			due := now.Sub(looked) >= w.every
			if due {
				looked = now
			}
			news := w.monitor != nil && w.monitor.seen.Swap(false)
			for _, s := range w.sides {
				w.look(s, news, due)
			}
		}
	}
}

// look checks a side, and tells if it has changed.
func (w *watcher) look(s *side, news, due bool) {
	changed, busy := s.check(news, due)
	if changed {
		select {
		case w.changed <- struct{}{}:
		default: // it is known already
		}
	}
	if news && busy && w.monitor != nil {
		w.monitor.seen.Store(true) // again next time
	}
}

// enter has the thread in a namespace. Most processes have one only, and need
// no right to change it.
func enter(namespace *os.File) error {
	here, err := os.Stat("/proc/thread-self/ns/net")
	if err != nil {
		return err
	}
	there, err := namespace.Stat()
	if err != nil {
		return err
	}
	if os.SameFile(here, there) {
		return nil
	}
	return unix.Setns(int(namespace.Fd()), unix.CLONE_NEWNET)
}

// check tells whether the kernel is otherwise than it was left, or that an Apply
// was in the way of finding out. It reads all rules if there are news, if that is
// due, and if the size of a table is another.
func (s *side) check(news, due bool) (changed, busy bool) {
	k := &s.known
	k.mu.Lock()
	version, stale, sizes, digests := k.version, k.stale, k.sizes, k.digests
	k.mu.Unlock()
	switch {
	case version%2 == 1:
		return false, true
	case stale:
		return false, false // the next Apply looks itself
	}
	now := s.sizes()
	if !news && !due && now == sizes {
		return false, false
	}
	saved := &sums{hash: k.hash}
	err := s.tool.save(saved)
	differs := err != nil || saved.digests != digests
	for i, hooks := range saved.hooks {
		differs = differs || !sameHooks(hooks, s.hooks[i])
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.version != version {
		return false, true
	}
	if !differs {
		k.sizes = now // others' rules changed
		return false, false
	}
	k.stale = true
	return true, false
}

func (w *watcher) close() error {
	close(w.quit)
	<-w.done
	err := w.namespace.Close()
	if w.monitor != nil {
		err = errors.Join(err, w.monitor.Close())
	}
	return err
}
