package speaker

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fairway-lb/fairway/api/v1alpha2"
	"github.com/fairway-lb/fairway/speaker/bgp"
	"github.com/fairway-lb/fairway/speaker/plan"
)

// BGP is what a Speaker needs to announce addresses by BGP.
type BGP struct {
	Router Router
	// Publish is told what the node's router was made of, and what failed.
	Publish func(bgp.Config, bgp.Findings, error)
	// Namespace is where Secrets with passwords and the policy's ConfigMap are.
	Namespace string
	// DrainTime is how long a node that is to announce nothing any more asks
	// the neighbors to prefer others (RFC 8326) before it withdraws.
	DrainTime time.Duration
	// Converged is told how long after the event that caused it a change of
	// routes had been handed to the sessions.
	Converged func(time.Duration)
}

// Router is what the speaker needs of bgp.Server.
type Router interface {
	Announce(map[netip.Prefix]*plan.Route) error
	Configure(context.Context, bgp.Config) error
}

// announcer is what this node announces by BGP. Its state belongs to the
// speaker's worker.
type announcer struct {
	BGP
	routes  *plan.Routes
	pending map[netip.Prefix]*plan.Route // changes that the router has yet to take
	drain   drain
	config  bgp.Config // as of the last look

	peers  []peerLabels
	conf   *v1alpha2.BgpConf // nil for none
	racked bool              // the node's rack limits its next hops
}

// peerLabels is a BgpPeer as the selectors of Eips see it.
type peerLabels struct {
	name   string
	labels map[string]string
}

func newAnnouncer(b BGP) announcer {
	return announcer{BGP: b, routes: plan.NewRoutes(), pending: map[netip.Prefix]*plan.Route{}, drain: drain{pause: b.DrainTime}}
}

// decideBGP renews what this node announces of an address by BGP.
func (s *Speaker) decideBGP(a plan.Address, p *pool) plan.BGPDecision {
	d := s.announcer.drain.view.BGP(a, s.NodeName)
	announcement := &plan.Announcement{Eip: p.Name, Advertisement: p.advertisement, Addresses: p.set}
	switch {
	case s.announcer.thirdParty():
		hops, refused := s.announcer.drain.view.NextHops(d, a.Addr, s.NodeName, s.announcer.racked)
		if announcement.NextHops = hops; len(hops) == 0 {
			announcement = nil
			d = d.Without(refused)
		}
		if s.announcer.drain.stopping && s.announcer.drain.done {
			announcement = nil // also those of others: the sessions go
		}
	case !d.Announce || !s.Readiness.Announce(a.Addr):
		d.Announce, announcement = false, nil
	}
	s.announcer.routes.Set(a.Addr, announcement)
	return d
}

// thirdParty tells whether the BgpConf wants the addresses of all nodes that
// can serve as next hops.
func (a *announcer) thirdParty() bool {
	return a.conf != nil && a.conf.Spec.NextHops == v1alpha2.NextHopNodes
}

// announce hands the routes that have changed to the router.
func (a *announcer) announce(since time.Time) error {
	maps.Copy(a.pending, a.routes.Changes())
	if len(a.pending) == 0 {
		return nil
	}
	if err := a.Router.Announce(a.pending); err != nil {
		return fmt.Errorf("announcing by BGP: %w", err)
	}
	a.pending = map[netip.Prefix]*plan.Route{}
	if !since.IsZero() && a.config.Router != nil {
		a.Converged(time.Since(since))
	}
	return nil
}

// readBGP reads what the routes depend on beside Eips and Services.
func (s *Speaker) readBGP(ctx context.Context) error {
	a := &s.announcer
	var conf v1alpha2.BgpConf
	switch err := s.Reader.Get(ctx, types.NamespacedName{Name: v1alpha2.BgpConfName}, &conf); {
	case err == nil:
		a.conf = &conf
	case client.IgnoreNotFound(err) == nil:
		a.conf = nil
	default:
		return fmt.Errorf("reading BgpConf %s: %w", v1alpha2.BgpConfName, err)
	}
	a.racked = a.conf != nil && len(a.conf.Spec.AsPerRack) > 0
	peers, err := s.bgpPeers(ctx)
	if err != nil {
		return err
	}
	a.peers = a.peers[:0]
	for _, peer := range peers {
		if ours(peer) {
			a.peers = append(a.peers, peerLabels{peer.Name, peer.Labels})
		}
	}
	return nil
}

// ours tells whether a BgpConf or BgpPeer counts: it stays, and is not left to
// the network plugin.
func ours(object client.Object) bool {
	_, left := object.GetLabels()[v1alpha2.LabelCNI]
	return !left && object.GetDeletionTimestamp().IsZero()
}

// bgpPeers returns all of them. They are the cache's own and must not be
// changed.
func (s *Speaker) bgpPeers(ctx context.Context) ([]*v1alpha2.BgpPeer, error) {
	var list v1alpha2.BgpPeerList
	if err := s.Reader.List(ctx, &list, client.UnsafeDisableDeepCopy); err != nil {
		return nil, fmt.Errorf("listing BgpPeers: %w", err)
	}
	peers := make([]*v1alpha2.BgpPeer, len(list.Items))
	for i := range list.Items {
		peers[i] = &list.Items[i]
	}
	return peers, nil
}

// configureRetry is how soon after a router could not be made as asked it is
// tried again: a port that is taken is free again, a neighbor shows up on its
// link. It is as often as a neighbor is called that does not answer.
const configureRetry = 5 * time.Second

// configure makes this node's router and its sessions as the BgpConf and the
// BgpPeers ask. What cannot be had is published, and tried again.
func (s *Speaker) configure(ctx context.Context) error {
	if d := &s.announcer.drain; d.stopping && d.done {
		return nil // the sessions are about to be closed
	}
	var node corev1.Node
	if err := s.Reader.Get(ctx, types.NamespacedName{Name: s.NodeName}, &node); client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("reading Node %s: %w", s.NodeName, err)
	} else if err != nil {
		return nil // a Node that is gone has drained: its sessions do no harm
	}
	peers, err := s.bgpPeers(ctx)
	if err != nil {
		return err
	}
	a := &s.announcer
	addr4, addr6 := InternalIPs(&node)
	var findings bgp.Findings
	a.config, findings = bgp.Configure(bgp.Input{
		Node:       bgp.Node{Name: node.Name, Labels: node.Labels, Addr4: addr4, Addr6: addr6},
		Conf:       a.conf,
		Peers:      peers,
		Password:   func(name, key string) (string, error) { return s.password(ctx, name, key) },
		PolicyText: func(name string) (string, error) { return s.policyText(ctx, name) },
		Previous:   &a.config,
	})
	failed := a.Router.Configure(ctx, a.config)
	a.Publish(a.config, findings, failed)
	if failed != nil {
		s.after(request{kind: routerConfig}, configureRetry)
	}
	return nil
}

// password reads a neighbor's password.
func (s *Speaker) password(ctx context.Context, name, key string) (string, error) {
	var secret corev1.Secret
	id := types.NamespacedName{Namespace: s.announcer.Namespace, Name: name}
	if err := s.Reader.Get(ctx, id, &secret); client.IgnoreNotFound(err) != nil {
		return "", fmt.Errorf("reading Secret %s: %w", id, err)
	} else if err != nil {
		return "", fmt.Errorf("the Secret %s does not exist", id)
	}
	password, ok := secret.Data[key]
	if !ok {
		return "", fmt.Errorf("the Secret %s has no key %q", id, key)
	}
	return string(password), nil
}

// policyText reads the operator's policy. It is looked for in Fairway's own
// namespace and nowhere else.
func (s *Speaker) policyText(ctx context.Context, name string) (string, error) {
	var config corev1.ConfigMap
	id := types.NamespacedName{Namespace: s.announcer.Namespace, Name: name}
	if err := s.Reader.Get(ctx, id, &config); client.IgnoreNotFound(err) != nil {
		return "", fmt.Errorf("reading ConfigMap %s: %w", id, err)
	} else if err != nil {
		return "", fmt.Errorf("the ConfigMap %s does not exist", id)
	}
	text, ok := config.Data[bgp.PolicyKey]
	if !ok {
		return "", fmt.Errorf("the ConfigMap %s has no key %s", id, bgp.PolicyKey)
	}
	return text, nil
}

// explain returns why a Service is not reached at an address that is announced
// by BGP, "" if it is.
func (a *announcer) explain(d plan.BGPDecision) func(types.NamespacedName) string {
	missing := a.unrouted()
	return func(service types.NamespacedName) string {
		if text := d.Explain(service); text != "" || missing == "" {
			return text
		}
		return "is not announced: " + missing
	}
}

// unrouted says why this node announces nothing by BGP whatever the plan says,
// "" if it does. It holds for all nodes: what only this one lacks is a
// condition in the status of the BgpConf or BgpPeer.
func (a *announcer) unrouted() string {
	switch {
	case a.conf == nil || !ours(a.conf):
		return fmt.Sprintf("there is no BgpConf %q", v1alpha2.BgpConfName)
	case a.conf.Spec.AS == 0 && !a.racked:
		return fmt.Sprintf("BgpConf %q has no spec.as", v1alpha2.BgpConfName)
	case len(a.peers) == 0:
		return "there is no BgpPeer"
	}
	return ""
}
