package iptables

import (
	"errors"
	"fmt"
	"hash/maphash"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/fairway-lb/fairway/dataplane"
	"github.com/fairway-lb/fairway/dataplane/service"
)

// side is one family of a Backend.
type side struct {
	family   service.Family
	config   *dataplane.Config
	tool     *tool
	contents [tableCount]*content
	hooks    [tableCount][]hook
	known    known
}

// known is what the watcher needs to know of a side, and the other way round.
type known struct {
	mu      sync.Mutex
	version int // odd while the kernel is being changed
	hash    hasher
	digests [tableCount]uint64
	stale   bool // the kernel is not as it was left
	sizes   [tableCount]tableSize
}

func newSide(family service.Family, config *dataplane.Config, t *tool, counted, liberal bool) *side {
	s := &side{family: family, config: config, tool: t, hooks: hooks(family, config)}
	for i := range s.contents {
		s.contents[i] = newContent()
	}
	addStatic(s.contents[nat], s.contents[filter], family, config, liberal)
	s.known.hash = hasher{maphash.MakeSeed(), counted}
	s.known.stale = true
	return s
}

// The side is the sink of its contents.

func (s *side) chain(table int, name, rules string) { s.contents[table].put(name, before, rules) }

func (s *side) item(table int, to bucket, key, rules string) {
	for s.contents[table].put(to.name(), key, rules) && to.depth > 0 {
		key, rules = to.name(), to.rule()
		to = to.parent()
	}
}

// remover undoes what a side was handed.
type remover struct{ *side }

func (r remover) chain(table int, name, _ string) { r.contents[table].remove(name, before) }

func (r remover) item(table int, to bucket, key, _ string) {
	for r.contents[table].remove(to.name(), key) && to.depth > 0 {
		key = to.name()
		to = to.parent()
	}
}

// replace has the content follow changes of ports, among them those of the other
// family. A frontend may go from one port to another: it is taken from all first.
func (s *side) replace(changes []service.PortChange) {
	for _, c := range changes {
		if c.Name.Family == s.family {
			portRules(c.Name, c.Before, s.config, remover{s})
		}
	}
	for _, c := range changes {
		if c.Name.Family == s.family {
			portRules(c.Name, c.After, s.config, s)
		}
	}
}

// apply makes the kernel follow the content. It reads what is there if asked to,
// or if that is not as it was left.
func (s *side) apply(look bool) error {
	var changes [tableCount][]change
	for i, c := range s.contents {
		changes[i] = c.settle(s.known.hash)
	}
	if s.known.begin() || look {
		return s.finish(s.reconcile())
	}
	err := s.commit(changes, s.hooks)
	if err != nil && !errors.Is(err, errLocked) {
		// Someone was faster than the news of it.
		if again := s.reconcile(); again != nil {
			return s.finish(errors.Join(err, again))
		}
		err = nil
	}
	return s.finish(err)
}

func (s *side) finish(err error) error {
	var digests [tableCount]uint64
	for i, c := range s.contents {
		digests[i] = c.digest
	}
	s.known.end(digests, s.sizes(), err != nil)
	if err != nil {
		return fmt.Errorf("%s: %w", s.family, err)
	}
	return nil
}

// reconcile makes what is in the kernel equal to the content, chain by chain.
func (s *side) reconcile() error {
	saved := newListings()
	if err := s.tool.save(saved); err != nil {
		return err
	}
	var changes [tableCount][]change
	var there [tableCount][]hook
	for i, l := range saved {
		changes[i] = s.contents[i].differences(l)
		there[i] = l.hooks
	}
	return s.commit(changes, there)
}

// commit makes changes in an order in which nothing is refused or gets away
// that is not to: what filter does with connections that nat leaves alone is
// there before nat leaves them, and goes after it has taken them up again.
func (s *side) commit(changes [tableCount][]change, there [tableCount][]hook) error {
	translate := input(nat, changes[nat], there[nat], s.hooks[nat])
	decide := changes[filter]
	if translate != "" {
		if len(there[nat]) > 0 {
			var first []change
			first, decide = widen(decide)
			if err := s.restore(input(filter, first, there[filter], there[filter])); err != nil {
				return err
			}
		}
		if err := s.restore(translate); err != nil {
			return err
		}
		if len(decide) > 0 {
			awaitPackets()
		}
	}
	return s.restore(input(filter, decide, there[filter], s.hooks[filter]))
}

func (s *side) restore(input string) error {
	if input == "" {
		return nil
	}
	return s.tool.restore(input)
}

// awaitPackets returns when all packets are through that met the rules before
// it was called: they are within a critical section of RCU, and membarrier(2)
// waits until all of those have ended. A kernel that does not offer it
// (nohz_full) leaves a window of microseconds.
func awaitPackets() {
	const global = 1 // MEMBARRIER_CMD_GLOBAL
	_, _, _ = unix.Syscall(unix.SYS_MEMBARRIER, global, 0, 0)
}

// begin tells the watcher to look away, and returns whether it has seen
// something.
func (k *known) begin() (stale bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.version++
	return k.stale
}

func (k *known) end(digests [tableCount]uint64, sizes [tableCount]tableSize, failed bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.version++
	k.digests, k.sizes, k.stale = digests, sizes, failed
}
