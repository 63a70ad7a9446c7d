package main

import (
	"context"
	"errors"
	"time"

	"github.com/go-logr/logr"

	"github.com/fairway-lb/fairway/dataplane/ipvs"
)

// retirement removes what the dataplane ipvs has left, where another one forwards
// now: connections that it forwards end with what is in the kernel for them. It
// is a manager's Runnable.
type retirement struct {
	forwarding <-chan struct{} // closed when the other's rules are in the kernel
	log        logr.Logger
	said       string // the last reason why not all is removed
}

// NeedLeaderElection implements manager.LeaderElectionRunnable: every speaker
// runs this.
func (r *retirement) NeedLeaderElection() bool { return false }

// Start works until all is removed, or ctx is done.
func (r *retirement) Start(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return nil
	case <-r.forwarding:
	}
	ticker := time.NewTicker(takeoverInterval)
	defer ticker.Stop()
	for {
		err := ipvs.Retire()
		if err == nil {
			return nil
		}
		if text := err.Error(); text != r.said {
			if errors.Is(err, ipvs.ErrDraining) {
				r.log.Info("What the dataplane ipvs has left is removed step by step", "why", text)
			} else {
				r.log.Error(err, "Removing what the dataplane ipvs has left; it is tried again")
			}
			r.said = text
		}
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
}
