package ipam

import (
	"fmt"
	"net/netip"
	"strconv"
	"time"
	"unicode/utf8"
)

// Reason is why a Service is not given what it asks for.
type Reason string

// The reasons of refusals.
const (
	// InvalidRequest: what is asked for cannot be read.
	InvalidRequest Reason = "InvalidRequest"
	// NoEligiblePool: nothing is named, and no pool serves the Service.
	NoEligiblePool Reason = "NoEligiblePool"
	// PoolNotFound: the pool named does not exist.
	PoolNotFound Reason = "PoolNotFound"
	// PoolDisabled: the pool gives no new addresses.
	PoolDisabled Reason = "PoolDisabled"
	// PoolDeleting: the pool is about to go.
	PoolDeleting Reason = "PoolDeleting"
	// PoolExhausted: every address is in use, or rests.
	PoolExhausted Reason = "PoolExhausted"
	// AddressOutOfRange: the address asked for is not in the pool, or in none.
	AddressOutOfRange Reason = "AddressOutOfRange"
	// AddressInUse: another Service holds the address asked for.
	AddressInUse Reason = "AddressInUse"
	// SharingRefused: another Service holds the address, and the two cannot
	// share it.
	SharingRefused Reason = "SharingRefused"
	// FamilyMismatch: the Service cannot use addresses of that family.
	FamilyMismatch Reason = "FamilyMismatch"
	// ProtocolMismatch: no pool that serves the Service is announced by the
	// protocol that it asks for.
	ProtocolMismatch Reason = "ProtocolMismatch"
	// NamespaceNotAllowed: the pool is for other namespaces only.
	NamespaceNotAllowed Reason = "NamespaceNotAllowed"
	// QuotaExceeded: the namespace holds as many addresses as it may.
	QuotaExceeded Reason = "QuotaExceeded"
	// NotInPool: the Service keeps an address that is in no pool.
	NotInPool Reason = "NotInPool"
)

// Refusal is why a Service is not given what it asks for. Its text names the
// object, the field and the remedy, and is meant for the Service's owner.
type Refusal struct {
	Reason  Reason
	Message string
	// Pools are those that could serve the request had they room, or an
	// address less in use.
	Pools []string
	// Considered are those that the message may speak of.
	Considered []string
	// Address is the one asked for that another Service has, if any, and
	// OtherAddress that of the other family.
	Address, OtherAddress netip.Addr
	// RetryAt is when a quarantine ends that may help, zero if none does.
	RetryAt time.Time
}

// Error returns the message.
func (r *Refusal) Error() string {
	return r.Message
}

// alsoWaitFor adds what helps another refusal of the same request.
func (r *Refusal) alsoWaitFor(other *Refusal) {
	r.Pools = union(r.Pools, other.Pools)
	r.Considered = union(r.Considered, other.Considered)
	if r.RetryAt.IsZero() || !other.RetryAt.IsZero() && other.RetryAt.Before(r.RetryAt) {
		r.RetryAt = other.RetryAt
	}
	switch {
	case !r.Address.IsValid():
		r.Address = other.Address
	case other.Address.IsValid() && r.Address != other.Address:
		r.OtherAddress = other.Address
	}
}

// maxMessage bounds a message, in bytes: an event has 1 KiB, and says more
// than the message.
const maxMessage = 900

func refuse(reason Reason, format string, args ...any) *Refusal {
	return &Refusal{Reason: reason, Message: clip(fmt.Sprintf(format, args...), maxMessage)}
}

// maxName bounds a name in a message, in bytes. Names of objects are shorter,
// those in annotations may be anything.
const maxName = 80

// quote writes a name that a user gave.
func quote(name string) string {
	quoted := strconv.Quote(clip(name, maxName))
	if len(quoted) > 2*maxName { // what is escaped is longer
		quoted = clip(quoted, 2*maxName) + `"`
	}
	return quoted
}

// clip shortens a text to a number of bytes.
func clip(text string, size int) string {
	if len(text) <= size {
		return text
	}
	const ellipsis = "…"
	end := size - len(ellipsis)
	for end > 0 && !utf8.RuneStart(text[end]) {
		end--
	}
	return text[:end] + ellipsis
}
