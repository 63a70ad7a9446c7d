package bfd

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A datagram is what one read of a listening socket returns.
type datagram struct {
	from, to netip.Addr // without zones
	ifindex  int
	ttl      int // or hop limit
	payload  []byte
}

// reader reads datagrams into memory that the next read overwrites. It does what
// unix.Recvmsg does, without allocating.
type reader struct {
	data, control [512]byte
	from          unix.RawSockaddrAny
	vector        unix.Iovec
	header        unix.Msghdr
}

func newReader() *reader {
	r := &reader{}
	r.vector.Base = &r.data[0]
	r.vector.SetLen(len(r.data))
	r.header.Name = (*byte)(unsafe.Pointer(&r.from))
	r.header.Iov = &r.vector
	r.header.SetIovlen(1)
	r.header.Control = &r.control[0]
	return r
}

// read returns the next datagram of the socket's queue, unix.EAGAIN if it is empty.
func (r *reader) read(fd int) (datagram, error) {
	r.header.Namelen = unix.SizeofSockaddrAny
	r.header.SetControllen(len(r.control))
	n, _, errno := unix.Syscall(unix.SYS_RECVMSG, uintptr(fd), uintptr(unsafe.Pointer(&r.header)), unix.MSG_DONTWAIT)
	if errno != 0 {
		return datagram{}, errno
	}
	d := datagram{payload: r.data[:n]}
	switch r.from.Addr.Family {
	case unix.AF_INET:
		d.from = netip.AddrFrom4((*unix.RawSockaddrInet4)(unsafe.Pointer(&r.from)).Addr)
	case unix.AF_INET6:
		d.from = netip.AddrFrom16((*unix.RawSockaddrInet6)(unsafe.Pointer(&r.from)).Addr)
	}
	for rest := r.control[:r.header.Controllen]; len(rest) > 0; {
		h, b, next, err := unix.ParseOneSocketControlMessage(rest)
		if err != nil {
			return datagram{}, fmt.Errorf("parse control message: %w", err)
		}
		d.note(h, b)
		rest = next
	}
	return d, nil
}

// note takes what a control message says.
func (d *datagram) note(h unix.Cmsghdr, b []byte) {
	switch {
	case h.Level == unix.IPPROTO_IP && h.Type == unix.IP_TTL && len(b) >= 4,
		h.Level == unix.IPPROTO_IPV6 && h.Type == unix.IPV6_HOPLIMIT && len(b) >= 4:
		d.ttl = int(binary.NativeEndian.Uint32(b))
	case h.Level == unix.IPPROTO_IP && h.Type == unix.IP_PKTINFO && len(b) >= unix.SizeofInet4Pktinfo:
		// struct in_pktinfo: the interface, the local address, that of the header.
		d.ifindex = int(binary.NativeEndian.Uint32(b))
		d.to = netip.AddrFrom4([4]byte(b[8:12]))
	case h.Level == unix.IPPROTO_IPV6 && h.Type == unix.IPV6_PKTINFO && len(b) >= unix.SizeofInet6Pktinfo:
		// struct in6_pktinfo: the address of the header, the interface.
		d.to = netip.AddrFrom16([16]byte(b[:16]))
		d.ifindex = int(binary.NativeEndian.Uint32(b[16:]))
	}
}
