package iptables

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/fairway-lb/fairway/dataplane"
	"github.com/fairway-lb/fairway/dataplane/service"
)

// families are the sides that there are.
var families = []service.Family{service.IPv4, service.IPv6}

// Backend keeps the chains FAIRWAY-* of a network namespace equal to a set of
// service ports. It is for one goroutine, on a thread of that namespace.
type Backend struct {
	flavour  Flavour
	config   dataplane.Config
	ports    map[service.PortName]*service.Port
	sides    []*side
	unserved error // why IPv6 is not, or nil
	watcher  *watcher
	started  bool // the other flavour has been looked after
}

// New prepares a Backend in the network namespace of the calling thread. It
// fails if programs or the kernel lack something for IPv4, and says what. It
// changes nothing but a chain that leads nowhere, to find that out: changes
// begin with the first Apply, which is to have all ports.
//
// Without IPv6 the Backend serves IPv4, and Unserved says why.
func New(config dataplane.Config, flavour Flavour) (*Backend, error) {
	if err := config.Check(); err != nil {
		return nil, fmt.Errorf("configure the iptables backend: %w", err)
	}
	if flavour == Auto {
		var err error
		if flavour, err = detect(); err != nil {
			return nil, err
		}
	}
	b := &Backend{flavour: flavour, config: config, ports: map[service.PortName]*service.Port{}}
	liberal, err := beLiberal()
	if err != nil {
		return nil, err
	}
	own := new(ownProcesses)
	for _, family := range families {
		t, counted, err := prepare(flavour, family, config.MasqueradeMark)
		switch {
		case err == nil:
			t.own = own
			b.sides = append(b.sides, newSide(family, &b.config, t, counted, liberal))
		case family == service.IPv6 && !errors.Is(err, errLocked):
			b.unserved = fmt.Errorf("IPv6 Services are not served: %w", err)
		default:
			return nil, err
		}
	}
	if b.watcher, err = watch(b.sides, own, flavour); err != nil {
		return nil, err
	}
	return b, nil
}

// Flavour returns the flavour in use, which is never Auto.
func (b *Backend) Flavour() Flavour { return b.flavour }

// Unserved returns why a family is not served, or nil if it is: a kernel or an
// image may lack IPv6.
func (b *Backend) Unserved(family service.Family) error {
	if family == service.IPv6 {
		return b.unserved
	}
	return nil
}

// beLiberal tells whether conntrack takes packets out of the window for valid.
// Otherwise they would pass untranslated, and the client's kernel end the
// connection with a reset (kubernetes issue 74839).
func beLiberal() (bool, error) {
	value, err := os.ReadFile("/proc/sys/net/netfilter/nf_conntrack_tcp_be_liberal")
	if errors.Is(err, os.ErrNotExist) {
		return false, nil // not loaded yet: as it is by default
	}
	if err != nil {
		return false, fmt.Errorf("read whether conntrack is liberal: %w", err)
	}
	return strings.TrimSpace(string(value)) != "0", nil
}

// Apply makes the chains follow changes: those that change, with one
// iptables-restore for each table and family, or two for filter. After someone
// else has changed them, after an Apply that failed, and without changes, it
// reads what is there and mends what differs: nothing is to be told twice.
func (b *Backend) Apply(changes []service.PortChange) error {
	made := make([]service.PortChange, len(changes))
	for i, c := range changes {
		made[i] = service.PortChange{Name: c.Name, Before: b.ports[c.Name], After: c.After}
		if c.After == nil {
			delete(b.ports, c.Name)
		} else {
			b.ports[c.Name] = c.After
		}
	}
	for _, s := range b.sides {
		s.replace(made)
	}
	var errs []error
	for _, s := range b.sides {
		if err := s.apply(len(changes) == 0); err != nil {
			errs = append(errs, err)
		}
	}
	if len(errs) == 0 && !b.started {
		// Only now that these translate, so that there is no gap.
		errs = append(errs, cleanFlavour(b.flavour.other()))
		b.started = errs[0] == nil
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("apply %d changes of service ports with iptables (%s): %w", len(changes), b.flavour, err)
	}
	return nil
}

// Changed receives when someone else has changed our chains, or the rules that
// lead to them. What then is to be done is an Apply, if without changes.
func (b *Backend) Changed() <-chan struct{} { return b.watcher.changed }

// Close leaves the chains as they are.
func (b *Backend) Close() error { return b.watcher.close() }

// Cleanup removes our chains and the rules that lead to them from the network
// namespace of the calling thread, in both flavours and families.
func Cleanup() error {
	return errors.Join(cleanFlavour(NFT), cleanFlavour(Legacy))
}

// cleanFlavour removes what is ours of a flavour. Where there are no programs
// for it, nobody has made anything.
func cleanFlavour(f Flavour) error {
	var errs []error
	for _, family := range families {
		t, err := findTool(f, family)
		if err != nil {
			continue
		}
		if err := t.clean(); err != nil {
			errs = append(errs, fmt.Errorf("remove the chains %s* of %s (%s): %w", prefix, family, f, err))
		}
	}
	return errors.Join(errs...)
}

// clean is one restore per table. What has no table of ours has none at all, or
// a kernel that knows no such tables.
func (t *tool) clean() error {
	saved := newListings()
	if err := t.save(saved); err != nil {
		if saved.some() || strings.Contains(err.Error(), prefix) {
			return err
		}
		return nil
	}
	var errs []error
	empty := newContent()
	// What nat no longer translates is not to be refused by filter: others may
	// forward it.
	for _, i := range []int{filter, nat} {
		if in := input(i, empty.differences(saved[i]), saved[i].hooks, nil); in != "" {
			errs = append(errs, t.restore(in))
		}
	}
	return errors.Join(errs...)
}
