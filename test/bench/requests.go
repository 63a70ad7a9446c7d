package main

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/fairway-lb/fairway/test/bench/measure"
	"github.com/fairway-lb/fairway/test/lab"
)

// requestTimeout is when a request has failed. The kernel asks for a connection
// a second time after a second: one lost packet is slow, two are a failure.
const requestTimeout = 2 * time.Second

// requests are sent by a client at a steady rate, whether or not those before
// were answered.
type requests struct {
	cancel context.CancelFunc
	ended  chan struct{}

	mu     sync.Mutex // guards what follows
	result requestResult
}

type requestResult struct {
	sent, failed int
	slowest      time.Duration // of those that did not fail
	err          error         // of the first one that failed
}

// why tells how the first one failed, if one did.
func (r requestResult) why() string {
	if r.err == nil {
		return ""
	}
	return ": " + r.err.Error()
}

// startRequests sends so many a second until it is stopped.
func startRequests(ctx context.Context, client *lab.Namespace, url string, perSecond int) *requests {
	sending, cancel := context.WithCancel(ctx)
	r := &requests{cancel: cancel, ended: make(chan struct{})}
	go func() {
		defer close(r.ended)
		var answers sync.WaitGroup
		defer answers.Wait()
		begin := time.Now()
		ticker := time.NewTicker(time.Second / time.Duration(perSecond))
		defer ticker.Stop()
		for sent := 0; ; {
			// A ticker forgets ticks when the machine is busy.
			for due := int(time.Since(begin).Seconds() * float64(perSecond)); sent < due; sent++ {
				answers.Go(func() { r.send(ctx, client, url) })
			}
			select {
			case <-ticker.C:
			case <-sending.Done():
				return
			}
		}
	}()
	return r
}

func (r *requests) send(ctx context.Context, client *lab.Namespace, url string) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	begin := time.Now()
	_, err := client.Get(ctx, url)
	took := time.Since(begin)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.result.sent++
	switch {
	case err == nil:
		r.result.slowest = max(r.result.slowest, took)
	default:
		r.result.failed++
		if r.result.err == nil {
			r.result.err = err
		}
	}
}

// stop sends no more, and returns what came of all that were sent.
func (r *requests) stop() requestResult {
	r.cancel()
	<-r.ended
	return r.result
}

// answersInARow waits until so many requests one after the other are answered.
func answersInARow(ctx context.Context, client *lab.Namespace, url string, n int) error {
	row := 0
	var last error
	err := measure.Until(ctx, func() (bool, error) {
		for row = 0; row < n; row++ {
			if _, last = client.Get(ctx, url); last != nil {
				return false, nil
			}
		}
		return true, nil
	})
	if err != nil {
		return fmt.Errorf("%w; the last request: %w", err, last)
	}
	return nil
}
