package measure

import (
	"context"
	"fmt"
	"time"
)

// Quiet is for how long nothing may happen until a change is taken to have
// had all its consequences. The status of an Eip, which is written at most
// once a second, is the last of them.
const Quiet = 1500 * time.Millisecond

// settlePoll is how often Settle looks.
const settlePoll = 50 * time.Millisecond

// Settle waits until a reading stays the same for so long, and returns it.
func Settle[T comparable](ctx context.Context, quiet time.Duration, read func() (T, error)) (T, error) {
	ticker := time.NewTicker(settlePoll)
	defer ticker.Stop()
	last, err := read()
	since := time.Now()
	for err == nil && time.Since(since) < quiet {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return last, fmt.Errorf("waiting until nothing changes any more: %w", context.Cause(ctx))
		}
		var now T
		if now, err = read(); now != last {
			last, since = now, time.Now()
		}
	}
	return last, err
}

// Until waits until a condition holds.
func Until(ctx context.Context, holds func() (bool, error)) error {
	ticker := time.NewTicker(settlePoll)
	defer ticker.Stop()
	for {
		if ok, err := holds(); ok || err != nil {
			return err
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return fmt.Errorf("waiting for something to happen: %w", context.Cause(ctx))
		}
	}
}
