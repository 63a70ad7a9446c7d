package conntrack

import (
	"errors"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/fairway-lb/fairway/dataplane/service"
)

// maxDumps is how often a dump is tried that the kernel says is incomplete,
// because the table changed under it. kube-proxy tries as often.
const maxDumps = 5

// Cleaner deletes stale entries in the network namespace that it is used in.
// It is for one goroutine.
type Cleaner struct {
	kernel    kernel
	nodePorts []netip.Prefix
	families  [2]index // by service.Family
}

// kernel is the conntrack table, and what else is asked.
type kernel interface {
	// dump calls each with all UDP entries of a family, or all there are.
	dump(family service.Family, each func(found)) error
	// delete deletes an entry. ENOENT says that it is not there any more.
	delete(found) error
	// local returns the addresses that the node takes for its own.
	local(service.Family) ([]netip.Prefix, error)
}

// found is an entry and how the kernel is told of it.
type found struct {
	flow
	key []byte
}

// NewCleaner returns a Cleaner for a node that serves node ports on its
// addresses in some prefixes, none of which means all. Deleting takes the
// capability NET_ADMIN.
func NewCleaner(nodePorts []netip.Prefix) *Cleaner {
	c := &Cleaner{kernel: netfilter{}, nodePorts: nodePorts}
	c.Rescan()
	return c
}

// Rescan has the next Clean look at the entries of all UDP ports instead of
// those that changed. A new Cleaner begins so: its first changes are all ports
// there are, and what went stale while nobody looked is found.
func (c *Cleaner) Rescan() {
	for family := range c.families {
		c.families[family].all = true
	}
}

// Clean follows changes, each of which is to be told once, and deletes the
// entries that are stale by them. It is to be called when the changes are made
// in the kernel, or else new entries would be stale. It reads the table of a
// family once, and only if UDP ports of the family changed that have endpoints.
// What it fails to do it does in the next call, for which no changes are enough.
func (c *Cleaner) Clean(changes []service.PortChange) error {
	for i := range changes {
		if name := &changes[i].Name; name.Protocol == service.UDP {
			c.families[name.Family].take(&changes[i])
		}
	}
	var errs []error
	for _, family := range []service.Family{service.IPv4, service.IPv6} {
		if err := c.clean(family); err != nil {
			errs = append(errs, fmt.Errorf("delete stale %s conntrack entries of UDP Services: %w", family, err))
			continue
		}
		c.families[family].done()
	}
	return errors.Join(errs...)
}

// clean deletes the stale entries of a family.
func (c *Cleaner) clean(family service.Family) error {
	index := &c.families[family]
	search, needsLocal := index.needs()
	if !search {
		return nil
	}
	var local addressSet
	if needsLocal {
		var err error
		if local, err = c.local(family); err != nil {
			return fmt.Errorf("list the node's own addresses: %w", err)
		}
	}
	var list []found
	dumpErr := complete(func() error {
		list = nil
		return c.kernel.dump(family, func(f found) {
			if index.stale(&f.flow, &local) {
				list = append(list, f)
			}
		})
	})
	if dumpErr != nil {
		dumpErr = fmt.Errorf("list the conntrack table: %w", dumpErr)
	}
	// What an incomplete dump has is stale for sure.
	return errors.Join(dumpErr, c.delete(list))
}

// delete deletes entries, as many as can be.
func (c *Cleaner) delete(list []found) (err error) {
	failed := 0
	for _, f := range list {
		switch deleteErr := c.kernel.delete(f); {
		case deleteErr == nil:
		case errors.Is(deleteErr, unix.ENOENT): // it has ended by itself
		default:
			if failed++; failed == 1 {
				err = fmt.Errorf("delete the entry %s -> %s by %s: %w", f.source, f.destination, f.replySource, deleteErr)
			}
		}
	}
	if failed > 1 {
		err = fmt.Errorf("%w, and %d more", err, failed-1)
	}
	return err
}

// local returns the addresses that node ports are served on.
func (c *Cleaner) local(family service.Family) (addressSet, error) {
	var prefixes []netip.Prefix
	err := complete(func() (err error) { prefixes, err = c.kernel.local(family); return err })
	if len(c.nodePorts) > 0 {
		prefixes = intersect(prefixes, c.nodePorts)
	}
	return newAddressSet(prefixes), err
}

// complete repeats a dump while it is incomplete, but not for ever: a table
// that changes all the time may never be dumped in one go.
func complete(dump func() error) (err error) {
	for range maxDumps {
		if err = dump(); !interrupted(err) {
			return err
		}
	}
	return err
}
