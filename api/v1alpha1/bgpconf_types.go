package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fairway-lb/fairway/api/v1alpha2"
)

// BgpConfSpec is the BGP router that every node runs. OpenELB required all
// three; what v1alpha2 may leave out may be absent here.
type BgpConfSpec struct {
	// AS is the nodes' autonomous system number. Without it no session is
	// opened.
	//
	// +optional
	AS v1alpha2.Uint32 `json:"as,omitempty"`

	// RouterID is an IPv4 address, and not 0.0.0.0. Absent means the first
	// InternalIP of the node.
	//
	// +kubebuilder:validation:MaxLength=64
	// +kubebuilder:validation:XValidation:rule=`self == "" || (isIP(self) && ip(self).family() == 4 && !ip(self).isUnspecified())`,message="routerID must be an IPv4 address, such as 192.168.0.2; leave it out to use the node's own"
	// +optional
	RouterID string `json:"routerID,omitempty"`

	// Port is the TCP port that sessions are accepted on. Absent or 0 means
	// 179, -1 that none are accepted.
	//
	// +kubebuilder:validation:Minimum=-1
	// +kubebuilder:validation:Maximum=65535
	// +optional
	Port int32 `json:"port,omitempty"`
}

// BgpConf configures BGP on all nodes. Only the one named default counts.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:scope=Cluster
// +kubebuilder:deprecatedversion:warning="network.kubesphere.io/v1alpha1 BgpConf is deprecated; use network.kubesphere.io/v1alpha2"
type BgpConf struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec   BgpConfSpec            `json:"spec,omitempty"`
	Status v1alpha2.BgpConfStatus `json:"status,omitempty"`
}

// BgpConfList is a list of BgpConfs.
//
// +kubebuilder:object:root=true
type BgpConfList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`

	Items []BgpConf `json:"items"`
}
