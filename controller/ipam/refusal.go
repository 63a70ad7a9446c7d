package ipam

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/fairway-lb/fairway/api/v1alpha2"
)

// Reason is why a Service is not given what it asks for.
type Reason string

// The reasons of refusals.
const (
	// InvalidRequest: what is asked for cannot be read.
	InvalidRequest Reason = "InvalidRequest"
	// NoEligiblePool: nothing is named, and no pool is bound to the
	// namespace or the default.
	NoEligiblePool Reason = "NoEligiblePool"
	// PoolNotFound: the pool named does not exist.
	PoolNotFound Reason = "PoolNotFound"
	// PoolDisabled: the pool gives no new addresses.
	PoolDisabled Reason = "PoolDisabled"
	// PoolDeleting: the pool is about to go.
	PoolDeleting Reason = "PoolDeleting"
	// PoolExhausted: every address is in use.
	PoolExhausted Reason = "PoolExhausted"
	// AddressOutOfRange: the address asked for is not in the pool, or in none.
	AddressOutOfRange Reason = "AddressOutOfRange"
	// AddressInUse: another Service holds the address asked for.
	AddressInUse Reason = "AddressInUse"
	// FamilyMismatch: the Service cannot use addresses of that family.
	FamilyMismatch Reason = "FamilyMismatch"
)

// Refusal is why a Service is not given what it asks for. Its text names the
// object, the field and the remedy, and is meant for the Service's owner.
type Refusal struct {
	Reason  Reason
	Message string
}

// Error returns the message.
func (r *Refusal) Error() string {
	return r.Message
}

func invalidAddress(field, text string) *Refusal {
	return refuse(InvalidRequest, "%s asks for %q, which is not an IP address: write one IPv4 or IPv6 address without spaces or prefix length, or remove it to be given any", field, text)
}

func refuse(reason Reason, format string, args ...any) *Refusal {
	return &Refusal{Reason: reason, Message: fmt.Sprintf(format, args...)}
}

func poolNotFound(name string) *Refusal {
	return refuse(PoolNotFound, "annotation %s names Eip %q, which does not exist, or is not used because it is invalid (then its events say so): correct the annotation, or create the Eip", v1alpha2.AnnotationPool, name)
}

func poolDisabled(p *pool) *Refusal {
	return refuse(PoolDisabled, "Eip %q gives no new addresses because its spec.disable is true: set it to false, or ask for another Eip", p.Name)
}

func poolDeleting(p *pool) *Refusal {
	return refuse(PoolDeleting, "Eip %q gives no new addresses because it is being deleted: ask for another Eip", p.Name)
}

func poolExhausted(p *pool) *Refusal {
	return refuse(PoolExhausted, "Eip %q is full: each of its %s addresses is in use. Free one, or ask for another Eip", p.Name, p.size)
}

func outOfRange(p *pool, addr netip.Addr) *Refusal {
	return refuse(AddressOutOfRange, "the requested address %s is not in Eip %q (%s): ask for an address of this Eip, or for the Eip that contains it", addr, p.Name, p.rangesText())
}

func inNoPool(addr netip.Addr) *Refusal {
	return refuse(AddressOutOfRange, "the requested address %s is in no Eip: ask for an address that an Eip contains, or create an Eip that contains this one", addr)
}

func addressInUse(addr netip.Addr, holder ServiceKey) *Refusal {
	return refuse(AddressInUse, "the requested address %s is held by Service %s: ask for another address, or free it there", addr, holder)
}

func poolFamilyMismatch(p *pool, req *Request) *Refusal {
	return refuse(FamilyMismatch, "Eip %q (%s) has no address of a family that the Service can use, which its spec.ipFamilies gives as %s: ask for an Eip of that family, or change spec.ipFamilies", p.Name, p.rangesText(), familiesText(req.Families))
}

func addressFamilyMismatch(addr netip.Addr, req *Request) *Refusal {
	return refuse(FamilyMismatch, "the requested address %s is %s, and the Service's spec.ipFamilies is %s: ask for an address of that family, or change spec.ipFamilies", addr, FamilyOf(addr), familiesText(req.Families))
}

func noEligiblePool(namespace string) *Refusal {
	return refuse(NoEligiblePool, "no Eip is bound to namespace %q and none is the default: name an Eip in annotation %s, add the namespace to spec.namespaces of an Eip, or mark one as default with annotation %s: \"true\"",
		namespace, v1alpha2.AnnotationPool, v1alpha2.AnnotationDefaultEip)
}

// noneAvailable sums up why each pool that serves the namespace refused.
func noneAvailable(namespace string, tried []*Refusal, names []string) *Refusal {
	if len(tried) == 1 {
		return tried[0]
	}
	// The reason that time alone may change comes first.
	reason := tried[0].Reason
	for _, candidate := range []Reason{PoolDeleting, PoolDisabled, FamilyMismatch, PoolExhausted} {
		for _, r := range tried {
			if r.Reason == candidate {
				reason = candidate
			}
		}
	}
	var parts []string
	for i, r := range tried {
		if i == maxNamed && len(tried) > maxNamed {
			parts = append(parts, fmt.Sprintf("and %d more", len(tried)-maxNamed))
			break
		}
		parts = append(parts, fmt.Sprintf("%q %s", names[i], shortText(r.Reason)))
	}
	return refuse(reason, "no Eip that serves namespace %q has an address to give: %s. Free an address, enable or enlarge one of these Eips, or name another in annotation %s",
		namespace, strings.Join(parts, ", "), v1alpha2.AnnotationPool)
}

// maxNamed bounds how many pools a message lists: an event has 1 KiB.
const maxNamed = 4

func shortText(reason Reason) string {
	switch reason {
	case PoolDisabled:
		return "is disabled"
	case PoolDeleting:
		return "is being deleted"
	case FamilyMismatch:
		return "is of another IP family"
	default:
		return "is full"
	}
}

func familiesText(families []Family) string {
	texts := make([]string, len(families))
	for i, f := range families {
		texts[i] = string(f)
	}
	return strings.Join(texts, ", ")
}
