package nftables

import (
	"maps"
	"slices"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"github.com/fairway-lb/fairway/dataplane"
	"github.com/fairway-lb/fairway/dataplane/service"
)

// chunk is how many elements go into one transaction of a cold start, so that
// others get their turn.
const chunk = 10_000

// load makes tables of a name in place of those that there may be. What leads
// to all else is in the last of several transactions.
//
// Elements go into messages one by one: lists of all of them, as a change has
// them, would be most of a speaker's memory at its start.
func (b *Backend) load(table string, memories [][]memory) ([]*mirror, error) {
	l := &loader{batch: removal(table, b.families...), commit: b.commit}
	names := slices.SortedFunc(maps.Keys(b.ports), service.PortName.Compare)
	mirrors := make([]*mirror, len(b.families))
	for i, f := range b.families {
		mirrors[i] = newMirror(f, &b.config)
		l.addTable(f)
		addSets(l.batch, f, &b.config)
		addChains(l.batch, f)
		l.begin(f, &b.config)
		for _, name := range names {
			if name.Family == f {
				mirrors[i].fill(name, b.ports[name], l)
			}
		}
		l.flush()
	}
	for i, f := range b.families {
		l.addMemories(f, memories[i])
		addDispatch(l.batch, f, &b.config)
	}
	l.next()
	return mirrors, l.err
}

// loader puts what a new table has into transactions, and commits one after the
// other until one fails.
type loader struct {
	*batch
	commit  func(*batch) error
	err     error
	family  service.Family
	config  *dataplane.Config
	pending map[string]*encoder // elements that are in no message yet, by set
	chains  map[class]string    // the names of those that there are
}

// begin is for the elements of a family.
func (l *loader) begin(family service.Family, config *dataplane.Config) {
	l.family, l.config = family, config
	l.pending, l.chains = map[string]*encoder{}, map[class]string{}
}

// class makes the chain of a class, which is new.
func (l *loader) class(c class) {
	l.chains[c] = c.String()
	c.addTo(l.batch, l.family, l.config)
}

// learn makes the chain of those who are remembered alike, which is new.
func (l *loader) learn(n learn) { n.addTo(l.batch, l.family) }

// element makes an element. What it leads to is there.
func (l *loader) element(k elementKey, v value) {
	if v.class != (class{}) {
		v = value{verdict: verdict{code: unix.NFT_GOTO, chain: l.chains[v.class]}}
	}
	e := l.pending[k.set]
	if e == nil {
		e = new(encoder)
		l.pending[k.set] = e
	}
	change{k, v}.encode(e)
	l.elements++
	if len(*e) >= maxElements {
		l.message(k.set, e)
	}
	if l.elements >= chunk {
		l.flush()
		l.next()
	}
}

// flush makes messages of all elements.
func (l *loader) flush() {
	for _, s := range sets {
		if e := l.pending[s.name]; e != nil && len(*e) > 0 {
			l.message(s.name, e)
		}
	}
}

// message makes one of the elements of a set.
func (l *loader) message(set string, elements *encoder) {
	l.addList(unix.NFT_MSG_NEWSETELEM, netlink.Create|netlink.Excl, l.family, set, *elements)
	*elements = (*elements)[:0]
}

// next commits the transaction and begins another.
func (l *loader) next() {
	if l.err == nil {
		l.err = l.commit(l.batch)
	}
	l.batch = &batch{table: l.table}
}
