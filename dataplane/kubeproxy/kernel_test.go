package kubeproxy

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	mdlayher "github.com/mdlayher/netlink"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/fairway-lb/fairway/dataplane/service"
	"github.com/fairway-lb/fairway/internal/netnstest"
)

// foreign is what others have in iptables. Its counters are not to change.
const foreign = `*mangle
:KUBE-IPTABLES-HINT - [0:0]
:KUBE-KUBELET-CANARY - [0:0]
COMMIT
*nat
:PREROUTING ACCEPT [0:0]
:CNI-HOSTPORT-DNAT - [0:0]
:KUBE-KUBELET-CANARY - [0:0]
:cali-PREROUTING - [0:0]
[5:300] -A PREROUTING -m comment --comment "cali:6gwbT8clXdHdC1b1" -j cali-PREROUTING
[1:60] -A PREROUTING -p tcp -m tcp --dport 8443 -m comment --comment "mine, \"not\" -j KUBE-SERVICES" -j REDIRECT --to-ports 443
[2:120] -A PREROUTING -m addrtype --dst-type LOCAL -j CNI-HOSTPORT-DNAT
COMMIT
*filter
:INPUT DROP [0:0]
:KUBE-FIREWALL - [0:0]
:KUBE-KUBELET-CANARY - [0:0]
[9:540] -A INPUT -j KUBE-FIREWALL
[8:480] -A INPUT -p tcp -m tcp --dport 22 -j ACCEPT
[4:240] -A FORWARD -m comment --comment "KUBE-SERVICES" -j ACCEPT
[9:540] -A OUTPUT -j KUBE-FIREWALL
[0:0] -A KUBE-FIREWALL -m conntrack ! --ctstate RELATED,ESTABLISHED,DNAT -m comment --comment "block incoming localnet connections" -j DROP
COMMIT
`

// inIPTables is what kube-proxy has in iptables mode for one Service with two
// endpoints and one without, as in a dump of 1.37.
const inIPTables = `*mangle
:KUBE-PROXY-CANARY - [0:0]
COMMIT
*nat
:KUBE-EXT-TCOU7JCQXEZGVUNU - [0:0]
:KUBE-FW-TCOU7JCQXEZGVUNU - [0:0]
:KUBE-MARK-MASQ - [0:0]
:KUBE-NODEPORTS - [0:0]
:KUBE-POSTROUTING - [0:0]
:KUBE-PROXY-CANARY - [0:0]
:KUBE-SEP-6E7XQMQ4RAYOWTTM - [0:0]
:KUBE-SEP-IT2ZTR26TO4XFPTO - [0:0]
:KUBE-SERVICES - [0:0]
:KUBE-SVC-TCOU7JCQXEZGVUNU - [0:0]
:KUBE-SVL-TCOU7JCQXEZGVUNU - [0:0]
-I PREROUTING -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
-I OUTPUT -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
-I POSTROUTING -m comment --comment "kubernetes postrouting rules" -j KUBE-POSTROUTING
-A KUBE-SERVICES -d %[1]s -p tcp -m comment --comment "d/web:http cluster IP" -m tcp --dport 80 -j KUBE-SVC-TCOU7JCQXEZGVUNU
-A KUBE-SERVICES -d %[2]s -p tcp -m comment --comment "d/web:http loadbalancer IP" -m tcp --dport 80 -j KUBE-FW-TCOU7JCQXEZGVUNU
-A KUBE-SERVICES -m comment --comment "kubernetes service nodeports; NOTE: this must be the last rule in this chain" -m addrtype --dst-type LOCAL -j KUBE-NODEPORTS
-A KUBE-NODEPORTS -p tcp -m comment --comment "d/web:http" -m tcp --dport 30080 -j KUBE-EXT-TCOU7JCQXEZGVUNU
-A KUBE-EXT-TCOU7JCQXEZGVUNU -m comment --comment "masquerade traffic for d/web:http external destinations" -j KUBE-MARK-MASQ
-A KUBE-EXT-TCOU7JCQXEZGVUNU -j KUBE-SVC-TCOU7JCQXEZGVUNU
-A KUBE-FW-TCOU7JCQXEZGVUNU -m comment --comment "d/web:http loadbalancer IP" -j KUBE-EXT-TCOU7JCQXEZGVUNU
-A KUBE-MARK-MASQ -j MARK --or-mark 0x4000
-A KUBE-POSTROUTING -m mark ! --mark 0x4000/0x4000 -j RETURN
-A KUBE-POSTROUTING -j MARK --xor-mark 0x4000
-A KUBE-POSTROUTING -m comment --comment "kubernetes service traffic requiring SNAT" -j MASQUERADE --random-fully
-A KUBE-SVC-TCOU7JCQXEZGVUNU -m comment --comment "d/web:http cluster IP" -j KUBE-MARK-MASQ
-A KUBE-SVC-TCOU7JCQXEZGVUNU -m comment --comment "d/web:http" -m statistic --mode random --probability 0.5 -j KUBE-SEP-6E7XQMQ4RAYOWTTM
-A KUBE-SVC-TCOU7JCQXEZGVUNU -m comment --comment "d/web:http" -j KUBE-SEP-IT2ZTR26TO4XFPTO
-A KUBE-SEP-6E7XQMQ4RAYOWTTM -p tcp -m comment --comment "d/web:http" -m recent --set --name KUBE-SEP-6E7XQMQ4RAYOWTTM --rsource -m tcp -j DNAT --to-destination %[3]s
-A KUBE-SEP-IT2ZTR26TO4XFPTO -p tcp -m comment --comment "d/web:http" -m tcp -j DNAT --to-destination %[3]s
COMMIT
*filter
:KUBE-EXTERNAL-SERVICES - [0:0]
:KUBE-FORWARD - [0:0]
:KUBE-NODEPORTS - [0:0]
:KUBE-PROXY-CANARY - [0:0]
:KUBE-PROXY-FIREWALL - [0:0]
:KUBE-SERVICES - [0:0]
-I INPUT -m conntrack --ctstate NEW -m comment --comment "kubernetes externally-visible service portals" -j KUBE-EXTERNAL-SERVICES
-I INPUT -m comment --comment "kubernetes health check service ports" -j KUBE-NODEPORTS
-I INPUT -m conntrack --ctstate NEW -m comment --comment "kubernetes load balancer firewall" -j KUBE-PROXY-FIREWALL
-I FORWARD -m conntrack --ctstate NEW -m comment --comment "kubernetes externally-visible service portals" -j KUBE-EXTERNAL-SERVICES
-I FORWARD -m conntrack --ctstate NEW -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
-I FORWARD -m comment --comment "kubernetes forwarding rules" -j KUBE-FORWARD
-I FORWARD -m conntrack --ctstate NEW -m comment --comment "kubernetes load balancer firewall" -j KUBE-PROXY-FIREWALL
-I OUTPUT -m conntrack --ctstate NEW -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
-I OUTPUT -m conntrack --ctstate NEW -m comment --comment "kubernetes load balancer firewall" -j KUBE-PROXY-FIREWALL
-A KUBE-FORWARD -m conntrack --ctstate INVALID -j DROP
-A KUBE-FORWARD -m comment --comment "kubernetes forwarding rules" -m mark --mark 0x4000/0x4000 -j ACCEPT
-A KUBE-FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A KUBE-SERVICES -d %[2]s -p tcp -m comment --comment "d/none has no endpoints" -m tcp --dport 81 -j REJECT
COMMIT
`

// inIPVS is what kube-proxy has in iptables in IPVS mode, shortened: what leads
// there, and rules that use its sets.
const inIPVS = `*nat
:KUBE-LOAD-BALANCER - [0:0]
:KUBE-MARK-MASQ - [0:0]
:KUBE-NODE-PORT - [0:0]
:KUBE-POSTROUTING - [0:0]
:KUBE-SERVICES - [0:0]
-I PREROUTING -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
-I OUTPUT -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
-I POSTROUTING -m comment --comment "kubernetes postrouting rules" -j KUBE-POSTROUTING
-A KUBE-SERVICES -m set --match-set %[1]sCLUSTER-IP dst,dst -j ACCEPT
-A KUBE-SERVICES -m addrtype --dst-type LOCAL -j KUBE-NODE-PORT
-A KUBE-SERVICES -j KUBE-LOAD-BALANCER
-A KUBE-LOAD-BALANCER -j KUBE-MARK-MASQ
-A KUBE-NODE-PORT -p tcp -m set --match-set %[1]sNODE-PORT-TCP dst -j KUBE-MARK-MASQ
COMMIT
*filter
:KUBE-FORWARD - [0:0]
:KUBE-IPVS-FILTER - [0:0]
:KUBE-IPVS-OUT-FILTER - [0:0]
:KUBE-NODE-PORT - [0:0]
:KUBE-PROXY-FIREWALL - [0:0]
:KUBE-SOURCE-RANGES-FIREWALL - [0:0]
-I INPUT -m comment --comment "kubernetes ipvs access filter" -j KUBE-IPVS-FILTER
-I INPUT -m comment --comment "kube-proxy firewall rules" -j KUBE-PROXY-FIREWALL
-I INPUT -m comment --comment "kubernetes health check rules" -j KUBE-NODE-PORT
-I FORWARD -m comment --comment "kube-proxy firewall rules" -j KUBE-PROXY-FIREWALL
-I FORWARD -m comment --comment "kubernetes forwarding rules" -j KUBE-FORWARD
-I OUTPUT -m comment --comment "kubernetes ipvs access filter" -j KUBE-IPVS-OUT-FILTER
-A KUBE-IPVS-FILTER -m set --match-set %[1]sIPVS-IPS dst -m conntrack --ctstate NEW -j REJECT
-A KUBE-PROXY-FIREWALL -j KUBE-SOURCE-RANGES-FIREWALL
COMMIT
`

// inNFTables is what kube-proxy has in nftables mode, shortened.
const inNFTables = `table %[1]s kube-proxy {
	comment "rules for kube-proxy"
	map service-ips { type %[2]s . inet_proto . inet_service : verdict; elements = { %[3]s . tcp . 80 : goto service-ULMVA6XW-d/web/tcp/http } }
	chain service-ULMVA6XW-d/web/tcp/http { meta mark set mark or 0x4000; meta l4proto tcp dnat to %[4]s; }
	chain services { %[1]s daddr . meta l4proto . th dport vmap @service-ips; }
	chain nat-prerouting { type nat hook prerouting priority -100; jump services; }
	chain nat-output { type nat hook output priority -100; jump services; }
	chain nat-postrouting { type nat hook postrouting priority 100; mark and 0x4000 != 0 masquerade fully-random; }
}
`

// othersNFTables is what others have in nftables.
const othersNFTables = `table inet kube-proxy {
	chain c { type filter hook input priority 0; counter packets 3 bytes 180 accept; }
}
table ip kube-proxy-2 {
	chain KUBE-SERVICES { drop; }
}
table ip6 mine {
	chain KUBE-SERVICES { return; }
	chain nat-output { type nat hook output priority -150; jump KUBE-SERVICES; }
}
`

// family is what is different from one to the other.
type family struct {
	service.Family
	program              string
	clusterIP, vip       string
	endpoint             string
	nft, addr, setPrefix string
}

func families() []family {
	return []family{
		{service.IPv4, "iptables", "10.96.0.1", "192.0.2.1", "10.0.0.1:8080", "ip", "ipv4_addr", "KUBE-"},
		{service.IPv6, "ip6tables", "fd00::1", "2001:db8::1", "[fd01::1]:8080", "ip6", "ipv6_addr", "KUBE-6-"},
	}
}

func (f family) iptables() string { return fmt.Sprintf(inIPTables, f.clusterIP, f.vip, f.endpoint) }

func (f family) nftables() string {
	return fmt.Sprintf(inNFTables, f.nft, f.addr, f.clusterIP, f.endpoint)
}

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

// createSets makes kube-proxy's sets of a family, and fills them: of a ClusterIP
// 10.96.0.1:80 or [fd00::1]:80, a node port 30080, an address of IPVS.
func createSets(t *testing.T, prefix string) {
	t.Helper()
	family, addr := uint8(unix.AF_INET), net.IPv4(10, 96, 0, 1).To4()
	if prefix == "KUBE-6-" {
		family, addr = unix.AF_INET6, net.ParseIP("fd00::1")
	}
	if prefix == "MINE" {
		prefix = "MY-KUBE-"
	}
	tcp, port, nodePort := uint8(unix.IPPROTO_TCP), uint16(80), uint16(30080)
	for _, set := range []struct {
		name, kind string
		options    netlink.IpsetCreateOptions
		entry      netlink.IPSetEntry
	}{
		{"CLUSTER-IP", "hash:ip,port", netlink.IpsetCreateOptions{Family: family, Revision: 5}, netlink.IPSetEntry{IP: addr, Port: &port, Protocol: &tcp}},
		{"NODE-PORT-TCP", "bitmap:port", netlink.IpsetCreateOptions{PortTo: 65535, Revision: 3}, netlink.IPSetEntry{}},
		{"IPVS-IPS", "hash:ip", netlink.IpsetCreateOptions{Family: family, Revision: 4}, netlink.IPSetEntry{IP: addr}},
	} {
		if err := netlink.IpsetCreate(prefix+set.name, set.kind, set.options); err != nil {
			t.Fatalf("create %s%s: %v", prefix, set.name, err)
		}
		if set.kind == "bitmap:port" {
			addPort(t, prefix+set.name, nodePort)
			continue
		}
		if err := netlink.IpsetAdd(prefix+set.name, &set.entry); err != nil {
			t.Fatalf("add to %s%s: %v", prefix, set.name, err)
		}
	}
}

// addPort adds to a set of ports, which netlink cannot do: it names a protocol.
func addPort(t *testing.T, set string, port uint16) {
	t.Helper()
	const cmdAdd, attrData = 9, 7
	var data, e encoder
	data.bytes(ipsetElemPort|unix.NLA_F_NET_BYTEORDER, binary.BigEndian.AppendUint16(nil, port))
	e.bytes(ipsetAttrProto, []byte{ipsetProtocol})
	e.string(ipsetAttrName, set)
	e.bytes(attrData|unix.NLA_F_NESTED, data)
	conn, err := dial(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.Execute(message(unix.NFNL_SUBSYS_IPSET, cmdAdd, mdlayher.Acknowledge, unix.AF_INET, e)); err != nil {
		t.Fatalf("add a port to %s: %v", set, err)
	}
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
