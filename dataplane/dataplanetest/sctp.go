package dataplanetest

import (
	"encoding/binary"
	"hash/crc32"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/fairway-lb/fairway/dataplane/service"
)

// SCTP is spoken by hand, on raw sockets: a kernel may have no sockets of it
// and still translate its packets. A client asks by an INIT, and who answers
// says so in the cookie of an INIT ACK (RFC 9260, section 3.3).

// The chunks and their parts.
const (
	sctpInit    = 1
	sctpInitAck = 2
	sctpCookie  = 7 // a parameter
	sctpHeader  = 12
	sctpFixed   = 20 // the chunk without parameters
)

var sctpNetworks = [2]string{"ip4:132", "ip6:132"}

// sctpPacket is an INIT, or an INIT ACK with a cookie.
func sctpPacket(source, destination uint16, kind byte, tag uint32, cookie string) []byte {
	p := make([]byte, sctpHeader+sctpFixed, sctpHeader+sctpFixed+4+len(cookie))
	binary.BigEndian.PutUint16(p, source)
	binary.BigEndian.PutUint16(p[2:], destination)
	binary.BigEndian.PutUint32(p[4:], tag)
	p[12] = kind
	binary.BigEndian.PutUint32(p[16:], uint32(source)<<16|uint32(destination)) // its own tag
	binary.BigEndian.PutUint32(p[20:], 1<<16)                                  // window
	binary.BigEndian.PutUint16(p[24:], 1)                                      // streams
	binary.BigEndian.PutUint16(p[26:], 1)
	if cookie != "" {
		p = binary.BigEndian.AppendUint16(p, sctpCookie)
		p = binary.BigEndian.AppendUint16(p, uint16(4+len(cookie)))
		p = append(p, cookie...)
	}
	binary.BigEndian.PutUint16(p[14:], uint16(len(p)-sctpHeader))
	for len(p)%4 != 0 {
		p = append(p, 0)
	}
	binary.LittleEndian.PutUint32(p[8:], crc32.Checksum(p, crc32.MakeTable(crc32.Castagnoli)))
	return p
}

// readSCTP returns what is in a packet whose chunk is of a kind and whose
// checksum is right.
func readSCTP(p []byte, want byte) (source, destination uint16, tag uint32, cookie string, ok bool) {
	if len(p) < sctpHeader+sctpFixed || p[12] != want {
		return 0, 0, 0, "", false
	}
	sum := binary.LittleEndian.Uint32(p[8:])
	unsummed := append([]byte(nil), p...)
	clear(unsummed[8:12])
	if crc32.Checksum(unsummed, crc32.MakeTable(crc32.Castagnoli)) != sum {
		return 0, 0, 0, "", false
	}
	if rest := p[sctpHeader+sctpFixed:]; len(rest) > 4 {
		if n := int(binary.BigEndian.Uint16(rest[2:])); n >= 4 && n <= len(rest) {
			cookie = string(rest[4:n])
		}
	}
	tag = binary.BigEndian.Uint32(p[16:])
	return binary.BigEndian.Uint16(p), binary.BigEndian.Uint16(p[2:]), tag, cookie, true
}

// listenSCTP answers every INIT to ServerPort.
func (l *Lab) listenSCTP(h *Host) {
	for _, network := range sctpNetworks {
		var conn *net.IPConn
		must(l.T, onThread(h.handle, func() (err error) {
			conn, err = net.ListenIP(network, nil)
			return err
		}))
		l.T.Cleanup(func() { conn.Close() })
		go func() {
			buffer := make([]byte, 1500)
			for {
				n, from, err := conn.ReadFrom(buffer)
				if err != nil {
					return
				}
				source, destination, tag, _, ok := readSCTP(buffer[:n], sctpInit)
				if ok && destination == ServerPort {
					conn.WriteTo(sctpPacket(destination, source, sctpInitAck, tag, h.Name+" "+from.String()), from)
				}
			}
		}()
	}
}

// dialSCTP asks who is at an address.
func (h *Host) dialSCTP(to netip.AddrPort, patience time.Duration) Answer {
	var conn *net.IPConn
	err := onThread(h.handle, func() (err error) {
		// Connected, so that the kernel hands over ICMP errors.
		conn, err = net.DialIP(sctpNetworks[service.FamilyOf(to.Addr())], nil, &net.IPAddr{IP: to.Addr().AsSlice()})
		return err
	})
	if err != nil {
		return Answer{Who: err.Error()}
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return Answer{Who: err.Error()}
	}
	port := h.newPort(service.SCTP, to)
	var answer Answer
	_, err = exchange(conn, sctpPacket(port, to.Port(), sctpInit, 0, ""), func(data []byte) bool {
		source, destination, _, cookie, ok := readSCTP(data, sctpInitAck)
		who, from, _ := strings.Cut(cookie, " ")
		addr, _ := netip.ParseAddr(from)
		answer = Answer{who, addr}
		return ok && source == to.Port() && destination == port
	})
	if err != nil {
		return failure(err)
	}
	return answer
}

// WithSCTP adds a port 80 of SCTP to those of TCP and UDP.
func WithSCTP(spec *corev1.ServiceSpec) {
	p := spec.Ports[0]
	p.Name, p.Protocol = string(corev1.ProtocolSCTP), corev1.ProtocolSCTP
	spec.Ports = append(spec.Ports, p)
}

func testSCTP(t *testing.T, subject Subject) {
	t.Run("Cluster", func(t *testing.T) {
		c := subject.NewScene(t, WithPods, WithSCTP, OnPod1, OnRemote)
		for _, from := range []*Host{c.Pod3, c.Node, c.Client} {
			source := Own
			if from != c.Pod3 {
				source = Translated
			}
			c.AskBy("Cluster", service.SCTP, from, c.ClusterIP(), 80, source, "pod1", "remote")
			c.AskBy("Cluster", service.SCTP, from, c.VIP(), 80, Translated, "pod1", "remote")
			c.AskBy("Cluster", service.SCTP, from, c.ExternalIP(), 80, Translated, "pod1", "remote")
			c.AskBy("Cluster", service.SCTP, from, c.Node.Addrs, c.NodePort(), Translated, "pod1", "remote")
		}
		c.Set()
		c.forgetFlows()
		for _, from := range []*Host{c.Pod3, c.Node, c.Client} {
			c.AskBy("without endpoints", service.SCTP, from, c.ClusterIP(), 80, "", Reject)
			c.AskBy("without endpoints", service.SCTP, from, c.VIP(), 80, "", Reject)
			c.AskBy("without endpoints", service.SCTP, from, c.Node.Addrs, c.NodePort(), "", Reject)
		}
	})
	t.Run("Local", func(t *testing.T) {
		both := func(spec *corev1.ServiceSpec) {
			WithSCTP(spec)
			PolicyLocal(spec)
			spec.InternalTrafficPolicy = new(corev1.ServiceInternalTrafficPolicyLocal)
		}
		c := subject.NewScene(t, WithPods, both, OnPod1, OnRemote)
		c.AskBy("Local", service.SCTP, c.Pod3, c.ClusterIP(), 80, Own, "pod1")
		c.AskBy("hairpin", service.SCTP, c.Pod1, c.ClusterIP(), 80, Translated, "pod1")
		c.AskBy("Local", service.SCTP, c.Client, c.VIP(), 80, Own, "pod1")
		c.AskBy("Local", service.SCTP, c.Client, c.Node.Addrs, c.NodePort(), Own, "pod1")
		c.AskBy("Local, from the node", service.SCTP, c.Node, c.VIP(), 80, Translated, "pod1", "remote")
		c.Set(OnRemote(c.Lab))
		c.forgetFlows()
		c.Together(func() {
			c.AskBy("Local, but remote", service.SCTP, c.Pod3, c.ClusterIP(), 80, "", Drop)
			c.AskBy("Local, but remote", service.SCTP, c.Client, c.VIP(), 80, "", Drop)
			c.AskBy("Local, but remote", service.SCTP, c.Client, c.Node.Addrs, c.NodePort(), "", Drop)
		})
	})
}

// Services of several protocols share addresses and port numbers.
func testMixedProtocols(t *testing.T, subject Subject) {
	of := func(protocol corev1.Protocol) func(*corev1.ServiceSpec) {
		return func(spec *corev1.ServiceSpec) {
			spec.Ports[0].Name, spec.Ports[0].Protocol = string(protocol), protocol
			spec.Ports = spec.Ports[:1]
		}
	}
	c := subject.NewScene(t, WithPods, of(corev1.ProtocolTCP), OnPod1)
	for i, other := range []struct {
		protocol corev1.Protocol
		endpoint Endpoint
	}{{corev1.ProtocolUDP, OnPod2(c.Lab)}, {corev1.ProtocolSCTP, OnRemote(c.Lab)}} {
		f := Frontends{2 + i}
		svc := NewService(f, of(other.protocol))
		svc.Spec.Ports[0].NodePort = int32(c.NodePort())
		first := NewService(c.Frontends, nil)
		svc.Status, svc.Spec.ExternalIPs = first.Status, first.Spec.ExternalIPs
		c.State.SetService(svc)
		SetEndpoints(c.State, f, other.endpoint)
	}
	Sync(t, c.Backend, c.State)
	for protocol, who := range map[service.Protocol]string{service.TCP: "pod1", service.UDP: "pod2", service.SCTP: "remote"} {
		c.AskBy("of three protocols", protocol, c.Client, c.VIP(), 80, Translated, who)
		c.AskBy("of three protocols", protocol, c.Pod3, c.ExternalIP(), 80, Translated, who)
		c.AskBy("of three protocols", protocol, c.Client, c.Node.Addrs, c.NodePort(), Translated, who)
	}
}
