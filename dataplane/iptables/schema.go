package iptables

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"github.com/fairway-lb/fairway/dataplane"
	"github.com/fairway-lb/fairway/dataplane/service"
)

// prefix is how the names of all chains of ours begin, and of nobody else's.
const prefix = "FAIRWAY-"

// Chains that do not depend on Services.
const (
	servicesChain    = prefix + "SERVICES"    // nat: where the destination is translated
	nodePortsChain   = prefix + "NODEPORTS"   // nat and filter, each for its part of NodePorts
	markChain        = prefix + "MARK"        // nat: the source is to be translated
	markOthersChain  = prefix + "MARK-OTHERS" // nat: unless it is a local pod
	postroutingChain = prefix + "POSTROUTING"
	masqueradeChain  = prefix + "MASQUERADE"
	hairpinsChain    = prefix + "HAIRPINS"
	verdictsChain    = prefix + "VERDICTS" // filter: what is refused or dropped
	refuseChain      = prefix + "REFUSE"
	inputChain       = prefix + "INPUT"
	forwardChain     = prefix + "FORWARD"
	localhostChain   = prefix + "LOCALHOST"
)

// The tables that have chains of ours.
const (
	nat = iota
	filter
	tableCount
)

var tableNames = [tableCount]string{"nat", "filter"}

// Keys of rules that stand before and after those of the buckets of a chain,
// whose keys are their names.
const (
	before = "0"
	after  = "~"
)

// hook is a rule in a chain that is not ours.
type hook struct{ chain, rule string }

// hooks returns the rules that lead to our chains, by table.
func hooks(family service.Family, config *dataplane.Config) [tableCount][]hook {
	var all [tableCount][]hook
	all[nat] = []hook{
		{"PREROUTING", jump(servicesChain)},
		{"OUTPUT", jump(servicesChain)},
		{"POSTROUTING", jump(postroutingChain)},
	}
	if guarded(family, config) {
		all[filter] = append(all[filter], hook{"INPUT", jump(localhostChain)})
	}
	all[filter] = append(all[filter],
		hook{"INPUT", newPackets + jump(inputChain)},
		hook{"FORWARD", jump(forwardChain)},
		hook{"OUTPUT", newPackets + jump(verdictsChain)})
	return all
}

// guarded tells whether the loopback is to be kept from others, because
// NodePorts there take route_localnet.
func guarded(family service.Family, config *dataplane.Config) bool {
	return config.LocalhostNodePorts && family == service.IPv4
}

// addStatic puts the chains that do not depend on Services.
func addStatic(nat, filter *content, family service.Family, config *dataplane.Config, liberal bool) {
	mark := "0x" + strconv.FormatUint(uint64(config.MasqueradeMark), 16)
	loopback := netip.MustParsePrefix("127.0.0.0/8")
	if family == service.IPv6 {
		loopback = netip.MustParsePrefix("::1/128")
	}
	noLoopback := destination(loopback) + goBack
	if guarded(family, config) {
		noLoopback = ""
	}
	nodePorts := nodePortRules(family, config, loopback)

	setMark := "-j MARK --set-xmark " + mark + "/" + mark + "\n"
	nat.keep(markChain, setMark)
	pods := config.Pods.Of(family)
	var others strings.Builder
	if link := fromPods(pods); len(pods.CIDRs) == 0 && len(link) > 0 {
		others.WriteString("! " + link[0] + setMark)
	} else {
		for _, match := range link {
			others.WriteString(match + goBack)
		}
		others.WriteString(setMark)
	}
	nat.keep(markOthersChain, others.String())
	nat.keep(servicesChain, "")
	nat.put(servicesChain, after, nodePorts)
	nat.keep(nodePortsChain, noLoopback)
	nat.keep(postroutingChain, "-m mark --mark "+mark+"/"+mark+" "+jump(masqueradeChain)+translated+jump(hairpinsChain))
	// What leaves the node does not keep the mark: it might come back, by a tunnel.
	nat.keep(masqueradeChain, "-j MARK --set-xmark "+mark+"/0x0\n"+masquerade)
	nat.keep(hairpinsChain, "")

	// What has been translated goes to an endpoint, whose address and port may
	// be those of a frontend in a bad configuration only.
	filter.keep(verdictsChain, translated+goBack)
	for i, p := range dataplane.OfFamily(family, config.ServiceCIDRs) {
		filter.put(verdictsChain, fmt.Sprintf("%s%04d", after, i), destination(p)+drop)
	}
	filter.keep(nodePortsChain, noLoopback)
	filter.keep(inputChain, translated+goBack+jump(verdictsChain)+nodePorts)
	forward := "-m conntrack --ctstate INVALID " + drop + newPackets + jump(verdictsChain)
	if liberal {
		forward = newPackets + jump(verdictsChain)
	}
	filter.keep(forwardChain, forward)
	unreachable := "icmp-port-unreachable"
	if family == service.IPv6 {
		unreachable = "icmp6-port-unreachable"
	}
	// The kernel limits ICMP errors, so that a client might wait for one.
	filter.keep(refuseChain, "-p tcp -j REJECT --reject-with tcp-reset\n-j REJECT --reject-with "+unreachable+"\n")
	if guarded(family, config) {
		// CVE-2020-8558: with route_localnet, neighbors can send to 127.0.0.1, and
		// from there, which some servers trust.
		const foreign = "! -i lo -m conntrack ! --ctstate RELATED,ESTABLISHED,DNAT " + drop
		filter.keep(localhostChain, source(loopback)+foreign+destination(loopback)+foreign)
	}
}

// nodePortRules lead packets to where NodePorts answer.
func nodePortRules(family service.Family, config *dataplane.Config, loopback netip.Prefix) string {
	prefixes := dataplane.OfFamily(family, config.NodePortAddresses)
	if len(prefixes) == 0 {
		return toNode + jump(nodePortsChain)
	}
	if guarded(family, config) {
		prefixes = append(prefixes, loopback)
	}
	var b strings.Builder
	for _, p := range prefixes {
		b.WriteString(destination(p) + toNode + jump(nodePortsChain))
	}
	return b.String()
}
