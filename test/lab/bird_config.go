package lab

import (
	"cmp"
	"fmt"
	"net/netip"
	"strings"
)

// birdConfig is the configuration of BIRD.
func birdConfig(o RouterOptions) string {
	b := &config{}
	b.line("log stderr all;")
	b.line("router id %s;", lanAddr4(o.Number).Addr())
	b.line("protocol device { scan time 5; }")
	// Next hops of iBGP and of multihop sessions are looked up among these.
	b.line("protocol direct { ipv4; ipv6; }")
	b.line("protocol bfd { }")
	for _, family := range []string{"ipv4", "ipv6"} {
		b.line("protocol kernel kernel_%s {", family)
		b.line("  %s { export where source = RTS_BGP; };", family)
		b.line("  merge paths on limit %d;", o.MaximumPaths)
		b.line("}")
		b.line("protocol static own_%s {", family)
		b.line("  %s;", family)
		for _, p := range o.Announce {
			if p.Addr().Is4() == (family == "ipv4") {
				b.line("  route %s blackhole;", p)
			}
		}
		b.line("}")
	}
	for _, n := range o.Neighbors {
		birdNeighbor(b, o, n)
	}
	b.raw("", o.Extra)
	return b.String()
}

func birdNeighbor(b *config, o RouterOptions, n Neighbor) {
	b.line("protocol bgp %s {", birdName(n))
	local := "local"
	if n.UpdateSource.IsValid() {
		local += " " + n.UpdateSource.String()
	}
	b.line("  %s port %d as %d;", local, o.ListenPort, o.AS)
	as := "external"
	if n.AS != 0 {
		as = fmt.Sprintf("as %d", n.AS)
	}
	switch {
	case n.Address.IsValid():
		b.line("  neighbor %s port %d %s;", n.name(), cmp.Or(n.Port, bgpPort), as)
	case n.Range.IsValid():
		b.line("  neighbor range %s %s;", n.Range, as)
		b.line("  dynamic name %q;", birdName(n)+"_")
	default:
		b.line("  neighbor range %s %s;", linkLocal, as)
		b.line("  dynamic name %q;", birdName(n)+"_")
	}
	if n.Interface != "" {
		b.line("  interface %q;", n.Interface)
	}
	// The defaults of 5 s up to 5 min are longer than any test.
	b.line("  connect delay time 1; connect retry time 1; error wait time 1, 1;")
	if n.Hold != 0 {
		b.line("  hold time %d;", seconds(n.Hold))
	}
	if n.Keepalive != 0 {
		b.line("  keepalive time %d;", seconds(n.Keepalive))
	}
	if n.Password != "" {
		b.line("  password %q;", n.Password)
	}
	switch {
	case n.MultihopTTL != 0:
		b.line("  multihop %d;", n.MultihopTTL)
	case n.TTLSecurityHops > 1:
		b.line("  multihop %d;", n.TTLSecurityHops)
	default:
		b.line("  direct;")
	}
	if n.TTLSecurityHops != 0 {
		b.line("  ttl security on;")
	}
	if n.Passive {
		b.line("  passive on;")
	}
	if n.RouteReflectorClient {
		b.line("  rr client;")
	}
	if n.NoGracefulRestart {
		b.line("  graceful restart off;")
	} else {
		b.line("  graceful restart aware;")
	}
	if n.BFD != nil {
		b.line("  bfd { min tx interval %d ms; min rx interval %d ms; multiplier %d; };",
			n.BFD.MinTx.Milliseconds(), n.BFD.MinRx.Milliseconds(), n.BFD.Multiplier)
	}
	ipv4, ipv6 := n.families()
	if ipv4 {
		birdChannel(b, "ipv4", n)
	}
	if ipv6 {
		birdChannel(b, "ipv6", n)
	}
	b.raw("  ", n.Extra)
	b.line("}")
}

func birdChannel(b *config, family string, n Neighbor) {
	b.line("  %s {", family)
	b.line("    import all;")
	b.line("    export where source ~ [ RTS_STATIC, RTS_BGP ];")
	if n.ExtendedNextHop {
		b.line("    extended next hop on;")
	}
	if n.AddPaths {
		b.line("    add paths on;")
	}
	b.line("  };")
}

// linkLocal is where neighbors behind an interface are.
var linkLocal = netip.MustParsePrefix("fe80::/64")

// birdName is the neighbor's name as a protocol: letters, digits, underscores.
func birdName(n Neighbor) string {
	return "bgp_" + strings.Map(func(r rune) rune {
		if r >= '0' && r <= '9' || r >= 'a' && r <= 'z' {
			return r
		}
		return '_'
	}, n.name())
}
