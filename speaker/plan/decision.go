package plan

import (
	"fmt"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/types"

	"github.com/fairway-lb/fairway/api/v1alpha2"
)

// Decision says whether an address is announced, and for whom: what decisions
// have in common whatever the protocol.
type Decision struct {
	// Reason is why the address is announced nowhere; ReasonNone if it is
	// announced.
	Reason Reason
	// Refusals say for each live speaker that is no candidate why not, sorted
	// by node.
	Refusals []Refusal
	// For is the oldest Service that is reached at the address, the zero value
	// if none is.
	For types.NamespacedName
	// Unreached are the Services that are not reached at the address for
	// another reason than Reason.
	Unreached []Unreached
}

// Refusal is a node that cannot announce an address.
type Refusal struct {
	Node   string
	Reason Reason
}

// Unreached is a Service that cannot be reached at its address.
type Unreached struct {
	Service types.NamespacedName
	Reason  Reason
}

// decide finds the nodes that can announce an address by a protocol: those
// that are not refused and from which traffic can be delivered to the Services
// that have it; see agree. They are in the order of members.
func decide(a Address, protocol string, members []Member, refused func(Member) Reason) (d Decision, candidates []string) {
	if d.Reason = announceable(a.Pool, protocol); d.Reason != ReasonNone {
		return d, nil
	}
	tenants, idle := ready(a.Tenants)
	if len(tenants) == 0 {
		return Decision{Reason: ReasonNoEndpoint}, nil
	}
	able := make([]string, 0, len(members))
	for _, member := range members {
		if reason := refused(member); reason == ReasonNone {
			able = append(able, member.Name)
		} else {
			d.Refusals = append(d.Refusals, Refusal{member.Name, reason})
		}
	}
	candidates, reached, unreached := agree(able, tenants)
	rest := candidates // in the order of able
	for _, node := range able {
		if len(rest) > 0 && rest[0] == node {
			rest = rest[1:]
		} else {
			d.Refusals = append(d.Refusals, Refusal{node, ReasonNoLocalEndpoint})
		}
	}
	slices.SortFunc(d.Refusals, func(a, b Refusal) int { return strings.Compare(a.Node, b.Node) })
	d.Unreached = append(idle, unreached...)
	if len(candidates) == 0 {
		d.Reason = ReasonNoCandidate
	} else {
		d.For = reached[0].Service
	}
	return d, candidates
}

// announceable says what keeps the addresses of a pool from being announced
// anywhere by a protocol.
func announceable(pool Pool, protocol string) Reason {
	switch by := pool.AnnouncedBy(); {
	case pool.Name == "":
		return ReasonPoolMissing
	case by == protocol:
		return ReasonNone
	case by != v1alpha2.ProtocolBGP && by != v1alpha2.ProtocolLayer2:
		return ReasonProtocolVIP
	}
	return ReasonOtherProtocol
}

// maxRefusals bounds the nodes that Explain names: an event's note holds 1024
// characters at most.
const maxRefusals = 5

// Announced tells whether any node announces the address.
func (d Decision) Announced() bool { return d.Reason == ReasonNone }

// Reaches tells whether a Service that has the address is reached at it.
func (d Decision) Reaches(service types.NamespacedName) bool {
	return d.Announced() && !slices.ContainsFunc(d.Unreached, func(u Unreached) bool { return u.Service == service })
}

// Explain says of one of the Services that have an address why it is not
// reached there, as what follows the address in a sentence: "" if it is.
func (d Decision) Explain(service types.NamespacedName) string {
	if i := slices.IndexFunc(d.Unreached, func(u Unreached) bool { return u.Service == service }); i >= 0 {
		if !d.Announced() {
			return fmt.Sprintf("is not announced: %s", d.Unreached[i].Reason)
		}
		return fmt.Sprintf("is announced for Service %s, but Service %s is not reached at it: %s", d.For, service, d.Unreached[i].Reason)
	}
	if d.Announced() {
		return ""
	}
	return "is not announced: " + d.why()
}

// why says in words why the address is announced nowhere.
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
