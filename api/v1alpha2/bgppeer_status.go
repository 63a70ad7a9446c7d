package v1alpha2

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// BgpPeerStatus is the sessions with a peer, one per node.
type BgpPeerStatus struct {
	// NodesPeerStatus maps a node's name to its session.
	//
	// +optional
	NodesPeerStatus map[string]NodePeerStatus `json:"nodesPeerStatus,omitempty"`
}

// NodePeerStatus is the session of one node.
type NodePeerStatus struct {
	// PeerState is the session and its counters.
	//
	// +optional
	PeerState *PeerState `json:"peerState,omitempty"`

	// TimersState is the timers in use.
	//
	// +optional
	TimersState *TimersState `json:"timersState,omitempty"`

	// BFDState is the BFD session beside the BGP session.
	//
	// +optional
	BFDState *BFDState `json:"bfdState,omitempty"`

	// Conditions of the node's session: Accepted, Established.
	//
	// +listType=map
	// +listMapKey=type
	// +optional
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// Conditions of a node's session in BgpPeer.status.
const (
	// ConditionAccepted says whether the node can do what the BgpPeer asks.
	ConditionAccepted = "Accepted"
	// ConditionEstablished says whether the BGP session is established, and
	// if not, why it ended last.
	ConditionEstablished = "Established"
)

// BFDState is a BFD session (RFC 5880).
type BFDState struct {
	// SessionState is AdminDown, Down, Init or Up.
	//
	// +optional
	SessionState string `json:"sessionState,omitempty"`

	// Diagnostic is why the session went down last, by the names of RFC
	// 5880, 4.1.
	//
	// +optional
	Diagnostic string `json:"diagnostic,omitempty"`

	// RemoteDiagnostic is the same as the neighbor says it.
	//
	// +optional
	RemoteDiagnostic string `json:"remoteDiagnostic,omitempty"`

	// DetectionTime is the silence after which the path counts as lost, in
	// milliseconds; 0 until the neighbor was heard.
	//
	// +optional
	DetectionTime int64 `json:"detectionTime,omitempty"`

	// Downs counts how often the session went down.
	//
	// +optional
	Downs int64 `json:"downs,omitempty"`
}

// PeerState is a session and its counters.
type PeerState struct {
	// AuthPassword is accepted for compatibility and never written.
	//
	// +optional
	AuthPassword string `json:"authPassword,omitempty"`

	// Description repeats the peer's description.
	//
	// +optional
	Description string `json:"description,omitempty"`

	// LocalAS is the AS number shown to the neighbor.
	//
	// +optional
	LocalAS Uint32 `json:"localAs,omitempty"`

	// Messages is accepted for compatibility and never written: metrics count
	// BGP messages.
	//
	// +optional
	Messages *Messages `json:"messages,omitempty"`

	// NeighborAddress is the neighbor's IP address.
	//
	// +optional
	NeighborAddress string `json:"neighborAddress,omitempty"`

	// PeerAS is the neighbor's AS number.
	//
	// +optional
	PeerAS Uint32 `json:"peerAs,omitempty"`

	// PeerGroup is accepted for compatibility and never written: a BgpPeer
	// with one has no session.
	//
	// +optional
	PeerGroup string `json:"peerGroup,omitempty"`

	// PeerType is GoBGP's number for it: 0 internal, 1 external.
	//
	// +optional
	PeerType Uint32 `json:"peerType,omitempty"`

	// Queues is accepted for compatibility and never written.
	//
	// +optional
	Queues *Queues `json:"queues,omitempty"`

	// RemovePrivateAs is GoBGP's number for it: 0 none, 1 all, 2 replace.
	//
	// +optional
	RemovePrivateAs Uint32 `json:"removePrivateAs,omitempty"`

	// RouteFlapDamping repeats the peer's setting.
	//
	// +optional
	RouteFlapDamping bool `json:"routeFlapDamping,omitempty"`

	// SendCommunity repeats the peer's setting.
	//
	// +optional
	SendCommunity Uint32 `json:"sendCommunity,omitempty"`

	// SessionState is IDLE, CONNECT, ACTIVE, OPENSENT, OPENCONFIRM or
	// ESTABLISHED (RFC 4271, 8.2.2).
	//
	// +optional
	SessionState string `json:"sessionState,omitempty"`

	// AdminState is UP, DOWN or PFX_CT, the last being closed for too many
	// prefixes.
	//
	// +optional
	AdminState string `json:"adminState,omitempty"`

	// OutQ is accepted for compatibility and never written.
	//
	// +optional
	OutQ Uint32 `json:"outQ,omitempty"`

	// Flops is how often the session was lost.
	//
	// +optional
	Flops Uint32 `json:"flops,omitempty"`

	// RouterID is the neighbor's router ID.
	//
	// +optional
	RouterID string `json:"routerId,omitempty"`
}

// Messages counts BGP messages in both directions.
type Messages struct {
	// Received by the node.
	//
	// +optional
	Received *MessageCounts `json:"received,omitempty"`

	// Sent by the node.
	//
	// +optional
	Sent *MessageCounts `json:"sent,omitempty"`
}

// MessageCounts counts BGP messages by type; the counts are decimal text.
type MessageCounts struct {
	// Notification messages.
	//
	// +optional
	Notification string `json:"notification,omitempty"`

	// Update messages.
	//
	// +optional
	Update string `json:"update,omitempty"`

	// Open messages.
	//
	// +optional
	Open string `json:"open,omitempty"`

	// Keepalive messages.
	//
	// +optional
	Keepalive string `json:"keepalive,omitempty"`

	// Refresh is route refresh messages (RFC 2918).
	//
	// +optional
	Refresh string `json:"refresh,omitempty"`

	// Discarded messages.
	//
	// +optional
	Discarded string `json:"discarded,omitempty"`

	// Total of all messages.
	//
	// +optional
	Total string `json:"total,omitempty"`

	// WithdrawUpdate is updates that withdrew routes.
	//
	// +optional
	WithdrawUpdate string `json:"withdrawUpdate,omitempty"`

	// WithdrawPrefix is the prefixes withdrawn.
	//
	// +optional
	WithdrawPrefix string `json:"withdrawPrefix,omitempty"`
}

// Queues counts messages that wait.
type Queues struct {
	// Input is the messages received and not yet read.
	//
	// +optional
	Input Uint32 `json:"input,omitempty"`

	// Output is the messages not yet sent.
	//
	// +optional
	Output Uint32 `json:"output,omitempty"`
}

// TimersState is the timers in use, in seconds as decimal text, and since when
// the session is up or down.
type TimersState struct {
	// ConnectRetry is the time between attempts to connect.
	//
	// +optional
	ConnectRetry string `json:"connectRetry,omitempty"`

	// HoldTime is the hold time asked for.
	//
	// +optional
	HoldTime string `json:"holdTime,omitempty"`

	// KeepaliveInterval is the time between signs of life.
	//
	// +optional
	KeepaliveInterval string `json:"keepaliveInterval,omitempty"`

	// MinimumAdvertisementInterval is the least time between two updates of
	// one route.
	//
	// +optional
	MinimumAdvertisementInterval string `json:"minimumAdvertisementInterval,omitempty"`

	// NegotiatedHoldTime is the hold time that both sides agreed on.
	//
	// +optional
	NegotiatedHoldTime string `json:"negotiatedHoldTime,omitempty"`

	// Uptime is when the session came up (RFC 3339).
	//
	// +optional
	Uptime string `json:"uptime,omitempty"`

	// Downtime is when the session went down (RFC 3339).
	//
	// +optional
	Downtime string `json:"downtime,omitempty"`
}
