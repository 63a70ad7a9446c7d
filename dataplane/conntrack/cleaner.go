package conntrack

import (
	"errors"
	"fmt"
	"iter"
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
	// pending is what changed since stale entries were last deleted.
	pending concern
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
	Entry
	key []byte
}

// NewCleaner returns a Cleaner for a node that serves node ports on its
// addresses in some prefixes, none of which means all. Deleting takes the
// capability NET_ADMIN.
func NewCleaner(nodePorts []netip.Prefix) *Cleaner {
	return &Cleaner{kernel: netfilter{}, nodePorts: nodePorts, pending: concern{}}
}

// Clean deletes the entries that are stale after changes that led to the
// present ports, and returns how many it deleted. It is to be called when the
// changes are made in the kernel, or else new entries would be stale. It does
// nothing unless UDP ports changed. What it fails to do it does in the next
// call, for which no changes are enough.
func (c *Cleaner) Clean(changes []service.PortChange, ports iter.Seq2[service.PortName, *service.Port]) (deleted int, err error) {
	c.pending.add(changes)
	stale := c.pending.find(ports)
	var errs []error
	for _, family := range []service.Family{service.IPv4, service.IPv6} {
		n, err := c.cleanFamily(&stale, family)
		deleted += n
		if err != nil {
			errs = append(errs, fmt.Errorf("delete stale %s conntrack entries of UDP Services: %w", family, err))
			continue
		}
		c.pending.done(family)
	}
	return deleted, errors.Join(errs...)
}

func (c *Cleaner) cleanFamily(stale *Stale, family service.Family) (deleted int, err error) {
	if !stale.Any(family) {
		return 0, nil
	}
	var local Addresses
	if stale.NeedsLocal(family) {
		var prefixes []netip.Prefix
		err := complete(func() (err error) { prefixes, err = c.kernel.local(family); return err })
		if err != nil {
			return 0, fmt.Errorf("list the node's own addresses: %w", err)
		}
		if len(c.nodePorts) > 0 {
			prefixes = intersect(prefixes, c.nodePorts)
		}
		local = NewAddresses(prefixes)
	}
	var list []found
	dumpErr := complete(func() error {
		list = nil
		return c.kernel.dump(family, func(f found) {
			if stale.Has(f.Entry, local) {
				list = append(list, f)
			}
		})
	})
	if dumpErr != nil {
		dumpErr = fmt.Errorf("list the conntrack table: %w", dumpErr)
	}
	// What an incomplete dump has is stale for sure.
	var failed int
	for _, f := range list {
		switch deleteErr := c.kernel.delete(f); {
		case deleteErr == nil:
			deleted++
		case errors.Is(deleteErr, unix.ENOENT): // it has ended by itself
		default:
			if failed++; failed == 1 {
				err = fmt.Errorf("delete the entry %s -> %s by %s: %w", f.Source, f.Destination, f.ReplySource, deleteErr)
			}
		}
	}
	if failed > 1 {
		err = fmt.Errorf("%w, and %d more", err, failed-1)
	}
	return deleted, errors.Join(dumpErr, err)
}

// intersect returns what is in both lists. Of two prefixes that overlap, one is
// in the other.
func intersect(as, bs []netip.Prefix) (both []netip.Prefix) {
	for _, a := range as {
		for _, b := range bs {
			switch {
			case !a.Overlaps(b):
			case a.Bits() >= b.Bits():
				both = append(both, a)
			default:
				both = append(both, b)
			}
		}
	}
	return both
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
