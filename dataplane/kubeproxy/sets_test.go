package kubeproxy

import (
	"encoding/binary"
	"net"
	"testing"

	mdlayher "github.com/mdlayher/netlink"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

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
