package nftables

import (
	"golang.org/x/sys/unix"

	"github.com/fairway-lb/fairway/dataplane"
	"github.com/fairway-lb/fairway/dataplane/service"
)

const tableName = "fairway"

// relayName is that of the tables that do the same while those are made anew.
const relayName = "fairway-relay"

// The sets and maps of a table.
const (
	servicesSet               = "services"                 // frontend -> what happens
	endpointsSet              = "endpoints"                // frontend, slot -> endpoint of policy Cluster
	localEndpointsSet         = "local-endpoints"          // likewise of policy Local
	nodePortsSet              = "nodeports"                // the same three for NodePorts
	nodePortEndpointsSet      = "nodeport-endpoints"       //
	nodePortLocalEndpointsSet = "nodeport-local-endpoints" //
	hashedSet                 = "hashed"                   // hash, by port -> endpoint
	clusterIPsSet             = "cluster-ips"              // ports of these that no Service has are refused
	restrictedSet             = "restricted"               // frontends with source ranges
	allowedSet                = "allowed"                  // frontend, source
	hairpinsSet               = "hairpins"                 // endpoint, itself
	affinitySet               = "affinity"                 // client, frontend -> endpoint, learned from packets
	nodePortAffinitySet       = "nodeport-affinity"
	learnSet                  = "learn" // frontends with session affinity
	nodePortLearnSet          = "nodeport-learn"
	podsSet                   = "local-pods"
	nodePortAddressesSet      = "nodeport-addresses"
	serviceCIDRsSet           = "service-cidrs"
)

var nodePortSetOf = map[string]string{
	endpointsSet:      nodePortEndpointsSet,
	localEndpointsSet: nodePortLocalEndpointsSet,
}

// Chains that do not depend on Services.
const (
	dispatchChain     = "dispatch"
	refuseChain       = "refuse"
	learnBranch       = "learn"
	preroutingChain   = "nat-prerouting"
	outputChain       = "nat-output"
	postroutingChain  = "nat-postrouting"
	learnPrerouting   = "learn-prerouting"
	learnOutput       = "learn-output"
	martiansChain     = "martians"
	priorityDNAT      = -101 // just before kube-proxy's
	priorityAfterDNAT = -99
	prioritySNAT      = 99
)

// maxAffinity bounds the clients that a table remembers. Those beyond are
// forwarded all the same.
const maxAffinity = 1 << 18

// field is a part of a key.
type field uint8

const (
	saddrField field = iota
	daddrField
	protocolField
	portField
	slotField
)

type setSpec struct {
	name     string
	key      []field
	data     dataKind
	interval bool
	learned  bool
}

type dataKind uint8

const (
	noData dataKind = iota
	verdictData
	addrPortData
)

// sets are all sets of a table, in the order in which they are made.
var sets = []setSpec{
	{name: servicesSet, key: []field{daddrField, protocolField, portField}, data: verdictData},
	{name: endpointsSet, key: []field{daddrField, protocolField, portField, slotField}, data: addrPortData},
	{name: localEndpointsSet, key: []field{daddrField, protocolField, portField, slotField}, data: addrPortData},
	{name: nodePortsSet, key: []field{protocolField, portField}, data: verdictData},
	{name: nodePortEndpointsSet, key: []field{protocolField, portField, slotField}, data: addrPortData},
	{name: nodePortLocalEndpointsSet, key: []field{protocolField, portField, slotField}, data: addrPortData},
	{name: hashedSet, key: []field{slotField}, data: addrPortData},
	{name: clusterIPsSet, key: []field{daddrField}},
	{name: restrictedSet, key: []field{daddrField, protocolField, portField}},
	{name: allowedSet, key: []field{daddrField, protocolField, portField, saddrField}, interval: true},
	{name: hairpinsSet, key: []field{saddrField, daddrField}},
	{name: affinitySet, key: []field{saddrField, daddrField, protocolField, portField}, data: addrPortData, learned: true},
	{name: nodePortAffinitySet, key: []field{saddrField, protocolField, portField}, data: addrPortData, learned: true},
	{name: learnSet, key: []field{daddrField, protocolField, portField}, data: verdictData},
	{name: nodePortLearnSet, key: []field{protocolField, portField}, data: verdictData},
	{name: podsSet, key: []field{saddrField}, interval: true},
	{name: nodePortAddressesSet, key: []field{daddrField}, interval: true},
	{name: serviceCIDRsSet, key: []field{daddrField}, interval: true},
}

// addSets puts all sets and maps into a batch, and the elements that are the
// node's.
func addSets(b *batch, family service.Family, config *dataplane.Config) {
	for _, s := range sets {
		b.addSet(family, s)
	}
	b.addRanges(family, podsSet, rangesOf(family, config.Pods.CIDRs))
	b.addRanges(family, nodePortAddressesSet, rangesOf(family, config.NodePortAddresses))
	b.addRanges(family, serviceCIDRsSet, rangesOf(family, config.ServiceCIDRs))
}

// addChains puts the chains into a batch that class chains and elements lead
// to, and the one that leads to them. No packet comes there yet.
func addChains(b *batch, family service.Family) {
	b.addChain(family, refuseChain)
	unreachable := byte(3)
	if family == service.IPv6 {
		unreachable = 4
	}
	// The kernel limits ICMP errors, so that a client might wait for one.
	b.addRule(refuseChain, b.rule(family).l4proto(reg0).cmp(unix.NFT_CMP_EQ, reg0, []byte{unix.IPPROTO_TCP}).reject(unix.NFT_REJECT_TCP_RST, 0))
	b.addRule(refuseChain, b.rule(family).reject(unix.NFT_REJECT_ICMP_UNREACH, unreachable))
}

// addDispatch puts the chains and rules into a batch that lead packets to all
// others.
func addDispatch(b *batch, family service.Family, config *dataplane.Config) {
	start := func() *rule { return b.rule(family) }
	width := addrLen(family) / 4
	frontend := func() *rule { return start().daddr(reg0).l4proto(reg0 + width).dport(reg0 + width + 1) }
	add := func(chain string, r *rule) { b.addRule(chain, r) }

	b.addChain(family, dispatchChain)
	allowed := frontend().in(restrictedSet).daddr(reg0).l4proto(reg0 + width).dport(reg0 + width + 1).saddr(reg0 + width + 2)
	add(dispatchChain, allowed.notIn(allowedSet).verdict(dropped))
	add(dispatchChain, frontend().vmap(servicesSet))
	nodePort := start().fib(unix.NFTA_FIB_F_DADDR)
	if family == service.IPv4 {
		nodePort.payload(unix.NFT_PAYLOAD_NETWORK_HEADER, destination, 1, reg0).cmp(unix.NFT_CMP_NEQ, reg0, []byte{127})
	} else {
		loopback := [16]byte{15: 1}
		nodePort.daddr(reg0).cmp(unix.NFT_CMP_NEQ, reg0, loopback[:])
	}
	if len(dataplane.OfFamily(family, config.NodePortAddresses)) > 0 {
		nodePort.daddr(reg0).in(nodePortAddressesSet)
	}
	add(dispatchChain, nodePort.l4proto(reg0).dport(reg0+1).vmap(nodePortsSet))
	add(dispatchChain, start().daddr(reg0).in(clusterIPsSet).verdict(refused))
	add(dispatchChain, start().daddr(reg0).in(serviceCIDRsSet).verdict(dropped))

	b.addChain(family, learnBranch)
	add(learnBranch, start().protocols().originalDaddr(reg0).l4proto(reg0+width).originalDport(reg0+width+1).vmap(learnSet))
	add(learnBranch, start().protocols().l4proto(reg0).originalDport(reg0+1).vmap(nodePortLearnSet))

	jump := func(chain string) verdict { return verdict{unix.NFT_JUMP, chain} }
	b.addBaseChain(family, postroutingChain, "nat", unix.NF_INET_POST_ROUTING, prioritySNAT)
	add(postroutingChain, start().unmark(config.MasqueradeMark).masquerade())
	add(postroutingChain, start().ct(unix.NFT_CT_STATUS, reg0).bits(ipsDstNAT).saddr(reg0).daddr(reg0+width).in(hairpinsSet).masquerade())
	hooks := []struct {
		hook       uint32
		nat, learn string
	}{
		{unix.NF_INET_PRE_ROUTING, preroutingChain, learnPrerouting},
		{unix.NF_INET_LOCAL_OUT, outputChain, learnOutput},
	}
	for _, h := range hooks {
		b.addBaseChain(family, h.learn, "filter", h.hook, priorityAfterDNAT)
		add(h.learn, start().ct(unix.NFT_CT_STATE, reg0).bits(ctStateNew).ct(unix.NFT_CT_STATUS, reg0).bits(ipsDstNAT).verdict(jump(learnBranch)))
		b.addBaseChain(family, h.nat, "nat", h.hook, priorityDNAT)
		add(h.nat, start().verdict(jump(dispatchChain)))
	}
	if config.LocalhostNodePorts && family == service.IPv4 {
		addLocalhost(b)
	}
}

// addLocalhost has NodePorts answer at the loopback, from where the class
// chains translate the source as they do for all that is from the node. With
// the sysctl that this takes, the kernel would take packets of that network
// from other links: also those from there, which some servers trust.
func addLocalhost(b *batch) {
	const family = service.IPv4
	start := func() *rule { return b.rule(family) }
	b.addRule(outputChain, start().loopback(destination).l4proto(reg0).dport(reg0+1).vmap(nodePortsSet))
	b.addBaseChain(family, martiansChain, "filter", unix.NF_INET_LOCAL_IN, 0)
	for _, end := range []uint32{source, destination} {
		r := start().notLink("lo").loopback(end)
		r.ct(unix.NFT_CT_STATE, reg0).noBits(ctStateEstablished | ctStateRelated)
		r.ct(unix.NFT_CT_STATUS, reg0).noBits(ipsDstNAT)
		b.addRule(martiansChain, r.verdict(dropped))
	}
}
