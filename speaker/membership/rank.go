package membership

import (
	"net/netip"

	"github.com/fairway-lb/fairway/speaker/rendezvous"
)

// outranks tells whether node a, and not node b, gets an address that both
// want. It is a strict order: of two different nodes exactly one outranks the
// other.
func outranks(addr netip.Addr, a, b string) bool {
	return rendezvous.Of(addr, a).Before(rendezvous.Of(addr, b))
}
