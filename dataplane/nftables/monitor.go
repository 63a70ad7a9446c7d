package nftables

import (
	"slices"
	"strings"
	"sync"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"github.com/fairway-lb/fairway/dataplane/nfmonitor"
)

// monitor listens to what others do with our tables.
type monitor struct {
	*nfmonitor.Monitor
	own     uint32 // the netlink port of our transactions
	changed chan struct{}

	mu      sync.Mutex
	foreign bool // someone changed a table of ours
	missed  bool // the kernel dropped news
}

func watch(own uint32) (m *monitor, err error) {
	m = &monitor{own: own, changed: make(chan struct{}, 1)}
	m.Monitor, err = nfmonitor.Start(m.hear)
	return m, err
}

func (m *monitor) hear(messages []netlink.Message, lost bool) {
	foreign := slices.ContainsFunc(messages, func(msg netlink.Message) bool { return msg.Header.PID != m.own && isOurs(msg) })
	if foreign || lost {
		m.note(foreign, lost)
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
	foreign, missed = m.foreign, m.missed
	m.foreign, m.missed = false, false
	select {
	case <-m.Done():
		missed = true // for good
	default:
	}
	return foreign, missed
}
