package nftables

import (
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// monitor listens to what others do with our tables.
type monitor struct {
	conn    *netlink.Conn
	own     uint32 // the netlink port of our transactions
	changed chan struct{}
	done    chan struct{}

	mu      sync.Mutex
	foreign bool // someone changed a table of ours
	missed  bool // the kernel dropped news
	ended   bool // there will be no more
}

func watch(own uint32) (*monitor, error) {
	conn, err := netlink.Dial(unix.NETLINK_NETFILTER, &netlink.Config{})
	if err != nil {
		return nil, fmt.Errorf("open a netlink socket to watch nf_tables: %w", err)
	}
	err = conn.SetReadBuffer(receiveBuffer)
	if err == nil {
		err = conn.JoinGroup(unix.NFNLGRP_NFTABLES)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("watch nf_tables: %w", err), conn.Close())
	}
	m := &monitor{conn: conn, own: own, changed: make(chan struct{}, 1), done: make(chan struct{})}
	go m.run()
	return m, nil
}

func (m *monitor) run() {
	defer close(m.done)
	for {
		messages, err := m.conn.Receive()
		switch {
		case errors.Is(err, unix.ENOBUFS):
			m.note(false, true)
		case err != nil: // closed, or worse
			m.mu.Lock()
			m.ended = true
			m.mu.Unlock()
			return
		}
		for _, msg := range messages {
			if msg.Header.PID != m.own && isOurs(msg) {
				m.note(true, false)
				break
			}
		}
	}
}

// isOurs tells whether a message is of a table of ours. The first attribute of
// all objects is the name of their table.
func isOurs(m netlink.Message) bool {
	if m.Header.Type>>8 != unix.NFNL_SUBSYS_NFTABLES || m.Header.Type&0xff == unix.NFT_MSG_NEWGEN {
		return false
	}
	name, ok := attribute(m.Data, unix.NFTA_TABLE_NAME)
	return ok && strings.TrimRight(string(name), "\x00") == tableName
}

func (m *monitor) note(foreign, missed bool) {
	m.mu.Lock()
	m.foreign, m.missed = m.foreign || foreign, m.missed || missed
	m.mu.Unlock()
	select {
	case m.changed <- struct{}{}:
	default: // it is known already
	}
}

// take returns what was noted since the last time.
func (m *monitor) take() (foreign, missed bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	foreign, missed = m.foreign, m.missed || m.ended
	m.foreign, m.missed = false, false
	return foreign, missed
}

func (m *monitor) close() error {
	err := m.conn.Close()
	<-m.done
	return err
}
