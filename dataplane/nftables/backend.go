package nftables

import (
	"errors"
	"fmt"
	"os"
	"syscall"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"github.com/fairway-lb/fairway/dataplane"
	"github.com/fairway-lb/fairway/dataplane/service"
)

// families are the tables that there may be.
var families = []service.Family{service.IPv4, service.IPv6}

// attempts are made to commit between the transactions of others.
const attempts = 8

// Backend keeps the tables named fairway of a network namespace equal to a set
// of service ports. It is for one goroutine, on a thread of that namespace.
type Backend struct {
	config     dataplane.Config
	families   []service.Family // that are served, IPv4 first
	unserved   error            // why IPv6 is not, or nil
	socket     *socket
	monitor    *monitor
	ports      map[service.PortName]*service.Port
	mirrors    []*mirror
	stale      bool   // the tables are to be made anew
	generation uint32 // after the last transaction of ours
	freesNow   bool   // chains may go with the last element that led there
}

// New prepares a Backend in the network namespace of the calling thread. It
// fails if the kernel lacks something for IPv4, and says what. It changes
// nothing: that begins with the first Apply, which is to have all ports.
//
// Without IPv6 the Backend serves IPv4, and Unserved says why.
func New(config dataplane.Config) (*Backend, error) {
	if err := config.Check(); err != nil {
		return nil, fmt.Errorf("configure the nftables backend: %w", err)
	}
	b := &Backend{config: config, families: families, ports: map[service.PortName]*service.Port{}, stale: true}
	var err error
	if b.freesNow, err = kernelFreesChains(); err != nil {
		return nil, err
	}
	if b.socket, err = dial(&netlink.Config{}); err != nil {
		return nil, err
	}
	if err := b.chooseFamilies(); err != nil {
		return nil, errors.Join(err, b.socket.conn.Close())
	}
	// The port of the socket for transactions tells ours from others'.
	if b.monitor, err = watch(b.socket.port); err != nil {
		return nil, errors.Join(err, b.socket.conn.Close())
	}
	return b, nil
}

// chooseFamilies leaves IPv6 out where the node has none, or the kernel lacks
// something for it.
func (b *Backend) chooseFamilies() error {
	why := dataplane.NoIPv6()
	if why == nil {
		why = probe(b.socket, &b.config, service.IPv6)
		if errors.Is(why, os.ErrPermission) {
			return why
		}
	}
	if why != nil {
		b.families, b.unserved = families[:1], fmt.Errorf("IPv6 Services are not served: %w", why)
	}
	return probe(b.socket, &b.config, service.IPv4)
}

// Close leaves the tables as they are.
func (b *Backend) Close() error {
	return errors.Join(b.monitor.Close(), b.socket.conn.Close())
}

// Cleanup removes the tables from the network namespace of the calling thread.
func Cleanup() (err error) {
	s, err := dial(&netlink.Config{})
	if err != nil {
		return fmt.Errorf("remove the tables %s: %w", tableName, err)
	}
	defer func() { err = errors.Join(err, s.conn.Close()) }()
	for _, family := range families {
		for _, table := range []string{tableName, relayName} {
			err := s.commit(removal(table, family), 0)
			if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EAFNOSUPPORT) {
				err = s.redial() // a kernel that knows no tables of the family has none
			}
			if err != nil {
				return fmt.Errorf("remove the table %s for %s: %w", table, family, err)
			}
		}
	}
	return nil
}

// Unserved returns why a family is not served, or nil if it is: a node may lack
// IPv6.
func (b *Backend) Unserved(family service.Family) error {
	if family == service.IPv6 {
		return b.unserved
	}
	return nil
}

// Changed receives when someone else has changed the tables. What then is to
// be done is an Apply, if without changes.
func (b *Backend) Changed() <-chan struct{} { return b.monitor.changed }

// Apply makes the tables follow changes. After someone else has changed the
// tables it makes them anew, and so does the next Apply after one that failed:
// nothing is to be told twice.
//
// A packet may see rules as they were before a transaction and elements as they
// are after it. Chains are therefore there one transaction before anything
// leads to them, and what nothing leads to any more goes when the packets are
// through that may still be on their way there. Nor does the kernel remember
// where clients go while that changes: a packet that came by the old rules would
// have it remember what the new ones do not allow.
func (b *Backend) Apply(changes []service.PortChange) error {
	for _, c := range changes {
		if c.After == nil {
			delete(b.ports, c.Name)
		} else {
			b.ports[c.Name] = c.After
		}
	}
	if err := b.checkTables(); err != nil {
		return err
	}
	if b.stale {
		return b.rebuild()
	}
	chains, pause, elements, remains := newBatch(), newBatch(), newBatch(), newBatch()
	for _, m := range b.mirrors {
		d := m.apply(changes)
		b.begin(chains, m, &d)
		pause.deleteElements(m.family, d.paused)
		elements.deleteElements(m.family, d.deleted)
		elements.addElements(m.family, d.added)
		remains.deleteElements(m.family, d.remains)
		b.end(remains, m, &d)
		remains.addElements(m.family, d.resumed)
	}
	paused := len(pause.messages) > 0
	for _, t := range []*batch{chains, pause, elements, remains} {
		if len(t.messages) == 0 {
			continue
		}
		if t == remains || t == elements && paused {
			awaitPackets()
		}
		commit := b.commit
		if t == elements {
			commit = func(t *batch) error { return b.commitAndForget(t, changes) }
		}
		if err := commit(t); err != nil {
			// Someone was faster than the news of it.
			if e := b.rebuild(); e != nil {
				return fmt.Errorf("apply %d changes of service ports: %w", len(changes), errors.Join(err, e))
			}
			return nil
		}
	}
	return nil
}

// awaitPackets returns when all packets are through that met the rules before
// it was called: they are within a critical section of RCU, and membarrier(2)
// waits until all of those have ended. A kernel that does not offer it
// (nohz_full) leaves a window of microseconds.
func awaitPackets() {
	const global = 1 // MEMBARRIER_CMD_GLOBAL
	_, _, _ = unix.Syscall(unix.SYS_MEMBARRIER, global, 0, 0)
}

// checkTables finds out whether the tables are still as Apply left them.
func (b *Backend) checkTables() error {
	foreign, missed := b.monitor.take()
	if missed && !foreign {
		// So much happened that the kernel dropped the news. It was ours if
		// nobody else came after.
		generation, err := b.socket.generation()
		if err != nil {
			return b.reconnect(err)
		}
		foreign = generation != b.generation
	}
	b.stale = b.stale || foreign
	return nil
}

// begin puts chains into a batch that elements will lead to.
func (b *Backend) begin(t *batch, m *mirror, d *delta) {
	for _, c := range d.newClasses {
		if m.idle[c.String()] {
			delete(m.idle, c.String())
			continue
		}
		c.addTo(t, m.family, &b.config)
	}
	for _, l := range d.newLearns {
		if m.idle[l.String()] {
			delete(m.idle, l.String())
			continue
		}
		l.addTo(t, m.family)
	}
}

// end removes chains that nothing leads to any more. Before Linux 6.2 an
// element goes some time after its transaction, and the chain could not: it
// stays until it is needed again or the table is made anew.
func (b *Backend) end(t *batch, m *mirror, d *delta) {
	remove := func(chain string) {
		if b.freesNow {
			t.deleteChain(m.family, chain)
		} else {
			m.idle[chain] = true
		}
	}
	for _, c := range d.oldClasses {
		remove(c.String())
	}
	for _, l := range d.oldLearns {
		remove(l.String())
	}
}

// rebuild makes the tables anew. While there are tables already, others of
// another name do the same meanwhile: a packet that came before a transaction
// would find the rules of the one table gone, and the other's not yet there.
func (b *Backend) rebuild() error {
	b.stale = true
	exists := false
	for _, f := range b.families {
		has, err := b.socket.hasTable(netfilterFamily(f))
		if err != nil {
			return b.reconnect(err)
		}
		exists = exists || has
	}
	memories := make([][]memory, len(b.families))
	var err error
	if exists {
		memories = b.remember()
		_, err = b.load(relayName, memories)
		awaitPackets()
	}
	if err == nil {
		b.mirrors, err = b.load(tableName, memories)
		awaitPackets()
	}
	// Without tables to take over from, there may be some of a process that ended
	// in the middle of this.
	if e := b.commit(removal(relayName, b.families...)); e != nil {
		err = errors.Join(err, fmt.Errorf("remove the tables %s: %w", relayName, e))
	}
	if errors.Is(err, os.ErrPermission) {
		// What the kernel does not let one change that it let one make is a
		// table whose owner is another process.
		return fmt.Errorf("make the tables anew: another process owns a table %s: find it by nft list tables, and stop it: %w", tableName, err)
	}
	if err != nil {
		return fmt.Errorf("make the tables anew: %w", err)
	}
	b.stale = false
	return nil
}

// removal removes tables of a name, which may not be there.
func removal(table string, families ...service.Family) *batch {
	t := &batch{table: table}
	for _, f := range families {
		t.addTable(f)
		t.deleteTable(f)
	}
	return t
}

// commit tells its own transactions from others' by their number: the kernel
// takes the next one only if there was no other.
func (b *Backend) commit(t *batch) error {
	if len(t.messages) == 0 {
		return nil
	}
	for range attempts {
		generation, err := b.socket.generation()
		if err != nil {
			return b.reconnect(err)
		}
		err = b.socket.commit(t, generation)
		if err == nil {
			b.generation = next(generation)
			return nil
		}
		if err := b.reconnect(err); !errors.Is(err, syscall.ERESTART) {
			return err
		}
	}
	// Someone is at it without a pause. Let it be without a number.
	b.generation = 0
	if err := b.socket.commit(t, 0); err != nil {
		return b.reconnect(err)
	}
	return nil
}

func next(generation uint32) uint32 {
	return max(generation+1, 1) // never 0
}

// reconnect follows an error, after which the socket may hold answers that
// nobody asks for any more. It returns that error.
func (b *Backend) reconnect(cause error) error {
	return errors.Join(cause, b.socket.redial())
}
