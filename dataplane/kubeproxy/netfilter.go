package kubeproxy

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"time"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"github.com/fairway-lb/fairway/dataplane/service"
)

// Sizes of socket buffers, in bytes. One message of a transaction is some 60
// bytes, and a node may have a hundred thousand chains.
const (
	receiveBuffer = 4 << 20
	sendBuffer    = 32 << 20
)

// answerTimeout is how long the kernel may take to answer. It answers within
// the call, but for a moment in which another changes nf_tables.
const answerTimeout = 30 * time.Second

// dial opens a socket to netfilter. It is for one goroutine, and after an error
// for nothing more.
func dial(ctx context.Context) (*netlink.Conn, error) {
	conn, err := netlink.Dial(unix.NETLINK_NETFILTER, nil)
	if err != nil {
		return nil, fmt.Errorf("open a netlink socket: %w", err)
	}
	deadline := time.Now().Add(answerTimeout)
	if d, ok := ctx.Deadline(); ok && d.Before(deadline) {
		deadline = d
	}
	err = errors.Join(ctx.Err(), conn.SetDeadline(deadline),
		conn.SetReadBuffer(receiveBuffer), conn.SetWriteBuffer(sendBuffer))
	if err != nil {
		return nil, errors.Join(fmt.Errorf("set up a netlink socket: %w", err), conn.Close())
	}
	return conn, nil
}

// message makes a message of nfnetlink.
func message(subsystem, kind uint16, flags netlink.HeaderFlags, family byte, attributes []byte) netlink.Message {
	return netlink.Message{
		Header: netlink.Header{Type: netlink.HeaderType(subsystem<<8 | kind), Flags: netlink.Request | flags},
		Data:   append([]byte{family, unix.NFNETLINK_V0, 0, 0}, attributes...),
	}
}

func netfilterFamily(f service.Family) byte {
	if f == service.IPv6 {
		return unix.NFPROTO_IPV6
	}
	return unix.NFPROTO_IPV4
}

// noSubsystem tells whether an error is that of a kernel without what was asked.
func noSubsystem(err error) bool {
	return errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EPROTONOSUPPORT)
}

// encoder appends attributes.
type encoder []byte

func (e *encoder) bytes(kind uint16, value []byte) {
	*e = binary.NativeEndian.AppendUint16(*e, uint16(unix.SizeofNlAttr+len(value)))
	*e = binary.NativeEndian.AppendUint16(*e, kind)
	*e = append(*e, value...)
	for len(*e)%unix.NLA_ALIGNTO != 0 {
		*e = append(*e, 0)
	}
}

func (e *encoder) string(kind uint16, value string) { e.bytes(kind, append([]byte(value), 0)) }

// attributes reads attributes up to the end, or to one that is not as they are.
func attributes(b []byte) iter.Seq2[uint16, []byte] {
	return func(yield func(uint16, []byte) bool) {
		for len(b) >= unix.SizeofNlAttr {
			length := int(binary.NativeEndian.Uint16(b))
			if length < unix.SizeofNlAttr || length > len(b) {
				return
			}
			kind := binary.NativeEndian.Uint16(b[2:]) &^ (unix.NLA_F_NESTED | unix.NLA_F_NET_BYTEORDER)
			if !yield(kind, b[unix.SizeofNlAttr:length]) {
				return
			}
			b = b[min((length+unix.NLA_ALIGNTO-1)&^(unix.NLA_ALIGNTO-1), len(b)):]
		}
	}
}

// payload returns the attributes of a message of nfnetlink.
func payload(m netlink.Message) iter.Seq2[uint16, []byte] {
	return attributes(m.Data[min(len(m.Data), 4):])
}

// nested returns the first attribute of a kind, or nothing.
func nested(all iter.Seq2[uint16, []byte], kind uint16) []byte {
	for k, value := range all {
		if k == kind {
			return value
		}
	}
	return nil
}

func text(value []byte) string {
	if n := len(value); n > 0 && value[n-1] == 0 {
		value = value[:n-1]
	}
	return string(value)
}

// number reads a number of 1, 2, 4 or 8 bytes in network byte order.
func number(value []byte) (n uint64) {
	for _, b := range value[:min(len(value), 8)] {
		n = n<<8 | uint64(b)
	}
	return n
}
