package main

import (
	"context"
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
	remains    remains
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
		r.remains.say(r.log, "the dataplane ipvs", err)
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
}
