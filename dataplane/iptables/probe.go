package iptables

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/fairway-lb/fairway/dataplane"
	"github.com/fairway-lb/fairway/dataplane/service"
)

// probeChain is there while New finds out what there is. Nothing leads to it.
const probeChain = prefix + "PROBE"

var errMissing = errors.New("the iptables backend lacks something")

const alternatives = "install it, or use --dataplane=nftables or --dataplane=ipvs"

// feature is something that our rules are made of.
type feature struct {
	name  string
	table int
	rules string
}

func features(family service.Family, mark uint32) []feature {
	addr, unreachable := netip.MustParseAddr("192.0.2.1"), "icmp-port-unreachable"
	if family == service.IPv6 {
		addr, unreachable = netip.MustParseAddr("2001:db8::1"), "icmp6-port-unreachable"
	}
	mask := "-d " + lowBits(family, 0x700) + "/" + lowBits(family, 0xf00) + " "
	hex := "0x" + strconv.FormatUint(uint64(mark), 16)
	return []feature{
		{"the table nat", nat, "-j RETURN\n"},
		{"the table filter", filter, "-j RETURN\n"},
		{"destination addresses by a mask of their last bits (nft flavour: iptables 1.8.8)", nat, mask + accept},
		{"the matches tcp, udp and sctp", nat, ports(service.TCP, "80") + accept + ports(service.UDP, "16:31") + accept + ports(service.SCTP, "80") + accept},
		{"the target DNAT", nat, "-p tcp " + dnat(netip.AddrPortFrom(addr, 80))},
		{"the target MASQUERADE with --random-fully (iptables 1.6.2)", nat, source(single(addr)) + destination(single(addr)) + masquerade},
		{"the match statistic", nat, chance(3) + goBack},
		{"the match recent", nat, recent(family, "--set", probeChain) + goBack + recent(family, "--update --seconds 60 --reap", probeChain) + goBack},
		{"the match addrtype", nat, toNode + goBack + fromNode + goBack},
		{"the match mark and the target MARK", nat, "-m mark --mark " + hex + "/" + hex + " -j MARK --set-xmark " + hex + "/0x0\n"},
		{"the match comment", nat, comment("default/probe:") + goBack},
		{"the match conntrack", filter, translated + goBack + "-m conntrack ! --ctstate RELATED,ESTABLISHED,DNAT -j DROP\n"},
		{"the target REJECT", filter, "-p tcp -j REJECT --reject-with tcp-reset\n-j REJECT --reject-with " + unreachable + "\n"},
	}
}

// prepare finds the programs of a flavour and family, and has the kernel take
// everything once that a table can have, in a chain that nothing leads to.
// Whether the programs print it otherwise than we write it is the second
// result.
func prepare(f Flavour, family service.Family, mark uint32) (t *tool, counted bool, err error) {
	if family == service.IPv6 {
		if err := dataplane.NoIPv6(); err != nil {
			return nil, false, err
		}
	}
	t, err = findTool(f, family)
	if err != nil {
		return nil, false, fmt.Errorf("%w: %w; %s", errMissing, err, alternatives)
	}
	all := features(family, mark)
	err = t.try(all, func(l *listings) error {
		for _, feature := range all {
			got := l[feature.table].chains[probeChain]
			counted = counted || !strings.Contains(got, feature.rules)
			mask := lowBits(family, 0xf00) + " "
			if strings.Contains(feature.rules, mask) && !strings.Contains(got, mask) {
				return fmt.Errorf("%w: %s; %s", errMissing, feature.name, alternatives)
			}
		}
		return nil
	})
	switch {
	case err == nil, errors.Is(err, errLocked), errors.Is(err, errMissing):
		return t, counted, err
	case strings.Contains(err.Error(), "ermission denied"), strings.Contains(err.Error(), "not permitted"), !capable():
		return nil, false, fmt.Errorf("the iptables backend needs CAP_NET_ADMIN and CAP_NET_RAW: %w", err)
	}
	// One by one, for what to say.
	var lacking []string
	for _, one := range all {
		if t.try([]feature{one}, nil) != nil {
			lacking = append(lacking, one.name)
		}
	}
	if len(lacking) == 0 {
		lacking = []string{"something that the tables need together"}
	}
	return nil, false, fmt.Errorf("%w: %s (%s) and this kernel do not have %s; %s: %w",
		errMissing, t.restorePath, f, strings.Join(lacking, ", "), alternatives, err)
}

// capable tells whether programs of this thread may change tables: the legacy
// flavour does not say that it is for that.
func capable() bool {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var sets [2]unix.CapUserData
	if err := unix.Capget(&header, &sets[0]); err != nil {
		return true // what failed is to say why
	}
	const needed = 1<<unix.CAP_NET_ADMIN | 1<<unix.CAP_NET_RAW
	return sets[0].Effective&needed == needed
}

// try makes chains of features, shows check what is listed of them, and
// removes them.
func (t *tool) try(those []feature, check func(*listings) error) error {
	var make, remove strings.Builder
	for i, name := range tableNames {
		rules := ""
		for _, f := range those {
			if f.table == i {
				rules += f.rules
			}
		}
		if !slices.ContainsFunc(those, func(f feature) bool { return f.table == i }) {
			continue
		}
		make.WriteString(input(i, []change{{probeChain, text{}, text{rules, true}}}, nil, nil))
		remove.WriteString(input(i, []change{{probeChain, text{name, true}, text{}}}, nil, nil))
	}
	err := t.restore(make.String())
	if err == nil && check != nil {
		saved := newListings()
		if err = t.save(saved); err == nil {
			err = check(saved)
		}
	}
	if removed := t.restore(remove.String()); err == nil {
		err = removed
	}
	return err
}
