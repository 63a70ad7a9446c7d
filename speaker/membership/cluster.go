package membership

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-logr/logr"
	"github.com/hashicorp/memberlist"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"
)

// Config configures one member. Zero values mean the defaults given here.
type Config struct {
	// NodeName is this member's name, unique in the cluster.
	NodeName string
	// BindAddr is where gossip listens, TCP and UDP. It may be unspecified
	// (0.0.0.0 or ::); then AdvertiseAddr is needed.
	BindAddr netip.Addr
	// BindPort is the port for both, the same on all nodes. 0 takes a free one.
	BindPort int
	// AdvertiseAddr is where the others reach this member. Default: BindAddr.
	AdvertiseAddr netip.Addr
	// Key encrypts and authenticates all traffic: 16, 24 or 32 bytes for
	// AES-128, AES-192 or AES-256, the same on all nodes. It is required:
	// whoever can gossip can take every address.
	Key []byte
	// ProbeInterval is how often each member probes another. Default 100 ms.
	ProbeInterval time.Duration
	// SuspicionMultiplier times ProbeInterval is how long a member that does
	// not answer is suspected before it is declared dead (longer in clusters
	// of more than ten). Default 2, so death is noticed in 0.3 to 0.7 s.
	SuspicionMultiplier int
	// Apply makes the wire answer for exactly the held addresses, each on the
	// link given as its value. When it returns, even with an error, the
	// addresses that are not held must be silent: the next thing that happens
	// is that another node is told that it may answer for them. After an error
	// it is called again soon. It is never called concurrently, and owns the map.
	Apply func(held map[netip.Addr]string) error
	Log   logr.Logger
	// Registerer takes the metrics; nil for none.
	Registerer prometheus.Registerer
}

const (
	defaultProbeInterval       = 100 * time.Millisecond
	defaultSuspicionMultiplier = 2
	// joinParallel bounds the joins under way; each may wait for the TCP
	// timeout, and costs a connection and an exchange of the whole state.
	joinParallel = 16
	// leaveTimeout bounds the wait until gossip has said that we left. It
	// takes four gossip rounds; without it others find out by probing.
	leaveTimeout = 2 * time.Second
)

// Cluster is this node's part in the cluster of speakers. Its methods are
// safe for concurrent use.
type Cluster struct {
	cfg     Config
	log     logr.Logger
	gossip  *memberlist.Memberlist
	metrics *metrics
	pulse   *pulse

	inbox   *inbox
	members atomic.Pointer[[]Member] // written by run only
	changed chan struct{}

	serving      sync.Mutex             // held by those who write the next three
	leaving      bool                   // this node serves nothing any more
	unadvertised int                    // scopes that did not fit into meta
	meta         atomic.Pointer[[]byte] // what this node serves, as gossiped
	newMeta      chan struct{}

	drained  chan struct{} // closed by run
	stop     chan struct{} // tells beat, run and publish to end
	stopped  sync.WaitGroup
	leave    sync.Once
	applyErr error // of the last Apply; owned by run, read when it has ended
	leaveErr error
}

// Start starts a member, alone in its cluster until Join. It ends by Leave.
func Start(cfg Config) (*Cluster, error) {
	if err := cfg.complete(); err != nil {
		return nil, fmt.Errorf("membership of node %q: %w", cfg.NodeName, err)
	}
	m, err := newMetrics(cfg.Registerer)
	if err != nil {
		return nil, fmt.Errorf("registering metrics: %w", err)
	}
	c := &Cluster{
		cfg:     cfg,
		log:     cfg.Log,
		metrics: m,
		inbox:   newInbox(),
		changed: make(chan struct{}, 1),
		newMeta: make(chan struct{}, 1),
		drained: make(chan struct{}),
		stop:    make(chan struct{}),
	}
	nothing, _ := encodeMeta(nil)
	c.meta.Store(&nothing)
	gossip := c.gossipConfig()
	if c.gossip, err = memberlist.Create(gossip); err != nil {
		m.unregister(cfg.Registerer)
		return nil, fmt.Errorf("starting gossip: %w", err)
	}
	// Create has set the port if it was to be a free one.
	c.members.Store(&[]Member{{
		Name: cfg.NodeName,
		Addr: netip.AddrPortFrom(cfg.AdvertiseAddr.Unmap(), uint16(gossip.AdvertisePort)),
	}})
	// Of two processes of one name the later one has the greater epoch.
	state := newClaims(cfg.NodeName, uint64(time.Now().UnixNano()))
	c.pulse = newPulse(stallTime(cfg.ProbeInterval, cfg.SuspicionMultiplier))
	c.stopped.Add(3)
	go c.beat()
	go c.run(state)
	go c.publish()
	return c, nil
}

// complete checks a configuration and fills in the defaults.
func (cfg *Config) complete() error {
	if len(cfg.NodeName) == 0 || len(cfg.NodeName) > maxName {
		return fmt.Errorf("the node name has %d bytes, not 1 to %d", len(cfg.NodeName), maxName)
	}
	if cfg.Apply == nil {
		return errors.New("no Apply function")
	}
	switch len(cfg.Key) {
	case 16, 24, 32:
	default:
		return fmt.Errorf("the gossip key has %d bytes, not 16, 24 or 32", len(cfg.Key))
	}
	if !cfg.BindAddr.IsValid() {
		return errors.New("no bind address")
	}
	if !cfg.AdvertiseAddr.IsValid() {
		cfg.AdvertiseAddr = cfg.BindAddr
	}
	if cfg.AdvertiseAddr.IsUnspecified() {
		return errors.New("no advertise address, which a bind address that is unspecified needs")
	}
	if cfg.ProbeInterval <= 0 {
		cfg.ProbeInterval = defaultProbeInterval
	}
	if cfg.SuspicionMultiplier <= 0 {
		cfg.SuspicionMultiplier = defaultSuspicionMultiplier
	}
	return nil
}

// Join contacts, in parallel, those peers that are not live members yet. It
// returns when all were tried, or no more are begun because ctx is done. That
// a peer cannot be reached is nothing unusual, and only logged at V(1).
func (c *Cluster) Join(ctx context.Context, peers []netip.AddrPort) {
	members := map[netip.AddrPort]bool{}
	for _, m := range c.Members() {
		members[m.Addr] = true
	}
	var joins errgroup.Group
	joins.SetLimit(joinParallel)
	for _, peer := range peers {
		peer = netip.AddrPortFrom(peer.Addr().Unmap(), peer.Port())
		if members[peer] {
			continue
		}
		joins.Go(func() error {
			if ctx.Err() != nil || c.isStopped() {
				return nil
			}
			if _, err := c.gossip.Join([]string{peer.String()}); err != nil {
				c.log.V(1).Info("Could not join", "peer", peer, "error", err.Error())
			}
			return nil
		})
	}
	_ = joins.Wait() // its functions return no errors
}

// SetServed sets the scopes whose layer-2 addresses this node can serve, and
// has them gossiped to all. Once Leave was called it has no effect.
func (c *Cluster) SetServed(scopes []string) {
	c.serving.Lock()
	defer c.serving.Unlock()
	if !c.leaving {
		c.setServed(scopes)
	}
}

// serveNothing makes this node serve no pool, for good.
func (c *Cluster) serveNothing() {
	c.serving.Lock()
	defer c.serving.Unlock()
	c.leaving = true
	c.setServed(nil)
}

// setServed needs the lock serving.
func (c *Cluster) setServed(scopes []string) {
	meta, left := encodeMeta(scopes)
	c.metrics.unadvertised.Set(float64(left))
	if left > 0 && left != c.unadvertised {
		c.log.Info("This node serves more pools, or parts of pools, than gossip can say; it stands for the first by name only",
			"served", len(scopes), "limit", maxScopes)
	}
	c.unadvertised = left
	if old := c.meta.Swap(&meta); !slices.Equal(*old, meta) {
		signal(c.newMeta)
	}
}

// Members returns the live members, this one included, sorted by name. The
// caller must not change the slice.
func (c *Cluster) Members() []Member {
	return *c.members.Load()
}

// Changed signals that members, or what they serve, changed. Changes that
// were not received yet are one signal.
func (c *Cluster) Changed() <-chan struct{} {
	return c.changed
}

// Want sets the addresses that this node should own, each with the link that
// it is announced on. They are held, and given to Apply, as the other members
// consent. Those not wanted any more fall silent at once. It does not block.
func (c *Cluster) Want(want map[netip.Addr]string) {
	c.inbox.putWant(maps.Clone(want))
}

// Awake tells whether this process has run without a pause that is long enough
// for others to have declared it dead and taken what it holds. After such a
// pause it is false until Apply has silenced this node. Whoever answers for held addresses asks it right before each answer:
// a process that was stopped may find requests to answer before it finds that
// it was stopped. It does not block, and allocates nothing.
func (c *Cluster) Awake() bool {
	return c.pulse.awake(time.Now())
}

// Leave is the planned exit: this node serves nothing any more, but holds and
// answers its addresses until other members have claimed them all, no other
// member is left, or ctx is done. It then leaves the cluster and stops. The
// Want of the past is frozen from here on.
func (c *Cluster) Leave(ctx context.Context) error {
	c.leave.Do(func() { c.leaveErr = c.leaveOnce(ctx) })
	return c.leaveErr
}

func (c *Cluster) leaveOnce(ctx context.Context) error {
	c.inbox.putDrain() // before the plan sees that this node serves nothing
	c.serveNothing()
	select {
	case <-c.drained:
	case <-ctx.Done():
		c.log.Info("Leaving with addresses that nobody has claimed yet", "reason", context.Cause(ctx).Error())
	}
	close(c.stop)
	c.stopped.Wait()

	err := c.applyErr
	if leaveErr := c.gossip.Leave(leaveTimeout); leaveErr != nil {
		err = errors.Join(err, fmt.Errorf("leaving gossip: %w", leaveErr))
	}
	if downErr := c.gossip.Shutdown(); downErr != nil {
		err = errors.Join(err, fmt.Errorf("stopping gossip: %w", downErr))
	}
	c.metrics.unregister(c.cfg.Registerer)
	return err
}

func (c *Cluster) isStopped() bool {
	select {
	case <-c.stop:
		return true
	default:
		return false
	}
}

// signal puts a signal into a channel of capacity one, unless one is there.
func signal(ch chan<- struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}
