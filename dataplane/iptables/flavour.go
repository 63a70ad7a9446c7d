package iptables

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"slices"
	"strings"

	"github.com/fairway-lb/fairway/dataplane/service"
)

// Flavour is the part of the kernel that iptables programs go to. Rules of both
// are in force at the same time, and neither lists those of the other.
type Flavour uint8

// The flavours.
const (
	// Auto is the one that the node uses: where the kubelet has its chains, else
	// the only one that the kernel has, else where there are more rules, else
	// that of the program iptables.
	Auto Flavour = iota
	// Legacy is ip_tables. Every change costs it work for the whole table.
	Legacy
	// NFT is nf_tables behind the same programs.
	NFT
)

// String returns the flavour as names of programs have it.
func (f Flavour) String() string {
	return [...]string{"auto", "legacy", "nft"}[f]
}

// kubeletChains are in table mangle of the flavour that the node is meant to
// use (KEP-3178), the second one of kubelets before 1.24.
var kubeletChains = []string{":KUBE-IPTABLES-HINT ", ":KUBE-KUBELET-CANARY "}

// detect is what Auto stands for, in the order in which iptables-wrappers looks.
func detect() (Flavour, error) {
	rules := map[Flavour]int{}
	there := map[Flavour]*tool{}
	var errs []error
	for _, f := range []Flavour{NFT, Legacy} {
		for _, family := range families {
			t, err := findTool(f, family)
			if err != nil {
				if family == service.IPv4 {
					errs = append(errs, err)
				}
				continue
			}
			if family == service.IPv4 {
				there[f] = t
			}
			hinted, count, err := t.inUse()
			switch {
			case err != nil:
				// The kernel lacks it, and New would say so.
			case hinted:
				return f, nil
			default:
				rules[f] += count
			}
		}
	}
	usual, err := flavourOf("iptables-restore")
	switch {
	case len(there) == 0:
		return Auto, fmt.Errorf("%w: %w; %s", errMissing, errors.Join(errs...), alternatives)
	case rules[NFT] > rules[Legacy]:
		return NFT, nil
	case rules[Legacy] > rules[NFT]:
		return Legacy, nil
	case err != nil:
		usual = NFT
	}
	for _, f := range []Flavour{usual, usual.other()} {
		if t := there[f]; t != nil {
			if err := t.try(oneEach, nil); err == nil || errors.Is(err, errLocked) {
				return f, nil
			}
		}
	}
	if there[usual] == nil {
		return usual.other(), nil
	}
	return usual, nil // New says what it lacks
}

// oneEach is a rule in a chain of each table.
var oneEach = []feature{{table: nat, rules: goBack}, {table: filter, rules: goBack}}

// other is that which a flavour is not.
func (f Flavour) other() Flavour {
	if f == Legacy {
		return NFT
	}
	return Legacy
}

// inUse tells whether a kubelet means the node to use a flavour, and how many
// rules that has.
func (t *tool) inUse() (hinted bool, rules int, err error) {
	err = t.read(func(saved io.Reader) error {
		lines := bufio.NewScanner(saved)
		for lines.Scan() {
			line := lines.Text()
			hinted = hinted || slices.ContainsFunc(kubeletChains, func(chain string) bool { return strings.HasPrefix(line, chain) })
			if strings.HasPrefix(line, "-A ") {
				rules++
			}
		}
		return lines.Err()
	})
	return hinted, rules, err
}

// flavourOf asks a program which flavour it is of. Before 1.8 there was one.
func flavourOf(program string) (Flavour, error) {
	path, err := exec.LookPath(program)
	if err != nil {
		return Auto, err
	}
	out, err := exec.Command(path, "--version").Output()
	if err != nil {
		return Auto, fmt.Errorf("find the version of %s: %w", path, err)
	}
	if strings.Contains(string(out), "nf_tables") {
		return NFT, nil
	}
	return Legacy, nil
}

// findTool finds the programs of a flavour and family.
func findTool(f Flavour, family service.Family) (*tool, error) {
	base := map[service.Family]string{service.IPv4: "iptables", service.IPv6: "ip6tables"}[family]
	t := &tool{flavour: f, family: family}
	for _, name := range []string{base + "-" + f.String(), base} {
		restore, err := exec.LookPath(name + "-restore")
		if err != nil {
			continue
		}
		save, err := exec.LookPath(name + "-save")
		if err != nil {
			continue
		}
		if name == base {
			if is, err := flavourOf(restore); err != nil || is != f {
				continue
			}
		}
		t.restorePath, t.savePath = restore, save
		return t, nil
	}
	return nil, fmt.Errorf("no %s-%s-restore and -save (nor %s-restore and -save of that flavour) in PATH", base, f, base)
}
