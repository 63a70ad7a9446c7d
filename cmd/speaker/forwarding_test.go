package main

import (
	"fmt"
	"net/netip"
	"reflect"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/fairway-lb/fairway/dataplane"
)

func TestForwardingCheck(t *testing.T) {
	for _, test := range []struct {
		what  string
		flags forwarding
		want  string
	}{
		{"the defaults", forwarding{dataplane: "auto", detectLocal: "pod-cidr"}, ""},
		{"all of it", forwarding{dataplane: "iptables", detectLocal: "10.0.0.0/8, fd00::/8", nodePortAddresses: "primary"}, ""},
		{"interfaces", forwarding{dataplane: "nftables", detectLocal: "interface-prefix=cali", nodePortAddresses: "192.0.2.0/24,2001:db8::/64"}, ""},
		{"a dataplane that there is not", forwarding{dataplane: "ebpf", detectLocal: "none"}, `--dataplane "ebpf": must be auto, none, nftables, iptables or ipvs`},
		{"IPVS", forwarding{dataplane: "ipvs", detectLocal: "none", ipvsScheduler: "mh"}, ""},
		{"a scheduler that there is not", forwarding{dataplane: "ipvs", detectLocal: "none", ipvsScheduler: "best"}, `--ipvs-scheduler "best": must be one of rr, wrr,`},
		{"IPVS at localhost", forwarding{dataplane: "ipvs", detectLocal: "none", localhost: true}, `--localhost-nodeports: IPVS does not forward`},
		{"no name", forwarding{dataplane: "auto", detectLocal: "bridge="}, `--detect-local "bridge=": a name has to follow`},
		{"another way", forwarding{dataplane: "auto", detectLocal: "vlan=7"}, `there are interface-prefix and bridge, not vlan`},
		{"no CIDR", forwarding{dataplane: "auto", detectLocal: "10.0.0.1"}, `"10.0.0.1" is not a CIDR such as 192.0.2.0/24`},
		{"no CIDR of NodePorts", forwarding{dataplane: "auto", detectLocal: "none", nodePortAddresses: "eth0"}, `--nodeport-addresses "eth0": "eth0" is not a CIDR`},
	} {
		if test.flags.ipvsScheduler == "" {
			test.flags.ipvsScheduler = "rr"
		}
		err := test.flags.check()
		if test.want == "" && err != nil || test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
			t.Errorf("%s: got %v, want %q", test.what, err, test.want)
		}
	}
}

func TestDetector(t *testing.T) {
	node := &corev1.Node{Spec: corev1.NodeSpec{PodCIDRs: []string{"10.244.1.0/24", "fd00:10:244:1::/64"}}}
	for text, want := range map[string]dataplane.Detector{
		"pod-cidr":              {CIDRs: []netip.Prefix{netip.MustParsePrefix("10.244.1.0/24"), netip.MustParsePrefix("fd00:10:244:1::/64")}},
		"10.0.0.7/8":            {CIDRs: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}},
		"interface-prefix=cali": {InterfacePrefix: "cali"},
		"bridge=cni0":           {Bridge: "cni0"},
		"none":                  {},
	} {
		f := forwarding{detectLocal: text}
		if got, err := f.detector(node); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: got %v, %v", text, got, err)
		}
	}
}

func TestNodePorts(t *testing.T) {
	internal := []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")}
	for text, want := range map[string]string{
		"":                          "[]",
		"primary":                   "[192.0.2.1/32 2001:db8::1/128]",
		"10.1.0.0/16, 192.0.2.9/24": "[10.1.0.0/16 192.0.2.0/24]",
	} {
		f := forwarding{nodePortAddresses: text}
		got, err := f.nodePorts(internal)
		if text := fmt.Sprint(got); err != nil || text != want {
			t.Errorf("%q: got %v, %v, want %v", f.nodePortAddresses, text, err, want)
		}
	}
}
