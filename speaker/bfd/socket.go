package bfd

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"strconv"

	"golang.org/x/sys/unix"
)

const (
	// singleHopPort and multihopPort are where control packets are received (RFC
	// 5881, 4; RFC 5883, 5).
	singleHopPort, multihopPort = 3784, 4784
	// Source ports (RFC 5881, 4).
	firstSourcePort, sourcePorts = 49152, 65536 - 49152
	// maxTTL is what every packet is sent with. One that has been forwarded has
	// less (RFC 5881, 5).
	maxTTL = 255
	// networkControl is DSCP CS6 (RFC 4594, 3.2) as TOS or traffic class: a queue
	// that is full of traffic is no lost path.
	networkControl = 48 << 2
	// receiveBuffer is asked of the kernel, which takes the double, and counts at
	// least 768 bytes for a packet: the queue holds less than 700.
	receiveBuffer = 256 << 10
	// roundLimit is more than the queue of a socket can hold, so that whoever has
	// read as many has read all that was there at the beginning.
	roundLimit = 1024
)

// kind is what a listening socket receives.
type kind struct{ ipv6, multihop bool }

func (k Key) kind() kind { return kind{ipv6: k.Neighbor.Is6(), multihop: k.Multihop} }

func (k kind) port() int {
	if k.multihop {
		return multihopPort
	}
	return singleHopPort
}

func (k kind) domain() int {
	if k.ipv6 {
		return unix.AF_INET6
	}
	return unix.AF_INET
}

// listen opens the socket that receives all control packets of a kind. The port
// is not shared: with two sockets on it, the kernel would give all packets to
// one of them.
func listen(k kind) (int, error) {
	options := []option{
		{unix.IPPROTO_IP, unix.IP_RECVTTL, 1},
		{unix.IPPROTO_IP, unix.IP_PKTINFO, 1},
	}
	if k.ipv6 {
		options = []option{
			{unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 1},
			{unix.IPPROTO_IPV6, unix.IPV6_RECVHOPLIMIT, 1},
			{unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO, 1},
		}
	}
	options = append(options, option{unix.SOL_SOCKET, unix.SO_RCVBUF, receiveBuffer})
	fd, err := openUDP(k, options)
	if err != nil {
		return -1, err
	}
	if err = unix.Bind(fd, sockaddr(netip.Addr{}, k.port(), 0, k)); err == nil {
		return fd, nil
	}
	if errors.Is(err, unix.EADDRINUSE) {
		err = fmt.Errorf("%w: another BFD daemon runs on this node", err)
	}
	return -1, errors.Join(fmt.Errorf("listen on UDP port %d: %w", k.port(), err), unix.Close(fd))
}

// dial opens the socket that a session sends from, on a port of its own. What it
// receives is never read: the neighbor sends to the port of its kind.
func dial(key Key, ifindex int) (int, error) {
	k := key.kind()
	options := []option{
		{unix.IPPROTO_IP, unix.IP_TTL, maxTTL},
		{unix.IPPROTO_IP, unix.IP_TOS, networkControl},
	}
	if k.ipv6 {
		options = []option{
			{unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 1},
			{unix.IPPROTO_IPV6, unix.IPV6_UNICAST_HOPS, maxTTL},
			{unix.IPPROTO_IPV6, unix.IPV6_TCLASS, networkControl},
		}
	}
	options = append(options, option{unix.SOL_SOCKET, unix.SO_RCVBUF, 0})
	fd, err := openUDP(k, options)
	if err != nil {
		return -1, err
	}
	start := rand.IntN(sourcePorts)
	for i := range sourcePorts {
		port := firstSourcePort + (start+i)%sourcePorts
		if err = unix.Bind(fd, sockaddr(key.Local, port, ifindex, k)); !errors.Is(err, unix.EADDRINUSE) {
			break
		}
	}
	switch {
	case err == nil:
		return fd, nil
	case errors.Is(err, unix.EADDRNOTAVAIL):
		err = fmt.Errorf("local address %v is on no interface of this node: %w", key.Local, err)
	default:
		err = fmt.Errorf("bind to a source port: %w", err)
	}
	return -1, errors.Join(err, unix.Close(fd))
}

type option struct{ level, name, value int }

func openUDP(k kind, options []option) (int, error) {
	fd, err := unix.Socket(k.domain(), unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, unix.IPPROTO_UDP)
	if err != nil {
		return -1, fmt.Errorf("open UDP socket: %w", err)
	}
	for _, o := range options {
		if err := unix.SetsockoptInt(fd, o.level, o.name, o.value); err != nil {
			return -1, errors.Join(fmt.Errorf("set option %d of UDP socket to %d: %w", o.name, o.value, err), unix.Close(fd))
		}
	}
	return fd, nil
}

// sockaddr of an address, where the zero value is the unspecified one.
func sockaddr(a netip.Addr, port, ifindex int, k kind) unix.Sockaddr {
	if !k.ipv6 {
		sa := &unix.SockaddrInet4{Port: port}
		if a.IsValid() {
			sa.Addr = a.As4()
		}
		return sa
	}
	sa := &unix.SockaddrInet6{Port: port}
	if a.IsValid() {
		sa.Addr = a.As16()
	}
	if a.IsLinkLocalUnicast() {
		sa.ZoneId = uint32(ifindex)
	}
	return sa
}

// zoneIndex is the index of the interface that a link-local address names, 0 for
// others.
func zoneIndex(a netip.Addr) (int, error) {
	zone := a.Zone()
	if zone == "" {
		return 0, nil
	}
	link, err := net.InterfaceByName(zone)
	if err == nil {
		return link.Index, nil
	}
	if index, notNumber := strconv.Atoi(zone); notNumber == nil {
		return index, nil
	}
	return 0, fmt.Errorf("find interface %s: %w", zone, err)
}
