package service

import (
	"cmp"
	"fmt"
	"net/netip"
	"strings"

	"k8s.io/apimachinery/pkg/types"

	"github.com/fairway-lb/fairway/api/v1alpha2"
)

// Finding is something in an object that is not done as it says, while all
// else of the object is. String says it to the user.
type Finding struct {
	// Kind and Object name what is to be mended: "Service" or "EndpointSlice".
	Kind   string
	Object types.NamespacedName
	Reason Reason
	// Value is what was found: an annotation or a part of it, an address, a
	// frontend.
	Value string
	// Others counts further endpoints of the slice that share the Reason.
	Others int
	// Rival is the Service that keeps a frontend.
	Rival types.NamespacedName
}

// Reason is why a Finding is one.
type Reason uint8

// The reasons of a Finding.
const (
	ReasonScheduler Reason = iota
	ReasonHash
	ReasonSourceRange
	ReasonFrontendAddress
	ReasonFrontendTaken
	ReasonPortTwice
	ReasonEndpointIsFrontend
	ReasonWeight
	ReasonWeightTwice
	// The reasons from here on are flaws of an endpoint's address.
	reasonFlaw
)

// Reasons why an endpoint's address cannot be one.
const (
	ReasonEndpointSyntax      = reasonFlaw + Reason(flawSyntax)
	ReasonEndpointFamily      = reasonFlaw + Reason(flawFamily)
	ReasonEndpointUnspecified = reasonFlaw + Reason(flawUnspecified)
	ReasonEndpointLoopback    = reasonFlaw + Reason(flawLoopback)
	ReasonEndpointLinkLocal   = reasonFlaw + Reason(flawLinkLocal)
	ReasonEndpointMulticast   = reasonFlaw + Reason(flawMulticast)
)

// String returns the finding as a sentence: the object, what of it is not
// done, and what to do.
func (f Finding) String() string {
	return fmt.Sprintf("%s %s: %s", f.Kind, f.Object, f.text())
}

func (f Finding) text() string {
	switch f.Reason {
	case ReasonScheduler:
		return fmt.Sprintf("annotation %s is %q, which is no IPVS scheduler, and has no effect: use one of %s, or remove it",
			v1alpha2.AnnotationScheduler, f.Value, strings.Join(schedulers(), ", "))
	case ReasonHash:
		return fmt.Sprintf("annotation %s is %q and has no effect: use %s or %s, or remove it", v1alpha2.AnnotationHash, f.Value, HashSource, HashSourcePort)
	case ReasonWeight:
		return fmt.Sprintf("annotation %s has %q, which is no weight of anything, and has no effect: write it as in worker-1=3, 10.244.1.7=0 or *=2, with a weight from 0 to %d",
			v1alpha2.AnnotationWeights, f.Value, maxWeight)
	case ReasonWeightTwice:
		return fmt.Sprintf("annotation %s has more than one weight of %q, the first counts: remove the others", v1alpha2.AnnotationWeights, f.Value)
	case ReasonSourceRange:
		return fmt.Sprintf("%q in loadBalancerSourceRanges is no prefix and has no effect: write it as in 192.0.2.0/24", f.Value)
	case ReasonFrontendAddress:
		return f.Value + ": the Service is not served there, use another address"
	case ReasonFrontendTaken:
		return fmt.Sprintf("%s belongs to the older Service %s and does not lead to this one until that one gives it up: change one of the two", f.Value, f.Rival)
	case ReasonPortTwice:
		return fmt.Sprintf("%s is there more than once, the first counts: change the others", f.Value)
	case ReasonEndpointIsFrontend:
		return f.endpoints() + " an address of the Service itself and gets no traffic: use the address of what serves"
	}
	return f.endpoints() + " " + flaw(f.Reason-reasonFlaw).String() + " and gets no traffic: use an address that other nodes reach"
}

// endpoints returns the beginning of a sentence about some endpoints.
func (f Finding) endpoints() string {
	switch f.Others {
	case 0:
		return fmt.Sprintf("endpoint %q is", f.Value)
	case 1:
		return fmt.Sprintf("endpoint %q, as another one, is", f.Value)
	}
	return fmt.Sprintf("endpoint %q, as %d others, is", f.Value, f.Others)
}

// compare orders by object, reason and value.
func (f Finding) compare(other Finding) int {
	return cmp.Or(
		strings.Compare(f.Kind, other.Kind),
		compareNames(f.Object, other.Object),
		cmp.Compare(f.Reason, other.Reason),
		strings.Compare(f.Value, other.Value),
		cmp.Compare(f.Others, other.Others),
		compareNames(f.Rival, other.Rival),
	)
}

// maxValue is the length in bytes that a value of an object is quoted to.
const maxValue = 64

// quotable shortens what is to be quoted.
func quotable(value string) string {
	if len(value) > maxValue {
		return strings.Clone(value[:maxValue]) + "..."
	}
	return value
}

// describe names a frontend as findings do.
func describe(at netip.AddrPort, protocol Protocol) string {
	if at.Addr().IsUnspecified() {
		return fmt.Sprintf("port %d/%s of the nodes", at.Port(), protocol)
	}
	return fmt.Sprintf("%s/%s", at, protocol)
}
