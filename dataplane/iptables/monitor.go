package iptables

import (
	"slices"
	"strings"
	"sync/atomic"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"github.com/fairway-lb/fairway/dataplane/nfmonitor"
)

// monitor listens to what others do in the tables of flavour nft.
type monitor struct {
	*nfmonitor.Monitor
	own  *ownProcesses
	seen atomic.Bool // something that may be of ours, or news were lost
}

func listen(own *ownProcesses) (m *monitor, err error) {
	m = &monitor{own: own}
	m.Monitor, err = nfmonitor.Start(m.hear)
	return m, err
}

func (m *monitor) hear(messages []netlink.Message, lost bool) {
	if lost || slices.ContainsFunc(messages, func(msg netlink.Message) bool { return !m.own.has(msg.Header.PID) && concernsUs(msg) }) {
		m.seen.Store(true)
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
