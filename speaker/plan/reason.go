package plan

import (
	"fmt"
	"strings"
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
	ReasonPoolNotServed
	ReasonNoLocalEndpoint
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
	case ReasonPoolNotServed:
		return "has no usable interface for its Eip"
	case ReasonNoLocalEndpoint:
		return "has no ready endpoint and externalTrafficPolicy is Local"
	}
	return fmt.Sprintf("Reason(%d)", int(r))
}

// maxRefusals bounds the nodes that Explain names: an event's note holds 1024
// characters at most.
const maxRefusals = 5

// Explain says in a sentence why a decision has no owner, "" if it has one.
func (d Decision) Explain() string {
	if d.Owner != "" {
		return ""
	}
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
