package lab

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Partition makes the switch drop every frame between two hosts, in both
// directions. Their links stay up, and others reach both.
func (l *Lab) Partition(a, b *Host) error { return l.setPartition(a, b, true) }

// Heal ends the partition of two hosts; it does nothing if there is none.
func (l *Lab) Heal(a, b *Host) error { return l.setPartition(a, b, false) }

func (l *Lab) setPartition(a, b *Host, cut bool) error {
	pair := [2]string{a.name, b.name}
	slices.Sort(pair[:])
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return errClosed
	}
	pairs := maps.Clone(l.partitions)
	if cut {
		pairs[pair] = true
	} else {
		delete(pairs, pair)
	}
	if err := l.net.drop(pairs); err != nil {
		return fmt.Errorf("partition of %s and %s: %w", a.name, b.name, err)
	}
	l.partitions = pairs
	return nil
}

// drop makes the bridge's rules equal to the pairs, in one step.
func (n *network) drop(pairs map[[2]string]bool) error {
	rules := &config{}
	rules.line("table bridge partitions")
	rules.line("delete table bridge partitions")
	rules.line("table bridge partitions {")
	rules.line("  chain forward {")
	rules.line("    type filter hook forward priority 0; policy accept;")
	for pair := range pairs {
		for _, p := range [][2]string{pair, {pair[1], pair[0]}} {
			rules.line("    iifname %q oifname %q drop", portName(p[0]), portName(p[1]))
		}
	}
	rules.line("  }")
	rules.line("}")
	ctx, cancel := context.WithTimeout(context.Background(), commandTimeout)
	defer cancel()
	nft := n.Command(ctx, "nft", "-f", "-")
	nft.Stdin = strings.NewReader(rules.String())
	if out, err := nft.CombinedOutput(); err != nil {
		return fmt.Errorf("write the switch's rules: %w: %s", err, out)
	}
	return nil
}
