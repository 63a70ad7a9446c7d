package membership

import (
	"net/netip"
	"sync"

	"github.com/hashicorp/memberlist"
)

// maxInbox is how many messages may wait for the owner. More are discarded,
// and sent again by those who wait for an answer. 50 members that claim 1,000
// addresses each at one time send 1,250 messages.
const maxInbox = 8192

// inbox passes events to the goroutine that owns the claims, in the order of
// their arrival, without ever blocking the caller: gossip calls with its locks
// held.
type inbox struct {
	wake chan struct{} // capacity 1

	mu       sync.Mutex
	mail     mail
	draining bool
}

// mail is what arrived since it was last taken.
type mail struct {
	events []event
	want   map[netip.Addr]string // the newest, nil if none came
	drain  bool
}

// event is a message of another member or a change of a member.
type event struct {
	kind   eventKind
	packet []byte          // of a message
	node   memberlist.Node // otherwise
}

type eventKind string

const (
	eventMessage eventKind = "message"
	eventJoin    eventKind = "join"
	eventLeave   eventKind = "leave"
	eventUpdate  eventKind = "update"
)

func newInbox() *inbox {
	return &inbox{wake: make(chan struct{}, 1)}
}

// putMessage adds a message, and tells whether there was room for it.
func (i *inbox) putMessage(packet []byte) bool {
	i.mu.Lock()
	full := len(i.mail.events) >= maxInbox
	if !full {
		i.mail.events = append(i.mail.events, event{kind: eventMessage, packet: packet})
	}
	i.mu.Unlock()
	signal(i.wake)
	return !full
}

// putChange adds the change of a member; it is never discarded.
func (i *inbox) putChange(kind eventKind, node memberlist.Node) {
	i.mu.Lock()
	i.mail.events = append(i.mail.events, event{kind: kind, node: node})
	i.mu.Unlock()
	signal(i.wake)
}

// putWant replaces what is wanted. Once draining it is ignored.
func (i *inbox) putWant(want map[netip.Addr]string) {
	if want == nil {
		want = map[netip.Addr]string{}
	}
	i.mu.Lock()
	if !i.draining {
		i.mail.want = want
	}
	i.mu.Unlock()
	signal(i.wake)
}

// putDrain begins draining. What was wanted before still counts.
func (i *inbox) putDrain() {
	i.mu.Lock()
	i.draining, i.mail.drain = true, true
	i.mu.Unlock()
	signal(i.wake)
}

// take empties the inbox.
func (i *inbox) take() mail {
	i.mu.Lock()
	defer i.mu.Unlock()
	m := i.mail
	i.mail = mail{}
	return m
}
