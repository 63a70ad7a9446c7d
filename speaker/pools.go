package speaker

import (
	"context"
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"strings"

	"go4.org/netipx"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fairway-lb/fairway/api/v1alpha2"
	"github.com/fairway-lb/fairway/speaker/layer2"
	"github.com/fairway-lb/fairway/speaker/plan"
)

// pools are all Eips as this node sees them.
type pools struct {
	named  map[string]*pool
	sorted []*pool // by name
}

// pool is an Eip and which of its addresses this node can announce by layer 2.
// It is not changed once it was read.
type pool struct {
	plan.Pool
	*space
	uid        types.UID
	generation int64
	offSubnet  bool // spec.allowOffSubnet
	// link is the interface that a layer2 Eip chooses on this node, without a
	// name if there is none.
	link layer2.Link
	// served tells for each block of a layer2 Eip whether the link can serve it.
	served []bool
	// advertisement is how the addresses are announced by BGP. It is the same
	// as at the last look if nothing of it changed.
	advertisement *plan.Advertisement
	// refusal says which of the pool's addresses this node cannot announce, or
	// not as asked, and why; "" if there is none.
	refusal string
}

func (s *Speaker) readPools(ctx context.Context) (*pools, error) {
	var list v1alpha2.EipList
	if err := s.Reader.List(ctx, &list, client.UnsafeDisableDeepCopy); err != nil {
		return nil, fmt.Errorf("listing Eips: %w", err)
	}
	links := links{choose: s.chooseLink, known: map[string]choice{}}
	all := &pools{named: make(map[string]*pool, len(list.Items))}
	for i := range list.Items {
		eip := &list.Items[i]
		p := &pool{
			Pool:       plan.Pool{Name: eip.Name, Protocol: eip.Spec.Protocol},
			uid:        eip.UID,
			generation: eip.Generation,
			offSubnet:  eip.Spec.AllowOffSubnet,
		}
		if old := s.pools.get(eip.Name); old != nil && old.uid == p.uid && old.generation == p.generation {
			p.space = old.space
		} else {
			p.space = readSpace(eip.Name, &eip.Spec)
		}
		switch p.AnnouncedBy() {
		case v1alpha2.ProtocolLayer2:
			p.judge(links.of(eip.Spec.Interface))
		case v1alpha2.ProtocolBGP:
			p.advertise(eip.Spec.BGP, s.announcer.peers, s.pools.get(eip.Name))
		}
		all.named[p.Name] = p
		all.sorted = append(all.sorted, p)
	}
	slices.SortFunc(all.sorted, func(a, b *pool) int { return strings.Compare(a.Name, b.Name) })
	return all, nil
}

func (p *pools) get(name string) *pool {
	if p == nil {
		return nil
	}
	return p.named[name]
}

// of returns the Eip that an address of a Service belongs to, nil if there is
// none. The Service's label names the Eip of its first address; another may be
// from another Eip. An address that was cut from its Eip still belongs to it.
func (p *pools) of(label string, addr netip.Addr) *pool {
	labelled := p.named[label]
	if labelled != nil && labelled.set.Contains(addr) {
		return labelled
	}
	for _, other := range p.sorted {
		if other.set.Contains(addr) {
			return other
		}
	}
	return labelled
}

// same tells whether two looks at the Eips lead to the same decisions.
func (p *pools) same(other *pools) bool {
	return p != nil && other != nil && slices.EqualFunc(p.sorted, other.sorted, func(a, b *pool) bool {
		return a.Pool == b.Pool && a.space == b.space && a.uid == b.uid && a.offSubnet == b.offSubnet &&
			a.link.Name == b.link.Name && a.link.Up == b.link.Up && slices.Equal(a.link.Prefixes, b.link.Prefixes) &&
			slices.Equal(a.served, b.served) && a.refusal == b.refusal
	})
}

// judge finds out which blocks the link can serve. err is why there is no link.
func (p *pool) judge(link layer2.Link, err error) {
	p.served = make([]bool, len(p.blocks))
	var refusals []string
	if err != nil {
		refusals = append(refusals, fmt.Sprintf("the Eip's addresses: %v", err))
	} else {
		p.link = link
		refusals = p.judgeBlocks()
	}
	refusals = append(refusals, p.faults...)
	if p.refusal = strings.Join(refusals, "; and "); p.refusal != "" && slices.Contains(p.served, true) {
		p.refusal += "; it can announce the Eip's other addresses"
	}
}

// advertise reads how the pool's addresses are announced by BGP.
func (p *pool) advertise(spec *v1alpha2.BgpAdvertisement, peers []peerLabels, before *pool) {
	refusals := p.faults
	var selected []string
	if spec != nil && spec.PeerSelector != nil {
		selector, err := metav1.LabelSelectorAsSelector(spec.PeerSelector)
		if err != nil {
			refusals = append(slices.Clip(refusals), fmt.Sprintf("the Eip's addresses to the peers of spec.bgp.peerSelector: %v", err))
			selector = labels.Nothing()
		}
		for _, peer := range peers {
			if selector.Matches(labels.Set(peer.labels)) {
				selected = append(selected, peer.name)
			}
		}
	}
	advertisement, err := plan.ParseAdvertisement(spec, selected)
	if err != nil {
		refusals = append(slices.Clip(refusals), fmt.Sprintf("the Eip's addresses as it asks: %v", err))
	}
	for _, name := range advertisement.Peers {
		if !slices.ContainsFunc(peers, func(peer peerLabels) bool { return peer.name == name }) {
			refusals = append(slices.Clip(refusals), fmt.Sprintf("the Eip's addresses to BgpPeer %s of spec.bgp.peers, which does not exist", name))
		}
	}
	if !advertisement.AllPeers && len(advertisement.Peers) == 0 {
		refusals = append(slices.Clip(refusals), "the Eip's addresses to anyone: no BgpPeer has the labels of spec.bgp.peerSelector")
	}
	if before != nil && reflect.DeepEqual(before.advertisement, advertisement) {
		advertisement = before.advertisement
	}
	p.advertisement = advertisement
	p.refusal = strings.Join(refusals, "; and ")
}

// judgeBlocks returns why some blocks cannot be served, those of one cause
// together.
func (p *pool) judgeBlocks() (refusals []string) {
	var causes []string
	blocks := map[string][]string{}
	for i, b := range p.blocks {
		reason := ""
		for _, part := range b.parts {
			if _, reason = p.link.CanServe(part, p.offSubnet); reason != "" {
				break
			}
		}
		if p.served[i] = reason == ""; p.served[i] {
			continue
		}
		if blocks[reason] == nil {
			causes = append(causes, reason)
		}
		blocks[reason] = append(blocks[reason], b.text)
	}
	for _, cause := range causes {
		refusals = append(refusals, fmt.Sprintf("%s: %s", listed(blocks[cause]), cause))
	}
	return refusals
}

// block returns by which scopes a node says that it serves an address of the
// pool, and the link on which this node can announce it, "" if on none. The
// result is shared.
func (p *pool) block(addr netip.Addr) (scopes []string, link string) {
	for i, b := range p.blocks {
		if !b.Contains(addr) {
			continue
		}
		if p.serves(i) {
			link = p.link.Name
		}
		if scopes == nil {
			scopes = b.scopes
		} else { // blocks that overlap
			scopes = slices.Concat(scopes, b.scopes)
		}
	}
	return scopes, link
}

// serves tells whether this node can announce a block by layer 2.
func (p *pool) serves(block int) bool { return block < len(p.served) && p.served[block] }

// stray returns the subnet in which this node can announce an address that
// belongs to the pool and that no pool contains: such an address is judged by
// itself. A subnet that holds everything stands for spec.allowOffSubnet.
func (p *pool) stray(addr netip.Addr) (subnet netip.Prefix, ok bool) {
	alone := netipx.IPRangeFrom(addr, addr)
	if can, _ := p.link.CanServe(alone, p.offSubnet); !can {
		return netip.Prefix{}, false
	}
	if p.offSubnet {
		subnet, _ := addr.Prefix(0) // a valid number of bits
		return subnet, true
	}
	return p.link.Subnet(alone)
}

// scopes returns those of the pool's blocks that this node serves: the whole
// pool as one, to have room for many pools.
func (p *pool) scopes() []string {
	if len(p.served) > 0 && !slices.Contains(p.served, false) {
		return []string{poolScope(p.Name)}
	}
	var scopes []string
	for i, b := range p.blocks {
		if p.serves(i) {
			scopes = append(scopes, blockScope(p.Name, b.IPRange))
		}
	}
	return scopes
}

// links chooses each interface once: most Eips name the same.
type links struct {
	choose func(spec string) (layer2.Link, error)
	known  map[string]choice
}

type choice struct {
	link layer2.Link
	err  error
}

func (l links) of(spec string) (layer2.Link, error) {
	c, ok := l.known[spec]
	if !ok {
		c.link, c.err = l.choose(spec)
		l.known[spec] = c
	}
	return c.link, c.err
}
