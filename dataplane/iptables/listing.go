package iptables

import (
	"bufio"
	"io"
	"slices"
	"strings"
)

// listing is what a table has of ours.
type listing struct {
	chains map[string]string
	hooks  []hook
}

type listings [tableCount]*listing

func newListings() *listings {
	var all listings
	for i := range all {
		all[i] = &listing{chains: map[string]string{}}
	}
	return &all
}

// rules takes some of the rules of a chain, at first none.
func (l *listings) rules(table int, chain, rules string) { l[table].chains[chain] += rules }

func (l *listings) hook(table int, h hook) { l[table].hooks = append(l[table].hooks, h) }

// some tells whether there is anything of ours.
func (l *listings) some() bool {
	return slices.ContainsFunc(l[:], func(t *listing) bool { return len(t.chains) > 0 || len(t.hooks) > 0 })
}

// sums is of a listing what tells whether it is another one.
type sums struct {
	hash    hasher
	digests [tableCount]uint64
	hooks   [tableCount][]hook
}

// rules takes those of a chain all at once, as iptables-save lists them, after
// none. Else the sum is another one, and the listing is looked at.
func (s *sums) rules(table int, chain, rules string) {
	switch {
	case chain == probeChain:
	case rules == "":
		s.digests[table] += s.hash.chain(chain, text{"", true})
	default:
		s.digests[table] += s.hash.chain(chain, text{rules, true}) - s.hash.chain(chain, text{"", true})
	}
}

func (s *sums) hook(table int, h hook) { s.hooks[table] = append(s.hooks[table], h) }

// taker takes what is ours of what is listed.
type taker interface {
	rules(table int, chain, rules string)
	hook(table int, h hook)
}

// parse reads what iptables-save prints, which may be much.
func parse(saved io.Reader, to taker) error {
	lines := bufio.NewReader(saved)
	table, chain := -1, ""
	var rules strings.Builder
	flush := func() {
		if rules.Len() > 0 {
			to.rules(table, chain, rules.String())
			rules.Reset()
		}
	}
	for {
		line, err := lines.ReadString('\n')
		switch {
		case line == "":
		case line[0] == '*':
			table = slices.Index(tableNames[:], strings.TrimSpace(line[1:]))
		case table < 0:
		case line[0] == ':':
			if name, _, _ := strings.Cut(line[1:], " "); strings.HasPrefix(name, prefix) {
				to.rules(table, strings.Clone(name), "")
			}
		case strings.HasPrefix(line, "-A "):
			name, rule, _ := strings.Cut(line[len("-A "):], " ")
			if name != chain {
				flush()
				chain = name
			}
			if strings.HasPrefix(name, prefix) {
				rules.WriteString(rule)
			} else if leadsToOurs(rule) {
				to.hook(table, hook{name, rule})
			}
		default: // the end of the table
			flush()
		}
		if err != nil {
			flush()
			if err == io.EOF {
				return nil
			}
			return err
		}
	}
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
