package bgp

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"

	api "github.com/osrg/gobgp/v3/api"

	"github.com/fairway-lb/fairway/speaker/plan"
)

// table is the routes as they are to be and as GoBGP has them.
type table struct {
	wanted  map[netip.Prefix]*plan.Route
	dirty   map[netip.Prefix]struct{} // where the two may differ
	present map[netip.Prefix]announced
	classes *classes
	// hops numbers the next hops that there have been, the node itself being 0,
	// so that a path keeps its identifier while others of its prefix come and go.
	hops map[netip.Addr]uint32
	// prepends are the lengths of prepending that the policy knows.
	prepends map[uint32]struct{}
	// unruled is set while the policy does not know all classes and prepends.
	unruled bool
}

// announced is a route as GoBGP has it, or would have it if there were somebody to
// announce it to.
type announced struct {
	route *plan.Route
	class *class
	held  bool // by GoBGP
}

func newTable() table {
	t := table{
		wanted:   make(map[netip.Prefix]*plan.Route),
		hops:     make(map[netip.Addr]uint32),
		prepends: make(map[uint32]struct{}),
	}
	t.reset()
	return t
}

// reset is called when GoBGP has no routes any more.
func (t *table) reset() {
	t.present = make(map[netip.Prefix]announced)
	t.classes = newClasses()
	t.unruled = true
	t.markAll()
}

// want changes what is wanted.
func (t *table) want(routes map[netip.Prefix]*plan.Route) {
	for prefix, r := range routes {
		if r == nil {
			delete(t.wanted, prefix)
		} else {
			t.wanted[prefix] = r
		}
		t.dirty[prefix] = struct{}{}
	}
}

// markAll has all routes looked at.
func (t *table) markAll() {
	t.dirty = make(map[netip.Prefix]struct{}, len(t.wanted))
	for prefix := range t.wanted {
		t.dirty[prefix] = struct{}{}
	}
	for prefix := range t.present {
		t.dirty[prefix] = struct{}{}
	}
}

// classify finds the classes of what is to change.
func (t *table) classify() map[netip.Prefix]*class {
	targets := make(map[netip.Prefix]*class, len(t.dirty))
	for prefix := range t.dirty {
		r := t.wanted[prefix]
		if r == nil {
			continue
		}
		c, isNew := t.classes.of(r)
		targets[prefix] = c
		t.unruled = t.unruled || isNew
		if n := prepends(r); n > 0 {
			if _, known := t.prepends[n]; !known {
				t.prepends[n] = struct{}{}
				t.unruled = true
			}
		}
	}
	return targets
}

// identifiers returns the next hops of a route by path identifier.
func (t *table) identifiers(r *plan.Route, c *class) map[uint32]netip.Addr {
	ids := make(map[uint32]netip.Addr, max(1, len(r.NextHops)))
	if len(r.NextHops) == 0 {
		ids[c.number] = netip.Addr{}
	}
	for _, hop := range r.NextHops {
		number, known := t.hops[hop]
		if !known {
			number = uint32(len(t.hops) + 1)
			t.hops[hop] = number
		}
		ids[number*maxClasses+c.number] = hop
	}
	return ids
}

// applyRoutes makes GoBGP's routes the wanted ones.
func (s *Server) applyRoutes() error {
	t := &s.table
	targets := t.classify()
	if t.unruled {
		if err := s.setGuard(targets); err != nil {
			return err
		}
	}
	// What is withdrawn comes last: an aggregate is there before its members go,
	// and the other way round.
	var errs []error
	for _, withdrawing := range []bool{false, true} {
		for prefix := range t.dirty {
			if (t.wanted[prefix] == nil) != withdrawing {
				continue
			}
			if err := s.applyRoute(prefix, targets[prefix]); err != nil {
				errs = append(errs, fmt.Errorf("announcing %v: %w", prefix, err))
				continue
			}
			delete(t.dirty, prefix)
			s.version++
		}
	}
	return errors.Join(errs...)
}

// applyRoute makes GoBGP's paths for a prefix the wanted ones: first what comes,
// then what goes, so that a neighbor that keeps the route never misses it. A path
// that stays is replaced in place.
func (s *Server) applyRoute(prefix netip.Prefix, c *class) error {
	t := &s.table
	had, want := t.present[prefix], t.wanted[prefix]
	var before, after map[uint32]netip.Addr
	if had.held {
		before = t.identifiers(had.route, had.class)
	}
	if want != nil && !c.idle {
		after = t.identifiers(want, c)
	}
	same := had.route != nil && want != nil && sameButNextHops(had.route, want)
	ctx := context.Background()
	for _, id := range slices.Sorted(maps.Keys(after)) {
		if _, there := before[id]; there && same {
			continue
		}
		path, err := pathOf(want, after[id], c.number, id)
		if err != nil {
			return err
		}
		if _, err := s.bgp.AddPath(ctx, &api.AddPathRequest{Path: path}); err != nil {
			return err
		}
	}
	for _, id := range slices.Sorted(maps.Keys(before)) {
		if _, stays := after[id]; stays {
			continue
		}
		path, err := pathOf(had.route, before[id], had.class.number, id)
		if err != nil {
			return err
		}
		if err := s.bgp.DeletePath(ctx, &api.DeletePathRequest{Path: path}); err != nil {
			return err
		}
	}
	if had.class != nil {
		had.class.routes.add(prefix.Addr().Is6(), -1)
	}
	if want == nil {
		delete(t.present, prefix)
		return nil
	}
	c.routes.add(prefix.Addr().Is6(), 1)
	t.present[prefix] = announced{route: want, class: c, held: !c.idle}
	return nil
}

// sameButNextHops says whether two routes of one prefix have the same attributes
// but for the next hops.
func sameButNextHops(a, b *plan.Route) bool {
	x, y := *a, *b
	x.NextHops, y.NextHops = nil, nil
	return x.Equal(&y)
}
