package membership

import (
	"net/netip"

	"github.com/fairway-lb/fairway/speaker/rendezvous"
)

// Owner returns the candidate that comes first for an address, "" if there is
// none. Among nodes that want one address at one time it is the one that gets
// it (see claims).
func Owner(addr netip.Addr, candidates []string) string {
	return rendezvous.First(addr, candidates)
}

// outranks tells whether node a, and not node b, gets an address that both
// want. It is a strict order: of two different nodes exactly one outranks the
// other.
func outranks(addr netip.Addr, a, b string) bool {
	return rendezvous.Of(addr, a).Before(rendezvous.Of(addr, b))
}
