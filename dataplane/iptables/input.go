package iptables

import (
	"slices"
	"strings"
)

// input returns what iptables-restore makes of a table what it is to be, in one
// step: nothing leads to a chain before it is filled, and those that are empty
// go after all that led to them. Only chains that change are in it.
func input(table int, changes []change, hooksBefore, hooksAfter []hook) string {
	if len(changes) == 0 && sameHooks(hooksBefore, hooksAfter) {
		return ""
	}
	var b strings.Builder
	b.Grow(inputSize(changes)) // of a cold start it is much
	b.WriteString("*" + tableNames[table] + "\n")
	for _, c := range changes {
		b.WriteString(":" + c.chain + " - [0:0]\n") // makes it, or empties it
	}
	for _, c := range changes {
		for rule := range strings.Lines(c.after.rules) {
			b.WriteString("-A " + c.chain + " " + rule)
		}
	}
	for _, chain := range hookChains(hooksBefore, hooksAfter) {
		is, want := of(chain, hooksBefore), of(chain, hooksAfter)
		if slices.Equal(is, want) {
			continue
		}
		for _, h := range is {
			b.WriteString("-D " + chain + " " + h.rule)
		}
		for _, h := range slices.Backward(want) {
			b.WriteString("-I " + chain + " 1 " + h.rule)
		}
	}
	for _, c := range changes {
		if !c.after.is {
			b.WriteString("-X " + c.chain + "\n")
		}
	}
	b.WriteString("COMMIT\n")
	return b.String()
}

// inputSize is about how long the input for changes is.
func inputSize(changes []change) int {
	size := 0
	for _, c := range changes {
		name := len("-A ") + len(c.chain) + len(" - [0:0]\n")
		size += name + len(c.after.rules) + strings.Count(c.after.rules, "\n")*name
	}
	return size
}

// widen returns the first half of changes of filter, to be made before those of
// nat: nothing goes yet, and what is refused as a port without a Service comes
// later. Connections that nat translates never come to these rules, so that
// neither half takes effect before its time; and those that it no longer
// translates do not get away in between.
func widen(changes []change) (first, second []change) {
	for _, c := range changes {
		both := text{union(c.before.rules, c.after.rules), true}
		if both != c.before {
			first = append(first, change{c.chain, c.before, both})
		}
		if both != c.after {
			second = append(second, change{c.chain, both, c.after})
		}
	}
	return first, second
}

// union has the rules of after that are of a frontend, and all of before.
func union(before, after string) string {
	var first, last strings.Builder
	there := map[string]bool{}
	for rule := range strings.Lines(before) {
		there[rule] = true
	}
	add := func(rule string) {
		if isCatchAll(rule) {
			last.WriteString(rule)
		} else {
			first.WriteString(rule)
		}
	}
	wanted := map[string]bool{}
	for rule := range strings.Lines(after) {
		if there[rule] || !isCatchAll(rule) {
			wanted[rule] = true
			add(rule)
		}
	}
	for rule := range strings.Lines(before) {
		if !wanted[rule] {
			add(rule)
		}
	}
	return first.String() + last.String()
}

// isCatchAll tells whether a rule is of all ports of a cluster IP, or of all
// cluster IPs, and has to be behind those of frontends.
func isCatchAll(rule string) bool {
	return !strings.Contains(rule, "-p ") && (strings.HasSuffix(rule, proceed(refuseChain)) || strings.HasSuffix(rule, drop))
}
