package bgp

import (
	"net/netip"
	"time"

	"github.com/fairway-lb/fairway/speaker/bfd"
)

// Router is the BGP router of one node as it is to be, with all defaults filled
// in.
type Router struct {
	AS uint32
	// ID is the BGP identifier (RFC 4271, 4.2), an IPv4 address.
	ID netip.Addr
	// ListenPort is the TCP port that sessions are accepted on, -1 for none.
	ListenPort int32
	// ListenAddresses are where sessions are accepted; none means everywhere.
	ListenAddresses []netip.Addr
	// UseMultiplePaths turns GoBGP's multipath on.
	UseMultiplePaths bool
	// Families are GoBGP's afi<<16|safi; none means its default.
	Families []uint32
}

// Peer is one session as it is to be, with all defaults filled in.
type Peer struct {
	// Name is that of the BgpPeer.
	Name string
	// Address of the neighbor. A link-local one has a zone.
	Address netip.Addr
	// Interface is set for a neighbor that is found on a link (unnumbered), and
	// Address is not.
	Interface string

	AS          uint32 // 0: the one that the neighbor says it has
	LocalAS     uint32
	Description string
	Password    string

	// LocalAddress is the node's end; the zero value leaves it to the routes.
	LocalAddress netip.Addr
	Port         uint16
	Passive      bool
	AdminDown    bool
	MultihopTTL  uint8 // 0: one hop
	MinTTL       uint8 // GTSM; 0: off
	TCPMSS       uint16
	MTUDiscovery bool

	ConnectRetry, HoldTime, KeepaliveInterval, MinimumAdvertisementInterval time.Duration

	RemovePrivateAS  string // GoBGP's names ALL and REPLACE, or ""
	AllowOwnAS       uint32
	ReplacePeerAS    bool
	SendCommunity    uint32
	RouteFlapDamping bool
	GracefulRestart  GracefulRestart
	Families         []Family
	// NextHop4 and NextHop6 are what routes of a family have as next hop that
	// name none themselves; the zero value is the session's own address.
	NextHop4, NextHop6 netip.Addr

	// BFD watches the neighbor; nil means no.
	BFD *bfd.Profile
}

// GracefulRestart is RFC 4724 as one session is to have it.
type GracefulRestart struct {
	Enabled      bool
	HelperOnly   bool
	RestartTime  time.Duration
	DeferralTime time.Duration
	Notification bool // RFC 8538
	LongLived    bool // RFC 9494
	// StaleRoutesTime is how long routes are kept under LongLived.
	StaleRoutesTime time.Duration
}

// Family is an address family of a session, IPv4 or IPv6 unicast.
type Family struct {
	IPv6            bool
	AddPathsReceive bool
	AddPathsSendMax uint8
	GracefulRestart bool
}

// Config is a router, its sessions and its policy as they are to be.
type Config struct {
	// Router is nil where the node is to have none.
	Router *Router
	Peers  []Peer // sorted by Name; no two have the same Address or Interface
	// Policy is the operator's, nil for none.
	Policy *Policy
	// policyText is what Policy was parsed from.
	policyText string
}
