package speaker

import (
	"net/netip"
	"sync/atomic"

	"sigs.k8s.io/controller-runtime/pkg/event"

	"github.com/fairway-lb/fairway/speaker/layer2"
)

// Held makes the wire equal to the addresses that the members let this node
// hold, and tells the speaker's worker of changes. Its methods are safe for
// concurrent use.
type Held struct {
	responder *layer2.Responder
	addresses atomic.Pointer[map[netip.Addr]string]
	changed   chan event.TypedGenericEvent[request]
}

// NewHeld returns a Held that answers through the responder.
func NewHeld(responder *layer2.Responder) *Held {
	h := &Held{responder: responder, changed: make(chan event.TypedGenericEvent[request], 1)}
	h.addresses.Store(&map[netip.Addr]string{})
	return h
}

// Apply answers for the addresses, each on the link named, and for no other.
// When it returns, those that are not among them are silent. It is the Apply
// of membership.Config.
func (h *Held) Apply(addresses map[netip.Addr]string) error {
	announcements := make([]layer2.Announcement, 0, len(addresses))
	for addr, link := range addresses {
		announcements = append(announcements, layer2.Announcement{Addr: addr, Interface: link})
	}
	err := h.responder.Sync(announcements)
	h.addresses.Store(&addresses)
	select {
	case h.changed <- event.TypedGenericEvent[request]{Object: request{kind: heldAddresses}}:
	default: // the worker has yet to look, and will see this change too
	}
	return err
}

// Addresses returns what was last applied. The caller must not change it.
func (h *Held) Addresses() map[netip.Addr]string {
	return *h.addresses.Load()
}
