package ipvs

import (
	"bytes"
	"errors"
	"fmt"
	"os/exec"
	"strings"

	"github.com/fairway-lb/fairway/dataplane/service"
)

// iptables runs the programs of one family. The legacy ones and those that make
// nf_tables rules work alike; which of them do depends on the kernel.
type iptables struct {
	family        service.Family
	restore, save string
}

// findIPTables returns the programs that the kernel has something for.
func findIPTables(family service.Family) (*iptables, error) {
	name := "iptables"
	if family == service.IPv6 {
		name = "ip6tables"
	}
	var errs []error
	for _, variant := range []string{name + "-legacy", name} {
		t := &iptables{family: family, restore: variant + "-restore", save: variant + "-save"}
		// It loads the modules of the table.
		if _, err := run(t.save, nil, "-t", "mangle"); err != nil {
			errs = append(errs, err)
			continue
		}
		return t, nil
	}
	return nil, fmt.Errorf("find an iptables that works for %s: %w", family, errors.Join(errs...))
}

// list returns what is ours.
func (t *iptables) list() ([]string, error) {
	out, err := run(t.save, nil)
	if err != nil {
		return nil, fmt.Errorf("list the rules of %s: %w", t.family, err)
	}
	return ourLines(string(out)), nil
}

// apply makes chains anew.
func (t *iptables) apply(script string) error {
	if script == "" {
		return nil
	}
	// Others hold the lock for moments, long ones where they have many rules.
	if _, err := run(t.restore, []byte(script), "--noflush", "--wait=30"); err != nil {
		return fmt.Errorf("load the rules of %s: %w", t.family, err)
	}
	return nil
}

func run(program string, input []byte, args ...string) ([]byte, error) {
	cmd := exec.Command(program, args...)
	cmd.Stdin = bytes.NewReader(input)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("%s %s: %w: %s", program, strings.Join(args, " "), err, strings.TrimSpace(stderr.String()))
	}
	return stdout.Bytes(), nil
}
