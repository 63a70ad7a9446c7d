package lab

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"
)

// RouterKind is the routing software of a [Router].
type RouterKind int

const (
	// FRR is FRRouting: zebra, bgpd and bfdd.
	FRR RouterKind = iota + 1
	// BIRD is the BIRD Internet Routing Daemon, version 2.
	BIRD
	// NoDaemon is a router whose kernel forwards and that speaks no protocol by
	// itself; a [BGPConn] of a test may.
	NoDaemon
)

func (k RouterKind) String() string {
	switch k {
	case FRR:
		return "FRR"
	case BIRD:
		return "BIRD"
	case NoDaemon:
		return "no daemon"
	default:
		return fmt.Sprintf("RouterKind(%d)", int(k))
	}
}

// Numbers of routers. They end below the control-plane host's (.10).
const (
	firstRouter = 1
	lastRouter  = 9
)

// bgpPort is BGP's port, RFC 4271 8.2.1.
const bgpPort = 179

// RouterOptions say what a router is and whom it peers with.
type RouterOptions struct {
	Kind RouterKind
	// Name is the router's name as a host, "r<Number>" if empty. No dashes.
	Name string
	// Number is the last part of its addresses on the switch, 1 to 9; the lowest
	// free one if zero. Number 1 is every host's default gateway.
	Number int
	// AS is the router's own autonomous system.
	AS uint32
	// ListenPort is the TCP port of its BGP, 179 if zero.
	ListenPort uint16
	// MaximumPaths is how many equal routes go into the kernel's one, 32 if zero.
	MaximumPaths int
	// Announce are routes that the router originates. They lead nowhere.
	Announce  []netip.Prefix
	Neighbors []Neighbor
	// Extra is appended to the configuration of FRR's bgpd, or of BIRD, as it is.
	Extra string
}

// Neighbor is a BGP neighbor in a router's configuration, or several: exactly
// one of Address, Range and Interface says who. A link-local Address needs the
// Interface too.
type Neighbor struct {
	Address netip.Addr
	// Range accepts a session from every address in it, and opens none.
	Range netip.Prefix
	// Interface alone peers with link-local addresses behind that link. FRR
	// waits for a router advertisement of its one neighbor there (unnumbered);
	// BIRD accepts sessions of any number of neighbors.
	Interface string

	// AS is the neighbor's autonomous system. Zero is any but the router's own.
	AS   uint32
	Port uint16 // where the neighbor listens, 179 if zero
	// Password is for TCP MD5 signatures, RFC 2385; none if empty.
	Password string
	// MultihopTTL allows a neighbor that is so many hops away; 0 is a direct one.
	MultihopTTL int
	// TTLSecurityHops is GTSM, RFC 5082: packets from farther away are dropped;
	// 0 is off.
	TTLSecurityHops int
	// Passive never opens the session.
	Passive bool
	// UpdateSource is the router's own address of the session; the kernel's
	// choice if zero.
	UpdateSource netip.Addr
	// Hold and Keepalive in whole seconds; the daemon's defaults if zero: 180 s
	// and 60 s with FRR, 240 s and 80 s with BIRD.
	Hold, Keepalive time.Duration
	BFD             *BFDProfile
	// IPv4 and IPv6 are the families of routes of the session, whatever the
	// family of its addresses; both if neither is set.
	IPv4, IPv6 bool
	// ExtendedNextHop allows IPv4 routes with IPv6 next hops, RFC 8950.
	ExtendedNextHop bool
	// AddPaths is RFC 7911, in both directions.
	AddPaths bool
	// RouteReflectorClient is RFC 4456; for a neighbor of the same AS.
	RouteReflectorClient bool
	// NoGracefulRestart makes the router lose the routes with the session. By
	// default it keeps those of a neighbor that restarts gracefully, RFC 4724.
	NoGracefulRestart bool
	// Extra are raw lines: FRR's in the block "router bgp", BIRD's in the
	// neighbor's protocol.
	Extra string
}

// BFDProfile says how fast a router wants to notice that a path is lost.
type BFDProfile struct {
	MinTx, MinRx time.Duration // whole milliseconds, 10 at least
	Multiplier   int
	// MinimumTTL is for multihop sessions of FRR: packets with less are dropped.
	MinimumTTL int
}

// name says who the neighbor is, in the words of the daemons.
func (n Neighbor) name() string {
	switch {
	case n.Address.IsValid():
		return n.Address.WithZone("").String()
	case n.Range.IsValid():
		return n.Range.String()
	default:
		return n.Interface
	}
}

// families are those of the routes.
func (n Neighbor) families() (ipv4, ipv6 bool) {
	if !n.IPv4 && !n.IPv6 {
		return true, true
	}
	return n.IPv4, n.IPv6
}

// complete fills in the defaults and refuses what no daemon can do.
func (o *RouterOptions) complete() error {
	o.Name = cmp.Or(o.Name, fmt.Sprintf("r%d", o.Number))
	o.ListenPort = cmp.Or(o.ListenPort, bgpPort)
	o.MaximumPaths = cmp.Or(o.MaximumPaths, 32)
	if o.Kind < FRR || o.Kind > NoDaemon {
		return fmt.Errorf("its kind is %s: want FRR, BIRD or NoDaemon", o.Kind)
	}
	// A port at the switch has two characters more, and the client behind has
	// a name that ends with "client"; see removeNamespaces for the dash.
	if len(o.Name) > 12 || strings.ContainsAny(o.Name, "-/ ") {
		return fmt.Errorf("its name is %q: want at most 12 letters and digits", o.Name)
	}
	if o.Number < firstRouter || o.Number > lastRouter {
		return fmt.Errorf("its number is %d: want %d to %d", o.Number, firstRouter, lastRouter)
	}
	if o.Kind != NoDaemon && o.AS == 0 {
		return errors.New("it has no AS")
	}
	for _, n := range o.Neighbors {
		if err := n.check(); err != nil {
			return fmt.Errorf("neighbor %s: %w", n.name(), err)
		}
	}
	return nil
}

func (n Neighbor) check() error {
	switch {
	case n.Address.IsValid() && n.Range.IsValid():
		return errors.New("it has an address and a range")
	case n.Address.IsLinkLocalUnicast() && n.Interface == "":
		return errors.New("its address is link-local, so it needs an interface")
	case !n.Address.IsValid() && !n.Range.IsValid() && n.Interface == "":
		return errors.New("it has neither address nor range nor interface")
	case n.MultihopTTL != 0 && n.TTLSecurityHops != 0:
		return errors.New("it has both a multihop TTL and TTL security")
	}
	return nil
}
