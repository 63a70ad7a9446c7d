package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fairway-lb/fairway/api/v1alpha2"
)

// BgpPeerSpec is one router that nodes hold BGP sessions with.
type BgpPeerSpec struct {
	// Config says who the neighbor is.
	//
	// +optional
	Config *NeighborConfig `json:"config,omitempty"`

	// AddPaths sends several paths per destination (RFC 7911). It is that of
	// the first of the session's address families.
	//
	// +optional
	AddPaths *AddPaths `json:"addPaths,omitempty"`

	// Transport is the session's TCP connection.
	//
	// +optional
	Transport *Transport `json:"transport,omitempty"`

	// UsingPortForward had Porter listen on port 179 beside another BGP
	// router of the node. It is kept and has no effect.
	//
	// +optional
	UsingPortForward bool `json:"usingPortForward,omitempty"`
}

// NeighborConfig says who the neighbor is.
type NeighborConfig struct {
	// NeighborAddress is the neighbor's IP address; a link-local one may be
	// followed by % and an interface.
	//
	// +kubebuilder:validation:MaxLength=64
	// +kubebuilder:validation:XValidation:rule=`self == "" || isIP(self) || (self.matches(r'^fe80:.*%[^%/:\s\v]{1,15}$') && isIP(self.split('%')[0]))`,message="neighborAddress must be one IP address, such as 192.168.0.5, without prefix length or port"
	// +kubebuilder:validation:XValidation:rule=`!isIP(self) || !(ip(self).isUnspecified() || cidr('224.0.0.0/4').containsIP(self) || cidr('ff00::/8').containsIP(self))`,message="neighborAddress must be the address of one router: multicast addresses, 0.0.0.0 and :: are not"
	// +optional
	NeighborAddress string `json:"neighborAddress,omitempty"`

	// PeerAS is the neighbor's AS number.
	//
	// +optional
	PeerAS v1alpha2.Uint32 `json:"peerAs,omitempty"`
}

// AddPaths bounds the paths per destination.
type AddPaths struct {
	// SendMax is the largest number of paths sent per destination.
	//
	// +kubebuilder:validation:XValidation:rule=`self <= 255`,message="sendMax must be at most 255"
	// +optional
	SendMax v1alpha2.Uint32 `json:"sendMax,omitempty"`
}

// Transport is the TCP connection of a session.
type Transport struct {
	// PassiveMode leaves it to the neighbor to connect.
	//
	// +optional
	PassiveMode bool `json:"passiveMode,omitempty"`

	// RemotePort is the TCP port to connect to; 179 if absent or 0.
	//
	// +kubebuilder:validation:XValidation:rule=`self <= 65535`,message="remotePort must be at most 65535"
	// +optional
	RemotePort v1alpha2.Uint32 `json:"remotePort,omitempty"`
}

// BgpPeer is a router that nodes announce addresses to.
//
// ---
// A neighbor without an address, reached by its interface, can be made in
// v1alpha2 only. It must stay updatable here.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:scope=Cluster
// +kubebuilder:deprecatedversion:warning="network.kubesphere.io/v1alpha1 BgpPeer is deprecated; use network.kubesphere.io/v1alpha2"
// +kubebuilder:validation:XValidation:rule=`oldSelf.hasValue() || (has(self.spec) && has(self.spec.config) && has(self.spec.config.neighborAddress) && self.spec.config.neighborAddress != "")`,optionalOldSelf=true,fieldPath=".spec",message="spec.config names no neighbor: set spec.config.neighborAddress to the router's IP address"
type BgpPeer struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec   BgpPeerSpec            `json:"spec,omitempty"`
	Status v1alpha2.BgpPeerStatus `json:"status,omitempty"`
}

// BgpPeerList is a list of BgpPeers.
//
// +kubebuilder:object:root=true
type BgpPeerList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`

	Items []BgpPeer `json:"items"`
}
