package ipam

import (
	"fmt"
	"slices"

	"github.com/fairway-lb/fairway/api/v1alpha2"
)

// attempt is a pool that was tried and why it refused.
type attempt struct {
	pool string
	*Refusal
}

// summary makes one refusal of those of all pools that were tried.
func (a *Allocator) summary(req *Request, families []Family, tried []attempt) *Refusal {
	tried = onePerPool(tried)
	if len(tried) == 0 {
		return a.untried(req, families)
	}
	for _, t := range tried {
		t.Considered = []string{t.pool}
	}
	best := tried[0].Refusal
	for _, t := range tried[1:] {
		if usefulness(t.Reason) > usefulness(best.Reason) {
			best = t.Refusal
		}
	}
	if len(tried) == 1 {
		return best
	}
	whole := *best
	if !best.Address.IsValid() { // else it says it all
		whole.Message = noneAvailable(req, tried)
	}
	for _, t := range tried {
		whole.alsoWaitFor(t.Refusal)
	}
	return &whole
}

// untried says why there was no pool to be tried.
func (a *Allocator) untried(req *Request, families []Family) *Refusal {
	for _, family := range families {
		if addr := req.asked(family); addr.IsValid() {
			return inNoPool(addr)
		}
	}
	var offering []candidate
	a.offering(req, func(c candidate) bool {
		offering = append(offering, c)
		return false
	})
	if len(offering) > 0 {
		return protocolMismatch(req, offering)
	}
	return noEligiblePool(req.Service.Namespace)
}

// onePerPool keeps the most useful refusal of each pool, of all families.
func onePerPool(tried []attempt) (kept []attempt) {
	for _, t := range tried {
		i := slices.IndexFunc(kept, func(k attempt) bool { return k.pool == t.pool })
		if i < 0 {
			kept = append(kept, t)
			continue
		}
		better, other := kept[i], t
		if usefulness(t.Reason) > usefulness(kept[i].Reason) {
			better, other = t, kept[i]
		}
		better.alsoWaitFor(other.Refusal)
		kept[i] = better
	}
	return kept
}

// usefulness orders reasons by how near the request came to being met: what
// time alone may change is the highest, a mistake the lowest.
func usefulness(reason Reason) int {
	return slices.Index([]Reason{
		PoolNotFound, AddressOutOfRange, NamespaceNotAllowed, PoolDeleting, PoolDisabled, FamilyMismatch,
		QuotaExceeded, PoolExhausted, AddressInUse, SharingRefused,
	}, reason)
}

func noneAvailable(req *Request, tried []attempt) string {
	parts := make([]string, len(tried))
	for i, t := range tried {
		parts[i] = quote(t.pool) + " " + shortText(t.Refusal)
	}
	if len(req.Pools) > 0 {
		return clip(fmt.Sprintf("no Eip that annotation %s names has an address to give: %s. Free an address, enable or enlarge one of these Eips, or name another",
			v1alpha2.AnnotationPool, listText(parts, ", ")), maxMessage)
	}
	return clip(fmt.Sprintf("no Eip that serves namespace %s has an address to give: %s. Free an address, enable or enlarge one of these Eips, or name another in annotation %s",
		quote(req.Service.Namespace), listText(parts, ", "), v1alpha2.AnnotationPool), maxMessage)
}

func shortText(r *Refusal) string {
	switch r.Reason {
	case PoolNotFound:
		return "does not exist"
	case AddressOutOfRange:
		return "does not contain the requested address"
	case NamespaceNotAllowed:
		return "is exclusive to other namespaces"
	case PoolDeleting:
		return "is being deleted"
	case PoolDisabled:
		return "is disabled"
	case FamilyMismatch:
		return "is of another IP family"
	case QuotaExceeded:
		return "gives the namespace no more (spec.namespaceLimits)"
	case AddressInUse, SharingRefused:
		return "has the address in use"
	default:
		if !r.RetryAt.IsZero() {
			return "is full until " + timeText(r.RetryAt)
		}
		return "is full"
	}
}

func union(x, y []string) []string {
	all := slices.Clone(x)
	for _, s := range y {
		if !slices.Contains(all, s) {
			all = append(all, s)
		}
	}
	return all
}
