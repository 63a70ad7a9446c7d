package kubeproxy

import (
	"slices"
	"strings"
)

// tableName is that of kube-proxy's tables in nftables mode, one per family.
const tableName = "kube-proxy"

// ipvsLink is the link that has the addresses of Services in IPVS mode.
const ipvsLink = "kube-ipvs0"

// The chains that kube-proxy marks packets to be masqueraded in, and
// masquerades them in.
const (
	chainMark        = "KUBE-MARK-MASQ"
	chainPostrouting = "KUBE-POSTROUTING"
)

// proxyChains returns the chains of a table that kube-proxy has in iptables and
// IPVS mode, but those of single Services. entrances are those that it leads
// to from the chains of the kernel.
//
// KUBE-FIREWALL of the table filter is not among them, though kube-proxy makes
// it, too: it is kubelet's (and its copy the same), and what it keeps out,
// packets from elsewhere to 127.0.0.0/8, is kept out without kube-proxy as well
// (CVE-2020-8558). Nor is KUBE-MARK-DROP, which kubelets before 1.27 have.
func proxyChains(table string) (entrances, others []string) {
	switch table {
	case "filter":
		return []string{
				"KUBE-SERVICES", "KUBE-EXTERNAL-SERVICES", "KUBE-NODEPORTS", "KUBE-FORWARD", "KUBE-PROXY-FIREWALL",
				"KUBE-NODE-PORT", "KUBE-IPVS-FILTER", "KUBE-IPVS-OUT-FILTER", // IPVS mode
			}, []string{
				"KUBE-PROXY-CANARY",
				"KUBE-SOURCE-RANGES-FIREWALL", // IPVS mode
			}
	case "nat":
		return []string{"KUBE-SERVICES", chainPostrouting},
			[]string{
				"KUBE-NODEPORTS", chainMark, "KUBE-PROXY-CANARY",
				"KUBE-NODE-PORT", "KUBE-LOAD-BALANCER", "KUBE-FIREWALL", // IPVS mode, the last until 1.26
			}
	case "mangle":
		return nil, []string{"KUBE-PROXY-CANARY"}
	}
	return nil, nil
}

// iptablesTables are the tables that kube-proxy has chains in, in the order in
// which they are cleaned. filter is first: a Service that it still refuses may
// be one that the rules of the caller serve.
func iptablesTables() []string { return []string{"filter", "mangle", "nat"} }

// isEntrance tells whether kube-proxy leads to a chain from those of the
// kernel.
func isEntrance(table, chain string) bool {
	entrances, _ := proxyChains(table)
	return slices.Contains(entrances, chain)
}

// isProxyChain tells whether a chain is kube-proxy's.
func isProxyChain(table, chain string) bool {
	entrances, others := proxyChains(table)
	return slices.Contains(entrances, chain) || slices.Contains(others, chain) ||
		table == "nat" && isServiceChain(chain)
}

// isServiceChain tells whether a chain is that of one Service or endpoint: its
// name ends with 16 characters of a hash in base32 (RFC 4648).
func isServiceChain(chain string) bool {
	for _, prefix := range []string{"KUBE-SVC-", "KUBE-SVL-", "KUBE-EXT-", "KUBE-FW-", "KUBE-SEP-", "KUBE-XLB-"} { // XLB until 1.23
		hash, ok := strings.CutPrefix(chain, prefix)
		if ok && len(hash) == 16 && strings.Trim(hash, "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567") == "" {
			return true
		}
	}
	return false
}

// setNames returns the names of kube-proxy's ipsets. Those of IPv6 are cut to
// the length that the kernel allows.
func setNames() (names []string) {
	const maxLen = 31
	for _, suffix := range []string{
		"LOOP-BACK", "CLUSTER-IP", "EXTERNAL-IP", "EXTERNAL-IP-LOCAL",
		"LOAD-BALANCER", "LOAD-BALANCER-LOCAL", "LOAD-BALANCER-FW", "LOAD-BALANCER-SOURCE-IP", "LOAD-BALANCER-SOURCE-CIDR",
		"NODE-PORT-TCP", "NODE-PORT-LOCAL-TCP", "NODE-PORT-UDP", "NODE-PORT-LOCAL-UDP",
		"NODE-PORT-SCTP-HASH", "NODE-PORT-LOCAL-SCTP-HASH", "HEALTH-CHECK-NODE-PORT", "IPVS-IPS",
	} {
		v6 := "KUBE-6-" + suffix
		names = append(names, "KUBE-"+suffix, v6[:min(len(v6), maxLen)])
	}
	return names
}
