package speaker

import (
	"net/netip"
	"slices"

	"k8s.io/apimachinery/pkg/types"

	"github.com/fairway-lb/fairway/speaker/plan"
)

// book knows which Services have which addresses.
type book struct {
	addresses map[types.NamespacedName][]netip.Addr
	tenants   map[netip.Addr][]tenant // the senior first
}

// tenant is a Service that has an address.
type tenant struct {
	plan.Tenant
	uid types.UID
	// pool is the Eip that the Service's label names.
	pool string
}

// subject is a Service as an event names it. Without the UID kubectl describe
// does not show the event.
type subject struct {
	types.NamespacedName
	uid types.UID
}

func newBook() book {
	return book{addresses: map[types.NamespacedName][]netip.Addr{}, tenants: map[netip.Addr][]tenant{}}
}

// enter replaces what is known of a Service: the addresses that it has, each
// with the Service as its tenant. It returns the addresses that it had or has.
func (b *book) enter(name types.NamespacedName, has map[netip.Addr]tenant) (touched []netip.Addr) {
	touched = b.addresses[name]
	for _, addr := range touched {
		b.leave(addr, name)
	}
	delete(b.addresses, name)
	if len(has) == 0 {
		return touched
	}
	addresses := make([]netip.Addr, 0, len(has))
	for addr, t := range has {
		addresses = append(addresses, addr)
		b.join(addr, t)
		if !slices.Contains(touched, addr) {
			touched = append(touched[:len(touched):len(touched)], addr)
		}
	}
	b.addresses[name] = addresses
	return touched
}

func (b *book) join(addr netip.Addr, t tenant) {
	tenants := b.tenants[addr]
	i, _ := slices.BinarySearchFunc(tenants, t, func(a, b tenant) int { return plan.Seniority(a.Tenant, b.Tenant) })
	b.tenants[addr] = slices.Insert(tenants, i, t)
}

func (b *book) leave(addr netip.Addr, name types.NamespacedName) {
	rest := slices.DeleteFunc(b.tenants[addr], func(t tenant) bool { return t.Service == name })
	if len(rest) == 0 {
		delete(b.tenants, addr)
	} else {
		b.tenants[addr] = rest
	}
}

func (t tenant) subject() subject { return subject{t.Service, t.uid} }
