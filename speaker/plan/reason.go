package plan

import "fmt"

// Reason is why an address is not announced, or not by a node. Its text, which
// users read in events, is written in String alone.
type Reason int

// The reasons of a Decision and of a Refusal.
const (
	ReasonNone Reason = iota

	// Why an address is announced nowhere.
	ReasonPoolMissing
	ReasonOtherProtocol
	ReasonProtocolVIP
	ReasonNoEndpoint
	ReasonNoCandidate

	// Why a node is no candidate.
	ReasonNodeUnknown
	ReasonNodeDeleting
	ReasonNodeExcluded
	ReasonNodeNotReady
	ReasonNotServed
	ReasonNoLocalEndpoint
	ReasonNoNextHop

	// Why a Service is not reached at an address that it shares.
	ReasonNoLocalCandidate
	ReasonNotTogether
)

// String returns the reason as part of a sentence.
func (r Reason) String() string {
	switch r {
	case ReasonNone:
		return "nothing is in the way"
	case ReasonPoolMissing:
		return "the Eip it came from does not exist"
	case ReasonOtherProtocol:
		return "its Eip is announced by another protocol"
	case ReasonProtocolVIP:
		return "its Eip's protocol vip is not announced by Fairway, use layer2 or bgp"
	case ReasonNoEndpoint:
		return "the Service has no ready endpoint"
	case ReasonNoCandidate:
		return "no node can announce it"
	case ReasonNodeUnknown:
		return "has no Node object"
	case ReasonNodeDeleting:
		return "is being deleted"
	case ReasonNodeExcluded:
		return "is labelled node.kubernetes.io/exclude-from-external-load-balancers"
	case ReasonNodeNotReady:
		return "is not ready"
	case ReasonNotServed:
		return "has no usable interface for it"
	case ReasonNoLocalEndpoint:
		return "has no ready endpoint and externalTrafficPolicy is Local"
	case ReasonNoNextHop:
		return "has no InternalIP of its family to be a next hop"
	case ReasonNoLocalCandidate:
		return "externalTrafficPolicy is Local and no node that can announce the address has a ready endpoint"
	case ReasonNotTogether:
		return "externalTrafficPolicy is Local and no node has ready endpoints of all Services with the address: give them the same selector, or different addresses"
	}
	return fmt.Sprintf("Reason(%d)", int(r))
}
