package sessions

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/go-logr/logr"
	"k8s.io/client-go/tools/events"
	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fairway-lb/fairway/api/v1alpha2"
	"github.com/fairway-lb/fairway/speaker/bgp"
)

const (
	// lookPause is how soon a second look at the sessions follows the first:
	// those with neighbors out of reach change their state without end.
	lookPause = 200 * time.Millisecond
	// writeTimeout bounds one write, so that an API server that does not answer
	// is asked again.
	writeTimeout = 10 * time.Second
	// firstRetry and lastRetry bound the time after which a write that failed
	// is tried again; it doubles each time.
	firstRetry, lastRetry = time.Second, 30 * time.Second
)

// Config is what a Writer needs.
type Config struct {
	// NodeName is the Node whose entries are written.
	NodeName string
	// Client writes to the API server and reads from a cache that has BgpConf
	// and BgpPeer.
	Client client.Client
	// Sessions returns the sessions as they are.
	Sessions func() []bgp.Session
	// Changed gets a value when sessions may have changed.
	Changed <-chan struct{}
	Events  events.EventRecorder
	Log     logr.Logger
}

// Writer writes this node's entries in the status of BgpPeers and of the
// BgpConf, and events about them.
type Writer struct {
	config    Config
	published chan struct{} // capacity 1
	queue     workqueue.TypedRateLimitingInterface[item]

	mu     sync.Mutex
	wanted *wanted // what was published last, nil before
	drafts drafts  // what the last look made of it

	// Of the goroutine that looks.
	seen      map[string]sight
	ready     finding
	readySeen bool

	// Of the goroutine that writes.
	peers *entries[v1alpha2.NodePeerStatus]
	confs *entries[v1alpha2.NodeConfStatus]
}

// drafts are the entries as they are to be but for what depends on the earlier
// ones. An object without a draft is to have no entry.
type drafts struct {
	conf  *v1alpha2.NodeConfStatus
	peers map[string]*v1alpha2.NodePeerStatus
}

// item is an object whose entry is to be looked after: a BgpPeer, or the
// BgpConf, or all of them.
type item struct {
	kind kind
	peer string
}

type kind uint8

const (
	everything kind = iota
	theBgpConf
	aBgpPeer
)

// New returns a Writer that writes nothing until it is started and told by
// Publish what the sessions are to be.
func New(c Config) *Writer {
	manager := fieldManager(c.NodeName)
	return &Writer{
		config:    c,
		published: make(chan struct{}, 1),
		queue: workqueue.NewTypedRateLimitingQueue(
			workqueue.NewTypedItemExponentialFailureRateLimiter[item](firstRetry, lastRetry)),
		seen: map[string]sight{},
		peers: newEntries(entriesOf[v1alpha2.NodePeerStatus]{
			client: c.Client, node: c.NodeName, manager: manager, kind: "BgpPeer", field: "nodesPeerStatus", same: samePeer,
		}),
		confs: newEntries(entriesOf[v1alpha2.NodeConfStatus]{
			client: c.Client, node: c.NodeName, manager: manager, kind: "BgpConf", field: "nodesConfStatus", same: sameConf,
		}),
	}
}

// Publish says what the node's router and sessions are to be, what was found
// about the objects that ask for them, and what of it failed: the error of
// bgp.Server.Configure, with a *bgp.PeerError for each peer that it concerns.
// It does not block.
func (w *Writer) Publish(config bgp.Config, findings bgp.Findings, failed error) {
	wanted := newWanted(config, findings, failed)
	w.mu.Lock()
	w.wanted = &wanted
	w.mu.Unlock()
	select {
	case w.published <- struct{}{}:
	default:
	}
}

// NeedLeaderElection is false: every node has a Writer.
func (w *Writer) NeedLeaderElection() bool { return false }

// Start writes until the context is done.
func (w *Writer) Start(ctx context.Context) error {
	written := make(chan struct{})
	go func() {
		defer close(written)
		for w.next(ctx) {
		}
	}()
	w.watch(ctx)
	w.queue.ShutDown()
	<-written
	return nil
}

// watch looks at the sessions whenever they or what they are to be changed.
func (w *Writer) watch(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-w.published:
			w.look(ctx)
			w.queue.Add(item{kind: everything})
		case <-w.config.Changed:
			w.look(ctx)
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(lookPause):
		}
	}
}

// look compares the sessions with what they were, writes events, and has the
// entries written that are no longer right.
func (w *Writer) look(ctx context.Context) {
	w.mu.Lock()
	wanted, before := w.wanted, w.drafts
	w.mu.Unlock()
	if wanted == nil {
		return
	}
	seen := wanted.sight(w.config.Sessions(), w.seen)
	w.report(ctx, wanted, seen)
	w.seen, w.ready, w.readySeen = seen, wanted.ready, wanted.conf

	drafts := wanted.drafts(seen)
	w.mu.Lock()
	w.drafts = drafts
	w.mu.Unlock()
	for name, draft := range drafts.peers { // one that ceased to be was published, and all are looked after then
		if !samePeer(before.peers[name], draft) {
			w.queue.Add(item{aBgpPeer, name})
		}
	}
}

// next looks after one item of the queue. It returns false when there will be
// no more.
func (w *Writer) next(ctx context.Context) bool {
	i, shutdown := w.queue.Get()
	if shutdown {
		return false
	}
	defer w.queue.Done(i)
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	wait, err := w.sync(ctx, i)
	switch {
	case err != nil:
		w.config.Log.Error(err, "Writing status; will be tried again")
		w.queue.AddRateLimited(i)
	case wait > 0:
		w.queue.AddAfter(i, wait)
	default:
		w.queue.Forget(i)
	}
	return true
}

// sync makes entries right. It returns after what time it is to be called
// again if it is too early to write.
func (w *Writer) sync(ctx context.Context, i item) (time.Duration, error) {
	switch i.kind {
	case theBgpConf:
		return w.syncConf(ctx)
	case aBgpPeer:
		return w.syncPeer(ctx, i.peer)
	}
	var peers v1alpha2.BgpPeerList
	if err := w.config.Client.List(ctx, &peers); err != nil {
		return 0, fmt.Errorf("listing BgpPeers: %w", err)
	}
	w.queue.Add(item{kind: theBgpConf})
	there := make(map[string]bool, len(peers.Items))
	for p := range peers.Items {
		there[peers.Items[p].Name] = true
		w.queue.Add(item{aBgpPeer, peers.Items[p].Name})
	}
	w.peers.keep(there)
	return 0, nil
}

func (w *Writer) syncPeer(ctx context.Context, name string) (time.Duration, error) {
	var peer v1alpha2.BgpPeer
	if err := w.config.Client.Get(ctx, client.ObjectKey{Name: name}, &peer); err != nil {
		return 0, w.peers.unread(name, err)
	}
	w.mu.Lock()
	draft := w.drafts.peers[name]
	w.mu.Unlock()
	have, now := w.peers.have(&peer, peer.Status.NodesPeerStatus), time.Now()
	return w.peers.write(ctx, name, have, completePeer(draft, have, now), now)
}

func (w *Writer) syncConf(ctx context.Context) (time.Duration, error) {
	var conf v1alpha2.BgpConf
	if err := w.config.Client.Get(ctx, client.ObjectKey{Name: v1alpha2.BgpConfName}, &conf); err != nil {
		return 0, w.confs.unread(v1alpha2.BgpConfName, err)
	}
	w.mu.Lock()
	draft := w.drafts.conf
	w.mu.Unlock()
	have, now := w.confs.have(&conf, conf.Status.NodesConfStatus), time.Now()
	return w.confs.write(ctx, conf.Name, have, completeConf(draft, have, now), now)
}
