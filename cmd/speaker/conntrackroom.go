package main

import (
	"context"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/tools/events"

	"github.com/fairway-lb/fairway/dataplane/conntrack"
	"github.com/fairway-lb/fairway/internal/note"
)

// roomInterval is how often one looks whether connections were dropped.
const roomInterval = 10 * time.Second

// conntrackRoom tells when the kernel drops new connections because its table
// of them is full: everything else goes on as if nothing were wrong. It is a
// manager's Runnable.
type conntrackRoom struct {
	node     *corev1.Node
	recorder events.EventRecorder
	log      logr.Logger
	before   *conntrack.Room // at the last look, nil before the first
	dropping bool            // at the last look, which is said when it begins
	failed   bool            // to ask, which is said once
}

// NeedLeaderElection implements manager.LeaderElectionRunnable: every speaker
// runs this.
func (c *conntrackRoom) NeedLeaderElection() bool { return false }

// Start works until ctx is done.
func (c *conntrackRoom) Start(ctx context.Context) error {
	ticker := time.NewTicker(roomInterval)
	defer ticker.Stop()
	for {
		c.look(conntrack.ReadRoom())
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
}

// look tells when connections begin to be dropped: not again while that goes on.
func (c *conntrackRoom) look(room conntrack.Room, err error) {
	if err != nil {
		if !c.failed {
			c.log.Error(err, "Nobody will be told when the kernel's table of connections is full")
		}
		c.failed = true
		return
	}
	if c.before == nil {
		c.before = &room // what was dropped before nobody asks
	}
	full := room.Since(*c.before)
	if full != nil && !c.dropping {
		c.log.Error(full, "New connections are dropped")
		note.Write(c.recorder, c.node, corev1.EventTypeWarning, "ConntrackFull", "Forward", full.Error())
	}
	c.before, c.dropping, c.failed = &room, full != nil, false
}
