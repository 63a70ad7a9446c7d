package lab

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// frrBGP is the configuration of bgpd.
func frrBGP(o RouterOptions) string {
	b := &config{}
	b.line("%s", frrBlock(o.AS))
	b.line(" bgp router-id %s", lanAddr4(o.Number).Addr())
	// What a neighbor announces is taken without a filter, as in the lab all
	// neighbors are ours.
	b.line(" no bgp ebgp-requires-policy")
	b.line(" no bgp default ipv4-unicast")
	b.line(" no bgp network import-check")
	// Nodes with their own AS numbers are equal ways too.
	b.line(" bgp bestpath as-path multipath-relax")
	b.line(" bgp listen limit 1000")
	for _, n := range o.Neighbors {
		frrNeighbor(b, n)
	}
	for _, ipv6 := range []bool{false, true} {
		frrFamily(b, o, ipv6)
	}
	b.line("exit")
	b.raw("", o.Extra)
	return b.String()
}

func frrNeighbor(b *config, n Neighbor) {
	as := "external"
	if n.AS != 0 {
		as = strconv.Itoa(int(n.AS))
	}
	who := "neighbor " + frrName(n)
	switch {
	case n.Address.IsValid():
		b.line(" %s remote-as %s", who, as)
		if n.Interface != "" {
			b.line(" %s interface %s", who, n.Interface)
		}
	case n.Range.IsValid():
		b.line(" %s peer-group", who)
		b.line(" %s remote-as %s", who, as)
	default:
		b.line(" %s interface remote-as %s", who, as)
	}
	// The default of 120 s is longer than any test.
	b.line(" %s timers connect 1", who)
	if n.Hold != 0 || n.Keepalive != 0 {
		hold := cmp.Or(n.Hold, 3*n.Keepalive)
		b.line(" %s timers %d %d", who, seconds(cmp.Or(n.Keepalive, hold/3)), seconds(hold))
	}
	if n.Port != 0 {
		b.line(" %s port %d", who, n.Port)
	}
	if n.Password != "" {
		b.line(" %s password %s", who, n.Password)
	}
	if n.MultihopTTL != 0 {
		b.line(" %s ebgp-multihop %d", who, n.MultihopTTL)
	}
	if n.TTLSecurityHops != 0 {
		b.line(" %s ttl-security hops %d", who, n.TTLSecurityHops)
	}
	if n.Passive {
		b.line(" %s passive", who)
	}
	if n.UpdateSource.IsValid() {
		b.line(" %s update-source %s", who, n.UpdateSource)
	}
	if n.ExtendedNextHop {
		b.line(" %s capability extended-nexthop", who)
	}
	if n.BFD != nil {
		b.line(" %s bfd profile %s", who, n.BFD.name())
	}
	if n.NoGracefulRestart {
		b.line(" %s graceful-restart-disable", who)
	}
	b.raw(" ", n.Extra)
	if n.Range.IsValid() {
		// Last: from here on the daemon accepts connections.
		b.line(" bgp listen range %s peer-group %s", n.Range, frrName(n))
	}
}

func frrFamily(b *config, o RouterOptions, ipv6 bool) {
	b.line(" address-family %s unicast", map[bool]string{false: "ipv4", true: "ipv6"}[ipv6])
	b.line("  maximum-paths %d", o.MaximumPaths)
	b.line("  maximum-paths ibgp %d", o.MaximumPaths)
	for _, p := range o.Announce {
		if p.Addr().Is6() == ipv6 {
			b.line("  network %s", p)
		}
	}
	for _, n := range o.Neighbors {
		if v4, v6 := n.families(); ipv6 && !v6 || !ipv6 && !v4 {
			continue
		}
		who := "neighbor " + frrName(n)
		b.line("  %s activate", who)
		if n.AddPaths {
			b.line("  %s addpath-tx-all-paths", who)
		} else {
			b.line("  %s disable-addpath-rx", who)
		}
		if n.RouteReflectorClient {
			b.line("  %s route-reflector-client", who)
		}
	}
	b.line(" exit-address-family")
}

// frrName is the neighbor in the configuration: a peer group for a range.
func frrName(n Neighbor) string {
	if n.Range.IsValid() {
		return "range-" + strings.ReplaceAll(n.Range.String(), "/", "-")
	}
	return n.name()
}

// frrBFD is the configuration of bfdd: the profiles that the neighbors name.
func frrBFD(o RouterOptions) string {
	b := &config{}
	b.line("bfd")
	var seen []string
	for _, n := range o.Neighbors {
		if n.BFD == nil || slices.Contains(seen, n.BFD.name()) {
			continue
		}
		seen = append(seen, n.BFD.name())
		b.line(" profile %s", n.BFD.name())
		b.line("  transmit-interval %d", n.BFD.MinTx.Milliseconds())
		b.line("  receive-interval %d", n.BFD.MinRx.Milliseconds())
		b.line("  detect-multiplier %d", n.BFD.Multiplier)
		if n.BFD.MinimumTTL != 0 {
			b.line("  minimum-ttl %d", n.BFD.MinimumTTL)
		}
		b.line(" exit")
	}
	b.line("exit")
	return b.String()
}

// name is the same for equal profiles.
func (p BFDProfile) name() string {
	return fmt.Sprintf("tx%d-rx%d-x%d-ttl%d", p.MinTx.Milliseconds(), p.MinRx.Milliseconds(), p.Multiplier, p.MinimumTTL)
}

func seconds(d time.Duration) int { return int(d / time.Second) }

// config is the text of a configuration while it is written.
type config struct{ strings.Builder }

func (c *config) line(format string, args ...any) {
	fmt.Fprintf(c, format+"\n", args...)
}

// raw writes lines of the test's own.
func (c *config) raw(indent, text string) {
	for line := range strings.Lines(text) {
		if strings.TrimSpace(line) != "" {
			c.line("%s%s", indent, strings.TrimRight(line, "\n"))
		}
	}
}
