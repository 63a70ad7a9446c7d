package layer2

import (
	"errors"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"
)

// groupsPerSocket keeps a socket's memberships, 64 bytes each, within
// net.core.optmem_max of kernels before 6.6 (20 KiB).
const groupsPerSocket = 256

// groups are the solicited-node multicast groups that a link has joined for
// our addresses, so that the interface and snooping switches pass their
// solicitations. Addresses with the same low 24 bits share one.
type groups struct {
	link    int // index
	joined  map[netip.Addr]*groupSocket
	sockets []*groupSocket
}

type groupSocket struct {
	fd   int
	size int // groups joined through it
}

func newGroups(link int) *groups {
	return &groups{link: link, joined: map[netip.Addr]*groupSocket{}}
}

// set joins the groups of addrs and leaves all others. It returns the groups
// that could not be joined.
func (g *groups) set(addrs addrSet) (map[netip.Addr]struct{}, error) {
	need := make(map[netip.Addr]struct{}, len(addrs))
	for a := range addrs {
		need[solicitedNode(a)] = struct{}{}
	}
	var leaveErr, joinErr error // the last of each: there may be thousands
	for group := range g.joined {
		if _, ok := need[group]; !ok {
			if err := g.leave(group); err != nil {
				leaveErr = fmt.Errorf("leave multicast groups: %w", err)
			}
		}
	}
	failed := map[netip.Addr]struct{}{}
	for group := range need {
		if _, ok := g.joined[group]; ok {
			continue
		}
		if err := g.join(group); err != nil {
			failed[group] = struct{}{}
			joinErr = fmt.Errorf("join %d multicast groups: %w", len(failed), err)
		}
	}
	return failed, errors.Join(leaveErr, joinErr)
}

func (g *groups) join(group netip.Addr) error {
	s, err := g.socket()
	if err != nil {
		return err
	}
	if err := unix.SetsockoptIPv6Mreq(s.fd, unix.IPPROTO_IPV6, unix.IPV6_JOIN_GROUP, g.request(group)); err != nil {
		return err
	}
	s.size++
	g.joined[group] = s
	return nil
}

func (g *groups) leave(group netip.Addr) error {
	s := g.joined[group]
	delete(g.joined, group)
	if err := unix.SetsockoptIPv6Mreq(s.fd, unix.IPPROTO_IPV6, unix.IPV6_LEAVE_GROUP, g.request(group)); err != nil {
		return err
	}
	s.size--
	return nil
}

func (g *groups) close() {
	for _, s := range g.sockets {
		_ = unix.Close(s.fd) // leaves its groups; nothing depends on the error
	}
	g.sockets, g.joined = nil, nil
}

// socket returns one with room for a group. It is never bound or read.
func (g *groups) socket() (*groupSocket, error) {
	for _, s := range g.sockets {
		if s.size < groupsPerSocket {
			return s, nil
		}
	}
	fd, err := unix.Socket(unix.AF_INET6, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open socket: %w", err)
	}
	s := &groupSocket{fd: fd}
	g.sockets = append(g.sockets, s)
	return s, nil
}

func (g *groups) request(group netip.Addr) *unix.IPv6Mreq {
	return &unix.IPv6Mreq{Multiaddr: group.As16(), Interface: uint32(g.link)}
}

// solicitedNode returns the group ff02::1:ffXX:XXXX of an IPv6 address
// (RFC 4291, 2.7.1).
func solicitedNode(a netip.Addr) netip.Addr {
	b := a.As16()
	return netip.AddrFrom16([16]byte{0: 0xff, 1: 0x02, 11: 0x01, 12: 0xff, 13: b[13], 14: b[14], 15: b[15]})
}
