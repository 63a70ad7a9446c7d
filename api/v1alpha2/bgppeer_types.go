package v1alpha2

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// BgpPeerSpec is one router that nodes hold BGP sessions with. Its fields are
// those of GoBGP's Peer message.
//
// +kubebuilder:validation:XValidation:rule=`has(self.conf) && ((has(self.conf.neighborAddress) && self.conf.neighborAddress != "") || (has(self.conf.neighborInterface) && self.conf.neighborInterface != ""))`,fieldPath=".conf",message="conf names no neighbor: set conf.neighborAddress to the router's IP address, or conf.neighborInterface to the interface that leads to it"
// +kubebuilder:validation:XValidation:rule=`!(has(self.ttlSecurity) && has(self.ttlSecurity.enabled) && self.ttlSecurity.enabled && has(self.ebgpMultihop) && has(self.ebgpMultihop.enabled) && self.ebgpMultihop.enabled)`,fieldPath=".ttlSecurity",message="ttlSecurity and ebgpMultihop exclude each other: turn one of them off; ttlSecurity.ttlMin says how far away the neighbor may be"
// +kubebuilder:validation:XValidation:rule=`!has(self.transport) || !has(self.transport.localAddress) || self.transport.localAddress == "" || !has(self.conf) || !has(self.conf.neighborAddress) || self.conf.neighborAddress == "" || self.transport.localAddress.contains(':') == self.conf.neighborAddress.contains(':')`,fieldPath=".transport.localAddress",message="transport.localAddress and conf.neighborAddress are of two families: name an IPv4 address for both, or an IPv6 address"
// +kubebuilder:validation:XValidation:rule=`!has(self.transport) || !has(self.transport.remoteAddress) || self.transport.remoteAddress == "" || (has(self.conf) && has(self.conf.neighborAddress) && self.transport.remoteAddress == self.conf.neighborAddress)`,fieldPath=".transport.remoteAddress",message="transport.remoteAddress has no effect, the session is with conf.neighborAddress: leave it out, or make both the same"
type BgpPeerSpec struct {
	// Conf says who the neighbor is.
	//
	// +optional
	Conf *PeerConf `json:"conf,omitempty"`

	// EbgpMultihop allows a neighbor in another AS that is not on the node's
	// own link. One in the nodes' own AS, or whose PeerAS is absent, may be
	// several hops away without.
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

	// GracefulRestart is RFC 4724 for this session. Absent means the
	// BgpConf's; present without enabled it is off.
	//
	// +optional
	GracefulRestart *GracefulRestart `json:"gracefulRestart,omitempty"`

	// AfiSafis are the address families of the session. Absent means one, of
	// the neighbor address's family, with up to 10 paths sent per
	// destination; behind NeighborInterface both, IPv4 and IPv6.
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
	// ---
	// The syntax of keys and values is left to the speaker, as the schema of
	// a selector has no bounds.
	//
	// +kubebuilder:validation:XValidation:rule=`!has(self.matchExpressions) || self.matchExpressions.all(e, e.operator in ['In', 'NotIn'] ? has(e.values) && e.values.size() > 0 : e.operator in ['Exists', 'DoesNotExist'] && (!has(e.values) || e.values.size() == 0))`,message="an operator of nodeSelector.matchExpressions must be In or NotIn with values, or Exists or DoesNotExist without"
	// +optional
	NodeSelector *metav1.LabelSelector `json:"nodeSelector,omitempty"`
}

// PeerConf says who the neighbor is.
//
// +kubebuilder:validation:XValidation:rule=`!(has(self.passwordSecretRef) && has(self.authPassword) && self.authPassword != "")`,fieldPath=".passwordSecretRef",message="conf.passwordSecretRef and conf.authPassword exclude each other: leave one of them out"
// +kubebuilder:validation:XValidation:rule=`!has(self.neighborAddress) || self.neighborAddress == "" || !has(self.neighborInterface) || self.neighborInterface == "" || (isIP(self.neighborAddress) && ip(self.neighborAddress).isLinkLocalUnicast())`,fieldPath=".neighborInterface",message="conf.neighborInterface goes with no conf.neighborAddress, or with a link-local one: leave one of them out"
// +kubebuilder:validation:XValidation:rule=`!has(self.neighborAddress) || !isIP(self.neighborAddress) || ip(self.neighborAddress).family() == 4 || !ip(self.neighborAddress).isLinkLocalUnicast() || (has(self.neighborInterface) && self.neighborInterface != "")`,fieldPath=".neighborAddress",message="conf.neighborAddress is link-local: add the interface that leads to it, as in fe80::1%eth0"
// +kubebuilder:validation:XValidation:rule=`!(has(self.passwordSecretRef) || (has(self.authPassword) && self.authPassword != "")) || !((has(self.neighborAddress) && self.neighborAddress.contains('%')) || (has(self.neighborInterface) && self.neighborInterface != ""))`,message="conf has a password and a link-local neighbor, for which GoBGP cannot sign: name the neighbor by another address, or leave the password out"
type PeerConf struct {
	// AuthPassword is the TCP MD5 password (RFC 2385), in plain text. The
	// kernel takes 80 bytes.
	//
	// ---
	// No rule here: its refusal would repeat the password.
	//
	// +kubebuilder:validation:MaxLength=80
	// +optional
	AuthPassword string `json:"authPassword,omitempty"`

	// PasswordSecretRef names a Secret in Fairway's namespace that holds the
	// TCP MD5 password, in place of AuthPassword.
	//
	// +optional
	PasswordSecretRef *SecretKeyRef `json:"passwordSecretRef,omitempty"`

	// Description is free text.
	//
	// +kubebuilder:validation:MaxLength=1024
	// +optional
	Description string `json:"description,omitempty"`

	// LocalAS is the AS number shown to this neighbor. Absent means the
	// BgpConf's.
	//
	// +optional
	LocalAS Uint32 `json:"localAs,omitempty"`

	// NeighborAddress is the neighbor's IP address. A link-local one is
	// followed by % and an interface, or stands beside NeighborInterface.
	//
	// +kubebuilder:validation:MaxLength=64
	// +kubebuilder:validation:XValidation:rule=`self == "" || isIP(self) || (self.matches(r'^fe80:.*%[^%/:\s\v]{1,15}$') && isIP(self.split('%')[0]))`,message="neighborAddress must be one IP address, such as 192.168.0.5, without prefix length or port"
	// +kubebuilder:validation:XValidation:rule=`!isIP(self) || !(ip(self).isUnspecified() || cidr('224.0.0.0/4').containsIP(self) || cidr('ff00::/8').containsIP(self))`,message="neighborAddress must be the address of one router: multicast addresses, 0.0.0.0 and :: are not"
	// +optional
	NeighborAddress string `json:"neighborAddress,omitempty"`

	// PeerAS is the neighbor's AS number. Absent or 0 means the one that the
	// neighbor says it has.
	//
	// +optional
	PeerAS Uint32 `json:"peerAs,omitempty"`

	// PeerGroup names a GoBGP peer group. There are none, so a session with
	// one is not opened.
	//
	// +kubebuilder:validation:MaxLength=256
	// +optional
	PeerGroup string `json:"peerGroup,omitempty"`

	// PeerType is GoBGP's number for it: 0 internal, 1 external. It follows
	// from the AS numbers; setting it has no effect.
	//
	// +optional
	PeerType Uint32 `json:"peerType,omitempty"`

	// RemovePrivateAs says what becomes of private AS numbers in paths sent
	// to a neighbor in another AS: NONE keeps them, ALL removes and REPLACE
	// overwrites them. A session within the nodes' own AS is not opened with
	// one of the latter two.
	//
	// +kubebuilder:validation:Enum="";NONE;ALL;REPLACE
	// +optional
	RemovePrivateAs string `json:"removePrivateAs,omitempty"`

	// RouteFlapDamping is shown in the status and has no other effect: nodes
	// use no routes of their peers.
	//
	// +optional
	RouteFlapDamping bool `json:"routeFlapDamping,omitempty"`

	// SendCommunity is shown in the status and has no other effect: all
	// communities are sent.
	//
	// +optional
	SendCommunity Uint32 `json:"sendCommunity,omitempty"`

	// NeighborInterface is the interface behind which the neighbor is found
	// by its IPv6 link-local address. There must be one neighbor only, as on
	// a point-to-point link, unless NeighborAddress says which.
	//
	// +kubebuilder:validation:MaxLength=64
	// +kubebuilder:validation:XValidation:rule=`self == "" || (bytes(self).size() <= 15 && self.matches(r'^[^/:\s\v]+$') && self != '.' && self != '..')`,message="neighborInterface must be the name of a network interface, such as eth0, which has 1 to 15 characters and no '/', ':' or white space"
	// +optional
	NeighborInterface string `json:"neighborInterface,omitempty"`

	// Vrf names the GoBGP VRF that the session belongs to. There are none,
	// so a session with one is not opened.
	//
	// +kubebuilder:validation:MaxLength=256
	// +optional
	Vrf string `json:"vrf,omitempty"`

	// AllowOwnAS is how often the own AS number may be in a received path.
	//
	// +kubebuilder:validation:XValidation:rule=`self <= 255`,message="allowOwnAs must be at most 255"
	// +optional
	AllowOwnAS Uint32 `json:"allowOwnAs,omitempty"`

	// ReplacePeerAS overwrites the neighbor's AS number in paths sent to it.
	// A session within the nodes' own AS is not opened with it.
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
	//
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:XValidation:rule=`self.matches(r'^[a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*$')`,message="passwordSecretRef.name must be the name of a Secret in Fairway's namespace, such as bgp-password"
	Name string `json:"name"`

	// Key in the Secret; password if absent.
	//
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:XValidation:rule=`self == "" || (self.matches(r'^[-._a-zA-Z0-9]+$') && self != '.' && !self.startsWith('..'))`,message="passwordSecretRef.key must be a key of the Secret, such as password, of letters, digits, '-', '_' and '.'"
	// +optional
	Key string `json:"key,omitempty"`
}

// DefaultPasswordKey is the key that a SecretKeyRef without one means: that of
// Secrets of type kubernetes.io/basic-auth.
const DefaultPasswordKey = "password"

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
// +kubebuilder:printcolumn:name="as",type=integer,JSONPath=`.spec.conf.peerAs`
// +kubebuilder:printcolumn:name="neighbor",type=string,JSONPath=`.spec.conf.neighborAddress`
// +kubebuilder:printcolumn:name="interface",type=string,priority=1,JSONPath=`.spec.conf.neighborInterface`
// +kubebuilder:printcolumn:name="age",type=date,JSONPath=`.metadata.creationTimestamp`
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
