package sysctl

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestWanted is the settings of nodes, as sysctl(8) would write them; >= is one
// that is never lowered, ! one that is required.
func TestWanted(t *testing.T) {
	common := func(room int) []string {
		return []string{
			"net.ipv4.ip_forward=1!",
			fmt.Sprintf("net.netfilter.nf_conntrack_max>=%d", room),
			fmt.Sprintf("/sys/module/nf_conntrack/parameters/hashsize>=%d", room/4),
			"net.netfilter.nf_conntrack_tcp_timeout_established=86400",
			"net.netfilter.nf_conntrack_tcp_timeout_close_wait=3600",
		}
	}
	const floor = 131072
	vs := []string{
		"net.ipv4.vs.conntrack=1!", "net.ipv4.vs.expire_nodest_conn=1", "net.ipv4.vs.expire_quiescent_template=1",
		"net.ipv4.conf.all.arp_ignore=1!", "net.ipv4.conf.all.arp_announce=2!",
	}
	for _, test := range []struct {
		name    string
		node    Node
		options Options
		want    []string
	}{
		{"plain", Node{CPUs: 2}, Options{}, common(floor)},
		{"no CPU known", Node{}, Options{}, common(floor)},
		{"more than the floor", Node{CPUs: 5}, Options{}, common(163840)},
		{"at the cap", Node{CPUs: 32}, Options{}, common(1048576)},
		{"beyond", Node{CPUs: 512}, Options{}, common(1048576)},
		{"IPv6", Node{}, Options{IPv6: true}, slices.Insert(common(floor), 1, "net.ipv6.conf.all.forwarding=1!")},
		{"IPv6 from a router", Node{Learned: []string{"eth0", "eth1.5"}}, Options{IPv6: true}, slices.Insert(common(floor), 1,
			"net.ipv6.conf.eth0.accept_ra=2!", "net/ipv6/conf/eth1.5/accept_ra=2! after net.ipv6.conf.eth0.accept_ra",
			"net.ipv6.conf.all.forwarding=1! after net/ipv6/conf/eth1.5/accept_ra")},
		{"a router, without IPv6", Node{Learned: []string{"eth0"}}, Options{}, common(floor)},
		{"options", Node{}, Options{LocalhostNodePorts: true, TCPBeLiberal: true, UDPTimeout: 10 * time.Second, UDPStreamTimeout: time.Millisecond},
			append(common(floor), "net.netfilter.nf_conntrack_udp_timeout=10", "net.netfilter.nf_conntrack_udp_timeout_stream=1",
				"net.netfilter.nf_conntrack_tcp_be_liberal=1", "net.ipv4.conf.all.route_localnet=1")},
		{"negative", Node{}, Options{UDPTimeout: -time.Second}, common(floor)},
		{"IPVS", Node{Kernel: Version{6, 1}}, Options{IPVS: true}, append(common(floor), vs...)},
		{"IPVS 5.9", Node{Kernel: Version{5, 9}}, Options{IPVS: true}, append(common(floor), vs...)},
		{"IPVS 5.8", Node{Kernel: Version{5, 8}}, Options{IPVS: true}, append(common(floor), append(vs, "net.ipv4.vs.conn_reuse_mode=0")...)},
		{"IPVS 4.1", Node{Kernel: Version{4, 1}}, Options{IPVS: true}, append(common(floor), append(vs, "net.ipv4.vs.conn_reuse_mode=0")...)},
		{"IPVS 4.0", Node{Kernel: Version{4, 0}}, Options{IPVS: true}, append(common(floor), vs...)},
		{"IPVS 3.10", Node{Kernel: Version{3, 10}}, Options{IPVS: true}, append(common(floor), vs...)},
	} {
		t.Run(test.name, func(t *testing.T) {
			var got []string
			for _, s := range Wanted(test.node, test.options) {
				text := s.Name() + map[bool]string{true: ">=", false: "="}[s.AtLeast] + fmt.Sprint(s.Value)
				if s.Required {
					text += "!"
				}
				if s.Needs != "" {
					text += " after " + Setting{Path: s.Needs}.Name()
				}
				if s.Why == "" || strings.HasPrefix(s.Path, "/") {
					t.Errorf("%s: why %q, path %s", text, s.Why, s.Path)
				}
				got = append(got, text)
			}
			if !slices.Equal(got, test.want) {
				t.Errorf("wanted is\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(test.want, "\n"))
			}
		})
	}
}
