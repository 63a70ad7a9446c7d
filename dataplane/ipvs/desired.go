package ipvs

import (
	"net/netip"
	"slices"

	"github.com/fairway-lb/fairway/dataplane/service"
)

// desired is what all ports together want in the kernel, and what of it has
// changed since it was last put there.
type desired struct {
	planner
	ports     map[service.PortName]*service.Port
	plans     map[service.PortName]*plan
	entries   map[entryKey]*shared
	virtuals  map[virtualKey]*virtual
	rivals    map[virtualKey][]*virtual // that another port has
	addresses map[netip.Addr]int        // how many ports have it
	dirty     dirty
}

// shared is an entry that several ports may want.
type shared struct {
	count  int
	within virtualKey
}

// dirty is what has to be compared with the kernel.
type dirty struct {
	entries   map[entryKey]struct{}
	virtuals  map[virtualKey]struct{}
	addresses map[netip.Addr]struct{}
}

func newDirty() dirty {
	return dirty{map[entryKey]struct{}{}, map[virtualKey]struct{}{}, map[netip.Addr]struct{}{}}
}

func newDesired(p planner) *desired {
	return &desired{
		planner:   p,
		ports:     map[service.PortName]*service.Port{},
		plans:     map[service.PortName]*plan{},
		entries:   map[entryKey]*shared{},
		virtuals:  map[virtualKey]*virtual{},
		rivals:    map[virtualKey][]*virtual{},
		addresses: map[netip.Addr]int{},
		dirty:     newDirty(),
	}
}

// apply follows changes of ports.
func (d *desired) apply(changes []service.PortChange) {
	// A frontend may go from one port to another.
	for _, c := range changes {
		if n := d.plans[c.Name]; n != nil {
			d.remove(c.Name, n)
			delete(d.plans, c.Name)
			delete(d.ports, c.Name)
		}
	}
	for _, c := range changes {
		if c.After != nil && slices.Contains(d.families, c.Name.Family) {
			d.ports[c.Name] = c.After
			d.plans[c.Name] = d.plan(c.Name, c.After)
			d.add(d.plans[c.Name])
		}
	}
}

// move has NodePorts answer at other addresses of the node.
func (d *desired) move(addrs [2][]netip.Addr) {
	d.nodePorts = addrs
	var changes []service.PortChange
	for name, p := range d.ports {
		for _, f := range p.Frontends {
			if f.Kind == service.NodePort {
				changes = append(changes, service.PortChange{Name: name, Before: p, After: p})
				break
			}
		}
	}
	d.apply(changes)
}

func (d *desired) add(n *plan) {
	for k, within := range n.entries {
		e := d.entries[k]
		if e == nil {
			e = new(shared)
			d.entries[k] = e
		}
		e.count++
		e.within = within
		d.dirty.entries[k] = struct{}{}
	}
	for k, v := range n.virtuals {
		if other := d.virtuals[k]; other != nil {
			// A NodePort is an address of the node, and so is an external IP
			// of somebody else. Whatever the order, the same one has it.
			if v.owner.Compare(other.owner) > 0 {
				v, other = other, v
			}
			d.rivals[k] = append(d.rivals[k], other)
		}
		d.virtuals[k] = v
		d.dirty.virtuals[k] = struct{}{}
	}
	for addr := range n.addresses {
		d.addresses[addr]++
		d.dirty.addresses[addr] = struct{}{}
	}
}

func (d *desired) remove(owner service.PortName, n *plan) {
	for k := range n.entries {
		if d.entries[k].count--; d.entries[k].count == 0 {
			delete(d.entries, k)
		}
		d.dirty.entries[k] = struct{}{}
	}
	for k := range n.virtuals {
		d.removeVirtual(owner, k)
		d.dirty.virtuals[k] = struct{}{}
	}
	for addr := range n.addresses {
		if d.addresses[addr]--; d.addresses[addr] == 0 {
			delete(d.addresses, addr)
		}
		d.dirty.addresses[addr] = struct{}{}
	}
}

func (d *desired) removeVirtual(owner service.PortName, k virtualKey) {
	rivals := d.rivals[k]
	next := -1 // who has it then, or whose claim it was
	for i, r := range rivals {
		if d.virtuals[k].owner == owner && (next < 0 || r.owner.Compare(rivals[next].owner) < 0) || r.owner == owner {
			next = i
		}
	}
	switch {
	case next < 0:
		delete(d.virtuals, k)
		return
	case d.virtuals[k].owner == owner:
		d.virtuals[k] = rivals[next]
	}
	rivals[next] = rivals[len(rivals)-1]
	if d.rivals[k] = rivals[:len(rivals)-1]; len(rivals) == 1 {
		delete(d.rivals, k)
	}
}
