package v1alpha2

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

	// MpGracefulRestart has no effect: while graceful restart is on, all
	// families take part.
	//
	// +optional
	MpGracefulRestart *MpGracefulRestart `json:"mpGracefulRestart,omitempty"`
}

// AfiSafiConfig names a family.
type AfiSafiConfig struct {
	// Family is the address family.
	//
	// +optional
	Family *Family `json:"family,omitempty"`

	// Enabled has no effect: a family that is listed is on.
	//
	// +optional
	Enabled bool `json:"enabled,omitempty"`
}

// Family is an address family by GoBGP's names. Nodes announce addresses of
// IPv4 and IPv6 unicast; what other families are asked for is said in the
// BgpPeer's status.
type Family struct {
	// Afi is the address family: AFI_IP or AFI_IP6, for example.
	//
	// +kubebuilder:validation:MaxLength=64
	// +kubebuilder:validation:XValidation:rule=`self in ['', 'AFI_UNKNOWN', 'AFI_IP', 'AFI_IP6', 'AFI_L2VPN', 'AFI_LS', 'AFI_OPAQUE']`,message="afi must be one of GoBGP's names, such as AFI_IP for IPv4 or AFI_IP6 for IPv6"
	// +optional
	Afi string `json:"afi,omitempty"`

	// Safi is the subsequent address family: SAFI_UNICAST, for example.
	//
	// +kubebuilder:validation:MaxLength=64
	// +kubebuilder:validation:XValidation:rule=`self in ['', 'SAFI_UNKNOWN', 'SAFI_UNICAST', 'SAFI_MULTICAST', 'SAFI_MPLS_LABEL', 'SAFI_ENCAPSULATION', 'SAFI_VPLS', 'SAFI_EVPN', 'SAFI_LS', 'SAFI_SR_POLICY', 'SAFI_MUP', 'SAFI_MPLS_VPN', 'SAFI_MPLS_VPN_MULTICAST', 'SAFI_ROUTE_TARGET_CONSTRAINTS', 'SAFI_FLOW_SPEC_UNICAST', 'SAFI_FLOW_SPEC_VPN', 'SAFI_KEY_VALUE']`,message="safi must be one of GoBGP's names, such as SAFI_UNICAST"
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

	// SendMax is the largest number of paths sent per destination; 0 sends
	// one, without RFC 7911.
	//
	// +kubebuilder:validation:XValidation:rule=`self <= 255`,message="addPaths.config.sendMax must be at most 255"
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
