package bgp

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/fairway-lb/fairway/api/v1alpha2"
)

// Node is what Configure needs to know of the node.
type Node struct {
	Name   string
	Labels map[string]string
	// Addr4 and Addr6 are the first InternalIP of each family, or zero.
	Addr4, Addr6 netip.Addr
}

// Input is all that a Config follows from.
type Input struct {
	Node Node
	// Conf is the BgpConf named default, or nil.
	Conf *v1alpha2.BgpConf
	// Peers are all BgpPeers, in any order. They are not changed.
	Peers []*v1alpha2.BgpPeer
	// Password returns the value of a key of a Secret in Fairway's namespace.
	Password func(secret, key string) (string, error)
	// PolicyText returns the value of PolicyKey of a ConfigMap in Fairway's
	// namespace.
	PolicyText func(configMap string) (string, error)
	// Previous is what Configure returned last, or nil. Passwords and the
	// policy that cannot be read now are taken from it.
	Previous *Config
}

// Configure decides what the node's router is to be, and says of each object
// what of it is not done. It does nothing else: the same input gives an equal
// Config. An object that cannot be honoured is skipped and never affects the
// others.
func Configure(in Input) (Config, Findings) {
	findings := Findings{Peers: make(map[string]Finding)}
	conf := in.Conf
	if conf != nil && (conf.Name != v1alpha2.BgpConfName || conf.DeletionTimestamp != nil) {
		conf = nil
	}
	about := &report{object: "BgpConf " + v1alpha2.BgpConfName}
	config := Config{Router: routerFor(conf, in.Node, about)}
	if config.Router != nil {
		config.Policy, config.policyText = policyFor(conf, &in, about)
	}
	findings.Router = about.finding(ReasonReady, "the node's BGP router runs as the BgpConf asks")

	taken := make(map[string]string) // by neighbor: the BgpPeer that has it
	for _, obj := range byAge(in.Peers) {
		about := &report{object: "BgpPeer " + obj.Name}
		selected, bad := selects(obj, in.Node.Labels)
		if !selected && bad == nil {
			continue
		}
		about.add(bad)
		if bad == nil {
			draft := draft{in: &in, conf: conf, router: config.Router, obj: obj, about: about, taken: taken}
			if refused := draft.make(); refused != nil {
				about.problems = []*problem{refused}
			} else {
				config.Peers = append(config.Peers, draft.peer)
			}
		}
		findings.Peers[obj.Name] = about.finding(ReasonAccepted, "the node does all that the BgpPeer asks")
	}
	slices.SortFunc(config.Peers, func(a, b Peer) int { return cmp.Compare(a.Name, b.Name) })
	return config, findings
}

// byAge returns the BgpPeers that are not being deleted, the oldest first: of
// two with one neighbor, the older keeps it.
func byAge(peers []*v1alpha2.BgpPeer) []*v1alpha2.BgpPeer {
	sorted := make([]*v1alpha2.BgpPeer, 0, len(peers))
	for _, p := range peers {
		if p != nil && p.DeletionTimestamp == nil {
			sorted = append(sorted, p)
		}
	}
	slices.SortFunc(sorted, func(a, b *v1alpha2.BgpPeer) int {
		return cmp.Or(a.CreationTimestamp.Compare(b.CreationTimestamp.Time), cmp.Compare(a.Name, b.Name))
	})
	return sorted
}

// selects says whether a BgpPeer's nodeSelector picks a node with these labels.
func selects(obj *v1alpha2.BgpPeer, node map[string]string) (bool, *problem) {
	asked := obj.Spec.NodeSelector
	if asked == nil {
		return true, nil // a nil LabelSelector would pick no node
	}
	// Labels in their order, so that of several errors it is always the same.
	var ordered metav1.LabelSelector
	for _, key := range slices.Sorted(maps.Keys(asked.MatchLabels)) {
		ordered.MatchExpressions = append(ordered.MatchExpressions, metav1.LabelSelectorRequirement{
			Key: key, Operator: metav1.LabelSelectorOpIn, Values: []string{asked.MatchLabels[key]},
		})
	}
	ordered.MatchExpressions = append(ordered.MatchExpressions, asked.MatchExpressions...)
	selector, err := metav1.LabelSelectorAsSelector(&ordered)
	if err != nil {
		return false, problemf(ReasonSelectorInvalid, "spec.nodeSelector cannot be read and picks no node: %v", err)
	}
	return selector.Matches(labels.Set(node)), nil
}

// policyFor returns the operator's policy and its text: the last good one where
// the ConfigMap has none that can be read.
func policyFor(conf *v1alpha2.BgpConf, in *Input, about *report) (*Policy, string) {
	name := conf.Spec.Policy
	if name == "" {
		return nil, ""
	}
	last := in.Previous
	if last == nil {
		last = &Config{}
	}
	text, err := in.PolicyText(name)
	if err == nil && last.Policy != nil && last.policyText == text {
		return last.Policy, text
	}
	var parsed *Policy
	if err == nil {
		parsed, err = ParsePolicy(text)
	}
	if err == nil {
		return parsed, text
	}
	inForce := "no policy is in force"
	if last.Policy != nil {
		inForce = "the last good policy stays in force"
	}
	about.add(problemf(ReasonPolicyInvalid, "spec.policy: ConfigMap %s: %v; %s", name, err, inForce))
	return last.Policy, last.policyText
}
