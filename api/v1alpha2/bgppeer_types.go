package v1alpha2

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// BgpPeerSpec is one router that nodes hold BGP sessions with. Its fields are
// those of GoBGP's Peer message.
//
// +kubebuilder:validation:XValidation:rule=`has(self.conf) && ((has(self.conf.neighborAddress) && self.conf.neighborAddress != "") || (has(self.conf.neighborInterface) && self.conf.neighborInterface != ""))`,fieldPath=".conf",message="conf names no neighbor: set conf.neighborAddress to the router's IP address, or conf.neighborInterface to the interface that leads to it"
type BgpPeerSpec struct {
	// Conf says who the neighbor is.
	//
	// +optional
	Conf *PeerConf `json:"conf,omitempty"`

	// EbgpMultihop allows a neighbor in another AS that is not on the node's
	// own link.
	//
	// +optional
	EbgpMultihop *EbgpMultihop `json:"ebgpMultihop,omitempty"`

	// Timers of the session.
	//
	// +optional
	Timers *Timers `json:"timers,omitempty"`

	// Transport is the session's TCP connection.
	//
	// +optional
	Transport *Transport `json:"transport,omitempty"`

	// GracefulRestart is RFC 4724 for this session.
	//
	// +optional
	GracefulRestart *GracefulRestart `json:"gracefulRestart,omitempty"`

	// AfiSafis are the address families of the session. Absent means one, of
	// the neighbor address's family, with up to 10 paths sent per
	// destination.
	//
	// ---
	// The bound keeps the rules on the elements within the API server's cost
	// limit; BGP knows fewer families.
	//
	// +kubebuilder:validation:MaxItems=64
	// +optional
	AfiSafis []AfiSafi `json:"afiSafis,omitempty"`

	// TTLSecurity accepts only packets that come from no farther than
	// expected (GTSM, RFC 5082). It excludes EbgpMultihop.
	//
	// +optional
	TTLSecurity *TTLSecurity `json:"ttlSecurity,omitempty"`

	// BFD watches the path to the neighbor (RFC 5880) and closes the session
	// as soon as it is lost. Absent means not to.
	//
	// +optional
	BFD *BFD `json:"bfd,omitempty"`

	// NodeSelector picks the nodes that hold the session. Absent means all.
	//
	// +optional
	NodeSelector *metav1.LabelSelector `json:"nodeSelector,omitempty"`
}

// PeerConf says who the neighbor is.
type PeerConf struct {
	// AuthPassword is the TCP MD5 password (RFC 2385), in plain text.
	//
	// +optional
	AuthPassword string `json:"authPassword,omitempty"`

	// PasswordSecretRef names a Secret in Fairway's namespace that holds the
	// TCP MD5 password, in place of AuthPassword.
	//
	// +optional
	PasswordSecretRef *SecretKeyRef `json:"passwordSecretRef,omitempty"`

	// Description is free text.
	//
	// +optional
	Description string `json:"description,omitempty"`

	// LocalAS is the AS number shown to this neighbor. Absent means the
	// BgpConf's.
	//
	// +optional
	LocalAS Uint32 `json:"localAs,omitempty"`

	// NeighborAddress is the neighbor's IP address; a link-local one may be
	// followed by % and an interface.
	//
	// +kubebuilder:validation:MaxLength=64
	// +kubebuilder:validation:XValidation:rule=`self == "" || isIP(self) || (self.matches(r'^fe80:.*%[^%/:\s\v]{1,15}$') && isIP(self.split('%')[0]))`,message="neighborAddress must be one IP address, such as 192.168.0.5, without prefix length or port"
	// +optional
	NeighborAddress string `json:"neighborAddress,omitempty"`

	// PeerAS is the neighbor's AS number. Absent or 0 means the one that the
	// neighbor says it has.
	//
	// +optional
	PeerAS Uint32 `json:"peerAs,omitempty"`

	// PeerGroup names a GoBGP peer group.
	//
	// +optional
	PeerGroup string `json:"peerGroup,omitempty"`

	// PeerType is GoBGP's number for it: 0 internal, 1 external.
	//
	// +optional
	PeerType Uint32 `json:"peerType,omitempty"`

	// RemovePrivateAs says what becomes of private AS numbers in paths sent:
	// NONE keeps them, ALL removes and REPLACE overwrites them.
	//
	// +kubebuilder:validation:Enum="";NONE;ALL;REPLACE
	// +optional
	RemovePrivateAs string `json:"removePrivateAs,omitempty"`

	// RouteFlapDamping suppresses routes that come and go often.
	//
	// +optional
	RouteFlapDamping bool `json:"routeFlapDamping,omitempty"`

	// SendCommunity is GoBGP's number for the communities that are sent.
	//
	// +optional
	SendCommunity Uint32 `json:"sendCommunity,omitempty"`

	// NeighborInterface is the interface behind which the neighbor is found
	// by its IPv6 link-local address, in place of NeighborAddress.
	//
	// +optional
	NeighborInterface string `json:"neighborInterface,omitempty"`

	// Vrf names the GoBGP VRF that the session belongs to.
	//
	// +optional
	Vrf string `json:"vrf,omitempty"`

	// AllowOwnAS is how often the own AS number may be in a received path.
	//
	// +optional
	AllowOwnAS Uint32 `json:"allowOwnAs,omitempty"`

	// ReplacePeerAS overwrites the neighbor's AS number in paths sent to it.
	//
	// +optional
	ReplacePeerAS bool `json:"replacePeerAs,omitempty"`

	// AdminDown keeps the session closed.
	//
	// +optional
	AdminDown bool `json:"adminDown,omitempty"`
}

// SecretKeyRef is one key of a Secret.
type SecretKeyRef struct {
	// Name of the Secret.
	Name string `json:"name"`

	// Key in the Secret; password if absent.
	//
	// +optional
	Key string `json:"key,omitempty"`
}

// DefaultPasswordKey is the key that a SecretKeyRef without one means: that of
// Secrets of type kubernetes.io/basic-auth.
const DefaultPasswordKey = "password"

// TTLSecurity is the Generalized TTL Security Mechanism (RFC 5082).
type TTLSecurity struct {
	// Enabled turns it on. Both sides have to have it on.
	//
	// +optional
	Enabled bool `json:"enabled,omitempty"`

	// TTLMin is the smallest IP TTL of packets received; 255, a neighbor on
	// the node's own link, if absent.
	//
	// +optional
	TTLMin Uint32 `json:"ttlMin,omitempty"`
}

// BFD is a BFD session in asynchronous mode (RFC 5880) beside a BGP session.
// The zero value is one hop (RFC 5881) and a path that counts as lost after
// three times 300 ms.
type BFD struct {
	// MinTx is the shortest time between two packets sent, in milliseconds;
	// 300 if absent.
	//
	// +optional
	MinTx int32 `json:"minTx,omitempty"`

	// MinRx is the shortest time between two packets that the node is ready
	// to receive, in milliseconds; 300 if absent.
	//
	// +optional
	MinRx int32 `json:"minRx,omitempty"`

	// DetectMultiplier is the number of packets that may be missing before
	// the path counts as lost; 3 if absent.
	//
	// +optional
	DetectMultiplier int32 `json:"detectMultiplier,omitempty"`

	// Multihop is for a neighbor that is several hops away (RFC 5883).
	//
	// +optional
	Multihop bool `json:"multihop,omitempty"`

	// MinimumTTL is the smallest IP TTL of packets received over several
	// hops; any if absent. Over one hop it is always 255.
	//
	// +optional
	MinimumTTL int32 `json:"minimumTTL,omitempty"`
}

// EbgpMultihop allows neighbors that are several hops away.
type EbgpMultihop struct {
	// Enabled turns it on.
	//
	// +optional
	Enabled bool `json:"enabled,omitempty"`

	// MultihopTTL is the IP TTL of packets sent, 1 to 255.
	//
	// +optional
	MultihopTTL Uint32 `json:"multihopTtl,omitempty"`
}

// Timers of a session.
type Timers struct {
	// Config are the timers asked for.
	//
	// +optional
	Config *TimersConfig `json:"config,omitempty"`
}

// TimersConfig are the timers asked for.
type TimersConfig struct {
	// ConnectRetry is the time between attempts to connect; 5 if absent.
	//
	// +optional
	ConnectRetry Seconds `json:"connectRetry,omitempty"`

	// HoldTime is the silence after which the neighbor counts as gone; 90 if
	// absent. The smaller of both sides' values holds.
	//
	// +optional
	HoldTime Seconds `json:"holdTime,omitempty"`

	// KeepaliveInterval is the time between signs of life; 30 if absent.
	//
	// +optional
	KeepaliveInterval Seconds `json:"keepaliveInterval,omitempty"`

	// MinimumAdvertisementInterval is the least time between two updates of
	// one route.
	//
	// +optional
	MinimumAdvertisementInterval Seconds `json:"minimumAdvertisementInterval,omitempty"`
}

// Seconds is a whole number of seconds as decimal text.
//
// +kubebuilder:validation:MaxLength=20
// +kubebuilder:validation:XValidation:rule=`self == "" || self.matches(r'^[0-9]+$')`,message="a timer is a whole number of seconds in quotes and without a unit, such as \"90\""
type Seconds string

// Transport is the TCP connection of a session.
type Transport struct {
	// MtuDiscovery turns path MTU discovery on.
	//
	// +optional
	MtuDiscovery bool `json:"mtuDiscovery,omitempty"`

	// PassiveMode leaves it to the neighbor to connect.
	//
	// +optional
	PassiveMode bool `json:"passiveMode,omitempty"`

	// LocalAddress is the node's address that the session has. Absent means
	// the one that the node's routes choose.
	//
	// +optional
	LocalAddress string `json:"localAddress,omitempty"`

	// RemoteAddress is the address to connect to. Absent means
	// NeighborAddress.
	//
	// +optional
	RemoteAddress string `json:"remoteAddress,omitempty"`

	// RemotePort is the TCP port to connect to; 179 if absent.
	//
	// +optional
	RemotePort Uint32 `json:"remotePort,omitempty"`

	// TCPMSS is the maximum segment size in bytes.
	//
	// +optional
	TCPMSS Uint32 `json:"tcpMss,omitempty"`
}

// AfiSafi is one address family of a session.
type AfiSafi struct {
	// Config names the family. Absent means that of the neighbor address.
	//
	// +optional
	Config *AfiSafiConfig `json:"config,omitempty"`

	// AddPaths sends and receives several paths per destination (RFC 7911).
	//
	// +optional
	AddPaths *AddPaths `json:"addPaths,omitempty"`

	// MpGracefulRestart includes the family in graceful restart.
	//
	// +optional
	MpGracefulRestart *MpGracefulRestart `json:"mpGracefulRestart,omitempty"`
}

// AfiSafiConfig names and enables a family.
type AfiSafiConfig struct {
	// Family is the address family.
	//
	// +optional
	Family *Family `json:"family,omitempty"`

	// Enabled turns the family on.
	//
	// +optional
	Enabled bool `json:"enabled,omitempty"`
}

// Family is an address family by GoBGP's names.
type Family struct {
	// Afi is the address family: AFI_IP or AFI_IP6, for example.
	//
	// +kubebuilder:validation:MaxLength=64
	// +kubebuilder:validation:XValidation:rule=`self == "" || self.startsWith('AFI_')`,message="afi must be one of GoBGP's names, such as AFI_IP for IPv4 or AFI_IP6 for IPv6"
	// +optional
	Afi string `json:"afi,omitempty"`

	// Safi is the subsequent address family: SAFI_UNICAST, for example.
	//
	// +kubebuilder:validation:MaxLength=64
	// +kubebuilder:validation:XValidation:rule=`self == "" || self.startsWith('SAFI_')`,message="safi must be one of GoBGP's names, such as SAFI_UNICAST"
	// +optional
	Safi string `json:"safi,omitempty"`
}

// AddPaths configures several paths per destination (RFC 7911).
type AddPaths struct {
	// Config of it.
	//
	// +optional
	Config *AddPathsConfig `json:"config,omitempty"`
}

// AddPathsConfig bounds the paths per destination.
type AddPathsConfig struct {
	// Receive accepts several paths per destination.
	//
	// +optional
	Receive bool `json:"receive,omitempty"`

	// SendMax is the largest number of paths sent per destination.
	//
	// +optional
	SendMax Uint32 `json:"sendMax,omitempty"`
}

// MpGracefulRestart configures graceful restart of one family.
type MpGracefulRestart struct {
	// Config of it.
	//
	// +optional
	Config *MpGracefulRestartConfig `json:"config,omitempty"`
}

// MpGracefulRestartConfig configures graceful restart of one family.
type MpGracefulRestartConfig struct {
	// Enabled includes the family in graceful restart.
	//
	// +optional
	Enabled bool `json:"enabled,omitempty"`
}

// BgpPeer is a router that nodes announce addresses to.
//
// ---
// The rule on the whole object holds for new objects only: one that was stored
// before it must stay updatable, or its finalizer could never be removed.
//
// +kubebuilder:object:root=true
// +kubebuilder:storageversion
// +kubebuilder:subresource:status
// +kubebuilder:resource:scope=Cluster
// +kubebuilder:validation:XValidation:rule=`has(self.spec) || (oldSelf.hasValue() && !has(oldSelf.value().spec))`,optionalOldSelf=true,fieldPath=".spec",message="spec is missing: set spec.conf.neighborAddress to the router's IP address, or spec.conf.neighborInterface to the interface that leads to it"
type BgpPeer struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec   BgpPeerSpec   `json:"spec,omitempty"`
	Status BgpPeerStatus `json:"status,omitempty"`
}

// BgpPeerList is a list of BgpPeers.
//
// +kubebuilder:object:root=true
type BgpPeerList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`

	Items []BgpPeer `json:"items"`
}
