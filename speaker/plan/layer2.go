package plan

import (
	"slices"

	"github.com/fairway-lb/fairway/api/v1alpha2"
	"github.com/fairway-lb/fairway/speaker/rendezvous"
)

// Layer2Decision says who announces an address by layer 2.
type Layer2Decision struct {
	Decision
	// Owner is the one node that should announce the address, "" if none can.
	Owner string
}

// Layer2 chooses the one node that announces an address by ARP or NDP: the
// first by rendezvous hash among the live speakers that can. That a Node is
// not ready does not count: its speaker says itself what it can serve.
func (v View) Layer2(a Address) Layer2Decision {
	d, candidates := decide(a, v1alpha2.ProtocolLayer2, v.Members, func(member Member) Reason {
		if _, reason := v.fit(member.Name); reason != ReasonNone {
			return reason
		}
		if !slices.ContainsFunc(a.Scopes, member.Serves) {
			return ReasonNotServed
		}
		return ReasonNone
	})
	return Layer2Decision{d, rendezvous.First(a.Addr, candidates)}
}
