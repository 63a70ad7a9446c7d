package kubeproxy

import (
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/fairway-lb/fairway/dataplane/service"
)

// TestRemove is the life of a node: of each mode, flavour and family, kube-proxy
// puts there what it does, among what others have, and Remove leaves theirs,
// byte for byte.
func TestRemove(t *testing.T) {
	loopback(t)
	clean(t)
	for _, f := range families() {
		for _, flavour := range []string{"legacy", "nft"} {
			restore(t, f.program+"-"+flavour, foreign)
		}
	}
	nft(t, othersNFTables)
	createSets(t, "MINE")
	before := everything(t)
	check := func(t *testing.T, places ...string) {
		t.Helper()
		found, err := Leftovers(t.Context())
		if err != nil {
			t.Error(err)
		}
		var got []string
		for _, l := range found {
			got = append(got, fmt.Sprintf("%d %s", len(l.Names), l.Place))
			if !slices.IsSorted(l.Names) || len(l.Kept) > 0 {
				t.Errorf("not sorted, or kept: %+v", l)
			}
		}
		if !slices.Equal(got, places) {
			t.Errorf("left is %q, want %q", got, places)
		}
	}
	remove := func(t *testing.T, config Config) {
		t.Helper()
		for range 2 { // the second time, there is nothing to do
			if err := Remove(t.Context(), config); err != nil {
				t.Fatal(err)
			}
		}
		check(t)
		if after := everything(t); after != before {
			t.Errorf("others have %s", difference(before, after))
		}
		generation := nftGeneration(t)
		if err := Remove(t.Context(), config); err != nil || nftGeneration(t) != generation {
			t.Error("a change of nf_tables, though there is nothing left")
		}
	}
	check(t)
	remove(t, Config{})

	for _, f := range families() {
		for _, flavour := range []string{"legacy", "nft"} {
			t.Run("iptables "+f.program+"-"+flavour, func(t *testing.T) {
				restore(t, f.program+"-"+flavour, f.iptables())
				in := "of iptables-" + flavour + " (" + f.String() + ")"
				check(t, "6 chains in table filter "+in, "1 chains in table mangle "+in, "11 chains in table nat "+in)
				remove(t, Config{})
			})
			t.Run("ipvs "+f.program+"-"+flavour, func(t *testing.T) {
				createSets(t, f.setPrefix)
				restore(t, f.program+"-"+flavour, fmt.Sprintf(inIPVS, f.setPrefix))
				in := "of iptables-" + flavour + " (" + f.String() + ")"
				check(t, "6 chains in table filter "+in, "5 chains in table nat "+in, "3 ipsets")
				remove(t, Config{func(func(service.Protocol, netip.AddrPort) bool) error { return nil }})
			})
		}
		t.Run("nftables "+f.nft, func(t *testing.T) {
			nft(t, f.nftables())
			check(t, "1 tables of nftables")
			remove(t, Config{})
		})
	}
	t.Run("all at once", func(t *testing.T) {
		for _, f := range families() {
			restore(t, f.program+"-legacy", f.iptables())
			restore(t, f.program+"-nft", f.iptables())
			createSets(t, f.setPrefix)
			nft(t, f.nftables())
		}
		remove(t, Config{func(func(service.Protocol, netip.AddrPort) bool) error { return nil }})
	})
}

// What others lead to stays, and does what it did.
func TestRemoveKeeps(t *testing.T) {
	loopback(t)
	for _, flavour := range []string{"legacy", "nft"} {
		t.Run(flavour, func(t *testing.T) {
			clean(t)
			restore(t, "iptables-"+flavour, families()[0].iptables()+
				"*nat\n:CNI-HOSTPORT-SETMARK - [0:0]\n-A CNI-HOSTPORT-SETMARK -j KUBE-MARK-MASQ\nCOMMIT\n")
			if err := Remove(t.Context(), Config{}); err != nil {
				t.Fatal(err)
			}
			found, err := Leftovers(t.Context())
			if err != nil || len(found) != 1 || len(found[0].Names) != 0 {
				t.Fatalf("left is %v, %v", found, err)
			}
			var kept []string
			for _, k := range found[0].Kept {
				kept = append(kept, k.Name+": "+k.Reason)
			}
			if want := []string{
				"KUBE-MARK-MASQ: a rule of CNI-HOSTPORT-SETMARK, which is not kube-proxy's, leads to it",
				"KUBE-POSTROUTING: it masquerades what KUBE-MARK-MASQ marks",
			}; !slices.Equal(kept, want) {
				t.Errorf("kept is %q, want %q", kept, want)
			}
			saved := command(t, "", "iptables-"+flavour+"-save", "-t", "nat")
			for _, want := range []string{"-A POSTROUTING -m comment --comment \"kubernetes postrouting rules\" -j KUBE-POSTROUTING", "-j MASQUERADE", "-A KUBE-MARK-MASQ"} {
				if !strings.Contains(saved, want) {
					t.Errorf("no %q in\n%s", want, saved)
				}
			}
		})
	}
}

// What cannot be removed does not keep it from the rest.
func TestRemoveFails(t *testing.T) {
	loopback(t)
	clean(t)
	f := families()[0]
	restore(t, "iptables-legacy", f.iptables())
	restore(t, "iptables-nft", f.iptables())
	nft(t, f.nftables())
	createSets(t, f.setPrefix)
	path := os.Getenv("PATH")
	t.Setenv("PATH", "/nowhere")
	err := Remove(t.Context(), Config{})
	t.Setenv("PATH", path)
	if err == nil {
		t.Fatal("no error")
	}
	for _, want := range []string{
		`look for chains of kube-proxy in iptables-legacy (IPv4): tables of iptables-legacy are in use, and there is no program for them: exec: "iptables-legacy-save"`,
		"remove what kube-proxy left of IPVS mode: its virtual services would stay",
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not in %q", want, err)
		}
	}
	found, err := Leftovers(t.Context())
	var got []string
	for _, l := range found {
		got = append(got, l.Place)
	}
	if want := []string{
		"chains in table filter of iptables-legacy (IPv4)", "chains in table mangle of iptables-legacy (IPv4)",
		"chains in table nat of iptables-legacy (IPv4)", "ipsets",
	}; err != nil || !slices.Equal(got, want) {
		t.Errorf("left is %q, %v; want %q", got, err, want)
	}
	// And where it can be again, all goes.
	if err := Remove(t.Context(), Config{func(func(service.Protocol, netip.AddrPort) bool) error { return nil }}); err != nil {
		t.Error(err)
	}
	if found, err := Leftovers(t.Context()); err != nil || len(found) > 0 {
		t.Errorf("left is %v, %v", found, err)
	}
}
