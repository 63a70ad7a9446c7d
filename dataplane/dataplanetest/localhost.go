package dataplanetest

import (
	"encoding/binary"
	"net"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	corev1 "k8s.io/api/core/v1"

	"github.com/fairway-lb/fairway/dataplane/service"
)

const routeLocalnet = "/proc/sys/net/ipv4/conf/all/route_localnet"

// NodePorts answer processes of the node at its loopback, which nobody else
// reaches for that.
func testLocalhostNodePorts(t *testing.T, subject Subject) {
	if subject.NoLocalhostNodePorts {
		config := WithPods
		config.LocalhostNodePorts = true
		if _, err := subject.New(config); err == nil || !strings.Contains(err.Error(), "localhost") {
			t.Errorf("got %v, want an error about localhost", err)
		}
		return
	}
	for what, edit := range map[string]func(*corev1.ServiceSpec){"Cluster": nil, "Local": PolicyLocal} {
		t.Run(what, func(t *testing.T) {
			config := WithPods
			config.LocalhostNodePorts = true
			// They are no addresses for others.
			config.NodePortAddresses = Prefixes("192.168.9.0/24")
			c := subject.NewScene(t, config, edit, OnPod1, OnRemote)
			must(t, os.WriteFile(routeLocalnet, []byte("1"), 0o644))
			t.Cleanup(func() { must(t, os.WriteFile(routeLocalnet, []byte("0"), 0o644)) })
			loopback := [2]netip.Addr{netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("127.1.2.3")}
			v6 := netip.MustParseAddr("::1")
			c.Ask("loopback", c.Node, loopback, c.NodePort(), Translated, "pod1", "remote")
			c.Ask("IPv6", c.Node, [2]netip.Addr{v6, v6}, c.NodePort(), "", Reject)
			c.Ask("no NodePort", c.Node, loopback, c.NodePort()+1, "", Reject)
			c.testMartians(loopback[1], c.Client.Addrs[0])
			c.testMartians(loopback[1], loopback[0].Next())
			c.testMartians(netip.MustParseAddr("192.168.9.1"), loopback[0].Next())
			c.Set()
			c.forgetFlows()
			c.Ask("without endpoints", c.Node, loopback, c.NodePort(), "", Reject)
		})
	}
}

// testMartians sends the node a datagram with an address of the loopback from
// outside, which it may not take, and then another that it takes.
func (c *Scene) testMartians(to, from netip.Addr) {
	t := c.T
	t.Helper()
	const port = 9999
	conn, err := net.ListenUDP("udp4", &net.UDPAddr{Port: port})
	must(t, err)
	defer conn.Close()
	must(t, conn.SetDeadline(time.Now().Add(patienceWithBackend)))
	near, err := netlink.LinkByName(c.Client.Name)
	must(t, err)
	must(t, onThread(c.Client.handle, func() error {
		far, err := netlink.LinkByName("eth0")
		if err != nil {
			return err
		}
		fd, err := syscall.Socket(syscall.AF_PACKET, syscall.SOCK_DGRAM, 0)
		if err != nil {
			return err
		}
		defer syscall.Close(fd)
		link := syscall.SockaddrLinklayer{Protocol: 8, Ifindex: far.Attrs().Index, Halen: 6} // ETH_P_IP in network byte order
		copy(link.Addr[:], near.Attrs().HardwareAddr)
		for _, packet := range [][]byte{
			datagram(from, to, port, "martian"),
			datagram(c.Client.Addrs[0], netip.MustParseAddr("192.168.9.1"), port, "good"),
		} {
			if err := syscall.Sendto(fd, packet, 0, &link); err != nil {
				return err
			}
		}
		return nil
	}))
	buffer := make([]byte, 100)
	n, _, err := conn.ReadFromUDP(buffer)
	must(t, err)
	if got := string(buffer[:n]); got != "good" {
		t.Errorf("the node took a %s datagram from %v to %v from outside", got, from, to)
	}
}

// datagram is a packet of IPv4 and UDP, without a checksum of the latter.
func datagram(from, to netip.Addr, port uint16, data string) []byte {
	p := make([]byte, 28, 28+len(data))
	p[0], p[8], p[9] = 0x45, 64, byte(service.UDP)
	binary.BigEndian.PutUint16(p[2:], uint16(28+len(data)))
	copy(p[12:], from.AsSlice())
	copy(p[16:], to.AsSlice())
	binary.BigEndian.PutUint16(p[10:], ^sum(0, p[:20]))
	binary.BigEndian.PutUint16(p[20:], port)
	binary.BigEndian.PutUint16(p[22:], port)
	binary.BigEndian.PutUint16(p[24:], uint16(8+len(data)))
	return append(p, data...)
}

// sum adds to the sum of an Internet checksum (RFC 1071).
func sum(start uint16, data []byte) uint16 {
	total := uint32(start)
	for i := 0; i < len(data); i += 2 {
		word := uint32(data[i]) << 8
		if i+1 < len(data) {
			word |= uint32(data[i+1])
		}
		total += word
	}
	for total > 0xffff {
		total = total>>16 + total&0xffff
	}
	return uint16(total)
}
