package ipvs

import "github.com/fairway-lb/fairway/dataplane/service"

// markTable gives marks to virtual services. A mark is taken until its virtual
// service is gone.
type markTable struct {
	marking
	of    map[virtualKey]uint32
	taken [2]map[uint32]virtualKey // by family
	next  [2]int
}

func newMarkTable(masquerade uint32) *markTable {
	return &markTable{marking: marking{masquerade}, of: map[virtualKey]uint32{}, taken: [2]map[uint32]virtualKey{{}, {}}, next: [2]int{firstMark, firstMark}}
}

// firstMark leaves the tag alone to the probe.
const firstMark = 1

// take returns the mark of a virtual service, a new one if it has none, and
// false if all are taken.
func (t *markTable) take(k virtualKey) (uint32, bool) {
	if mark := t.of[k]; mark != 0 {
		return mark, true
	}
	f := k.family()
	wrapped := false
	for {
		mark, ok := t.nth(t.next[f])
		switch _, taken := t.taken[f][mark]; {
		case !ok && wrapped:
			return 0, false
		case !ok:
			t.next[f], wrapped = firstMark, true
		case !taken:
			t.assign(k, mark)
			return mark, true
		default:
			t.next[f]++
		}
	}
}

func (t *markTable) assign(k virtualKey, mark uint32) {
	t.of[k] = mark
	t.taken[k.family()][mark] = k
}

func (t *markTable) release(k virtualKey) {
	if mark, has := t.of[k]; has {
		delete(t.of, k)
		delete(t.taken[k.family()], mark)
		t.next[k.family()] = firstMark
	}
}

// who returns whose a mark is.
func (t *markTable) who(family service.Family, mark uint32) (virtualKey, bool) {
	k, taken := t.taken[family][mark]
	return k, taken
}

// protocols returns those of the virtual services, by what they are called while
// nobody knows their frontends.
func (t *markTable) protocols() map[virtualKey]service.Protocol {
	all := make(map[virtualKey]service.Protocol, len(t.of))
	for k, mark := range t.of {
		all[orphan(k.family(), mark)] = k.protocol
	}
	return all
}

// forget has nobody have a mark.
func (t *markTable) forget() { *t = *newMarkTable(t.masquerade) }
