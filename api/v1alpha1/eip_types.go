package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fairway-lb/fairway/api/v1alpha2"
)

// EipSpec is a pool of addresses and how they are announced.
type EipSpec struct {
	// Address is the pool: one address (192.168.0.1, 2001:db8::1), a CIDR
	// (192.168.0.0/24; host bits are ignored) or a range
	// (192.168.0.10-192.168.0.20, both ends included). It cannot be changed.
	//
	// +kubebuilder:validation:XValidation:rule=`self == oldSelf`,message="the address field is not allowed to be modified"
	Address v1alpha2.PoolAddress `json:"address"`

	// Protocol announces the pool's addresses: bgp or layer2. Absent means
	// bgp. A pool made in v1alpha2 may show vip.
	//
	// +kubebuilder:validation:Enum=bgp;layer2;vip
	// +optional
	Protocol string `json:"protocol,omitempty"`

	// Disable stops new allocations. Addresses in use are kept.
	//
	// +optional
	Disable bool `json:"disable,omitempty"`

	// UsingKnownIPs gives every address of an IPv4 CIDR, also its network
	// and broadcast address and those that end in .0 or .255.
	//
	// +optional
	UsingKnownIPs bool `json:"usingKnownIPs,omitempty"`
}

// Eip is a pool of load-balancer addresses.
//
// ---
// The rules on the whole object hold for new objects only, as in v1alpha2.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:scope=Cluster,categories=networking
// +kubebuilder:deprecatedversion:warning="network.kubesphere.io/v1alpha1 Eip is deprecated; use network.kubesphere.io/v1alpha2"
// +kubebuilder:printcolumn:name="cidr",type=string,JSONPath=`.spec.address`
// +kubebuilder:printcolumn:name="usage",type=integer,JSONPath=`.status.usage`
// +kubebuilder:printcolumn:name="total",type=integer,JSONPath=`.status.poolSize`
// +kubebuilder:validation:XValidation:rule=`has(self.spec) || (oldSelf.hasValue() && !has(oldSelf.value().spec))`,optionalOldSelf=true,fieldPath=".spec",message="invalid eip address format: set spec.address, for example to 192.168.0.10-192.168.0.20"
// +kubebuilder:validation:XValidation:rule=`oldSelf.hasValue() || self.metadata.name.size() <= 63`,optionalOldSelf=true,fieldPath=".metadata",message="metadata.name is too long: it becomes a label value on Services, choose one of at most 63 characters"
type Eip struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec   EipSpec            `json:"spec,omitempty"`
	Status v1alpha2.EipStatus `json:"status,omitempty"`
}

// EipList is a list of Eips.
//
// +kubebuilder:object:root=true
type EipList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`

	Items []Eip `json:"items"`
}
