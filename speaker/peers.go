package speaker

import (
	"context"
	"fmt"
	"iter"
	"net/netip"
	"time"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fairway-lb/fairway/speaker/membership"
)

// rejoinInterval is how often the speakers of all nodes that are not members
// are contacted. Memberlist does not look again for those it has lost, so
// this bounds how long two halves of a healed partition stay apart.
const rejoinInterval = 5 * time.Second

// Peers keeps the cluster of speakers whole.
type Peers struct {
	// Reader lists the Nodes.
	Reader   client.Reader
	Cluster  *membership.Cluster
	NodeName string
	// Port is the one that every speaker's gossip listens on.
	Port uint16
}

// Join contacts the speakers of all other Nodes once.
func (p *Peers) Join(ctx context.Context) error {
	var nodes corev1.NodeList
	if err := p.Reader.List(ctx, &nodes, client.UnsafeDisableDeepCopy); err != nil {
		return fmt.Errorf("listing Nodes: %w", err)
	}
	var peers []netip.AddrPort
	for i := range nodes.Items {
		if nodes.Items[i].Name == p.NodeName {
			continue
		}
		if addr, ok := InternalIP(&nodes.Items[i]); ok {
			peers = append(peers, netip.AddrPortFrom(addr, p.Port))
		}
	}
	p.Cluster.Join(ctx, peers)
	return nil
}

// Start joins again and again until the context is done. It is a Runnable of
// the manager.
func (p *Peers) Start(ctx context.Context) error {
	ticker := time.NewTicker(rejoinInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
			if err := p.Join(ctx); err != nil && ctx.Err() == nil {
				return err
			}
		}
	}
}

// NeedLeaderElection is false: every speaker runs this.
func (p *Peers) NeedLeaderElection() bool { return false }

// InternalIP returns a Node's first address of type InternalIP.
func InternalIP(node *corev1.Node) (netip.Addr, bool) {
	for addr := range internalIPs(node) {
		return addr, true
	}
	return netip.Addr{}, false
}

// InternalIPs returns a Node's first address of type InternalIP of each family,
// the zero Addr for none.
func InternalIPs(node *corev1.Node) (addr4, addr6 netip.Addr) {
	for addr := range internalIPs(node) {
		switch {
		case addr.Is4() && !addr4.IsValid():
			addr4 = addr
		case addr.Is6() && !addr6.IsValid():
			addr6 = addr
		}
	}
	return addr4, addr6
}

func internalIPs(node *corev1.Node) iter.Seq[netip.Addr] {
	return func(yield func(netip.Addr) bool) {
		for _, address := range node.Status.Addresses {
			if address.Type != corev1.NodeInternalIP {
				continue
			}
			if addr, err := netip.ParseAddr(address.Address); err == nil && !yield(addr) {
				return
			}
		}
	}
}
