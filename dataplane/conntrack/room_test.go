package conntrack

import (
	"bytes"
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"strings"
	"testing"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/fairway-lb/fairway/dataplane/service"
)

// TestFullTable has no room for another connection: those that there are go on,
// stale entries can be deleted, so that their clients are served, and whoever
// asks is told what is wrong.
func TestFullTable(t *testing.T) {
	l := newLab(t, families()[0])
	vip, one, two := at(l.vip, 53), at(l.one, 5353), at(l.two, 5353)
	l.translate(vip + " " + one)
	dns := name("dns", service.UDP, l.family)
	l.clean(0, l.set(dns, vip+" > "+one))
	listener, err := net.Listen("tcp", one)
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	conn, err := net.Dial("tcp", vip)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	server, err := listener.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	before, err := ReadRoom()
	if err != nil {
		t.Fatal(err)
	}
	if before.Entries != len(l.entries()) || before.Max < 1 {
		t.Fatalf("%d entries: %+v", len(l.entries()), before)
	}

	client := netip.MustParseAddrPort(at(l.client, 4000))
	fill(t, []netip.AddrPort{client, netip.MustParseAddrPort(vip), netip.MustParseAddrPort(one)}, 1)
	foreign := netip.MustParseAddrPort(at(l.foreign, 9))
	fill(t, []netip.AddrPort{netip.MustParseAddrPort("198.18.0.0:9"), foreign, foreign}, before.Max-before.Entries-1)
	other := l.newClient(5000)
	if _, err := other.conn.WriteToUDPAddrPort([]byte("?"), netip.MustParseAddrPort(vip)); !errors.Is(err, unix.EPERM) {
		t.Errorf("a new connection: %v", err)
	}
	after, err := ReadRoom()
	if err != nil {
		t.Fatal(err)
	}
	if after.Entries != after.Max || after.Dropped <= before.Dropped {
		t.Errorf("not full: %+v, and before %+v", after, before)
	}
	if err := after.Since(before); !errors.Is(err, errFull) || !strings.Contains(err.Error(), "Raise net.netfilter.nf_conntrack_max") {
		t.Errorf("got %v, want what helps", err)
	}
	if err := after.Since(after); err != nil {
		t.Errorf("got %v, though nothing more was dropped", err)
	}
	if _, err := conn.Write([]byte("go on")); err != nil {
		t.Error(err)
	}
	word := make([]byte, 5)
	if _, err := server.Read(word); err != nil || string(word) != "go on" {
		t.Errorf("the connection from before: %q, %v", word, err)
	}

	l.translate(vip + " " + two)
	if _, err := l.Clean(l.set(dns, vip+" > "+two)); err != nil {
		t.Error(err)
	}
	if got := l.newClient(int(client.Port())).ask(vip); got != l.two {
		t.Errorf("the client of a stale entry is answered by %s", got)
	}
}

// fill makes entries of UDP that the kernel does not drop for others: that of a
// client, a destination and an endpoint, and of as many clients as are wanted
// with the addresses that follow.
func fill(t *testing.T, flow []netip.AddrPort, count int) {
	t.Helper()
	tuple := func(kind int, from, to netip.AddrPort) *nl.RtAttr {
		tuple := nl.NewRtAttr(unix.NLA_F_NESTED|kind, nil)
		ip := tuple.AddRtAttr(unix.NLA_F_NESTED|nl.CTA_TUPLE_IP, nil)
		ip.AddRtAttr(nl.CTA_IP_V4_SRC, from.Addr().AsSlice())
		ip.AddRtAttr(nl.CTA_IP_V4_DST, to.Addr().AsSlice())
		proto := tuple.AddRtAttr(unix.NLA_F_NESTED|nl.CTA_TUPLE_PROTO, nil)
		proto.AddRtAttr(nl.CTA_PROTO_NUM, []byte{byte(service.UDP)})
		proto.AddRtAttr(nl.CTA_PROTO_SRC_PORT, binary.BigEndian.AppendUint16(nil, from.Port()))
		proto.AddRtAttr(nl.CTA_PROTO_DST_PORT, binary.BigEndian.AppendUint16(nil, to.Port()))
		return tuple
	}
	const status, answered, assured, confirmed = 3, 1 << 1, 1 << 2, 1 << 3 // CTA_STATUS, IPS_*
	request := newRequest(service.IPv4, nl.IPCTNL_MSG_CT_NEW, unix.NLM_F_CREATE|unix.NLM_F_EXCL)
	request.AddData(tuple(nl.CTA_TUPLE_ORIG, flow[0], flow[1]))
	request.AddData(tuple(nl.CTA_TUPLE_REPLY, flow[2], flow[0]))
	request.AddData(nl.NewRtAttr(status, binary.BigEndian.AppendUint32(nil, answered|assured|confirmed)))
	request.AddData(nl.NewRtAttr(nl.CTA_TIMEOUT, binary.BigEndian.AppendUint32(nil, 3600)))
	message := request.Serialize()

	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_NETFILTER)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	first := flow[0].Addr().As4()
	const most = 500 // in one packet of the socket
	for made := 0; made < count; made += most {
		var packet []byte
		for i := made; i < min(count, made+most); i++ {
			from := binary.BigEndian.AppendUint32(nil, binary.BigEndian.Uint32(first[:])+uint32(i))
			packet = append(packet, bytes.ReplaceAll(message, first[:], from)...)
		}
		if err := unix.Sendto(fd, packet, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
			t.Fatal(err)
		}
		// All is done by then, and what failed is answered.
		answer := make([]byte, 4096)
		if n, _, err := unix.Recvfrom(fd, answer, unix.MSG_DONTWAIT); !errors.Is(err, unix.EAGAIN) {
			t.Fatalf("after %d entries: %x, %v", made, answer[:max(n, 0)], err)
		}
	}
}
