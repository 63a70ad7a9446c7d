package main

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// parts are the programs that run in this process. When one ends that should
// not, running ends with its error as the cause.
type parts struct {
	running context.Context
	fail    context.CancelCauseFunc
	started []part
}

// part is one program while it runs.
type part struct {
	name  string
	grace time.Duration
	stop  context.CancelFunc
	ended chan struct{}
}

func newParts(ctx context.Context) *parts {
	running, fail := context.WithCancelCause(ctx)
	return &parts{running: running, fail: fail}
}

// launch runs a part until its context ends; grace is how long it may take
// then. The part's context does not follow the signal: parts stop one after
// the other.
func (p *parts) launch(name string, grace time.Duration, run func(context.Context) error) {
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan struct{})
	p.started = append(p.started, part{name: name, grace: grace, stop: stop, ended: ended})
	go func() {
		defer close(ended)
		err := run(ctx)
		if ctx.Err() == nil {
			if err == nil {
				err = errors.New("ended by itself")
			}
			p.fail(fmt.Errorf("%s: %w", name, err))
		}
	}()
}

// stop ends the parts, the last started first. A part that takes too long is
// left behind and named in the error; those below it are stopped all the same.
func (p *parts) stop() error {
	var errs []error
	for i := len(p.started) - 1; i >= 0; i-- {
		part := p.started[i]
		part.stop()
		select {
		case <-part.ended:
		case <-time.After(part.grace):
			errs = append(errs, fmt.Errorf("%s did not stop within %s", part.name, part.grace))
		}
	}
	p.started = nil
	return errors.Join(errs...)
}
