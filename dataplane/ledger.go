package dataplane

import (
	"iter"
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/fairway-lb/fairway/dataplane/service"
)

// ledger keeps account of the load-balancer addresses for which traffic is
// forwarded, and holds back changes that would end that for one which is still
// announced.
type ledger struct {
	readiness *Readiness
	forwards  map[netip.Addr]int                      // by how many service ports
	parked    map[service.PortName]service.PortChange // since they would end it
	ending    map[netip.Addr]bool                     // for which changes are parked
	unserved  map[service.Family]bool                 // by the backend
}

func newLedger(r *Readiness) *ledger {
	return &ledger{r, map[netip.Addr]int{}, map[service.PortName]service.PortChange{}, map[netip.Addr]bool{}, map[service.Family]bool{}}
}

// sort returns which changes are to be made now, those that were held back
// before among them; whether what is to be withdrawn changed, with the Services
// that this is about; and when to come again with further changes or none, the
// zero time for no need.
func (l *ledger) sort(changes []service.PortChange, now time.Time) (due []service.PortChange, concerned []service.PortName, again time.Time) {
	var settled []service.PortChange // it is again as it was
	for _, c := range changes {
		if held, ok := l.parked[c.Name]; ok {
			c.Before = held.Before
			delete(l.parked, c.Name)
			if c.Before.Equal(c.After) {
				settled = append(settled, c)
				continue
			}
		}
		due = append(due, c)
	}
	due = slices.AppendSeq(due, maps.Values(l.parked))
	slices.SortFunc(due, func(a, b service.PortChange) int { return a.Name.Compare(b.Name) })
	l.parked = map[service.PortName]service.PortChange{}

	left := map[netip.Addr]int{}
	for _, c := range due {
		forwarded(c.Before, func(a netip.Addr) { left[a]-- })
		forwarded(c.After, func(a netip.Addr) { left[a]++ })
	}
	waiting, news := map[netip.Addr]bool{}, map[netip.Addr]bool{}
	for addr, n := range left {
		if n >= 0 || l.forwards[addr]+n > 0 {
			continue
		}
		may, begins, at := l.readiness.retire(addr, now)
		if may {
			continue
		}
		waiting[addr] = true
		if begins {
			news[addr] = true
		}
		if again.IsZero() || at.Before(again) {
			again = at
		}
	}
	for addr := range l.ending {
		if !waiting[addr] && l.forwards[addr]+left[addr] > 0 && l.readiness.stay(addr) {
			news[addr] = true
		}
	}
	l.ending = waiting
	concerned = touching(slices.Concat(due, settled), func(a netip.Addr) bool { return news[a] })
	due = l.hold(due, func(c service.PortChange) (held bool) {
		forwarded(c.Before, func(a netip.Addr) { held = held || waiting[a] })
		return held
	})
	return l.holdHeirs(due), concerned, again
}

// hold parks some changes, and returns the others.
func (l *ledger) hold(due []service.PortChange, which func(service.PortChange) bool) []service.PortChange {
	return slices.DeleteFunc(due, func(c service.PortChange) bool {
		held := which(c)
		if held {
			l.parked[c.Name] = c
		}
		return held
	})
}

// holdHeirs parks changes, too, by which a port gets a frontend that another has
// until a parked change is made: a NodePort of a Service that was deleted, say.
func (l *ledger) holdHeirs(due []service.PortChange) []service.PortChange {
	type place struct {
		protocol service.Protocol
		family   service.Family
		service.Frontend
	}
	places := func(name service.PortName, p *service.Port, yield func(place)) {
		if p == nil {
			return
		}
		for _, f := range p.Frontends {
			yield(place{name.Protocol, name.Family, f})
		}
	}
	for parked := -1; parked < len(l.parked) && len(l.parked) > 0; {
		parked = len(l.parked)
		taken := map[place]bool{}
		for name, c := range l.parked {
			places(name, c.Before, func(p place) { taken[p] = true })
		}
		due = l.hold(due, func(c service.PortChange) (held bool) {
			places(c.Name, c.After, func(p place) { held = held || taken[p] })
			return held
		})
	}
	return due
}

// made says that changes are in the kernel. It returns the ports of which an
// address is forwarded now that was not, or the reverse.
func (l *ledger) made(changes []service.PortChange) (concerned []service.PortName) {
	before := map[netip.Addr]int{}
	count := func(a netip.Addr, n int) {
		if _, known := before[a]; !known {
			before[a] = l.forwards[a]
		}
		if l.forwards[a] += n; l.forwards[a] == 0 {
			delete(l.forwards, a)
		}
	}
	for _, c := range changes {
		forwarded(c.Before, func(a netip.Addr) { count(a, -1) })
		forwarded(c.After, func(a netip.Addr) { count(a, 1) })
	}
	turned := func(a netip.Addr) bool { return (before[a] > 0) != (l.forwards[a] > 0) }
	for addr := range before {
		if turned(addr) && !l.unserved[service.FamilyOf(addr)] {
			l.readiness.setForwarded(addr, l.forwards[addr] > 0)
		}
	}
	return touching(changes, turned)
}

// standing yields what the kernel is to have of all ports that there are: in
// place of those whose changes are held back, what was before.
func (l *ledger) standing(ports iter.Seq2[service.PortName, *service.Port]) iter.Seq2[service.PortName, *service.Port] {
	return func(yield func(service.PortName, *service.Port) bool) {
		for name, p := range ports {
			if _, held := l.parked[name]; !held && !yield(name, p) {
				return
			}
		}
		for name, c := range l.parked {
			if c.Before != nil && !yield(name, c.Before) {
				return
			}
		}
	}
}

// serve says whether the backend that is in place serves a family. It returns
// those of the ports that are concerned by a backend that does other than the
// last.
func (l *ledger) serve(family service.Family, served bool, ports iter.Seq2[service.PortName, *service.Port]) []service.PortName {
	if l.unserved[family] != served {
		return nil
	}
	l.unserved[family] = !served
	turned := map[netip.Addr]bool{}
	for addr := range l.forwards {
		if service.FamilyOf(addr) == family {
			turned[addr] = true
			l.readiness.setForwarded(addr, served)
		}
	}
	if len(turned) == 0 {
		return nil
	}
	var those []service.PortChange
	for name, p := range ports {
		those = append(those, service.PortChange{Name: name, After: p})
	}
	return touching(those, func(a netip.Addr) bool { return turned[a] })
}

// touching returns the ports of those changes that have to do with an address.
func touching(changes []service.PortChange, concerns func(netip.Addr) bool) (names []service.PortName) {
	for _, c := range changes {
		told := false
		touch := func(a netip.Addr) { told = told || concerns(a) }
		forwarded(c.Before, touch)
		forwarded(c.After, touch)
		if told {
			names = append(names, c.Name)
		}
	}
	return names
}

// forwarded yields the load-balancer addresses of a port at which a client
// outside of the node reaches an endpoint.
func forwarded(p *service.Port, yield func(netip.Addr)) {
	if p == nil {
		return
	}
	if endpoints, _ := p.Choose(service.LoadBalancer); len(endpoints) == 0 {
		return
	}
	for _, f := range p.Frontends {
		if f.Kind == service.LoadBalancer {
			yield(f.Address.Addr())
		}
	}
}
