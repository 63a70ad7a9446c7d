package kubeproxy

import (
	"bytes"
	"context"
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"

	"github.com/fairway-lb/fairway/internal/netnstest"
)

// difference returns the lines that only one text has.
func difference(before, after string) string {
	var b strings.Builder
	for line := range strings.Lines(before) {
		if !strings.Contains(after, line) {
			b.WriteString("\n-" + line)
		}
	}
	for line := range strings.Lines(after) {
		if !strings.Contains(before, line) {
			b.WriteString("\n+" + line)
		}
	}
	if b.Len() == 0 {
		return "the same in another order:\n" + after
	}
	return b.String()
}

// everything is what others may have. kube-proxy's tables are not in it.
func everything(t *testing.T) string {
	t.Helper()
	var b strings.Builder
	for _, f := range families() {
		for _, flavour := range []string{"legacy", "nft"} {
			b.WriteString(command(t, "", f.program+"-"+flavour+"-save", "-c"))
		}
	}
	b.WriteString(command(t, "", "nft", "-a", "list", "table", "inet", "kube-proxy"))
	b.WriteString(command(t, "", "nft", "list", "tables"))
	b.WriteString(command(t, "", "nft", "-a", "list", "table", "ip", "kube-proxy-2"))
	b.WriteString(command(t, "", "nft", "-a", "list", "table", "ip6", "mine"))
	sets, err := netlink.IpsetListAll()
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range sets {
		fmt.Fprintln(&b, s.SetName, s.NumEntries)
	}
	var kept []string
	for line := range strings.Lines(b.String()) {
		if strings.HasPrefix(line, ":") { // any iptables-legacy-restore resets the counter of a policy
			line, _, _ = strings.Cut(line, " [")
			line += "\n"
		}
		if !strings.HasPrefix(line, "#") { // dates
			kept = append(kept, line)
		}
	}
	return strings.Join(kept, "")
}

// clean makes the namespace empty again at the end of a test.
func clean(t *testing.T) {
	t.Helper()
	t.Cleanup(func() {
		nft(t, "flush ruleset")
		for _, f := range families() {
			restore(t, f.program+"-legacy", "*filter\n:INPUT ACCEPT [0:0]\nCOMMIT\n*nat\nCOMMIT\n*mangle\nCOMMIT\n", "--flush")
		}
		sets, err := netlink.IpsetListAll()
		if err != nil {
			t.Error(err)
		}
		for _, s := range sets {
			if err := destroySet(context.Background(), s.SetName); err != nil { // that of t has ended
				t.Error(err)
			}
		}
	})
}

func restore(t *testing.T, program, rules string, options ...string) {
	t.Helper()
	args := []string{"--counters", "--wait", "5"}
	if !slices.Contains(options, "--flush") {
		args = append(args, "--noflush")
	}
	command(t, rules, program+"-restore", args...)
}

func nft(t *testing.T, rules string) {
	t.Helper()
	command(t, rules, "nft", "-f", "-")
}

func command(t *testing.T, input, program string, args ...string) string {
	t.Helper()
	netnstest.Need(t)
	var complaint bytes.Buffer
	c := exec.Command(program, args...)
	c.Stdin, c.Stderr = strings.NewReader(input), &complaint
	out, err := c.Output()
	if err != nil {
		t.Fatalf("%s %s: %v: %s\n%s", program, strings.Join(args, " "), err, &complaint, input)
	}
	return string(out)
}

func nftGeneration(t *testing.T) uint32 {
	t.Helper()
	n, err := openNFT(t.Context())
	if err != nil || n == nil {
		t.Fatal(err)
	}
	if err := n.close(); err != nil {
		t.Error(err)
	}
	return n.generation
}
