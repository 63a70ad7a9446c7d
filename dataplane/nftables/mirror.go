package nftables

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/fairway-lb/fairway/dataplane"
	"github.com/fairway-lb/fairway/dataplane/service"
)

// mirror is what the kernel has of one family, as far as it takes to know what
// a change means for it. All else follows from the ports themselves.
type mirror struct {
	family  service.Family
	config  *dataplane.Config
	counts  map[elementKey]int // of shared elements, who wants them
	classes map[class]int      // in how many elements they are
	learns  map[learn]int      // likewise
	idle    map[string]bool    // chains that no element leads to any more
	numbers numbers
}

func newMirror(family service.Family, config *dataplane.Config) *mirror {
	return &mirror{family, config, map[elementKey]int{}, map[class]int{}, map[learn]int{}, map[string]bool{}, numbers{of: map[service.PortName]int{}}}
}

// delta is a change of a table. Its lists are sorted.
type delta struct {
	newClasses, oldClasses []class
	newLearns, oldLearns   []learn
	deleted, added         []change
	// remains are slots that go in a transaction of their own: a packet may be
	// on its way to them.
	remains []change
	// paused are elements by which clients are remembered, of which some come
	// back as resumed: those of all ports that change.
	paused, resumed []change
}

type change struct {
	elementKey
	value
}

// flip is an element before and after.
type flip struct {
	before, after value
	was, is       bool
}

// apply returns what port changes mean for the table, and has the mirror
// follow them. Changes of other families are passed over.
func (m *mirror) apply(changes []service.PortChange) delta {
	flips := map[elementKey]*flip{}
	for _, c := range changes {
		if c.Name.Family == m.family {
			elements(c.Name, c.Before, m.numbers.of[c.Name], m.config, func(k elementKey, v value) { m.remove(flips, k, v) })
		}
	}
	for _, c := range changes {
		if c.Name.Family == m.family {
			m.hash(flips, c)
			elements(c.Name, c.After, m.numbers.of[c.Name], m.config, func(k elementKey, v value) { m.add(flips, k, v) })
		}
	}
	m.numbers.settle()
	return m.settle(flips)
}

// fill has a mirror that is being made follow a port. The loader makes the
// elements, and before the first that leads to a chain, the chain.
func (m *mirror) fill(name service.PortName, p *service.Port, l *loader) {
	number := 0
	if hashOf(p) != service.HashNone {
		number = m.numbers.take(name)
		hashed(number, nil, p, func(k elementKey, f flip) { l.element(k, f.after) })
	}
	elements(name, p, number, m.config, func(k elementKey, v value) {
		if shared(k.set) {
			if m.counts[k]++; m.counts[k] > 1 {
				return
			}
		}
		if v.class != (class{}) {
			if m.classes[v.class]++; m.classes[v.class] == 1 {
				l.class(v.class)
			}
		}
		if v.learn != (learn{}) {
			if m.learns[v.learn]++; m.learns[v.learn] == 1 {
				l.learn(v.learn)
			}
		}
		l.element(k, v)
	})
}

// hash follows the tables of a port that chooses by a hash, or did.
func (m *mirror) hash(flips map[elementKey]*flip, c service.PortChange) {
	was, is := hashOf(c.Before) != service.HashNone, hashOf(c.After) != service.HashNone
	if !was && !is {
		return
	}
	hashed(m.numbers.take(c.Name), c.Before, c.After, func(k elementKey, f flip) { flips[k] = &f })
	if !is {
		m.numbers.release(c.Name)
	}
}

func (m *mirror) remove(flips map[elementKey]*flip, k elementKey, v value) {
	if shared(k.set) {
		m.counts[k]--
		if m.counts[k] > 0 {
			return
		}
		delete(m.counts, k)
	}
	flips[k] = &flip{before: v, was: true}
}

func (m *mirror) add(flips map[elementKey]*flip, k elementKey, v value) {
	if shared(k.set) {
		m.counts[k]++
		if m.counts[k] > 1 {
			return
		}
	}
	f := flips[k]
	if f == nil {
		f = new(flip)
		flips[k] = f
	}
	f.after, f.is = v, true
}

// settle leaves what is different, and counts who uses which chain.
func (m *mirror) settle(flips map[elementKey]*flip) delta {
	var d delta
	classes, learns := map[class]int{}, map[learn]int{}
	for k, f := range flips {
		if learned(k.set) {
			if f.was {
				d.paused = append(d.paused, change{k, f.before})
				learns[f.before.learn]--
			}
			if f.is {
				d.resumed = append(d.resumed, change{k, f.after})
				learns[f.after.learn]++
			}
			continue
		}
		if f.was == f.is && f.before == f.after {
			continue
		}
		if f.was {
			if !f.is && isSlot(k.set) {
				d.remains = append(d.remains, change{k, f.before})
			} else {
				d.deleted = append(d.deleted, change{k, f.before})
			}
			classes[f.before.class]--
		}
		if f.is {
			d.added = append(d.added, change{k, f.after})
			classes[f.after.class]++
		}
	}
	delete(classes, class{})
	delete(learns, learn{})
	d.newClasses, d.oldClasses = count(m.classes, classes)
	d.newLearns, d.oldLearns = count(m.learns, learns)
	slices.SortFunc(d.deleted, compareChanges)
	slices.SortFunc(d.added, compareChanges)
	slices.SortFunc(d.remains, compareChanges)
	slices.SortFunc(d.paused, compareChanges)
	slices.SortFunc(d.resumed, compareChanges)
	if len(d.deleted)+len(d.added)+len(d.remains) == 0 && slices.Equal(d.paused, d.resumed) {
		d.paused, d.resumed = nil, nil
	}
	return d
}

// count adds to totals, and returns which of them there are now, and which no
// longer.
func count[K chainKey](totals, more map[K]int) (begun, ended []K) {
	for k, n := range more {
		before := totals[k]
		totals[k] += n
		switch {
		case before == 0 && totals[k] > 0:
			begun = append(begun, k)
		case totals[k] == 0:
			delete(totals, k)
			if before > 0 {
				ended = append(ended, k)
			}
		}
	}
	slices.SortFunc(begun, compareNames[K])
	slices.SortFunc(ended, compareNames[K])
	return begun, ended
}

// chainKey is what there is a chain of.
type chainKey interface {
	comparable
	fmt.Stringer
}

func compareNames[K chainKey](a, b K) int { return cmp.Compare(a.String(), b.String()) }

func compareChanges(a, b change) int {
	return cmp.Or(cmp.Compare(a.set, b.set), cmp.Compare(a.key, b.key), cmp.Compare(a.end, b.end))
}
