package iptables

import (
	"slices"
	"strings"
)

// listing is what a table has of ours.
type listing struct {
	chains map[string]string
	hooks  []hook
}

// parse reads what iptables-save prints, and leaves what is ours.
func parse(saved string) [tableCount]*listing {
	var all [tableCount]*listing
	builders := [tableCount]map[string]*strings.Builder{}
	for i := range all {
		all[i] = &listing{chains: map[string]string{}}
		builders[i] = map[string]*strings.Builder{}
	}
	table := -1
	for line := range strings.Lines(saved) {
		switch {
		case line[0] == '*':
			table = slices.Index(tableNames[:], strings.TrimSpace(line[1:]))
		case table < 0:
		case line[0] == ':':
			if name, _, _ := strings.Cut(line[1:], " "); strings.HasPrefix(name, prefix) {
				builders[table][name] = new(strings.Builder)
			}
		case strings.HasPrefix(line, "-A "):
			name, rule, _ := strings.Cut(line[len("-A "):], " ")
			if b := builders[table][name]; b != nil {
				b.WriteString(rule)
			} else if leadsToOurs(rule) {
				all[table].hooks = append(all[table].hooks, hook{name, rule})
			}
		}
	}
	for i := range all {
		for name, b := range builders[i] {
			all[i].chains[name] = b.String()
		}
	}
	return all
}

func leadsToOurs(rule string) bool {
	return strings.Contains(rule, "-j "+prefix) || strings.Contains(rule, "-g "+prefix)
}

// of returns the hooks of a chain, in their order.
func of(chain string, hooks []hook) []hook {
	return slices.DeleteFunc(slices.Clone(hooks), func(h hook) bool { return h.chain != chain })
}

// hookChains are the chains of either list.
func hookChains(a, b []hook) []string {
	var chains []string
	for _, h := range slices.Concat(a, b) {
		if !slices.Contains(chains, h.chain) {
			chains = append(chains, h.chain)
		}
	}
	return chains
}

// sameHooks tells whether all are there once, in the order of each chain.
func sameHooks(is, want []hook) bool {
	for _, chain := range hookChains(is, want) {
		if !slices.Equal(of(chain, is), of(chain, want)) {
			return false
		}
	}
	return true
}
