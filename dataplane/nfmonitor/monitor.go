// Package nfmonitor listens to the changes of nf_tables that anybody makes, as
// `nft monitor` does.
package nfmonitor

import (
	"errors"
	"fmt"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// receiveBuffer is how many bytes of news, which are mostly one's own, may wait:
// those of thousands of Services at once.
const receiveBuffer = 8 << 20

// Monitor hands on news until it is closed.
type Monitor struct {
	conn *netlink.Conn
	done chan struct{}
}

// Start listens in the network namespace of the calling thread. News are handed
// to take, one call at a time: messages of NFNL_SUBSYS_NFTABLES, whose port tells
// who made the change, and whether the kernel had to drop others before. It
// returns an error if the kernel has no such socket or the buffer is refused.
func Start(take func(messages []netlink.Message, lost bool)) (*Monitor, error) {
	conn, err := netlink.Dial(unix.NETLINK_NETFILTER, &netlink.Config{})
	if err != nil {
		return nil, fmt.Errorf("open a netlink socket to watch nf_tables: %w", err)
	}
	if err = conn.SetReadBuffer(receiveBuffer); err == nil {
		err = conn.JoinGroup(unix.NFNLGRP_NFTABLES)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("watch nf_tables: %w", err), conn.Close())
	}
	m := &Monitor{conn: conn, done: make(chan struct{})}
	go m.run(take)
	return m, nil
}

func (m *Monitor) run(take func([]netlink.Message, bool)) {
	defer close(m.done)
	for {
		messages, err := m.conn.Receive()
		lost := errors.Is(err, unix.ENOBUFS)
		if err != nil && !lost {
			return // closed, or worse
		}
		take(messages, lost)
	}
}

// Done is closed when there will be no more news.
func (m *Monitor) Done() <-chan struct{} { return m.done }

// Close returns when the last news have been taken.
func (m *Monitor) Close() error {
	err := m.conn.Close()
	<-m.done
	return err
}
