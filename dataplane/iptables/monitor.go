package iptables

import (
	"errors"
	"fmt"
	"strings"
	"sync/atomic"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// receiveBuffer is for the news of a cold start, which are ours.
const receiveBuffer = 4 << 20

// monitor listens to what others do in the tables of flavour nft.
type monitor struct {
	conn *netlink.Conn
	own  *ownProcesses
	seen atomic.Bool // something that may be of ours, or news were lost
	done chan struct{}
}

func listen(own *ownProcesses) (*monitor, error) {
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
	m := &monitor{conn: conn, own: own, done: make(chan struct{})}
	go m.run()
	return m, nil
}

func (m *monitor) run() {
	defer close(m.done)
	for {
		messages, err := m.conn.Receive()
		switch {
		case errors.Is(err, unix.ENOBUFS):
			m.seen.Store(true)
		case err != nil:
			return
		}
		for _, msg := range messages {
			if !m.own.has(msg.Header.PID) && concernsUs(msg) {
				m.seen.Store(true)
				break
			}
		}
	}
}

// concernsUs tells whether a message is of a chain of ours, or of one that has a
// rule which leads there. Others' chains, which are many, are not.
func concernsUs(m netlink.Message) bool {
	if m.Header.Type>>8 != unix.NFNL_SUBSYS_NFTABLES || len(m.Data) < 4 {
		return false
	}
	kind, name := m.Header.Type&0xff, uint16(0)
	switch kind {
	case unix.NFT_MSG_NEWRULE, unix.NFT_MSG_DELRULE:
		name = unix.NFTA_RULE_CHAIN
	case unix.NFT_MSG_NEWCHAIN, unix.NFT_MSG_DELCHAIN:
		name = unix.NFTA_CHAIN_NAME
	case unix.NFT_MSG_DELTABLE:
		name = unix.NFTA_TABLE_NAME
	default:
		return false
	}
	attributes, err := netlink.UnmarshalAttributes(m.Data[4:])
	if err != nil {
		return true
	}
	for _, a := range attributes {
		if a.Type != name {
			continue
		}
		switch value := strings.TrimRight(string(a.Data), "\x00"); value {
		case "PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING", tableNames[nat], tableNames[filter]:
			return true
		default:
			return strings.HasPrefix(value, prefix) && value != probeChain
		}
	}
	return false
}

func (m *monitor) close() error {
	err := m.conn.Close()
	<-m.done
	return err
}
