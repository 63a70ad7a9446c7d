package ipvs

import (
	"fmt"
	"iter"
	"net/netip"
	"slices"
	"time"
)

// answerTime is how long a virtual service of UDP waits for answers from an
// endpoint that serves no longer before it goes: the kernel forgets its flows
// then, and their next packets go to others.
const answerTime = 2 * time.Second

// draining are virtual services that have endpoints on their way out, or are so
// themselves.
type draining struct {
	virtuals map[virtualKey]struct{}
	at       map[netip.Addr]int // how many, by address
}

func newDraining() draining {
	return draining{map[virtualKey]struct{}{}, map[netip.Addr]int{}}
}

func (d draining) add(k virtualKey) {
	if _, has := d.virtuals[k]; !has {
		d.virtuals[k] = struct{}{}
		d.at[k.address.Addr()]++
	}
}

func (d draining) remove(k virtualKey) {
	if _, has := d.virtuals[k]; !has {
		return
	}
	delete(d.virtuals, k)
	addr := k.address.Addr()
	if d.at[addr]--; d.at[addr] == 0 {
		delete(d.at, addr)
	}
}

// drain takes endpoints of some virtual services away that get no new flows and
// have no others, and those of them that have no endpoints left and are no longer
// wanted.
func (b *Backend) drain(some iter.Seq[virtualKey]) error {
	for k := range some {
		if _, drains := b.draining.virtuals[k]; !drains {
			continue
		}
		if err := b.drainVirtual(k); err != nil {
			return fmt.Errorf("virtual service %s/%s: %w", k.address, k.protocol, err)
		}
	}
	return nil
}

func (b *Backend) drainVirtual(k virtualKey) error {
	have, want := b.actual.virtuals[k], b.desired.virtuals[k]
	if have == nil {
		b.draining.remove(k)
		return nil
	}
	left := 0
	var leaving []netip.AddrPort
	for endpoint := range have.weights {
		if want != nil {
			if _, stays := want.weights[endpoint]; stays {
				continue
			}
		}
		leaving = append(leaving, endpoint)
	}
	if len(leaving) > 0 {
		_, busy, err := readDestinations(b.kernel.ipvs, kernelVirtual(k, b.marks.of[k], have.spec))
		if err != nil {
			return err
		}
		for _, endpoint := range leaving {
			if busy[endpoint] && b.keeps(k, have, want, endpoint) {
				left++
			} else if err := b.removeEndpoint(k, have, endpoint); err != nil {
				return err
			}
		}
	}
	if left > 0 {
		return nil
	}
	b.draining.remove(k)
	if want == nil {
		return b.removeVirtual(k, have)
	}
	return nil
}

// keeps tells whether flows go on to an endpoint that gets no new ones.
func (b *Backend) keeps(k virtualKey, have *installed, want *virtual, endpoint netip.AddrPort) bool {
	if k.graceful() || want != nil && slices.Contains(want.serving, endpoint) {
		delete(have.leaving, endpoint)
		return true
	}
	since, known := have.leaving[endpoint]
	if !known {
		since = time.Now()
		have.leaving[endpoint] = since
	}
	end := since.Add(answerTime)
	if !time.Now().Before(end) {
		return false
	}
	b.watch.wakeAt(end)
	return true
}

// removeVirtual takes a virtual service away, with what is there for as long as
// it is.
func (b *Backend) removeVirtual(k virtualKey, v *installed) error {
	if err := b.kernel.ipvs.DelService(kernelVirtual(k, b.marks.of[k], v.spec)); err != nil && !gone(err) {
		return fmt.Errorf("remove it: %w", err)
	}
	delete(b.actual.virtuals, k)
	if k.byMark() {
		b.marks.release(k)
	} else if _, has := b.actual.entries[serviceEntry(k)]; has {
		if err := b.removeEntries([]element{{entryKey: serviceEntry(k)}}); err != nil {
			return err
		}
	}
	addr := k.address.Addr()
	return b.syncAddresses(map[netip.Addr]struct{}{addr: {}})
}

// lingers tells whether virtual services at an address still have flows. Without
// the address they would go astray.
func (b *Backend) lingers(addr netip.Addr) bool {
	return b.draining.at[addr] > 0
}
