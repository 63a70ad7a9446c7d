package conntrack

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fairway-lb/fairway/dataplane/service"
)

// maxDumps is how often a dump is tried that the kernel says is incomplete,
// because the table changed under it. kube-proxy tries as often.
const maxDumps = 5

const (
	// answerTime is how long after a change a connection that was begun before
	// it may still be answered: longer than a round trip within a cluster,
	// shorter than a client waits until it sends its SYN again (1 s, RFC 6298).
	answerTime = 500 * time.Millisecond
	// searchRest is how many times as long as a search for connections took
	// there is none: the kernel visits all of its table, 262,144 buckets by
	// default and one entry for each connection of the node, and TCP endpoints
	// come and go more often than those of UDP. It is 2 % of a processor.
	searchRest = 50
	// searchLimit is how many connections a search deletes, so that a SYN flood
	// does not keep whoever searches from all else: a quarter of a second. The
	// others follow after a rest.
	searchLimit = 10_000
)

// Cleaner deletes stale entries in the network namespace that it is used in.
// It is for one goroutine.
type Cleaner struct {
	kernel    kernel
	now       func() time.Time
	nodePorts []netip.Prefix
	indexes   map[service.Protocol]*[2]*index // by service.Family
}

// kernel is the conntrack table, and what else is asked.
type kernel interface {
	// dump calls each with all entries of a protocol and family that can be
	// stale, or all there are.
	dump(protocol service.Protocol, family service.Family, each func(found)) error
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
// capability NET_ADMIN. Its first changes are to be all ports there are: what
// went stale while nobody looked is found.
func NewCleaner(nodePorts []netip.Prefix) *Cleaner {
	c := &Cleaner{kernel: netfilter{}, now: time.Now, nodePorts: nodePorts, indexes: map[service.Protocol]*[2]*index{}}
	for _, p := range protocols {
		c.indexes[p] = &[2]*index{{protocol: p}, {protocol: p}}
	}
	return c
}

// protocols are in the order in which they are searched.
var protocols = []service.Protocol{service.UDP, service.TCP, service.SCTP}

// Clean follows changes, each of which is to be told once, and deletes the
// entries that are stale by them: those of UDP at once, connections when they had
// their time to be answered. It is to be called when the changes are made in the
// kernel, or else new entries would be stale, and again at the time that it
// returns, unless that is zero. It reads the table of a protocol and family
// only if such ports changed in a way that leaves stale entries. What it fails
// to do it does in a later call, for which no changes are enough.
func (c *Cleaner) Clean(changes []service.PortChange) (again time.Time, err error) {
	for i := range changes {
		if of := c.indexes[changes[i].Name.Protocol]; of != nil {
			of[changes[i].Name.Family].take(&changes[i])
		}
	}
	var errs []error
	for _, protocol := range protocols {
		for family, x := range c.indexes[protocol] {
			at, err := c.follow(x, service.Family(family))
			if err != nil {
				errs = append(errs, fmt.Errorf("delete stale %s conntrack entries of %s Services: %w", service.Family(family), protocol, err))
			}
			if again.IsZero() || !at.IsZero() && at.Before(again) {
				again = at
			}
		}
	}
	return again, errors.Join(errs...)
}

// follow does the searches that are due, and returns when the next one is.
func (c *Cleaner) follow(x *index, family service.Family) (again time.Time, err error) {
	for {
		began := c.now()
		search, again := x.next(began)
		if !search {
			return again, nil
		}
		all, err := c.search(x, family)
		x.rest(began, c.now())
		if err != nil {
			return time.Time{}, err
		}
		if all {
			x.done()
		}
	}
}

// search deletes the stale entries of a family, and tells whether those are all.
func (c *Cleaner) search(x *index, family service.Family) (all bool, err error) {
	var local addressSet
	if _, needed := x.needs(); needed {
		if local, err = c.local(family); err != nil {
			return false, fmt.Errorf("list the node's own addresses: %w", err)
		}
	}
	var list []found
	dumpErr := complete(func() error {
		list, all = nil, true
		return c.kernel.dump(x.protocol, family, func(f found) {
			if !x.stale(&f.flow, &local) {
				return
			}
			if all = !x.connections() || len(list) < searchLimit; all {
				list = append(list, f)
			}
		})
	})
	if dumpErr != nil {
		dumpErr = fmt.Errorf("list the conntrack table: %w", dumpErr)
	}
	// What an incomplete dump has is stale for sure.
	return all, errors.Join(dumpErr, c.delete(list))
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
