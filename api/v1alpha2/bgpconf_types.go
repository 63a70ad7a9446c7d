package v1alpha2

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// BgpConfSpec is the BGP router that every node runs.
type BgpConfSpec struct {
	// AS is the nodes' autonomous system number. Without it no session is
	// opened.
	//
	// +optional
	AS Uint32 `json:"as,omitempty"`

	// AsPerRack gives the nodes of a rack their own AS number. Its key is
	// the value of the node label openelb.kubesphere.io/rack. Such nodes use
	// their own address in place of RouterID, and only nodes of their rack
	// as next hops.
	//
	// +optional
	AsPerRack map[string]Uint32 `json:"asPerRack,omitempty"`

	// RouterID is an IPv4 address. Absent means the first InternalIP of the
	// node.
	//
	// +kubebuilder:validation:MaxLength=64
	// +kubebuilder:validation:XValidation:rule=`self == "" || (isIP(self) && ip(self).family() == 4)`,message="routerId must be an IPv4 address, such as 192.168.0.2; leave it out to use the node's own"
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
	// +optional
	ListenAddresses []string `json:"listenAddresses,omitempty"`

	// Families are the address families to keep, each as afi<<16|safi; 65537
	// is IPv4 unicast.
	//
	// +optional
	Families []Uint32 `json:"families,omitempty"`

	// UseMultiplePaths turns on multipath: several routes to one destination
	// are used together.
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

	// Policy names the ConfigMap whose key gobgp.conf holds the routing
	// policy in GoBGP's TOML.
	//
	// +optional
	Policy string `json:"policy,omitempty"`
}

// Values of BgpConfSpec.NextHops.
const (
	NextHopSelf  = "self"
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
	// our session is down, in seconds.
	//
	// +optional
	RestartTime Uint32 `json:"restartTime,omitempty"`

	// HelperOnly keeps a restarting peer's routes without asking the same of
	// it.
	//
	// +optional
	HelperOnly bool `json:"helperOnly,omitempty"`

	// DeferralTime is how long the choice of routes waits, after a restart,
	// for the peers to send theirs, in seconds.
	//
	// +optional
	DeferralTime Uint32 `json:"deferralTime,omitempty"`

	// NotificationEnabled extends graceful restart to sessions that end with
	// a NOTIFICATION (RFC 8538).
	//
	// +optional
	NotificationEnabled bool `json:"notificationEnabled,omitempty"`

	// LonglivedEnabled turns long-lived graceful restart on (RFC 9494).
	//
	// +optional
	LonglivedEnabled bool `json:"longlivedEnabled,omitempty"`

	// StaleRoutesTime is how long the routes of a peer that came back are
	// kept until it has sent them again, in seconds.
	//
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

	// Mode is accepted for compatibility.
	//
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
