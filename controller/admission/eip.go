package admission

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"go4.org/netipx"
	corev1 "k8s.io/api/core/v1"

	"github.com/fairway-lb/fairway/api/v1alpha2"
)

// Cluster is what there is beside the object that is written.
type Cluster struct {
	Eips []v1alpha2.Eip
	// Services are those that carry v1alpha2.LabelPool.
	Services []corev1.Service
	// NodeAddresses are the InternalIPs of all nodes.
	NodeAddresses []netip.Addr
	// BGP is nil where it does not matter or is not known.
	BGP *BGP
}

// hasEip tells whether there is an Eip of a name.
func (c *Cluster) hasEip(name string) bool {
	return c != nil && slices.ContainsFunc(c.Eips, func(eip v1alpha2.Eip) bool { return eip.Name == name })
}

// Denials, worded as OpenELB's were.
const (
	denialDefault   = "already exists a default EIP"
	denialAddress   = "the address field is not allowed to be modified"
	denialInterface = "if protocol is layer2 or vip, interface should not be empty"
)

// ReviewEip decides about an Eip that is created (old is nil) or changed. A
// change is never refused for what was there before it, and an Eip that is
// being deleted is never refused one, so that finalizers can always go.
//
// Rules about the Eip alone are here, too, for those that come in v1alpha1:
// the API server applies v1alpha2's own to objects written in v1alpha2 only.
func ReviewEip(old, eip *v1alpha2.Eip, cluster *Cluster) Verdict {
	if old == nil {
		return reviewNewEip(eip, cluster)
	}
	if eip.DeletionTimestamp != nil {
		return Verdict{}
	}
	return reviewChangedEip(old, eip, cluster)
}

func reviewNewEip(eip *v1alpha2.Eip, cluster *Cluster) Verdict {
	set, err := eip.Spec.AddressSet()
	if err != nil {
		return denied(err.Error())
	}
	if lacksInterface(eip) {
		return denied(denialInterface)
	}
	if other, overlaps := overlapping(eip.Name, set, cluster.Eips); overlaps {
		return denied("eip address overlap with " + other)
	}
	if isDefault(eip) && existsDefault(eip.Name, cluster.Eips) {
		return denied(denialDefault)
	}
	return Verdict{Warnings: append(warningsForEip(eip, set, cluster), notAnnounced(eip, cluster.BGP)...)}
}

func reviewChangedEip(old, eip *v1alpha2.Eip, cluster *Cluster) Verdict {
	if isDefault(eip) && !isDefault(old) && existsDefault(eip.Name, cluster.Eips) {
		return denied(denialDefault)
	}
	if eip.Spec.Address != old.Spec.Address {
		return denied(denialAddress)
	}
	if lacksInterface(eip) && !lacksInterface(old) {
		return denied(denialInterface)
	}
	set, err := eip.Spec.AddressSet()
	if err != nil {
		if sameBlocks(old, eip) {
			return Verdict{}
		}
		return denied(err.Error())
	}
	// Of an Eip that could not be read, all addresses are new.
	was, err := old.Spec.AddressSet()
	if err != nil {
		was = &netipx.IPSet{}
	}
	if other, overlaps := overlapping(eip.Name, without(set, was), cluster.Eips); overlaps {
		return denied("eip address overlap with " + other)
	}
	if message := cutInUse(eip.Name, without(was, set), cluster); message != "" {
		return denied(message)
	}
	if sameBlocks(old, eip) && old.Spec.Protocol == eip.Spec.Protocol && old.Spec.AllowOffSubnet == eip.Spec.AllowOffSubnet &&
		old.Spec.Exclusive == eip.Spec.Exclusive && old.Annotations[v1alpha2.AnnotationDefaultEip] == eip.Annotations[v1alpha2.AnnotationDefaultEip] {
		return Verdict{} // it was warned of before
	}
	return Verdict{Warnings: warningsForEip(eip, set, cluster)}
}

// sameBlocks tells whether the addresses of an Eip are spelled as before.
func sameBlocks(old, eip *v1alpha2.Eip) bool {
	return old.Spec.Address == eip.Spec.Address &&
		slices.Equal(old.Spec.Addresses, eip.Spec.Addresses) && slices.Equal(old.Spec.Exclude, eip.Spec.Exclude)
}

func lacksInterface(eip *v1alpha2.Eip) bool {
	return eip.Spec.Interface == "" && (eip.Spec.Protocol == v1alpha2.ProtocolLayer2 || eip.Spec.Protocol == v1alpha2.ProtocolVIP)
}

func isDefault(eip *v1alpha2.Eip) bool {
	return strings.EqualFold(eip.Annotations[v1alpha2.AnnotationDefaultEip], "true")
}

// existsDefault tells whether another Eip is the default. One that is being
// deleted gives no address any more.
func existsDefault(name string, eips []v1alpha2.Eip) bool {
	return slices.ContainsFunc(eips, func(other v1alpha2.Eip) bool {
		return other.Name != name && other.DeletionTimestamp == nil && isDefault(&other)
	})
}

// overlapping returns the first by name of the other Eips that has some of the
// addresses. Those of an Eip that is being deleted are in use.
func overlapping(name string, set *netipx.IPSet, eips []v1alpha2.Eip) (first string, overlaps bool) {
	for i := range eips {
		other := &eips[i]
		if other.Name == name || (overlaps && other.Name > first) {
			continue
		}
		if theirs, err := other.Spec.AddressSet(); err == nil && set.Overlaps(theirs) {
			first, overlaps = other.Name, true
		}
	}
	return first, overlaps
}

// cutInUse says which Service holds an address that is to leave the pool, ""
// if none does.
func cutInUse(name string, cut *netipx.IPSet, cluster *Cluster) string {
	if len(cut.Ranges()) == 0 {
		return ""
	}
	type holding struct {
		addr   netip.Addr
		holder string
	}
	var holdings []holding
	elsewhere := addressesOfOthers(name, cluster.Eips)
	for i := range cluster.Services {
		svc := &cluster.Services[i]
		for _, ingress := range svc.Status.LoadBalancer.Ingress {
			addr, err := netip.ParseAddr(ingress.IP)
			if err != nil {
				continue
			}
			// What another Eip has too is not cut from all.
			if addr = addr.Unmap(); !cut.Contains(addr) || elsewhere.Contains(addr) {
				continue
			}
			holdings = append(holdings, holding{addr, svc.Namespace + "/" + svc.Name})
		}
	}
	if len(holdings) == 0 {
		return ""
	}
	first := slices.MinFunc(holdings, func(a, b holding) int { return a.addr.Compare(b.addr) })
	message := fmt.Sprintf("spec.addresses and spec.exclude would cut %s from the pool, which Service %s holds", first.addr, first.holder)
	if more := len(holdings) - 1; more > 0 {
		message += fmt.Sprintf(", and %d more in use", more)
	}
	return message + ": keep it in the pool, or first have the Service ask for another address or pool, or delete it"
}

// addressesOfOthers returns what the other Eips have that stay.
func addressesOfOthers(name string, eips []v1alpha2.Eip) *netipx.IPSet {
	var b netipx.IPSetBuilder
	for i := range eips {
		if eips[i].Name == name || !eips[i].DeletionTimestamp.IsZero() {
			continue
		}
		if set, err := eips[i].Spec.AddressSet(); err == nil {
			b.AddSet(set)
		}
	}
	return built(&b)
}

// without returns a set less the addresses of another.
func without(set, less *netipx.IPSet) *netipx.IPSet {
	var b netipx.IPSetBuilder
	b.AddSet(set)
	b.RemoveSet(less)
	return built(&b)
}

// built returns the set; it is empty if an address was not valid, which no
// parsed one is.
func built(b *netipx.IPSetBuilder) *netipx.IPSet {
	set, err := b.IPSet()
	if err != nil {
		return &netipx.IPSet{}
	}
	return set
}
