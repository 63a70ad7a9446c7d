package nftables

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// receiveBuffer holds the answers to a large transaction, or what the kernel
// says of one.
const receiveBuffer = 8 << 20

// socket is a netlink socket for transactions and questions. It is for one
// goroutine.
type socket struct {
	conn *netlink.Conn
	port uint32
	sent int // the size of the send buffer, if it was raised
}

func dial(config *netlink.Config) (*socket, error) {
	conn, err := netlink.Dial(unix.NETLINK_NETFILTER, config)
	if err != nil {
		return nil, fmt.Errorf("open a netlink socket: %w", err)
	}
	s := &socket{conn: conn}
	if err := s.setUp(); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return s, nil
}

func (s *socket) setUp() error {
	if err := s.conn.SetReadBuffer(receiveBuffer); err != nil {
		return fmt.Errorf("raise the buffer of a netlink socket: %w", err)
	}
	raw, err := s.conn.SyscallConn()
	if err != nil {
		return fmt.Errorf("find the port of a netlink socket: %w", err)
	}
	var addr unix.Sockaddr
	if e := raw.Control(func(fd uintptr) { addr, err = unix.Getsockname(int(fd)) }); e != nil || err != nil {
		return fmt.Errorf("find the port of a netlink socket: %w", errors.Join(e, err))
	}
	if a, ok := addr.(*unix.SockaddrNetlink); ok {
		s.port = a.Pid
	}
	return nil
}

// commit has the kernel do all of a batch or nothing. With a generation, it
// does nothing if there was another transaction since.
func (s *socket) commit(b *batch, generation uint32) error {
	return s.send(b.envelope(generation), 2)
}

// check has the kernel judge a batch. Without its end it is given up.
func (s *socket) check(b *batch) error {
	messages := b.envelope(0)
	err := s.send(messages[:len(messages)-1], 1)
	if err == nil {
		return nil
	}
	// There may be more errors on their way.
	return errors.Join(err, s.redial())
}

// send sends a transaction and waits for the answer to the message that many
// places from its end.
func (s *socket) send(messages []netlink.Message, fromEnd int) error {
	if err := s.makeRoom(messages); err != nil {
		return err
	}
	sent, err := s.conn.SendMessages(messages)
	if err != nil {
		return fmt.Errorf("send a transaction of %d messages to nf_tables: %w", len(messages), err)
	}
	// All has happened when the send returns. Errors come in the order of
	// messages, so that nothing comes after the answer to the last.
	last := sent[len(sent)-fromEnd].Header.Sequence
	for {
		answers, err := s.conn.Receive()
		if err != nil {
			return fmt.Errorf("transaction of %d messages with nf_tables: %w", len(messages), err)
		}
		for _, a := range answers {
			if a.Header.Sequence == last {
				return nil
			}
		}
	}
}

// redial replaces the connection by another of the same port, by which the
// monitor knows what is ours.
func (s *socket) redial() error {
	if err := s.conn.Close(); err != nil {
		return fmt.Errorf("close a netlink socket: %w", err)
	}
	next, err := dial(&netlink.Config{PID: s.port})
	if err != nil {
		return err
	}
	*s = *next
	return nil
}

// makeRoom lets the whole transaction go into one packet of the socket.
func (s *socket) makeRoom(messages []netlink.Message) error {
	size := 0
	for _, m := range messages {
		size += unix.NLMSG_HDRLEN + len(m.Data) + unix.NLMSG_ALIGNTO
	}
	size += 64 << 10
	if size <= s.sent || size < 128<<10 {
		return nil
	}
	if err := s.conn.SetWriteBuffer(size); err != nil {
		return fmt.Errorf("raise the buffer of a netlink socket to %d bytes: %w", size, err)
	}
	s.sent = size
	return nil
}

// generation returns the number of the last transaction of anyone.
func (s *socket) generation() (uint32, error) {
	answers, err := s.ask(unix.NFT_MSG_GETGEN, 0, unix.AF_UNSPEC, nil)
	if err != nil {
		return 0, fmt.Errorf("ask nf_tables for its generation: %w", err)
	}
	for _, a := range answers {
		if id, ok := attribute(a.Data, unix.NFTA_GEN_ID); ok && len(id) == 4 {
			return binary.BigEndian.Uint32(id), nil
		}
	}
	return 0, errors.New("ask nf_tables for its generation: no number in the answer")
}

// hasTable tells whether there is a table of ours.
func (s *socket) hasTable(family byte) (bool, error) {
	var e encoder
	e.string(unix.NFTA_TABLE_NAME, tableName)
	_, err := s.ask(unix.NFT_MSG_GETTABLE, 0, family, e)
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("look for table %s: %w", tableName, err)
	}
	return true, nil
}

func (s *socket) ask(kind uint16, flags netlink.HeaderFlags, family byte, attributes encoder) ([]netlink.Message, error) {
	_, err := s.conn.Send(netlink.Message{
		Header: netlink.Header{
			Type:  netlink.HeaderType(unix.NFNL_SUBSYS_NFTABLES<<8 | kind),
			Flags: netlink.Request | flags,
		},
		Data: append([]byte{family, unix.NFNETLINK_V0, 0, 0}, attributes...),
	})
	if err != nil {
		return nil, err
	}
	return s.conn.Receive()
}

// attribute returns the first attribute of a kind in a message of nfnetlink.
func attribute(data []byte, kind uint16) ([]byte, bool) {
	if len(data) < 4 {
		return nil, false
	}
	d, err := netlink.NewAttributeDecoder(data[4:])
	if err != nil {
		return nil, false
	}
	for d.Next() {
		if d.Type() == kind {
			return d.Bytes(), true
		}
	}
	return nil, false
}
