package v1alpha2

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// BgpAdvertisement is how addresses are announced by BGP. The zero value
// announces each address on its own, to all peers, without attributes beyond
// those that BGP asks for.
type BgpAdvertisement struct {
	// Communities that the routes carry: standard ones (65000:100, RFC 1997),
	// large ones (65000:1:2, RFC 8092) and the well-known names no-export,
	// no-advertise, no-export-subconfed, no-peer, blackhole and
	// graceful-shutdown. Numbers have no leading zeros.
	//
	// ---
	// The rule accepts what ParseCommunity accepts. 64 large communities take
	// 768 of the 4096 octets of an UPDATE.
	//
	// +listType=set
	// +kubebuilder:validation:MaxItems=64
	// +kubebuilder:validation:items:MaxLength=32
	// +kubebuilder:validation:items:XValidation:rule=`self in ['no-export', 'no-advertise', 'no-export-subconfed', 'no-peer', 'blackhole', 'graceful-shutdown'] || (self.matches('^(0|[1-9][0-9]{0,4}):(0|[1-9][0-9]{0,4})$') && self.split(':').all(n, int(n) <= 65535)) || (self.matches('^(0|[1-9][0-9]{0,9}):(0|[1-9][0-9]{0,9}):(0|[1-9][0-9]{0,9})$') && self.split(':').all(n, int(n) <= 4294967295))`,message="bgp.communities needs standard communities such as 65000:100 (0 to 65535 each), large ones such as 65000:1:2 (0 to 4294967295 each), or the names no-export, no-advertise, no-export-subconfed, no-peer, blackhole and graceful-shutdown"
	// +optional
	Communities []string `json:"communities,omitempty"`

	// LocalPref is the local preference that neighbors in the nodes' own AS
	// are told; 100 if absent. Others never see it (RFC 4271, 5.1.5).
	//
	// +optional
	LocalPref *Uint32 `json:"localPref,omitempty"`

	// MED is the multi-exit discriminator: of several links to the same
	// neighboring AS the lowest is preferred.
	//
	// +optional
	MED *Uint32 `json:"med,omitempty"`

	// ASPathPrepend is how many more times than once the nodes' AS number is
	// in the path.
	//
	// ---
	// Paths of the Internet have 4 AS numbers on average, so that 10 more lose
	// every comparison. Filters take more for an error.
	//
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=10
	// +optional
	ASPathPrepend int32 `json:"asPathPrepend,omitempty"`

	// AggregationLength is the prefix length of the IPv4 routes; 32 if
	// absent. An address whose prefix of that length is not wholly within
	// the Eip's addresses is announced on its own.
	//
	// ---
	// Nobody has more than a /8, and a shorter prefix is a slip.
	//
	// +kubebuilder:validation:Minimum=8
	// +kubebuilder:validation:Maximum=32
	// +optional
	AggregationLength *int32 `json:"aggregationLength,omitempty"`

	// AggregationLengthV6 is the prefix length of the IPv6 routes; 128 if
	// absent.
	//
	// ---
	// The bound is that of all unique local addresses, fd00::/8.
	//
	// +kubebuilder:validation:Minimum=8
	// +kubebuilder:validation:Maximum=128
	// +optional
	AggregationLengthV6 *int32 `json:"aggregationLengthV6,omitempty"`

	// Peers are the names of the BgpPeers that the routes are announced to.
	// Absent, together with PeerSelector, means all.
	//
	// +listType=set
	// +kubebuilder:validation:MaxItems=128
	// +kubebuilder:validation:items:MaxLength=253
	// +kubebuilder:validation:items:XValidation:rule=`self.matches(r'^[a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*$')`,message="bgp.peers needs names of BgpPeers; leave it out to announce to all"
	// +optional
	Peers []string `json:"peers,omitempty"`

	// PeerSelector adds the BgpPeers with such labels to Peers.
	//
	// ---
	// The syntax of keys and values is left to the speaker, as in
	// EipSpec.ServiceSelector.
	//
	// +kubebuilder:validation:XValidation:rule=`!has(self.matchExpressions) || self.matchExpressions.all(e, e.operator in ['In', 'NotIn'] ? has(e.values) && e.values.size() > 0 : e.operator in ['Exists', 'DoesNotExist'] && (!has(e.values) || e.values.size() == 0))`,message="an operator of bgp.peerSelector.matchExpressions must be In or NotIn with values, or Exists or DoesNotExist without"
	// +optional
	PeerSelector *metav1.LabelSelector `json:"peerSelector,omitempty"`
}
