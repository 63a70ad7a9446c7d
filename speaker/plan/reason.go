package plan

import (
	"fmt"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/types"
)

// Reason is why an address is not announced, or not by a node. Its text, which
// users read in events, is written in String alone.
type Reason int

// The reasons of a Decision and of a Refusal.
const (
	ReasonNone Reason = iota

	// Why an address is announced nowhere.
	ReasonPoolMissing
	ReasonNotLayer2
	ReasonNoEndpoint
	ReasonNoCandidate

	// Why a node is no candidate.
	ReasonNodeUnknown
	ReasonNodeDeleting
	ReasonNodeExcluded
	ReasonNotServed
	ReasonNoLocalEndpoint

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
	case ReasonNotLayer2:
		return "its Eip's protocol is not layer2"
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
	case ReasonNotServed:
		return "has no usable interface for it"
	case ReasonNoLocalEndpoint:
		return "has no ready endpoint and externalTrafficPolicy is Local"
	case ReasonNoLocalCandidate:
		return "externalTrafficPolicy is Local and no node that can announce the address has a ready endpoint"
	case ReasonNotTogether:
		return "externalTrafficPolicy is Local and no node has ready endpoints of all Services with the address: give them the same selector, or different addresses"
	}
	return fmt.Sprintf("Reason(%d)", int(r))
}

// maxRefusals bounds the nodes that Explain names: an event's note holds 1024
// characters at most.
const maxRefusals = 5

// Reaches tells whether a Service that has the address is reached at it.
func (d Decision) Reaches(service types.NamespacedName) bool {
	return d.Owner != "" && !slices.ContainsFunc(d.Unreached, func(u Unreached) bool { return u.Service == service })
}

// Explain says of one of the Services that have an address why it is not
// reached there, as what follows the address in a sentence: "" if it is.
func (d Decision) Explain(service types.NamespacedName) string {
	if i := slices.IndexFunc(d.Unreached, func(u Unreached) bool { return u.Service == service }); i >= 0 {
		if d.Owner == "" {
			return fmt.Sprintf("is not announced: %s", d.Unreached[i].Reason)
		}
		return fmt.Sprintf("is announced for Service %s, but Service %s is not reached at it: %s", d.For, service, d.Unreached[i].Reason)
	}
	if d.Owner != "" {
		return ""
	}
	return "is not announced: " + d.why()
}

// why says in words why there is no owner.
func (d Decision) why() string {
	if len(d.Refusals) == 0 {
		return d.Reason.String()
	}
	var b strings.Builder
	b.WriteString(d.Reason.String())
	for i, refusal := range d.Refusals {
		if i == maxRefusals {
			fmt.Fprintf(&b, "; and %d more", len(d.Refusals)-i)
			break
		}
		separator := "; "
		if i == 0 {
			separator = ": "
		}
		fmt.Fprintf(&b, "%snode %s %s", separator, refusal.Node, refusal.Reason)
	}
	return b.String()
}
