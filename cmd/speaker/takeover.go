package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/tools/events"

	"github.com/fairway-lb/fairway/dataplane/ipvs"
	"github.com/fairway-lb/fairway/dataplane/kubeproxy"
	"github.com/fairway-lb/fairway/internal/note"
)

// takeoverInterval is how often one looks whether a kube-proxy has gone, which
// nobody tells.
const takeoverInterval = 10 * time.Second

// takeover removes what a kube-proxy has left in the kernel, once Fairway's own
// rules are there and no kube-proxy runs any more. It is a manager's Runnable.
type takeover struct {
	found      kubeproxy.Found // at the start
	forwarding <-chan struct{} // closed when Fairway's rules are in the kernel
	node       *corev1.Node
	recorder   events.EventRecorder
	log        logr.Logger
	remains    remains
}

// NeedLeaderElection implements manager.LeaderElectionRunnable: every speaker
// runs this.
func (t *takeover) NeedLeaderElection() bool { return false }

// Start works until all is removed, or ctx is done.
func (t *takeover) Start(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return nil
	case <-t.forwarding:
	}
	if t.found.Running {
		byMetrics, err := kubeproxy.Detect(ctx, metricsPort())
		if err != nil || !byMetrics.Running {
			// Fairway itself is about to answer at the health port, by which it was known.
			t.log.Info("A kube-proxy runs, but not with metrics on port 10249. What it leaves is removed when the speaker is started after it has gone", "known by", t.found.Reason)
			return nil
		}
		note.Write(t.recorder, t.node, corev1.EventTypeWarning, "KubeProxyRunning", "Forward",
			fmt.Sprintf("Fairway's dataplane forwards on node %s, and so does a kube-proxy (%s). Remove kube-proxy, or set --dataplane=none", t.node.Name, t.found.Reason))
	}
	ticker := time.NewTicker(takeoverInterval)
	defer ticker.Stop()
	for !t.done(ctx) {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
	return nil
}

// done removes what there is to remove, if it may.
func (t *takeover) done(ctx context.Context) bool {
	found, err := kubeproxy.Detect(ctx, metricsPort())
	if err != nil || found.Running {
		return false
	}
	left, err := kubeproxy.Leftovers(ctx)
	if len(left) > 0 {
		err = errors.Join(err, kubeproxy.Remove(ctx, kubeproxy.Config{RemoveVirtualServices: ipvs.RemoveVirtualServices}))
	}
	if err == nil {
		t.log.Info("Nothing of kube-proxy is left in the kernel", "removed", left)
		return true
	}
	t.remains.say(t.log.WithValues("left", left), "kube-proxy", err)
	return false
}

// remains says why not all is removed that somebody has left, once for each
// reason.
type remains struct{ said string }

func (r *remains) say(log logr.Logger, of string, err error) {
	text := err.Error()
	if text == r.said {
		return
	}
	r.said = text
	if errors.Is(err, ipvs.ErrDraining) {
		log.Info("Not all is removed that was left; it is tried again", "of", of, "why", text)
		return
	}
	log.Error(err, "Removing what was left; it is tried again", "of", of)
}

// metricsPort is where a kube-proxy may answer once Fairway itself does at the
// health port.
func metricsPort() kubeproxy.Addresses {
	return kubeproxy.Addresses{Metrics: kubeproxy.DefaultAddresses().Metrics}
}
