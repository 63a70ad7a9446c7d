package ipam

import (
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/fairway-lb/fairway/api/v1alpha2"
)

func invalidAddress(field, text string) *Refusal {
	return refuse(InvalidRequest, "%s asks for %s, which is not an IP address: write one IPv4 or IPv6 address, or one of each separated by a comma, without prefix length, or remove it to be given any", field, quote(text))
}

func twoOfOneFamily(field string, family Family) *Refusal {
	return refuse(InvalidRequest, "%s asks for two %s addresses: a Service has one address of each family at most, write one", field, family)
}

func poolNotFound(name string) *Refusal {
	return refuse(PoolNotFound, "annotation %s names Eip %s, which does not exist, or is not used because it is invalid (then its events say so): correct the annotation, or create the Eip", v1alpha2.AnnotationPool, quote(name))
}

func poolDisabled(p *pool) *Refusal {
	return refuse(PoolDisabled, "Eip %s gives no new addresses because its spec.disable is true: set it to false, or ask for another Eip", quote(p.Name))
}

func poolDeleting(p *pool) *Refusal {
	return refuse(PoolDeleting, "Eip %s gives no new addresses because it is being deleted: ask for another Eip", quote(p.Name))
}

func poolExhausted(p *pool, family Family) *Refusal {
	s := p.stocks[family]
	of := ""
	if p.Has(IPv4) && p.Has(IPv6) {
		of = string(family) + " "
	}
	rest := s.list.resting.first()
	if rest == nil {
		r := refuse(PoolExhausted, "Eip %s is full: each of its %s %saddresses is in use. Free one, enlarge spec.addresses of the Eip, or ask for another Eip", quote(p.Name), s.size, of)
		r.Pools = []string{p.Name}
		return r
	}
	r := refuse(PoolExhausted, "Eip %s is full: each of its %s %saddresses is in use, but %d in quarantine, of which %s can be given from %s on. Wait, ask for one of them by name, or ask for another Eip",
		quote(p.Name), s.size, of, len(s.list.resting.items), rest.addr, timeText(rest.until))
	r.Pools, r.RetryAt = []string{p.Name}, rest.until
	return r
}

func quotaExceeded(p *pool, namespace string, limit int) *Refusal {
	r := refuse(QuotaExceeded, "namespace %s may hold %s of Eip %s, and holds that many: free one, raise spec.namespaceLimits of the Eip, or ask for another Eip",
		quote(namespace), countText(limit), quote(p.Name))
	r.Pools = []string{p.Name}
	return r
}

func namespaceNotAllowed(p *pool, namespace string) *Refusal {
	return refuse(NamespaceNotAllowed, "Eip %s is exclusive to the namespaces that it is bound to, and %s is not one: add it to spec.namespaces of the Eip, or ask for another Eip", quote(p.Name), quote(namespace))
}

func outOfRange(p *pool, addr netip.Addr) *Refusal {
	return refuse(AddressOutOfRange, "the requested address %s is not in Eip %s (%s): ask for an address of this Eip, or for the Eip that contains it", addr, quote(p.Name), p.Space)
}

func inNoPool(addr netip.Addr) *Refusal {
	return refuse(AddressOutOfRange, "the requested address %s is in no Eip: ask for an address that an Eip contains, or create an Eip that contains this one", addr)
}

func notInPool(x Allocation) *Refusal {
	if x.Pool == "" {
		return refuse(NotInPool, "the Service keeps address %s, which is in no Eip: create an Eip that contains it, or ask for an address of one", x.Address)
	}
	return refuse(NotInPool, "the Service keeps address %s, which Eip %s does not contain any more, nor does another: add it to spec.addresses of the Eip, or ask for an address that an Eip contains", x.Address, quote(x.Pool))
}

func poolFamilyMismatch(p *pool, family Family) *Refusal {
	return refuse(FamilyMismatch, "Eip %s (%s) has no %s address, which the Service's spec.ipFamilies asks for: add some to spec.addresses of the Eip, ask for another Eip, or change spec.ipFamilies", quote(p.Name), p.Space, family)
}

func addressFamilyMismatch(addr netip.Addr, req *Request) *Refusal {
	return refuse(FamilyMismatch, "the requested address %s is %s, and the Service's spec.ipFamilies is %s: ask for an address of that family, or change spec.ipFamilies", addr, FamilyOf(addr), familiesText(req.families()))
}

func noEligiblePool(namespace string) *Refusal {
	return refuse(NoEligiblePool, "no Eip serves the Service: none is bound to namespace %s (and selects the Service where it has a spec.serviceSelector), and none is the default. Name an Eip in annotation %s, add the namespace to spec.namespaces of an Eip, or mark one as default with annotation %s: \"true\"",
		quote(namespace), v1alpha2.AnnotationPool, v1alpha2.AnnotationDefaultEip)
}

func protocolMismatch(req *Request, offering []candidate) *Refusal {
	var names []string
	for _, c := range offering {
		names = append(names, fmt.Sprintf("%s is of %s", quote(c.name), c.pool.announcedBy()))
	}
	return refuse(ProtocolMismatch, "annotation %s asks for protocol %s, and no Eip that serves the Service is of that protocol: %s. Correct or remove the annotation, or create an Eip with this spec.protocol",
		v1alpha2.AnnotationProtocol, quote(req.Protocol), listText(names, ", "))
}

func noConsent(addr netip.Addr, req *Request, holder ServiceKey) *Refusal {
	if req.ShareKey != "" {
		return refuse(SharingRefused, "address %s is held by Service %s, which does not carry the same annotation %s: give both the same key, or ask for another address", addr, holder, v1alpha2.AnnotationShare)
	}
	return refuse(AddressInUse, "address %s is held by Service %s: ask for another address, free it there, or let both share it with the same annotation %s", addr, holder, v1alpha2.AnnotationShare)
}

func addressLeaving(addr netip.Addr, holder ServiceKey) *Refusal {
	return refuse(AddressInUse, "address %s is about to be given up by Service %s: wait until it is free, or ask for another address", addr, holder)
}

func otherNamespace(addr netip.Addr, holder ServiceKey, p *pool) *Refusal {
	if p == nil {
		return refuse(SharingRefused, "address %s is held by Service %s of another namespace, and is in no Eip whose spec.sharing.namespaces could allow sharing it: ask for another address", addr, holder)
	}
	return refuse(SharingRefused, "address %s is held by Service %s of another namespace: add both namespaces to spec.sharing.namespaces of Eip %s, or ask for another address", addr, holder, quote(p.Name))
}

func portTaken(addr netip.Addr, port Port, holder ServiceKey) *Refusal {
	return refuse(SharingRefused, "port %d/%s of address %s belongs to Service %s: use another port, or ask for another address", port.Number, port.Protocol, addr, holder)
}

func otherSelector(addr netip.Addr, holder ServiceKey) *Refusal {
	return refuse(SharingRefused, "address %s is held by Service %s, and under externalTrafficPolicy Local only Services of one spec.selector can share an address: set both to Cluster, give both the same selector, or ask for another address", addr, holder)
}

// lacking says what a Service that prefers dual stack does without.
func lacking(r missing) *Refusal {
	return r.prefixed("the Service has no %s address, which spec.ipFamilyPolicy PreferDualStack would have: ", r.family)
}

// requiringDualStack says which address a Service waits for.
func requiringDualStack(r missing) *Refusal {
	return r.prefixed("there is no %s address, which spec.ipFamilyPolicy RequireDualStack needs: ", r.family)
}

// prefixed returns the refusal with more text before its own.
func (r *Refusal) prefixed(format string, args ...any) *Refusal {
	longer := *r
	longer.Message = clip(fmt.Sprintf(format, args...)+r.Message, maxMessage)
	return &longer
}

func familiesText(families []Family) string {
	texts := make([]string, len(families))
	for i, f := range families {
		texts[i] = string(f)
	}
	return strings.Join(texts, ", ")
}

func countText(n int) string {
	if n == 1 {
		return "1 address"
	}
	return fmt.Sprintf("%d addresses", n)
}

// timeText writes a time with a second more than it has, so that it is over
// when a clock shows the text.
func timeText(t time.Time) string {
	return t.UTC().Add(time.Second - 1).Truncate(time.Second).Format(time.RFC3339)
}

// listText joins the first few parts and tells how many more there are.
func listText(parts []string, separator string) string {
	if len(parts) > maxNamed {
		parts = append(parts[:maxNamed:maxNamed], fmt.Sprintf("and %d more", len(parts)-maxNamed))
	}
	return strings.Join(parts, separator)
}

// maxNamed bounds how many things a message lists.
const maxNamed = 4
