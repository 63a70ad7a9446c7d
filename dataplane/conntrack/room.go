package conntrack

import (
	"encoding/binary"
	"errors"
	"fmt"
	"iter"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/fairway-lb/fairway/dataplane/service"
)

// What linux/netfilter/nfnetlink_conntrack.h has of statistics.
const (
	getStatsCPU  = 4  // IPCTNL_MSG_CT_GET_STATS_CPU
	getStats     = 5  // IPCTNL_MSG_CT_GET_STATS
	statsEntries = 1  // CTA_STATS_GLOBAL_ENTRIES
	statsMax     = 2  // CTA_STATS_GLOBAL_MAX_ENTRIES, since Linux 4.18
	statsDropped = 10 // CTA_STATS_DROP
)

// Room is how much there is in the kernel's table of connections. When it is
// full, the first packet of a new connection is dropped; those that are in it
// go on.
type Room struct {
	Entries, Max int // Max is 0 where there is no limit
	// Dropped is how many packets the kernel has dropped since it started for
	// want of room.
	Dropped uint64
}

// ReadRoom asks the kernel for that of the network namespace that it is called
// in.
func ReadRoom() (r Room, err error) {
	messages, err := newRequest(service.IPv4, getStats, unix.NLM_F_ACK).Execute(unix.NETLINK_NETFILTER, 0)
	if err != nil {
		return r, fmt.Errorf("ask how full the conntrack table is: %w", err)
	}
	for kind, value := range statistics(messages) {
		switch kind {
		case statsEntries:
			r.Entries = int(value)
		case statsMax:
			r.Max = int(value)
		}
	}
	messages, err = newRequest(service.IPv4, getStatsCPU, unix.NLM_F_DUMP).Execute(unix.NETLINK_NETFILTER, 0)
	if err != nil {
		return r, fmt.Errorf("ask what conntrack has dropped: %w", err)
	}
	for kind, value := range statistics(messages) {
		if kind == statsDropped {
			r.Dropped += uint64(value) // of each CPU
		}
	}
	return r, nil
}

// errFull is that of a table without room.
var errFull = errors.New("the kernel's table of connections is full")

// Since returns an error if connections have been dropped since an earlier
// time, which says what helps.
func (r Room) Since(before Room) error {
	if r.Dropped <= before.Dropped {
		return nil
	}
	return fmt.Errorf("%w (%d of %d): %d packets of new connections were dropped. Raise net.netfilter.nf_conntrack_max on the node, "+
		"or find by conntrack -L who has so many; connections that are in the table go on", errFull, r.Entries, r.Max, r.Dropped-before.Dropped)
}

// statistics yields the numbers in messages, each of 32 bits.
func statistics(messages [][]byte) iter.Seq2[uint16, uint32] {
	return func(yield func(uint16, uint32) bool) {
		for _, m := range messages {
			if len(m) < nl.SizeofNfgenmsg {
				continue
			}
			for kind, a := range attributes(m[nl.SizeofNfgenmsg:]) {
				if len(a.value) == 4 && !yield(kind, binary.BigEndian.Uint32(a.value)) {
					return
				}
			}
		}
	}
}
