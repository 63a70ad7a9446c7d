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
// +kubebuilder:validation:XValidation:rule=`!has(self.bgp) || !has(self.protocol) || self.protocol == 'bgp'`,fieldPath=".bgp",message="bgp says how addresses are announced by BGP: leave it out, or set protocol to bgp"
// +kubebuilder:validation:XValidation:rule=`!has(self.protocol) || self.protocol == 'bgp' || (has(self.interface) && self.interface != "")`,message="if protocol is layer2 or vip, interface should not be empty"
type EipSpec struct {
	// Address is the pool: one address (192.168.0.1, 2001:db8::1), a CIDR
	// (192.168.0.0/24; host bits are ignored) or a range
	// (192.168.0.10-192.168.0.20, both ends included). It cannot be changed.
	//
	// ---
	// The first rule accepts what ParseAddress accepts. CEL has no order on
	// addresses, so it looks for the bit that decides. The ends of a range
	// have their first m bits in common: first i = 8 * (how many of the
	// prefixes of 0, 8, 16, ... bits of the first hold the second, less one),
	// and then bit by bit. The next bit is 0 in the first if its prefix p[1],
	// which is one bit longer than p[0], holds the lowest address of p[0].
	//
	// The form is what the cost estimate of Kubernetes 1.31 lets pass: it knows
	// no bound for string(n), for a conditional, for a string bound to a name
	// through a list, nor for ==, and the rule holds for 128 texts in an Eip.
	//
	// +kubebuilder:validation:MaxLength=128
	// +kubebuilder:validation:XValidation:rule=`isIP(self) || isCIDR(self) || (self.contains('-') && isIP(self.substring(0, self.indexOf('-'))) && isIP(self.substring(self.indexOf('-') + 1)) && ip(self.substring(0, self.indexOf('-'))).family() == ip(self.substring(self.indexOf('-') + 1)).family() && ((ip(self.substring(0, self.indexOf('-'))).family() == 4 ? cidr(self.substring(0, self.indexOf('-')) + '/32') : cidr(self.substring(0, self.indexOf('-')) + '/128')).containsIP(self.substring(self.indexOf('-') + 1)) || [[0, 8, 16, 24, 32, 40, 48, 56, 64, 72, 80, 88, 96, 104, 112, 120].filter(n, (n < 32 || ip(self.substring(0, self.indexOf('-'))).family() == 6) && cidr(self.substring(0, self.indexOf('-')) + '/' + '1'.substring(0, n / 100) + '0123456789'.substring(n / 10 % 10, n / 10 % 10 + (n < 10 ? 0 : 1)) + '0123456789'.substring(n % 10, n % 10 + 1)).containsIP(self.substring(self.indexOf('-') + 1))).size() * 8 - 8].exists(i, [[0, 1, 2, 3, 4, 5, 6, 7].filter(j, (i + j < 32 || ip(self.substring(0, self.indexOf('-'))).family() == 6) && cidr(self.substring(0, self.indexOf('-')) + '/' + '1'.substring(0, (i + j) / 100) + '0123456789'.substring((i + j) / 10 % 10, (i + j) / 10 % 10 + (i + j < 10 ? 0 : 1)) + '0123456789'.substring((i + j) % 10, (i + j) % 10 + 1)).containsIP(self.substring(self.indexOf('-') + 1))).size() + i - 1].exists(m, [[m, m + 1].map(n, cidr(self.substring(0, self.indexOf('-')) + '/' + '1'.substring(0, n / 100) + '0123456789'.substring(n / 10 % 10, n / 10 % 10 + (n < 10 ? 0 : 1)) + '0123456789'.substring(n % 10, n % 10 + 1)))].exists(p, p[1].containsIP(p[0].masked().ip()))))))`,message="invalid eip address format"
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

	// BGP says how the addresses are announced by BGP, and is for that
	// Protocol only.
	//
	// +optional
	BGP *BgpAdvertisement `json:"bgp,omitempty"`

	// Disable stops new allocations. Addresses in use are kept.
	//
	// +optional
	Disable bool `json:"disable,omitempty"`

	// UsingKnownIPs gives every address of an IPv4 CIDR. Without it, the
	// network and broadcast address of a CIDR up to /30, and its addresses
	// that end in .0 or .255, are given only to Services that ask for them.
	// A range, a /31, a /32 and a single address mean what they say.
	//
	// +optional
	UsingKnownIPs bool `json:"usingKnownIPs,omitempty"`

	// Addresses are more addresses of the pool, each spelled as Address is.
	// They may be changed: adding is always possible, removing while no
	// Service holds an address that would go.
	//
	// +kubebuilder:validation:MaxItems=64
	// +listType=atomic
	// +optional
	Addresses []PoolAddress `json:"addresses,omitempty"`

	// Exclude takes addresses out of Address and Addresses, spelled as they
	// are. It may be changed as Addresses may.
	//
	// +kubebuilder:validation:MaxItems=64
	// +listType=atomic
	// +optional
	Exclude []PoolAddress `json:"exclude,omitempty"`

	// AllocationPolicy says which free address is given next: the Lowest,
	// which is the default, or the one that was never used or has been free
	// for the longest time (Rotate).
	//
	// +kubebuilder:validation:Enum=Lowest;Rotate
	// +optional
	AllocationPolicy string `json:"allocationPolicy,omitempty"`

	// Quarantine is how long a freed address rests before it is given
	// again, such as 10m; at most 24h. A Service that asks for the address
	// gets it all the same. Absent means not at all.
	//
	// ---
	// What the rule accepts, time.ParseDuration accepts: any other text in
	// one Eip would make the list of all unreadable. Five digits of hours,
	// six times, stay below the largest Duration.
	//
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=64
	// +kubebuilder:validation:XValidation:rule=`self.matches('^(0|(([0-9]{1,5}([.][0-9]{0,9})?|[.][0-9]{1,9})(ns|us|µs|μs|ms|s|m|h)){1,6})$') && duration(self) <= duration('24h')`,message="quarantine must be a duration of 0s to 24h with a unit, such as 10m or 1h30m"
	// +optional
	Quarantine *metav1.Duration `json:"quarantine,omitempty"`

	// Priority orders pools that are bound to one namespace; the smallest
	// number is tried first.
	//
	// +kubebuilder:validation:Minimum=-2147483648
	// +kubebuilder:validation:Maximum=2147483647
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

	// ServiceSelector holds automatic allocation to Services with such
	// labels, of the namespaces that the pool is bound to, or of any if it
	// is bound to none.
	//
	// ---
	// Left to the controller, which makes it a condition: the syntax of keys
	// and values. The schema of a selector has no bounds, so the API server
	// estimates rules on the texts in it as too expensive.
	//
	// +kubebuilder:validation:XValidation:rule=`!has(self.matchExpressions) || self.matchExpressions.all(e, e.operator in ['In', 'NotIn'] ? has(e.values) && e.values.size() > 0 : e.operator in ['Exists', 'DoesNotExist'] && (!has(e.values) || e.values.size() == 0))`,message="an operator of serviceSelector.matchExpressions must be In or NotIn with values, or Exists or DoesNotExist without"
	// +optional
	ServiceSelector *metav1.LabelSelector `json:"serviceSelector,omitempty"`

	// Exclusive refuses Services of namespaces that the pool is not bound
	// to also when they ask for the pool or for an address of it.
	//
	// +optional
	Exclusive bool `json:"exclusive,omitempty"`

	// Sharing widens who may share an address by consent.
	//
	// +optional
	Sharing *EipSharing `json:"sharing,omitempty"`

	// NamespaceLimits bound how many addresses of the pool the Services of a
	// namespace may hold. The key is the name of a namespace, or * for each
	// that is not named. Lowering a limit takes no address away.
	//
	// ---
	// A schema cannot bound the length of keys, and what CEL does with a whole
	// string costs by its length. So the rule looks at one character at a
	// time, which the API server has the time for with 512 keys.
	//
	// +kubebuilder:validation:MaxProperties=512
	// +kubebuilder:validation:XValidation:rule=`self.all(k, k == '*' || (k.size() > 0 && k.size() <= 63 && k.charAt(0) != '-' && k.charAt(k.size() - 1) != '-' && [0, 8, 16, 24, 32, 40, 48, 56].all(i, [0, 1, 2, 3, 4, 5, 6, 7].all(j, i + j >= k.size() || k.charAt(i + j) == '-' || (k.charAt(i + j) >= '0' && k.charAt(i + j) <= '9') || (k.charAt(i + j) >= 'a' && k.charAt(i + j) <= 'z')))))`,message="a key of namespaceLimits must be the name of a namespace, or * for every namespace that has no key of its own"
	// +optional
	NamespaceLimits map[string]AddressLimit `json:"namespaceLimits,omitempty"`
}

// Values of EipSpec.AllocationPolicy.
const (
	AllocationLowest = "Lowest"
	AllocationRotate = "Rotate"
)

// AnyNamespace stands for every namespace in EipSharing.Namespaces and for
// those not named in EipSpec.NamespaceLimits.
const AnyNamespace = "*"

// PoolAddress is an address, a CIDR or a range, spelled as EipSpec.Address is.
//
// ---
// The rule is that of EipSpec.Address, word for word.
//
// +kubebuilder:validation:MaxLength=128
// +kubebuilder:validation:XValidation:rule=`isIP(self) || isCIDR(self) || (self.contains('-') && isIP(self.substring(0, self.indexOf('-'))) && isIP(self.substring(self.indexOf('-') + 1)) && ip(self.substring(0, self.indexOf('-'))).family() == ip(self.substring(self.indexOf('-') + 1)).family() && ((ip(self.substring(0, self.indexOf('-'))).family() == 4 ? cidr(self.substring(0, self.indexOf('-')) + '/32') : cidr(self.substring(0, self.indexOf('-')) + '/128')).containsIP(self.substring(self.indexOf('-') + 1)) || [[0, 8, 16, 24, 32, 40, 48, 56, 64, 72, 80, 88, 96, 104, 112, 120].filter(n, (n < 32 || ip(self.substring(0, self.indexOf('-'))).family() == 6) && cidr(self.substring(0, self.indexOf('-')) + '/' + '1'.substring(0, n / 100) + '0123456789'.substring(n / 10 % 10, n / 10 % 10 + (n < 10 ? 0 : 1)) + '0123456789'.substring(n % 10, n % 10 + 1)).containsIP(self.substring(self.indexOf('-') + 1))).size() * 8 - 8].exists(i, [[0, 1, 2, 3, 4, 5, 6, 7].filter(j, (i + j < 32 || ip(self.substring(0, self.indexOf('-'))).family() == 6) && cidr(self.substring(0, self.indexOf('-')) + '/' + '1'.substring(0, (i + j) / 100) + '0123456789'.substring((i + j) / 10 % 10, (i + j) / 10 % 10 + (i + j < 10 ? 0 : 1)) + '0123456789'.substring((i + j) % 10, (i + j) % 10 + 1)).containsIP(self.substring(self.indexOf('-') + 1))).size() + i - 1].exists(m, [[m, m + 1].map(n, cidr(self.substring(0, self.indexOf('-')) + '/' + '1'.substring(0, n / 100) + '0123456789'.substring(n / 10 % 10, n / 10 % 10 + (n < 10 ? 0 : 1)) + '0123456789'.substring(n % 10, n % 10 + 1)))].exists(p, p[1].containsIP(p[0].masked().ip()))))))`,message="invalid eip address format"
type PoolAddress string

// AddressLimit is a number of addresses.
//
// +kubebuilder:validation:Minimum=0
// +kubebuilder:validation:Maximum=2147483647
type AddressLimit int32

// EipSharing says who may share addresses of a pool.
type EipSharing struct {
	// Namespaces whose Services may share an address with one another; *
	// stands for all. Services of one namespace always may.
	//
	// +listType=set
	// +kubebuilder:validation:MaxItems=1024
	// +kubebuilder:validation:items:MaxLength=63
	// +kubebuilder:validation:items:XValidation:rule=`self == '*' || self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$')`,message="sharing.namespaces needs names of namespaces, or * for all"
	// +optional
	Namespaces []string `json:"namespaces,omitempty"`
}

// EipStatus is a summary of the pool, written by the controller.
type EipStatus struct {
	// Used maps each address in use to the Service that holds it, as
	// namespace/name; several are joined by ";".
	//
	// +optional
	Used map[string]string `json:"used,omitempty"`

	// Usage is the number of addresses in use. A patch from nothing to 0
	// would not store it, hence the default.
	//
	// +kubebuilder:default=0
	// +optional
	Usage int `json:"usage"`

	// PoolSize is the number of addresses that can be given, those in use
	// included; a pool of more than 2^63-1 shows 2^63-1.
	//
	// +kubebuilder:default=0
	// +optional
	PoolSize int `json:"poolSize"`

	// Total is PoolSize, exact.
	//
	// +optional
	Total string `json:"total,omitempty"`

	// Free is the exact number of addresses that can be given now.
	//
	// +optional
	Free string `json:"free,omitempty"`

	// Quarantined maps each address that rests after its use to when it can
	// be given again.
	//
	// +optional
	Quarantined map[string]metav1.Time `json:"quarantined,omitempty"`

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

	// Conditions say more: Ready, Overlapping, Exhausted, DeletionWaits,
	// OutOfPool and DefaultConflict.
	//
	// +listType=map
	// +listMapKey=type
	// +optional
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// Types of conditions on Eips.
const (
	// ConditionReady is False while the controller cannot use the pool; in the
	// status of a BgpConf, while a node's router does not run as asked.
	ConditionReady = "Ready"
	// ConditionOverlapping is True while another Eip has addresses of this
	// one. None is given twice all the same.
	ConditionOverlapping = "Overlapping"
	// ConditionExhausted is True while no address can be given.
	ConditionExhausted = "Exhausted"
	// ConditionDeletionWaits is True while the Eip is to be deleted and
	// Services hold addresses of it. Its message names them.
	ConditionDeletionWaits = "DeletionWaits"
	// ConditionOutOfPool is True while Services hold addresses that came from
	// the pool and were cut from it. They keep them.
	ConditionOutOfPool = "OutOfPool"
	// ConditionDefaultConflict is True while another Eip is marked as default
	// as well. Both serve, the first by name before the other.
	ConditionDefaultConflict = "DefaultConflict"
)

// Eip is a pool of load-balancer addresses.
//
// ---
// The rules on the whole object hold for new objects only: one that was stored
// before them must stay updatable, or its finalizer could never be removed.
//
// +kubebuilder:object:root=true
// +kubebuilder:storageversion
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
