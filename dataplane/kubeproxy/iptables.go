package kubeproxy

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"

	"github.com/fairway-lb/fairway/dataplane/service"
)

// lockSeconds is how long to wait for another iptables to be done.
const lockSeconds = 10

// legacyChains is what kube-proxy leaves in iptables and IPVS mode on nodes
// where iptables is iptables-legacy. The kernel has no other way to its tables
// than the programs of that name.
type legacyChains struct{ family service.Family }

func (p legacyChains) find(ctx context.Context) ([]Leftover, error) {
	removals, err := p.removals(ctx)
	return leftoverChains("iptables-legacy", p.family, removals), wrap(err, "look for chains of kube-proxy in iptables-legacy (%s)", p.family)
}

// remove removes the chains of one table after the other, each in one
// transaction.
func (p legacyChains) remove(ctx context.Context) error {
	removals, err := p.removals(ctx)
	errs := []error{wrap(err, "look for chains of kube-proxy in iptables-legacy (%s)", p.family)}
	for _, table := range iptablesTables() {
		if r := removals[table]; !r.empty() {
			errs = append(errs, wrap(p.restore(ctx, r.restore(table), lockSeconds),
				"remove the chains of kube-proxy from table %s of iptables-legacy (%s)", table, p.family))
		}
	}
	return errors.Join(errs...)
}

// removals returns what there is to remove, by table.
func (p legacyChains) removals(ctx context.Context) (map[string]removal, error) {
	tables, err := p.tables()
	if err != nil || !slices.ContainsFunc(iptablesTables(), func(t string) bool { return slices.Contains(tables, t) }) {
		return nil, err
	}
	program, err := p.program(ctx, "save")
	if err != nil {
		return nil, err
	}
	// Without a table, it prints those that are in use, and begins to use none.
	saved, err := run(exec.CommandContext(ctx, program))
	if err != nil {
		return nil, err
	}
	removals := map[string]removal{}
	for _, r := range parseSaved(saved) {
		removals[r.table] = r.removal()
	}
	return removals, nil
}

// tables returns the tables of iptables-legacy that are in use.
func (p legacyChains) tables() ([]string, error) {
	path := map[service.Family]string{
		service.IPv4: "/proc/thread-self/net/ip_tables_names",
		service.IPv6: "/proc/thread-self/net/ip6_tables_names",
	}[p.family]
	names, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) { // nor does the kernel have them
		return nil, nil
	}
	return strings.Fields(string(names)), err
}

// restore has the program do what a text says. It waits for some seconds while
// another holds the lock.
func (p legacyChains) restore(ctx context.Context, text string, seconds int) error {
	program, err := p.program(ctx, "restore")
	if err != nil {
		return err
	}
	command := exec.CommandContext(ctx, program, "--noflush", "--wait", strconv.Itoa(seconds))
	command.Stdin = strings.NewReader(text)
	_, err = run(command)
	return err
}

// program returns the path of a program of iptables-legacy. Where there is but
// one flavour of iptables, it may have only its plain name.
func (p legacyChains) program(ctx context.Context, which string) (string, error) {
	prefix := map[service.Family]string{service.IPv4: "iptables", service.IPv6: "ip6tables"}[p.family]
	wanted := prefix + "-legacy-" + which
	path, err := exec.LookPath(wanted)
	if err == nil {
		return path, nil
	}
	plain, e := exec.LookPath(prefix + "-" + which)
	if e != nil {
		return "", fmt.Errorf("tables of iptables-legacy are in use, and there is no program for them: %w", err)
	}
	version, e := run(exec.CommandContext(ctx, plain, "--version"))
	if e != nil {
		return "", e
	}
	if strings.Contains(version, "nf_tables") {
		return "", fmt.Errorf("tables of iptables-legacy are in use, and %s is not for them: %w", plain, err)
	}
	return plain, nil
}

// run runs a program, of which the error has what it says of it.
func run(command *exec.Cmd) (string, error) {
	var out, complaint bytes.Buffer
	command.Stdout, command.Stderr = &out, &complaint
	if err := command.Run(); err != nil {
		return "", fmt.Errorf("run %s: %w: %s", strings.Join(command.Args, " "), err, strings.TrimSpace(complaint.String()))
	}
	return out.String(), nil
}

// parseSaved reads what iptables-save prints.
func parseSaved(saved string) (rulesets []ruleset) {
	var r ruleset
	for line := range strings.Lines(saved) {
		line = strings.TrimRight(line, "\n")
		switch {
		case strings.HasPrefix(line, "*"):
			r = ruleset{table: line[1:], chains: map[string]bool{}}
		case strings.HasPrefix(line, ":") && r.chains != nil:
			name, rest, _ := strings.Cut(line[1:], " ")
			policy, _, _ := strings.Cut(rest, " ")
			r.chains[name] = policy != "-" // a chain of users has none
		case strings.HasPrefix(line, "-A "):
			from, rule, _ := strings.Cut(line[len("-A "):], " ")
			if to := target(rule); to != "" {
				r.jumps = append(r.jumps, jump{from: from, to: to, text: rule})
			}
		case line == "COMMIT":
			rulesets = append(rulesets, r)
			r = ruleset{}
		}
	}
	return rulesets
}

// target returns where a rule leads to: a chain, or what iptables calls a
// target.
func target(rule string) string {
	words := split(rule)
	for i, w := range words[:max(len(words)-1, 0)] {
		if w == "-j" || w == "-g" {
			return words[i+1]
		}
	}
	return ""
}

// split splits a rule into words. What has spaces is in double quotes, in
// which a backslash comes before a quote or a backslash. A word in quotes keeps
// the first, so that none is taken for an option.
func split(rule string) (words []string) {
	var word strings.Builder
	quoted, escaped := false, false
	for _, c := range rule {
		switch {
		case escaped:
			escaped = false
			word.WriteRune(c)
		case quoted && c == '\\':
			escaped = true
		case c == '"':
			if quoted = !quoted; quoted {
				word.WriteRune(c)
			}
		case c == ' ' && !quoted:
			words = append(words, word.String())
			word.Reset()
		default:
			word.WriteRune(c)
		}
	}
	return append(words, word.String())
}

// restore returns what iptables-restore is to do, in one transaction: empty the
// chains, remove the rules that lead to them, remove the chains.
func (r removal) restore(table string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "*%s\n", table)
	for _, chain := range r.chains {
		fmt.Fprintf(&b, ":%s - [0:0]\n", chain)
	}
	for _, j := range r.jumps {
		fmt.Fprintf(&b, "-D %s %s\n", j.from, j.text)
	}
	for _, chain := range r.chains {
		fmt.Fprintf(&b, "-X %s\n", chain)
	}
	b.WriteString("COMMIT\n")
	return b.String()
}

// leftoverChains describes what there is in tables of a flavour of iptables.
func leftoverChains(flavour string, f service.Family, removals map[string]removal) (found []Leftover) {
	for _, table := range iptablesTables() {
		if r := removals[table]; len(r.chains)+len(r.kept) > 0 {
			found = append(found, Leftover{
				Mode:  modeIPTables,
				Place: fmt.Sprintf("chains in table %s of %s (%s)", table, flavour, f),
				Names: r.chains,
				Kept:  r.kept,
			})
		}
	}
	return found
}

// wrap says what was being done when there was an error, if there was.
func wrap(err error, format string, args ...any) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf(format+": %w", append(args, err)...)
}
