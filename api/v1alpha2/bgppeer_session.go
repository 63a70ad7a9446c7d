package v1alpha2

// TTLSecurity is the Generalized TTL Security Mechanism (RFC 5082).
type TTLSecurity struct {
	// Enabled turns it on. Both sides have to have it on.
	//
	// +optional
	Enabled bool `json:"enabled,omitempty"`

	// TTLMin is the smallest IP TTL of packets received; 255, a neighbor on
	// the node's own link, if absent or 0.
	//
	// +kubebuilder:validation:XValidation:rule=`self <= 255`,message="ttlSecurity.ttlMin must be 1 to 255; leave it out for 255, a neighbor on the own link"
	// +optional
	TTLMin Uint32 `json:"ttlMin,omitempty"`
}

// BFD is a BFD session in asynchronous mode (RFC 5880) beside a BGP session.
// The zero value is one hop (RFC 5881) and a path that counts as lost after
// three times 300 ms.
//
// +kubebuilder:validation:XValidation:rule=`!has(self.minimumTTL) || (has(self.multihop) && self.multihop)`,fieldPath=".minimumTTL",message="bfd.minimumTTL is for neighbors several hops away: set bfd.multihop to true, or leave it out; over one hop the TTL is always 255"
type BFD struct {
	// MinTx is the shortest time between two packets sent, in milliseconds;
	// 300 if absent.
	//
	// +kubebuilder:validation:Minimum=10
	// +kubebuilder:validation:Maximum=60000
	// +optional
	MinTx int32 `json:"minTx,omitempty"`

	// MinRx is the shortest time between two packets that the node is ready
	// to receive, in milliseconds; 300 if absent.
	//
	// +kubebuilder:validation:Minimum=10
	// +kubebuilder:validation:Maximum=60000
	// +optional
	MinRx int32 `json:"minRx,omitempty"`

	// DetectMultiplier is the number of packets that may be missing before
	// the path counts as lost; 3 if absent.
	//
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=255
	// +optional
	DetectMultiplier int32 `json:"detectMultiplier,omitempty"`

	// Multihop is for a neighbor that is several hops away (RFC 5883).
	//
	// +optional
	Multihop bool `json:"multihop,omitempty"`

	// MinimumTTL is the smallest IP TTL of packets received over several
	// hops; any if absent. Over one hop it is always 255.
	//
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=255
	// +optional
	MinimumTTL int32 `json:"minimumTTL,omitempty"`
}

// EbgpMultihop allows neighbors that are several hops away.
type EbgpMultihop struct {
	// Enabled turns it on.
	//
	// +optional
	Enabled bool `json:"enabled,omitempty"`

	// MultihopTTL is the IP TTL of packets sent; 255 if absent or 0.
	//
	// +kubebuilder:validation:XValidation:rule=`self <= 255`,message="ebgpMultihop.multihopTtl must be 1 to 255; leave it out for 255"
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

// TimersConfig are the timers asked for. 0 means the same as absent.
//
// +kubebuilder:validation:XValidation:rule=`!has(self.keepaliveInterval) || !self.keepaliveInterval.matches('^[0-9]+$') || int(self.keepaliveInterval) < (has(self.holdTime) && self.holdTime.matches('^0*[1-9][0-9]*$') ? int(self.holdTime) : 90)`,fieldPath=".keepaliveInterval",message="keepaliveInterval must be less than holdTime, which is 90 if absent: make it a third of it, or leave it out"
type TimersConfig struct {
	// ConnectRetry is the time between attempts to connect; 5 if absent.
	// Each time up to as much is added at random.
	//
	// +optional
	ConnectRetry Seconds `json:"connectRetry,omitempty"`

	// HoldTime is the silence after which the neighbor counts as gone; 90 if
	// absent. The smaller of both sides' values holds.
	//
	// +kubebuilder:validation:XValidation:rule=`!self.matches('^0*[12]$')`,message="holdTime must be at least 3 seconds (RFC 4271); leave it out for 90"
	// +optional
	HoldTime Seconds `json:"holdTime,omitempty"`

	// KeepaliveInterval is the time between signs of life; a third of the
	// hold time if absent, or if the neighbor's hold time is the smaller.
	//
	// +optional
	KeepaliveInterval Seconds `json:"keepaliveInterval,omitempty"`

	// MinimumAdvertisementInterval has no effect: updates are sent at once.
	//
	// +optional
	MinimumAdvertisementInterval Seconds `json:"minimumAdvertisementInterval,omitempty"`
}

// Seconds is a whole number of seconds up to 65535 as decimal text.
//
// +kubebuilder:validation:MaxLength=10
// +kubebuilder:validation:XValidation:rule=`self == "" || (self.matches('^[0-9]+$') && int(self) <= 65535)`,message="a timer is a whole number of seconds, at most 65535, in quotes and without a unit, such as \"90\""
type Seconds string

// Transport is the TCP connection of a session.
type Transport struct {
	// MtuDiscovery has no effect: the kernel's setting holds, which is to
	// discover the path MTU.
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
	// +kubebuilder:validation:MaxLength=64
	// +kubebuilder:validation:XValidation:rule=`self == "" || isIP(self) || (self.matches(r'^fe80:.*%[^%/:\s\v]{1,15}$') && isIP(self.split('%')[0]))`,message="localAddress must be one IP address of the node, such as 192.168.0.2, without prefix length or port; leave it out to let the node's routes choose"
	// +optional
	LocalAddress string `json:"localAddress,omitempty"`

	// RemoteAddress has no effect: the address to connect to is
	// NeighborAddress.
	//
	// +kubebuilder:validation:MaxLength=64
	// +optional
	RemoteAddress string `json:"remoteAddress,omitempty"`

	// RemotePort is the TCP port to connect to; 179 if absent or 0.
	//
	// +kubebuilder:validation:XValidation:rule=`self <= 65535`,message="transport.remotePort must be 1 to 65535; leave it out for 179"
	// +optional
	RemotePort Uint32 `json:"remotePort,omitempty"`

	// TCPMSS is the maximum segment size in bytes; the kernel's choice if
	// absent or 0.
	//
	// +kubebuilder:validation:XValidation:rule=`self == 0 || (self >= 88 && self <= 32767)`,message="transport.tcpMss must be 88 to 32767 bytes, the kernel refuses others; leave it out to let the kernel choose"
	// +optional
	TCPMSS Uint32 `json:"tcpMss,omitempty"`
}
