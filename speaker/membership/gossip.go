package membership

import (
	"bytes"
	"log"
	"time"

	"github.com/hashicorp/memberlist"
)

// gossipConfig returns memberlist's configuration: its defaults for a LAN but
// for what follows.
func (c *Cluster) gossipConfig() *memberlist.Config {
	g := memberlist.DefaultLANConfig()
	g.Name = c.cfg.NodeName
	g.BindAddr = c.cfg.BindAddr.String()
	g.BindPort = c.cfg.BindPort
	g.AdvertiseAddr = c.cfg.AdvertiseAddr.String()
	g.AdvertisePort = c.cfg.BindPort

	g.ProbeInterval = c.cfg.ProbeInterval
	g.ProbeTimeout = c.cfg.ProbeInterval / 2
	g.SuspicionMult = c.cfg.SuspicionMultiplier
	// A rumour reaches three more nodes per interval: 100 ms instead of
	// 200 ms halves how long views of who serves what differ.
	g.GossipInterval = 100 * time.Millisecond
	// A connection on a LAN is there in milliseconds; a node that is away
	// must not hold up Join for 10 s.
	g.TCPTimeout = time.Second
	// Repairs what gossip missed.
	g.PushPullInterval = 15 * time.Second
	// A dead node may come back with a new address once rumours of its old
	// one have died out, instead of never.
	g.DeadNodeReclaimTime = 10 * time.Second
	// All that is sent is a few small packets, where compression costs more
	// than it saves.
	g.EnableCompression = false

	g.SecretKey = c.cfg.Key
	g.GossipVerifyIncoming = true
	g.GossipVerifyOutgoing = true

	d := &delegate{cluster: c}
	g.Delegate, g.Events, g.Conflict = d, d, d
	g.Logger = log.New(newLogWriter(c.cfg.Log), "", 0)
	return g
}

// delegate receives memberlist's callbacks, which come from its goroutines,
// some with its locks held, and passes them on.
type delegate struct{ cluster *Cluster }

func (d *delegate) NodeMeta(limit int) []byte {
	meta := *d.cluster.meta.Load()
	if len(meta) > limit { // not with metaSize; memberlist would panic
		return nil
	}
	return meta
}

func (d *delegate) NotifyMsg(packet []byte) {
	if !d.cluster.inbox.putMessage(bytes.Clone(packet)) {
		d.cluster.metrics.discarded.Inc()
	}
}

func (d *delegate) NotifyJoin(n *memberlist.Node)   { d.cluster.inbox.putChange(eventJoin, *n) }
func (d *delegate) NotifyLeave(n *memberlist.Node)  { d.cluster.inbox.putChange(eventLeave, *n) }
func (d *delegate) NotifyUpdate(n *memberlist.Node) { d.cluster.inbox.putChange(eventUpdate, *n) }

func (d *delegate) NotifyConflict(existing, other *memberlist.Node) {
	d.cluster.log.Info("Two processes call themselves the same node; the later one is ignored",
		"member", existing.Name, "address", existing.Address(), "ignored", other.Address())
}

func (*delegate) GetBroadcasts(int, int) [][]byte { return nil }
func (*delegate) LocalState(bool) []byte          { return nil }
func (*delegate) MergeRemoteState([]byte, bool)   {}
