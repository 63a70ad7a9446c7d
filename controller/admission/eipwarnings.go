package admission

import (
	"fmt"
	"net/netip"
	"strings"

	"go4.org/netipx"

	"github.com/fairway-lb/fairway/api/v1alpha2"
)

// The size of the subnet that a node's address is taken to be in. Most are
// like that; a warning that relies on it has to be careful in its words.
const (
	subnetBits4 = 24
	subnetBits6 = 64
)

// warningsForEip says what of an Eip will not do what it seems to.
func warningsForEip(eip *v1alpha2.Eip, set *netipx.IPSet, cluster *Cluster) []string {
	var warnings []string
	if len(set.Ranges()) == 0 {
		warnings = append(warnings, "spec.exclude leaves no address in the pool")
	}
	warnings = append(warnings, uselessExcludes(&eip.Spec)...)
	if eip.Spec.Protocol == v1alpha2.ProtocolLayer2 && !eip.Spec.AllowOffSubnet {
		warnings = append(warnings, offSubnet(set, cluster.NodeAddresses)...)
	}
	if eip.Spec.Exclusive && len(eip.Spec.Namespaces) == 0 && len(eip.Spec.NamespaceSelector) == 0 {
		what := "refuses every Service"
		if eip.Spec.ServiceSelector != nil {
			what = "has no effect" // the pool then serves every namespace
		}
		warnings = append(warnings, "spec.exclusive "+what+", because the pool is bound to no namespace: set spec.namespaces or spec.namespaceSelector")
	}
	if mark := eip.Annotations[v1alpha2.AnnotationDefaultEip]; mark != "" && !strings.EqualFold(mark, "true") && !strings.EqualFold(mark, "false") {
		warnings = append(warnings, fmt.Sprintf("annotation %s is %.40q, so this is not the default Eip: only \"true\" makes it that", v1alpha2.AnnotationDefaultEip, mark))
	}
	return warnings
}

// uselessExcludes names the blocks of spec.exclude that are not in the pool.
func uselessExcludes(spec *v1alpha2.EipSpec) []string {
	blocks, excluded, err := spec.Blocks()
	if err != nil {
		return nil
	}
	var b netipx.IPSetBuilder
	for _, block := range blocks {
		b.AddRange(block.IPRange)
	}
	pool := built(&b)
	var warnings []string
	for i, block := range excluded {
		if !pool.OverlapsRange(block.IPRange) {
			warnings = append(warnings, fmt.Sprintf("spec.exclude[%d] %s has no effect: none of it is in the pool", i, spec.Exclude[i]))
		}
	}
	return warnings
}

// offSubnet warns of a family of which the pool has addresses, none of them
// near a node's. Nothing is known of a family in which no node has an address.
func offSubnet(set *netipx.IPSet, nodes []netip.Addr) []string {
	var subnets4, subnets6 netipx.IPSetBuilder
	var known4, known6 bool
	for _, node := range nodes {
		if node.Is4() {
			known4 = true
			subnets4.AddPrefix(netip.PrefixFrom(node, subnetBits4))
		} else {
			known6 = true
			subnets6.AddPrefix(netip.PrefixFrom(node, subnetBits6))
		}
	}
	var warnings []string
	warn := func(family string, bits int) {
		warnings = append(warnings, fmt.Sprintf("no node's InternalIP is in the same /%d as the pool's %s addresses: unless a node has an interface in their subnet, nobody announces them. Check them, or set spec.allowOffSubnet if a router delivers them on that link", bits, family))
	}
	part4, part6 := families(set)
	if known4 && len(part4.Ranges()) > 0 && !part4.Overlaps(built(&subnets4)) {
		warn("IPv4", subnetBits4)
	}
	if known6 && len(part6.Ranges()) > 0 && !part6.Overlaps(built(&subnets6)) {
		warn("IPv6", subnetBits6)
	}
	return warnings
}

// families returns the IPv4 and the IPv6 addresses of a set.
func families(set *netipx.IPSet) (v4, v6 *netipx.IPSet) {
	var b4, b6 netipx.IPSetBuilder
	for _, r := range set.Ranges() {
		if r.From().Is4() {
			b4.AddRange(r)
		} else {
			b6.AddRange(r)
		}
	}
	return built(&b4), built(&b6)
}
