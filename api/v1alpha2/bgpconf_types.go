package v1alpha2

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// BgpConfSpec is the BGP router that every node runs.
type BgpConfSpec struct {
	// AS is the nodes' autonomous system number. Without it, or with 0, no
	// session is opened.
	//
	// +optional
	AS Uint32 `json:"as,omitempty"`

	// AsPerRack gives the nodes of a rack their own AS number, 0 being that
	// of AS. Its key is the value of the node label
	// openelb.kubesphere.io/rack. Such nodes use their own address in place
	// of RouterID, and only nodes of their rack as next hops.
	//
	// ---
	// A schema cannot bound the length of keys, and what CEL does with a whole
	// string costs by its length. So the rule looks at one character at a
	// time, which the API server has the time for with 256 keys.
	//
	// +kubebuilder:validation:MaxProperties=256
	// +kubebuilder:validation:XValidation:rule=`self.all(k, k.size() == 0 || (k.size() <= 63 && !(k.charAt(0) in ['-', '_', '.']) && !(k.charAt(k.size() - 1) in ['-', '_', '.']) && [0, 8, 16, 24, 32, 40, 48, 56].all(i, [0, 1, 2, 3, 4, 5, 6, 7].all(j, i + j >= k.size() || k.charAt(i + j) in ['-', '_', '.'] || (k.charAt(i + j) >= '0' && k.charAt(i + j) <= '9') || (k.charAt(i + j) >= 'A' && k.charAt(i + j) <= 'Z') || (k.charAt(i + j) >= 'a' && k.charAt(i + j) <= 'z')))))`,message="a key of asPerRack must be a value that the node label openelb.kubesphere.io/rack can have: at most 63 letters, digits, '-', '_' and '.', with a letter or digit at both ends"
	// +optional
	AsPerRack map[string]Uint32 `json:"asPerRack,omitempty"`

	// RouterID is an IPv4 address, and not 0.0.0.0. Absent means the node's
	// first IPv4 InternalIP; a node without has a number that follows from
	// its name.
	//
	// +kubebuilder:validation:MaxLength=64
	// +kubebuilder:validation:XValidation:rule=`self == "" || (isIP(self) && ip(self).family() == 4 && !ip(self).isUnspecified())`,message="routerId must be an IPv4 address, such as 192.168.0.2; leave it out to use the node's own"
	// +optional
	RouterID string `json:"routerId,omitempty"`

	// ListenPort is the TCP port that sessions are accepted on. Absent or 0
	// means 179, -1 that none are accepted.
	//
	// +kubebuilder:validation:Minimum=-1
	// +kubebuilder:validation:Maximum=65535
	// +optional
	ListenPort int32 `json:"listenPort,omitempty"`

	// ListenAddresses are the addresses that sessions are accepted on.
	// Absent means all.
	//
	// +kubebuilder:validation:MaxItems=64
	// +kubebuilder:validation:items:MaxLength=64
	// +kubebuilder:validation:items:XValidation:rule=`isIP(self)`,message="listenAddresses needs IP addresses of the nodes, such as 192.168.0.2, without prefix length or port; leave it out to listen on all"
	// +optional
	ListenAddresses []string `json:"listenAddresses,omitempty"`

	// Families are the address families to keep, each as afi<<16|safi: 65537
	// is IPv4 unicast, 131073 IPv6 unicast. Absent means all. Addresses of
	// other families are never announced.
	//
	// +kubebuilder:validation:MaxItems=64
	// +optional
	Families []Uint32 `json:"families,omitempty"`

	// UseMultiplePaths turns on GoBGP's multipath. Nodes use no routes of
	// their peers, so it changes nothing of what they announce.
	//
	// +optional
	UseMultiplePaths bool `json:"useMultiplePaths,omitempty"`

	// GracefulRestart is RFC 4724 for the sessions whose BgpPeer says nothing
	// of it. Absent means on, with a restart time of 120 seconds.
	//
	// +optional
	GracefulRestart *GracefulRestart `json:"gracefulRestart,omitempty"`

	// NextHops says which next hops a node announces: its own address
	// (self), which is the default, or those of all nodes that can serve the
	// address (nodes), for topologies in which only some nodes hold sessions,
	// as with a route reflector. The peers have to accept several paths for
	// one destination then (RFC 7911).
	//
	// +kubebuilder:validation:Enum=self;nodes
	// +optional
	NextHops string `json:"nextHops,omitempty"`

	// Policy names the ConfigMap in Fairway's namespace whose key gobgp.conf
	// holds the routing policy in GoBGP's TOML.
	//
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:XValidation:rule=`self == "" || self.matches(r'^[a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*$')`,message="policy must be the name of a ConfigMap in Fairway's namespace, such as bgp-policy"
	// +optional
	Policy string `json:"policy,omitempty"`
}

// Values of BgpConfSpec.NextHops.
const (
	// NextHopSelf is the announcing node's own address.
	NextHopSelf = "self"
	// NextHopNodes are the addresses of all nodes that can serve the address.
	NextHopNodes = "nodes"
)

// GracefulRestart configures graceful restart (RFC 4724). Its times are in
// seconds.
type GracefulRestart struct {
	// Enabled turns graceful restart on.
	//
	// +optional
	Enabled bool `json:"enabled,omitempty"`

	// RestartTime is how long the peer is asked to keep our routes while
	// our session is down, in seconds; 120 if absent or 0 (RFC 4724).
	//
	// +kubebuilder:validation:XValidation:rule=`self <= 4095`,message="gracefulRestart.restartTime must be at most 4095 seconds, BGP has 12 bits for it"
	// +optional
	RestartTime Uint32 `json:"restartTime,omitempty"`

	// HelperOnly waits for a restarting peer without asking it to keep our
	// routes.
	//
	// +optional
	HelperOnly bool `json:"helperOnly,omitempty"`

	// DeferralTime is how long, after a restart of the speaker, its routes
	// wait for the peers to send theirs, in seconds; 1 if absent or 0, since
	// nodes use no routes of their peers.
	//
	// +kubebuilder:validation:XValidation:rule=`self <= 65535`,message="gracefulRestart.deferralTime must be at most 65535 seconds"
	// +optional
	DeferralTime Uint32 `json:"deferralTime,omitempty"`

	// NotificationEnabled extends graceful restart to sessions that end with
	// a NOTIFICATION (RFC 8538).
	//
	// +optional
	NotificationEnabled bool `json:"notificationEnabled,omitempty"`

	// LonglivedEnabled turns long-lived graceful restart on (RFC 9494): after
	// RestartTime, our routes are kept for StaleRoutesTime more, as a last
	// resort.
	//
	// +optional
	LonglivedEnabled bool `json:"longlivedEnabled,omitempty"`

	// StaleRoutesTime is how long the peer is asked to keep our routes under
	// LonglivedEnabled, in seconds; a day if absent or 0.
	//
	// +kubebuilder:validation:XValidation:rule=`self <= 16777215`,message="gracefulRestart.staleRoutesTime must be at most 16777215 seconds, BGP has 24 bits for it"
	// +optional
	StaleRoutesTime Uint32 `json:"staleRoutesTime,omitempty"`

	// PeerRestartTime is the restart time that the peer announced, in
	// seconds. It is state; setting it has no effect.
	//
	// +optional
	PeerRestartTime Uint32 `json:"peerRestartTime,omitempty"`

	// PeerRestarting is true while the peer restarts. It is state; setting
	// it has no effect.
	//
	// +optional
	PeerRestarting bool `json:"peerRestarting,omitempty"`

	// LocalRestarting is true while this router restarts. It is state;
	// setting it has no effect.
	//
	// +optional
	LocalRestarting bool `json:"localRestarting,omitempty"`

	// Mode is state; setting it has no effect.
	//
	// +kubebuilder:validation:MaxLength=64
	// +optional
	Mode string `json:"mode,omitempty"`
}

// BgpConfStatus is the router as the nodes run it.
type BgpConfStatus struct {
	// NodesConfStatus maps a node's name to its router.
	//
	// +optional
	NodesConfStatus map[string]NodeConfStatus `json:"nodesConfStatus,omitempty"`
}

// NodeConfStatus is the router of one node.
type NodeConfStatus struct {
	// RouterID is the router ID in use.
	//
	// +optional
	RouterID string `json:"routerId,omitempty"`

	// AS is the AS number in use.
	//
	// +optional
	AS Uint32 `json:"as,omitempty"`

	// Conditions of the node's router: Ready, which says whether it runs as
	// the BgpConf and its policy ask.
	//
	// +listType=map
	// +listMapKey=type
	// +optional
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// BgpConf configures BGP on all nodes. Only the one named default counts.
//
// +kubebuilder:object:root=true
// +kubebuilder:storageversion
// +kubebuilder:subresource:status
// +kubebuilder:resource:scope=Cluster
// +kubebuilder:printcolumn:name="as",type=integer,JSONPath=`.spec.as`
// +kubebuilder:printcolumn:name="port",type=integer,JSONPath=`.spec.listenPort`
// +kubebuilder:printcolumn:name="policy",type=string,priority=1,JSONPath=`.spec.policy`
// +kubebuilder:printcolumn:name="age",type=date,JSONPath=`.metadata.creationTimestamp`
type BgpConf struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec   BgpConfSpec   `json:"spec,omitempty"`
	Status BgpConfStatus `json:"status,omitempty"`
}

// BgpConfList is a list of BgpConfs.
//
// +kubebuilder:object:root=true
type BgpConfList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`

	Items []BgpConf `json:"items"`
}
