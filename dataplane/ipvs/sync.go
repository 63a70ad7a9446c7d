package ipvs

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/fairway-lb/fairway/dataplane/service"
)

// errScheduler is what was reported once of a Service that asks for a scheduler
// that this kernel lacks. Everything is done but that.
var errScheduler = errors.New("the default is used instead")

// entryChanges returns the entries that are to come before, and to go after,
// what else changes. The allowed go first into their set and last out of it.
func (b *Backend) entryChanges(d dirty) (added, removed []element) {
	static := map[entryKey]struct{}{}
	if len(d.entries) > 0 {
		static = staticEntries(&b.desired.config)
	}
	for k := range d.entries {
		if k.set == servicesSet || k.set == addressesSet {
			continue // follow what there is
		}
		have, has := b.actual.entries[k]
		want, wanted := b.desired.entries[k]
		_, always := static[k]
		x := element{entryKey: k}
		if wanted && k.set == withinSet {
			x.mark, _ = b.marks.take(want.within)
		}
		switch {
		case (wanted || always) && (!has || have != x.mark):
			added = append(added, x)
		case !wanted && !always && has:
			removed = append(removed, x)
		}
	}
	for k := range d.virtuals {
		if e := serviceEntry(k); !k.byMark() && b.desired.virtuals[k] != nil {
			if _, has := b.actual.entries[e]; !has {
				added = append(added, element{entryKey: e})
			}
		}
	}
	for addr := range d.addresses {
		e := entryKey{set: addressesSet, addr: addr}
		if _, has := b.actual.entries[e]; !has && b.onLink(addr) {
			added = append(added, element{entryKey: e})
		}
	}
	// What is in the sets of services and of addresses for no reason.
	for k := range d.entries {
		switch k.set {
		case servicesSet:
			v := virtualKey{protocol: k.protocol, address: netip.AddrPortFrom(k.addr, k.port)}
			if b.desired.virtuals[v] == nil && b.actual.virtuals[v] == nil {
				removed = append(removed, element{entryKey: k})
			}
		case addressesSet:
			if _, on := b.actual.addresses.own[k.addr]; !on && !b.onLink(k.addr) {
				removed = append(removed, element{entryKey: k})
			}
		}
	}
	slices.SortFunc(added, func(x, y element) int { return cmp.Compare(addOrder[x.set], addOrder[y.set]) })
	slices.SortFunc(removed, func(x, y element) int { return cmp.Compare(x.set, y.set) })
	return added, removed
}

// addOrder has a frontend's sources there before it is restricted to them. They
// go in the order of the sets: the restriction first.
var addOrder = func() (order [setKinds]int) {
	for i := range order {
		order[i] = i
	}
	order[restrictedSet], order[allowedSet] = order[allowedSet], order[restrictedSet]
	return order
}()

func (b *Backend) addEntries(elements []element) error {
	return b.eachSet(elements, b.kernel.sets.add, func(x element) { b.actual.entries[x.entryKey] = x.mark })
}

func (b *Backend) removeEntries(elements []element) error {
	return b.eachSet(elements, b.kernel.sets.del, func(x element) { delete(b.actual.entries, x.entryKey) })
}

// eachSet changes sets, in the order of elements.
func (b *Backend) eachSet(elements []element, change func(string, setSpec, []element) error, done func(element)) error {
	for len(elements) > 0 {
		kind := elements[0].set
		n := 1
		for n < len(elements) && elements[n].set == kind {
			n++
		}
		for _, f := range b.kernel.families {
			var some []element
			for _, x := range elements[:n] {
				if x.family() == f {
					some = append(some, x)
				}
			}
			if err := change(setName(kind, f), sets[kind], some); err != nil {
				return err
			}
		}
		for _, x := range elements[:n] {
			done(x)
		}
		elements = elements[n:]
	}
	return nil
}

// syncVirtuals makes some of the virtual services as desired.
func (b *Backend) syncVirtuals(d dirty, some func(virtualKey) bool) error {
	for k := range d.virtuals {
		if !some(k) {
			continue
		}
		if err := b.syncVirtual(k); err != nil {
			return fmt.Errorf("virtual service %s/%s: %w", k.address, k.protocol, err)
		}
	}
	return nil
}

func (b *Backend) syncVirtual(k virtualKey) error {
	want, have := b.desired.virtuals[k], b.actual.virtuals[k]
	if want != nil {
		s := want.spec
		if _, lacks := b.lacking[s.scheduler.name]; lacks {
			s.scheduler = newScheduler(b.options.Scheduler, b.options.HashPorts)
		}
		if k.within {
			if _, ok := b.marks.take(k); !ok {
				return errors.New("there are more frontends with policy Local than packet marks for them")
			}
		}
		if have == nil || have.spec != s {
			var err error
			if have, err = b.install(k, s, have); err != nil {
				return err
			}
		}
		if have.scheduler != want.scheduler && b.lacking.tell(want) {
			b.notes = append(b.notes, lacksScheduler(want))
		}
		// mh goes by their order: with the same, nodes choose the same.
		for _, endpoint := range slices.SortedFunc(maps.Keys(want.weights), netip.AddrPort.Compare) {
			delete(have.leaving, endpoint)
			if err := b.setEndpoint(k, have, endpoint, want.weights[endpoint]); err != nil {
				return err
			}
		}
	}
	if have == nil {
		return nil
	}
	for endpoint, weight := range have.weights {
		if want != nil {
			if _, stays := want.weights[endpoint]; stays {
				continue
			}
		}
		if err := b.retire(k, have, endpoint, weight); err != nil {
			return err
		}
	}
	if want == nil {
		b.draining.add(k) // for its own end
	}
	return nil
}

// lackingSchedulers are those that the kernel does not have, and who has been
// told.
type lackingSchedulers map[string]map[service.PortName]struct{}

// tell returns whether a virtual service's owner has yet to be told, and is.
func (l lackingSchedulers) tell(v *virtual) bool {
	told := l[v.scheduler.name]
	_, known := told[v.owner]
	told[v.owner] = struct{}{}
	return !known
}

// forget has ports that have gone be told anew if they come again.
func (l lackingSchedulers) forget(changes []service.PortChange) {
	for _, told := range l {
		for _, c := range changes {
			if c.After == nil {
				delete(told, c.Name)
			}
		}
	}
}

func lacksScheduler(v *virtual) error {
	name := v.scheduler.name
	return fmt.Errorf("%s: the kernel lacks the scheduler %s (module ip_vs_%s): %w", v.owner, name, name, errScheduler)
}

// install makes a virtual service, or has the one there be as it is to be: with
// the default scheduler where the kernel lacks the other.
func (b *Backend) install(k virtualKey, s spec, have *installed) (*installed, error) {
	for {
		v := kernelVirtual(k, b.marks.of[k], s)
		var err error
		if have == nil {
			err = createVirtual(b.kernel.ipvs, v)
		} else {
			err = b.kernel.ipvs.UpdateService(v)
		}
		if errors.Is(err, unix.ENOENT) && s.scheduler.name != b.options.Scheduler {
			b.lacking[s.scheduler.name] = map[service.PortName]struct{}{}
			s.scheduler = newScheduler(b.options.Scheduler, b.options.HashPorts)
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("make it: %w", err)
		}
		if have == nil {
			have = newInstalled(s, map[netip.AddrPort]int{})
			b.actual.virtuals[k] = have
		}
		have.spec = s
		return have, nil
	}
}

func (b *Backend) setEndpoint(k virtualKey, v *installed, endpoint netip.AddrPort, weight int) error {
	old, has := v.weights[endpoint]
	if has && old == weight {
		return nil
	}
	change := b.kernel.ipvs.NewDestination
	if has {
		change = b.kernel.ipvs.UpdateDestination
	}
	if err := change(kernelVirtual(k, b.marks.of[k], v.spec), kernelDestination(endpoint, weight)); err != nil {
		return fmt.Errorf("set the weight of endpoint %s: %w", endpoint, err)
	}
	v.weights[endpoint] = weight
	return nil
}

// retire has an endpoint get no new flows. It goes when it has none.
func (b *Backend) retire(k virtualKey, v *installed, endpoint netip.AddrPort, weight int) error {
	if v.scheduler.name == "dh" {
		// It would go on to choose the endpoint, and refuse the client.
		return b.removeEndpoint(k, v, endpoint)
	}
	if weight != 0 {
		if err := b.setEndpoint(k, v, endpoint, 0); err != nil {
			return err
		}
	}
	b.draining.add(k)
	return nil
}

func (b *Backend) removeEndpoint(k virtualKey, v *installed, endpoint netip.AddrPort) error {
	err := b.kernel.ipvs.DelDestination(kernelVirtual(k, b.marks.of[k], v.spec), kernelDestination(endpoint, 0))
	if err != nil && !gone(err) {
		return fmt.Errorf("remove endpoint %s: %w", endpoint, err)
	}
	delete(v.weights, endpoint)
	delete(v.leaving, endpoint)
	return nil
}

// syncAddresses has the link have the addresses that it is to have.
func (b *Backend) syncAddresses(addrs map[netip.Addr]struct{}) error {
	own := b.actual.addresses.own
	var missing []netip.Addr
	for _, addr := range slices.SortedFunc(maps.Keys(addrs), netip.Addr.Compare) {
		_, has := own[addr]
		wanted := b.onLink(addr)
		e := entryKey{set: addressesSet, addr: addr}
		switch {
		case wanted && !has:
			missing = append(missing, addr)
		case !wanted && has:
			if err := b.kernel.link.del(addr); err != nil {
				return err
			}
			delete(own, addr)
			if _, has := b.actual.entries[e]; has {
				if err := b.removeEntries([]element{{entryKey: e}}); err != nil {
					return err
				}
			}
		}
	}
	if len(missing) == 0 {
		return nil
	}
	err := b.kernel.link.add(missing)
	if errors.Is(err, errNotLocal) {
		b.notes, err = append(b.notes, err), nil
	}
	if err != nil {
		return err
	}
	for _, addr := range missing {
		own[addr] = struct{}{}
	}
	return nil
}
