package ipvs

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/fairway-lb/fairway/dataplane"
	"github.com/fairway-lb/fairway/dataplane/service"
)

func TestMarks(t *testing.T) {
	for _, masquerade := range []uint32{0x4000, 1, 1 << 20, 1 << 31} {
		m := newMarkTable(masquerade)
		seen := map[uint32]bool{}
		for i := range 1 << 15 {
			k := virtualKey{address: netip.AddrPortFrom(netip.IPv4Unspecified(), uint16(i)), within: true}
			mark, ok := m.take(k)
			if i == 1<<15-1 && masquerade <= markBits {
				if ok {
					t.Errorf("more marks than there are: %#x", mark)
				}
				continue
			}
			if !ok || seen[mark] || mark&masquerade != 0 || !isOurs(mark) || mark == m.tag() {
				t.Fatalf("mark %d with %#x is %#x, %v", i, masquerade, mark, ok)
			}
			seen[mark] = true
			if again, _ := m.take(k); again != mark {
				t.Fatalf("mark %#x became %#x", mark, again)
			}
		}
		first := virtualKey{address: netip.AddrPortFrom(netip.IPv4Unspecified(), 0), within: true}
		mark := m.of[first]
		m.release(first)
		other := virtualKey{address: netip.AddrPortFrom(netip.IPv4Unspecified(), 1), protocol: service.UDP, within: true}
		if got, ok := m.take(other); !ok || got != mark {
			t.Errorf("a mark that was given back is not taken again: %#x", got)
		}
	}
	for _, mark := range []uint32{0, 1, 0x4000, 0x8000, 0x10000, 0xffff0000} {
		if isOurs(mark) {
			t.Errorf("mark %#x of others is taken for ours", mark)
		}
	}
}

const listed = `# Generated
*mangle
:PREROUTING ACCEPT [0:0]
:IPVS-FAIRWAY-INPUT - [0:0]
:IPVS-FAIRWAY-OLD - [12:34]
:KUBE-PROXY - [0:0]
-A INPUT -j KUBE-PROXY
-A INPUT -j IPVS-FAIRWAY-INPUT
-A INPUT -j IPVS-FAIRWAY-INPUT
-A IPVS-FAIRWAY-INPUT -j IPVS-FAIRWAY-OLD
COMMIT
*filter
:IPVS-FAIRWAY-REFUSE - [0:0]
-A FORWARD -j IPVS-FAIRWAY-REFUSE
COMMIT
`

func TestScript(t *testing.T) {
	have := ourLines(listed)
	config := dataplane.Config{}
	must(t, config.Check())
	for _, table := range tables(&config, service.IPv4) {
		script := table.script(have)
		if !strings.HasPrefix(script, "*"+table.name+"\n") || !strings.HasSuffix(script, "COMMIT\n") {
			t.Errorf("no script: %s", script)
		}
		lines := strings.Split(script, "\n")
		for line, want := range map[string]bool{
			"-D INPUT -j IPVS-FAIRWAY-INPUT":    table.name == "mangle", // one of two
			"-I INPUT -j IPVS-FAIRWAY-INPUT":    false,
			"-I OUTPUT -j IPVS-FAIRWAY-OUTPUT":  table.name == "mangle",
			"-I FORWARD -j IPVS-FAIRWAY-REFUSE": false,
			"-I OUTPUT -j IPVS-FAIRWAY-REFUSE":  table.name == "filter",
		} {
			if slices.Contains(lines, line) != want {
				t.Errorf("%s: %q is there: %v", table.name, line, !want)
			}
		}
	}
	want := `*mangle
-D INPUT -j IPVS-FAIRWAY-INPUT
-D INPUT -j IPVS-FAIRWAY-INPUT
-F IPVS-FAIRWAY-INPUT
-F IPVS-FAIRWAY-OLD
-X IPVS-FAIRWAY-INPUT
-X IPVS-FAIRWAY-OLD
COMMIT
*filter
-D FORWARD -j IPVS-FAIRWAY-REFUSE
-F IPVS-FAIRWAY-REFUSE
-X IPVS-FAIRWAY-REFUSE
COMMIT
`
	if got := removal(have); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if removal(nil) != "" {
		t.Error("there is something to remove where there is nothing")
	}
}

// The rules do not know of Services, and only of pods and ranges there are.
func TestRules(t *testing.T) {
	text := func(config dataplane.Config, family service.Family) string {
		must(t, config.Check())
		var b strings.Builder
		for _, table := range tables(&config, family) {
			b.WriteString(table.script(nil))
		}
		return b.String()
	}
	none := text(dataplane.Config{}, service.IPv6)
	for _, word := range []string{podChain + "\n", "cluster-ips", "service-cidrs", "-4"} {
		if strings.Contains(none, word) {
			t.Errorf("without any pods: %q", word)
		}
	}
	config := dataplane.Config{
		Pods:           dataplane.Detector{CIDRs: []netip.Prefix{netip.MustParsePrefix("10.244.0.0/24")}},
		ServiceCIDRs:   []netip.Prefix{netip.MustParsePrefix("10.96.0.0/16")},
		MasqueradeMark: 1 << 20,
	}
	some := text(config, service.IPv4)
	for _, line := range []string{
		"-A IPVS-FAIRWAY-INPUT -m set --match-set fairway-ipvs-pods-4 src -g IPVS-FAIRWAY-POD\n",
		"-A IPVS-FAIRWAY-INPUT -m set --match-set fairway-ipvs-cluster-ips-4 dst,dst -j MARK --set-xmark 0x100000/0x100000\n",
		"-A IPVS-FAIRWAY-POSTROUTING -m mark --mark 0xfa000000/0xffe00000 -j MARK --set-xmark 0x0/0xffffffff\n",
		"-A IPVS-FAIRWAY-REFUSE -m set --match-set fairway-ipvs-service-cidrs-4 dst -m addrtype ! --dst-type LOCAL -j DROP\n",
	} {
		if !strings.Contains(some, line) {
			t.Errorf("not there: %s", line)
		}
	}
	for _, d := range []struct{ dataplane.Detector }{{dataplane.Detector{Bridge: "cni0"}}, {dataplane.Detector{InterfacePrefix: "cali"}}} {
		want := "-i " + d.Bridge
		if d.Bridge == "" {
			want = "-i cali+"
		}
		if got := text(dataplane.Config{Pods: d.Detector}, service.IPv6); !strings.Contains(got, want+" -g "+podChain) {
			t.Errorf("%v: %s", d, got)
		}
	}
}

// The names of sets are as long as the kernel takes them, and differ.
func TestSetNames(t *testing.T) {
	seen := map[string]bool{}
	for _, f := range families {
		for kind := range setKinds {
			name := setName(kind, f)
			if len(name) > 31 || seen[name] || sets[kind].name == "" {
				t.Errorf("set %q", name)
			}
			seen[name] = true
		}
	}
}
