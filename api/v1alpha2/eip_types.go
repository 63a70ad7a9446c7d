package v1alpha2

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// Values of EipSpec.Protocol.
const (
	ProtocolBGP    = "bgp"
	ProtocolLayer2 = "layer2"
	ProtocolVIP    = "vip"
)

// EipSpec is a pool of addresses and how they are announced.
//
// +kubebuilder:validation:XValidation:rule=`!has(self.protocol) || self.protocol == 'bgp' || (has(self.interface) && self.interface != "")`,message="if protocol is layer2 or vip, interface should not be empty"
type EipSpec struct {
	// Address is the pool: one address (192.168.0.1, 2001:db8::1), a CIDR
	// (192.168.0.0/24; host bits are ignored) or a range
	// (192.168.0.10-192.168.0.20, both ends included). It cannot be changed.
	//
	// ---
	// The first rule accepts what ParseAddress accepts. CEL has no order on
	// addresses, so it looks for the bit that decides: the ends of a range
	// share the prefix p[0] of the first, but not p[1], which is one bit
	// longer, and that bit is 0. The length is spelled digit by digit because
	// the API server's cost estimate knows no bound for string(n).
	//
	// +kubebuilder:validation:MaxLength=128
	// +kubebuilder:validation:XValidation:rule=`isIP(self) || isCIDR(self) || (self.contains('-') && isIP(self.substring(0, self.indexOf('-'))) && isIP(self.substring(self.indexOf('-') + 1)) && ip(self.substring(0, self.indexOf('-'))).family() == ip(self.substring(self.indexOf('-') + 1)).family() && (ip(self.substring(0, self.indexOf('-'))) == ip(self.substring(self.indexOf('-') + 1)) || [0, 8, 16, 24, 32, 40, 48, 56, 64, 72, 80, 88, 96, 104, 112, 120].exists(i, [0, 1, 2, 3, 4, 5, 6, 7].exists(j, (i + j < 32 || ip(self.substring(0, self.indexOf('-'))).family() == 6) && [[i + j, i + j + 1].map(n, cidr(self.substring(0, self.indexOf('-')) + '/' + (n < 100 ? '' : '1') + (n < 10 ? '' : '0123456789'.substring(n / 10 % 10, n / 10 % 10 + 1)) + '0123456789'.substring(n % 10, n % 10 + 1)))].exists(p, p[0].containsIP(self.substring(self.indexOf('-') + 1)) && !p[1].containsIP(self.substring(self.indexOf('-') + 1)) && p[0].masked().ip() == p[1].masked().ip())))))`,message="invalid eip address format"
	// +kubebuilder:validation:XValidation:rule=`self == oldSelf`,message="the address field is not allowed to be modified"
	Address string `json:"address"`

	// Protocol announces the pool's addresses: bgp, layer2 (ARP, NDP) or
	// vip. Absent means bgp.
	//
	// +kubebuilder:validation:Enum=bgp;layer2;vip
	// +optional
	Protocol string `json:"protocol,omitempty"`

	// Interface is the network interface that a node announces layer2 and
	// vip addresses on: a name (eth0), or can_reach:<IP> for the interface
	// that the node's route to that IP leaves by.
	//
	// +kubebuilder:validation:MaxLength=64
	// +kubebuilder:validation:XValidation:rule=`self == "" || self.startsWith('can_reach:') || (bytes(self).size() <= 15 && self.matches(r'^[^/:\s\v]+$') && self != '.' && self != '..')`,message="invalid interface string, now only support can_reach:<IP> or the name of a network interface, which has 1 to 15 characters and no '/', ':' or white space"
	// +kubebuilder:validation:XValidation:rule=`!self.startsWith('can_reach:') || isIP(self.substring(10))`,messageExpression="'invalid can_reach address ' + self.substring(10) + ': interface needs an IP address after can_reach:, as in can_reach:192.168.0.1'"
	// +optional
	Interface string `json:"interface,omitempty"`

	// AllowOffSubnet lets a node announce layer2 addresses that lie in no
	// subnet of its interface, for networks in which the router delivers
	// them on that link nevertheless.
	//
	// +optional
	AllowOffSubnet bool `json:"allowOffSubnet,omitempty"`

	// Disable stops new allocations. Addresses in use are kept.
	//
	// +optional
	Disable bool `json:"disable,omitempty"`

	// UsingKnownIPs lets addresses be given that end in .0 or .255. It has
	// had no effect since OpenELB v0.4.
	//
	// +optional
	UsingKnownIPs bool `json:"usingKnownIPs,omitempty"`

	// Priority orders pools that are bound to one namespace; the smallest
	// number is tried first.
	//
	// +optional
	Priority int `json:"priority,omitempty"`

	// Namespaces whose Services may be given addresses of this pool without
	// naming it.
	//
	// +optional
	Namespaces []string `json:"namespaces,omitempty"`

	// NamespaceSelector adds the namespaces that carry all these labels to
	// Namespaces.
	//
	// +optional
	NamespaceSelector map[string]string `json:"namespaceSelector,omitempty"`
}

// EipStatus is a summary of the pool, written by the controller.
type EipStatus struct {
	// Used maps each address in use to the Service that holds it, as
	// namespace/name; several are joined by ";".
	//
	// +optional
	Used map[string]string `json:"used,omitempty"`

	// Usage is the number of addresses in use.
	//
	// +optional
	Usage int `json:"usage"`

	// PoolSize is the number of addresses in the pool; a pool of more than
	// 2^63-1 addresses shows 2^63-1.
	//
	// +optional
	PoolSize int `json:"poolSize"`

	// Occupied is true while no address is free.
	//
	// +optional
	Occupied bool `json:"occupied,omitempty"`

	// FirstIP is the lowest address of the pool.
	//
	// +optional
	FirstIP string `json:"firstIP,omitempty"`

	// LastIP is the highest address of the pool.
	//
	// +optional
	LastIP string `json:"lastIP,omitempty"`

	// V4 is true for an IPv4 pool.
	//
	// +optional
	V4 bool `json:"v4,omitempty"`

	// Ready is true once the controller serves the pool.
	//
	// +optional
	Ready bool `json:"ready,omitempty"`
}

// Eip is a pool of load-balancer addresses.
//
// ---
// The rules on the whole object hold for new objects only: one that was stored
// before them must stay updatable, or its finalizer could never be removed.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:scope=Cluster,categories=networking
// +kubebuilder:printcolumn:name="cidr",type=string,JSONPath=`.spec.address`
// +kubebuilder:printcolumn:name="usage",type=integer,JSONPath=`.status.usage`
// +kubebuilder:printcolumn:name="total",type=integer,JSONPath=`.status.poolSize`
// +kubebuilder:validation:XValidation:rule=`has(self.spec) || (oldSelf.hasValue() && !has(oldSelf.value().spec))`,optionalOldSelf=true,fieldPath=".spec",message="invalid eip address format: set spec.address, for example to 192.168.0.10-192.168.0.20"
// +kubebuilder:validation:XValidation:rule=`oldSelf.hasValue() || self.metadata.name.size() <= 63`,optionalOldSelf=true,fieldPath=".metadata",message="metadata.name is too long: it becomes a label value on Services, choose one of at most 63 characters"
type Eip struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec   EipSpec   `json:"spec,omitempty"`
	Status EipStatus `json:"status,omitempty"`
}

// EipList is a list of Eips.
//
// +kubebuilder:object:root=true
type EipList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`

	Items []Eip `json:"items"`
}
