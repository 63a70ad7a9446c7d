package measure

import (
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

const (
	// nftablesBuffer holds what the kernel says of 100,000 rules at once.
	nftablesBuffer = 256 << 20
	// nftablesQuiet is after how long without news there is none left. The
	// kernel sends all of a transaction before that is over.
	nftablesQuiet = 200 * time.Millisecond
)

// NFTables counts what is added to nf_tables, and removed. The programs of
// iptables, where they are of that flavour, are no exception.
type NFTables struct{ conn *netlink.Conn }

// NFTablesChanges are objects that were added or removed.
type NFTablesChanges struct {
	Elements int // of sets and maps
	Rules    int
	Others   int // chains, sets and tables
	// Missed is whether there were more, of which the kernel dropped the news.
	Missed bool
}

// WatchNFTables counts from now on, in the network namespace of the calling
// thread.
func WatchNFTables() (*NFTables, error) {
	conn, err := netlink.Dial(unix.NETLINK_NETFILTER, nil)
	if err != nil {
		return nil, fmt.Errorf("opening a netlink socket: %w", err)
	}
	if err = conn.SetReadBuffer(nftablesBuffer); err == nil {
		err = conn.JoinGroup(unix.NFNLGRP_NFTABLES)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("watching nf_tables: %w", err), conn.Close())
	}
	return &NFTables{conn}, nil
}

// Stop returns what has changed.
func (n *NFTables) Stop() (NFTablesChanges, error) {
	var c NFTablesChanges
	for {
		err := n.conn.SetReadDeadline(time.Now().Add(nftablesQuiet))
		var messages []netlink.Message
		if err == nil {
			messages, err = n.conn.Receive()
		}
		switch {
		case err == nil:
		case errors.Is(err, os.ErrDeadlineExceeded):
			return c, n.conn.Close()
		case errors.Is(err, unix.ENOBUFS):
			c.Missed = true
		default:
			return c, errors.Join(fmt.Errorf("watching nf_tables: %w", err), n.conn.Close())
		}
		for _, m := range messages {
			if err := c.add(m); err != nil {
				return c, errors.Join(err, n.conn.Close())
			}
		}
	}
}

func (c *NFTablesChanges) add(m netlink.Message) error {
	if m.Header.Type>>8 != unix.NFNL_SUBSYS_NFTABLES || len(m.Data) < 4 {
		return nil
	}
	switch m.Header.Type & 0xff {
	case unix.NFT_MSG_NEWGEN: // there was a transaction
	case unix.NFT_MSG_NEWRULE, unix.NFT_MSG_DELRULE:
		c.Rules++
	case unix.NFT_MSG_NEWSETELEM, unix.NFT_MSG_DELSETELEM:
		attributes, err := netlink.NewAttributeDecoder(m.Data[4:])
		if err != nil {
			return fmt.Errorf("reading news of nf_tables: %w", err)
		}
		for attributes.Next() {
			if attributes.Type() == unix.NFTA_SET_ELEM_LIST_ELEMENTS {
				attributes.Nested(func(list *netlink.AttributeDecoder) error {
					c.Elements += list.Len()
					return nil
				})
			}
		}
		if err := attributes.Err(); err != nil {
			return fmt.Errorf("reading news of nf_tables: %w", err)
		}
	default:
		c.Others++
	}
	return nil
}

// Total counts all objects.
func (c NFTablesChanges) Total() int { return c.Elements + c.Rules + c.Others }

func (c NFTablesChanges) String() string {
	text := fmt.Sprintf("%d elements, %d rules, %d others", c.Elements, c.Rules, c.Others)
	if c.Missed {
		text += ", and more"
	}
	return text
}
