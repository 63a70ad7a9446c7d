package ipvs

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/fairway-lb/fairway/dataplane"
	"github.com/fairway-lb/fairway/dataplane/kubeproxy"
	"github.com/fairway-lb/fairway/dataplane/service"
)

// Options are what only this backend has to know.
type Options struct {
	// Scheduler is that of Services that name none. "" is DefaultScheduler.
	Scheduler string
	// HashPorts has sh and mh as Scheduler choose by the client's port too.
	HashPorts bool
	// Look receives whenever it is time to look whether endpoints that have
	// been removed are free of flows, and whether others have changed anything.
	// nil is every 20 seconds.
	Look <-chan time.Time
}

// lookInterval is how long something of ours may be spoilt before it is noticed:
// IPVS, ipset and iptables have no news to listen to. kube-proxy looks at
// endpoints that are on their way out once in a minute.
const lookInterval = 20 * time.Second

// Backend keeps IPVS, and the sets, rules and addresses that it needs, of a
// network namespace equal to a set of service ports. Its methods are for one
// goroutine, on a thread of that namespace.
type Backend struct {
	options Options
	kernel  *kernel
	watch   *watch
	changed chan struct{}
	close   func() error

	mu       sync.Mutex // guards what follows, also from watch
	desired  *desired
	actual   *content // what is in the kernel, but for marks only as far as it is true
	marks    *markTable
	draining draining
	lacking  lackingSchedulers
	notes    []error // to be returned when all is done; nothing depends on them
	stale    bool    // actual is to be read anew
}

// New prepares a Backend in the network namespace of the calling thread. It
// fails if the kernel lacks something for IPv4, and says what. It changes nothing
// that stays: that begins with the first Apply, which is to have all ports.
//
// Without IPv6 the Backend serves IPv4, and Unserved says why.
func New(config dataplane.Config, options Options) (*Backend, error) {
	if options.Scheduler == "" {
		options.Scheduler = DefaultScheduler
	}
	if err := errors.Join(config.Check(), options.check()); err != nil {
		return nil, fmt.Errorf("configure the IPVS backend: %w", err)
	}
	if config.LocalhostNodePorts {
		return nil, errors.New("configure the IPVS backend: NodePorts cannot answer at localhost, whose source IPVS does not let leave the node; switch that off or use --dataplane=nftables or --dataplane=iptables")
	}
	k, err := openKernel()
	if err != nil {
		return nil, err
	}
	b := &Backend{
		options:  options,
		kernel:   k,
		changed:  make(chan struct{}, 1),
		marks:    newMarkTable(config.MasqueradeMark),
		draining: newDraining(),
		lacking:  lackingSchedulers{},
		stale:    true,
	}
	if why := noIPv6(); why != nil {
		k.passOver(why)
	}
	if err := k.probe(options, b.marks.marking); err != nil {
		return nil, errors.Join(err, k.close())
	}
	if k.unserved != nil {
		config.Pods = config.Pods.Of(service.IPv4)
		config.ServiceCIDRs = dataplane.OfFamily(service.IPv4, config.ServiceCIDRs)
	}
	b.desired = newDesired(planner{config: config, options: options, families: k.families})
	if b.watch, err = b.startWatch(); err != nil {
		return nil, errors.Join(err, k.close())
	}
	b.close = sync.OnceValue(func() error {
		b.watch.close()
		return k.close()
	})
	return b, nil
}

// Close leaves the kernel as it is.
func (b *Backend) Close() error { return b.close() }

// Cleanup removes everything that is ours from the network namespace of the
// calling thread. A virtual service that a kube-proxy has, too, stays. Where
// there is nothing of ours it does nothing, whatever the kernel lacks.
func Cleanup() (err error) {
	if there, err := leftSomething(); !there || err != nil {
		return err
	}
	k, err := openKernel()
	if err != nil {
		return fmt.Errorf("clean up IPVS: %w", err)
	}
	defer func() { err = errors.Join(err, k.close()) }()
	theirs, err := kubeproxy.VirtualServices(context.Background())
	if err == nil {
		err = k.cleanup(theirs)
	}
	if err != nil {
		return fmt.Errorf("clean up IPVS: %w", err)
	}
	return nil
}

// Changed receives when someone else has changed what is ours, or an address of
// the node. What then is to be done is an Apply, if without changes.
func (b *Backend) Changed() <-chan struct{} { return b.changed }

// Unserved returns why a family is not served, or nil if it is.
func (b *Backend) Unserved(family service.Family) error {
	if family == service.IPv6 {
		return b.kernel.unserved
	}
	return nil
}

// Apply makes the kernel follow changes. Without any, it looks for what others
// have changed.
func (b *Backend) Apply(changes []service.PortChange) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.desired.apply(changes)
	b.lacking.forget(changes)
	if len(changes) == 0 && !b.stale {
		if err := b.compare(); err != nil {
			return err
		}
	}
	if b.sync() != nil {
		// Someone may have been at it just now.
		b.stale = true
		if err := b.sync(); err != nil {
			return fmt.Errorf("apply %d changes of service ports: %w", len(changes), err)
		}
	}
	noted := errors.Join(b.notes...)
	b.notes = nil
	return noted
}

// sync makes the kernel as desired. In an order that has no packet go wrong:
// sets that judge, virtual services with endpoints, addresses, and then what
// nothing needs any more.
func (b *Backend) sync() error {
	afresh := b.stale
	if b.stale {
		if err := b.load(); err != nil {
			return err
		}
	}
	if err := b.syncAll(b.desired.dirty); err != nil {
		b.stale = true // it is not known what of it is done
		return err
	}
	b.desired.dirty = newDirty()
	if afresh {
		return removeAnyIP() // of a Retire that was not finished
	}
	return nil
}

// syncAll changes the kernel in an order in which each packet of a port that has
// endpoints meets some, whatever changes about it: a mark leads to a virtual
// service from when that has its endpoints until before it loses them, and the
// one by address has those of both policies meanwhile.
func (b *Backend) syncAll(d dirty) error {
	added, removed := b.entryChanges(d)
	marks := func(x element) bool { return x.set == withinSet }
	stays := func(k virtualKey) bool { return k.byMark() && b.desired.virtuals[k] != nil }
	ends := func(k virtualKey) bool { return k.byMark() && b.desired.virtuals[k] == nil }
	if err := b.addEntries(slices.DeleteFunc(slices.Clone(added), marks)); err != nil {
		return err
	}
	if err := b.syncVirtuals(d, stays); err != nil {
		return err
	}
	if err := b.addEntries(slices.DeleteFunc(added, func(x element) bool { return !marks(x) })); err != nil {
		return err
	}
	if err := b.syncVirtuals(d, func(k virtualKey) bool { return !k.byMark() }); err != nil {
		return err
	}
	for k := range d.virtuals {
		if ends(k) && b.actual.virtuals[k] != nil {
			b.draining.add(k) // or its address would go before its flows
		}
	}
	if err := b.syncAddresses(d.addresses); err != nil {
		return err
	}
	if err := b.removeEntries(removed); err != nil {
		return err
	}
	if err := b.syncVirtuals(d, ends); err != nil {
		return err
	}
	return b.drain(maps.Keys(d.virtuals))
}

// load makes what does not depend on ports, and reads what is there. All of it
// is to be compared then.
func (b *Backend) load() error {
	if err := b.kernel.ensure(&b.desired.config); err != nil {
		return err
	}
	addresses, err := b.kernel.link.list()
	if err != nil {
		return err
	}
	b.desired.move(addresses.nodePorts(&b.desired.config)) // before wants is asked of NodePorts
	protocols := b.marks.protocols()
	b.marks.forget()
	c, err := b.kernel.read(b.marks, b.wants)
	if err != nil {
		return err
	}
	c.addresses = addresses // those of which NodePorts know: others since then are news
	b.adoptMarks(c, protocols)
	b.actual = c
	b.desired.dirty = newDirty()
	d := b.desired.dirty
	for k := range b.desired.entries {
		d.entries[k] = struct{}{}
	}
	for k := range staticEntries(&b.desired.config) {
		d.entries[k] = struct{}{}
	}
	for k := range c.entries {
		d.entries[k] = struct{}{}
	}
	for k := range b.desired.virtuals {
		d.virtuals[k] = struct{}{}
	}
	b.draining = newDraining()
	for k := range c.virtuals {
		d.virtuals[k] = struct{}{}
	}
	for addr := range b.desired.addresses {
		d.addresses[addr] = struct{}{}
	}
	for addr := range c.addresses.own {
		d.addresses[addr] = struct{}{}
	}
	b.stale = false
	return nil
}

func (b *Backend) wants(k virtualKey) bool { return b.desired.virtuals[k] != nil }

// adoptMarks has virtual services keep the marks that packets get already. What
// protocol those had that nobody wants, sets tell, or what was known before.
func (b *Backend) adoptMarks(c *content, protocols map[virtualKey]service.Protocol) {
	for k, mark := range c.entries {
		if k.set != withinSet || !isOurs(mark) {
			continue
		}
		protocols[orphan(k.family(), mark)] = k.protocol
		want := b.desired.entries[k]
		if want == nil || b.marks.of[want.within] != 0 {
			continue
		}
		if _, taken := b.marks.who(k.family(), mark); taken {
			continue
		}
		b.marks.assign(want.within, mark)
	}
	for k, v := range maps.Clone(c.virtuals) {
		if k.orphan == 0 {
			continue
		}
		whose, known := b.marks.who(k.family(), k.orphan)
		if !known {
			whose = k
			whose.protocol = protocols[k]
			b.marks.assign(whose, k.orphan)
		}
		delete(c.virtuals, k)
		c.virtuals[whose] = v
	}
}

// compare finds out whether the kernel is as it was left.
func (b *Backend) compare() error {
	c, err := b.kernel.read(b.marks, func(k virtualKey) bool { return b.actual.virtuals[k] != nil })
	if err != nil {
		return err
	}
	b.stale = b.stale || !b.actual.equal(c, b.desired)
	return nil
}

// onLink tells whether an address is to be on our link. For flows it stays there,
// but does not come: NodePorts have flows, too, where the node has lost the address.
func (b *Backend) onLink(addr netip.Addr) bool {
	_, elsewhere := b.actual.addresses.others[addr]
	_, has := b.actual.addresses.own[addr]
	return !elsewhere && (b.desired.addresses[addr] > 0 || has && b.lingers(addr))
}

// notify has Changed receive.
func (b *Backend) notify() {
	select {
	case b.changed <- struct{}{}:
	default: // it is known already
	}
}
