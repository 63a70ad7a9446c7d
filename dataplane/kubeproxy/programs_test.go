package kubeproxy

import (
	"os"
	"os/exec"
	"strings"
	"testing"
)

// A node that has but one flavour has its programs by their plain names.
func TestPlainNames(t *testing.T) {
	loopback(t)
	clean(t)
	f := families()[0]
	restore(t, "iptables-legacy", f.iptables())
	programs := t.TempDir()
	for _, which := range []string{"iptables-nft-save", "iptables-nft-restore", "ip6tables-nft-save", "ip6tables-nft-restore"} {
		link(t, which, programs+"/"+strings.Replace(which, "-nft", "", 1))
	}
	path := os.Getenv("PATH")
	t.Setenv("PATH", programs)
	if err := Remove(t.Context(), Config{}); err == nil || !strings.Contains(err.Error(), "iptables-save is not for them") {
		t.Errorf("with those of iptables-nft, the error is %v", err)
	}
	t.Setenv("PATH", path)
	programs = t.TempDir()
	for _, which := range []string{"iptables-legacy-save", "iptables-legacy-restore", "ip6tables-legacy-save", "ip6tables-legacy-restore"} {
		link(t, which, programs+"/"+strings.Replace(which, "-legacy", "", 1))
	}
	t.Setenv("PATH", programs)
	if err := Remove(t.Context(), Config{}); err != nil {
		t.Error(err)
	}
	if found, err := Leftovers(t.Context()); err != nil || len(found) > 0 {
		t.Errorf("left is %v, %v", found, err)
	}
}

func link(t *testing.T, program, name string) {
	t.Helper()
	path, err := exec.LookPath(program)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(path, name); err != nil {
		t.Fatal(err)
	}
}
