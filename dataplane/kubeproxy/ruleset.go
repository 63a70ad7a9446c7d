package kubeproxy

import (
	"fmt"
	"maps"
	"slices"
)

// ruleset is what matters of a table of iptables: its chains, and the rules
// that lead from one to another.
type ruleset struct {
	table  string
	chains map[string]bool // and whether the kernel begins there
	jumps  []jump
}

// jump is a rule that leads from one chain to another.
type jump struct {
	from, to string
	text     string // the rule as iptables-save prints it, without -A and the chain
	handle   uint64 // the rule in nf_tables
}

// removal is what is to be removed of a ruleset.
type removal struct {
	jumps  []jump   // from chains of the kernel to those of kube-proxy
	chains []string // sorted
	kept   []Kept
}

// removal decides what goes. A chain of kube-proxy that a rule of someone else
// leads to stays, with those that it leads to: portmap of CNI, for one, can be
// told to use KUBE-MARK-MASQ. With that, what masquerades by the mark stays.
func (r ruleset) removal() removal {
	reasons := map[string]string{}
	var keep func(chain, reason string)
	keep = func(chain, reason string) {
		if known := reasons[chain] != ""; known || !r.ours(chain) {
			return
		}
		reasons[chain] = reason
		for _, j := range r.jumps {
			if j.from == chain {
				keep(j.to, fmt.Sprintf("%s, which stays, leads to it", chain))
			}
		}
		if chain == chainMark {
			keep(chainPostrouting, fmt.Sprintf("it masquerades what %s marks", chainMark))
		}
	}
	var entries []jump
	for _, j := range r.jumps {
		switch {
		case !r.ours(j.to) || r.ours(j.from):
		case r.chains[j.from] && isEntrance(r.table, j.to):
			entries = append(entries, j)
		default:
			keep(j.to, fmt.Sprintf("a rule of %s, which is not kube-proxy's, leads to it", j.from))
		}
	}

	var out removal
	for _, j := range entries {
		if kept := reasons[j.to] != ""; !kept || j.to != chainPostrouting {
			out.jumps = append(out.jumps, j)
		}
	}
	for _, chain := range slices.Sorted(maps.Keys(r.chains)) {
		switch reason := reasons[chain]; {
		case !r.ours(chain):
		case reason != "":
			out.kept = append(out.kept, Kept{chain, reason})
		default:
			out.chains = append(out.chains, chain)
		}
	}
	return out
}

// ours tells whether there is such a chain and it is kube-proxy's.
func (r ruleset) ours(chain string) bool {
	_, there := r.chains[chain]
	return there && isProxyChain(r.table, chain)
}

// empty tells whether there is nothing to remove.
func (r removal) empty() bool { return len(r.jumps) == 0 && len(r.chains) == 0 }

// hasOurs tells whether any chain is kube-proxy's.
func (r ruleset) hasOurs() bool {
	for chain := range r.chains {
		if r.ours(chain) {
			return true
		}
	}
	return false
}
