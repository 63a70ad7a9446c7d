package bgp

import (
	"cmp"
	"maps"
	"slices"
	"strings"

	"github.com/fairway-lb/fairway/speaker/plan"
)

// class is the routes that the same neighbors may have.
type class struct {
	number uint32
	all    bool
	peers  []string // names of Peers, unless all
	// retired is set when the operator's policy has changed since: the routes get
	// successors of another class.
	retired bool
	// idle is set while none of the peers has a session here: GoBGP need not have
	// the routes.
	idle   bool
	routes familyCount
}

// familyCount counts routes of IPv4 and of IPv6.
type familyCount [2]int

func (c *familyCount) add(ipv6 bool, n int) {
	if ipv6 {
		c[1] += n
	} else {
		c[0] += n
	}
}

// maxClasses is how many classes a path identifier has room for.
const maxClasses = 1 << 16

// classes are the sets of neighbors that routes are announced to. GoBGP's policy
// depends on the sets, not on the routes, so that it changes rarely. GoBGP
// withdraws a route from a neighbor only when the path that it had may go there
// by the present policy and its successor may not; so a route whose set changes
// becomes another path of another class, and only then is the first one removed.
type classes struct {
	byPeers map[string]*class // not the retired ones
	all     map[uint32]*class
	last    uint32
	present []guardNeighbor // those that there are sessions with
}

func newClasses() *classes {
	return &classes{byPeers: make(map[string]*class), all: make(map[uint32]*class)}
}

// of returns the class of a route, and whether the policy does not know it yet.
func (cs *classes) of(r *plan.Route) (c *class, isNew bool) {
	key := ""
	if !r.AllPeers {
		key = "\n" + strings.Join(r.Peers, "\n")
	}
	if c := cs.byPeers[key]; c != nil {
		return c, false
	}
	c = &class{number: cs.free(), all: r.AllPeers, peers: r.Peers}
	c.idle = cs.isIdle(c)
	cs.byPeers[key], cs.all[c.number] = c, c
	return c, true
}

// free returns an unused number, the longest unused ones first.
func (cs *classes) free() uint32 {
	for {
		cs.last = (cs.last + 1) % maxClasses
		if cs.all[cs.last] == nil {
			return cs.last
		}
	}
}

// meet takes the neighbors that there are now, and returns whether routes have
// waited for one of them.
func (cs *classes) meet(neighbors []guardNeighbor) (awaited bool) {
	cs.present = neighbors
	for _, c := range cs.all {
		was := c.idle
		c.idle = cs.isIdle(c)
		awaited = awaited || was && !c.idle
	}
	return awaited
}

func (cs *classes) isIdle(c *class) bool {
	return !c.all && !slices.ContainsFunc(cs.present, func(n guardNeighbor) bool { return slices.Contains(c.peers, n.name) })
}

// retire makes all routes need a new class.
func (cs *classes) retire() {
	for _, c := range cs.all {
		c.retired = true
	}
	clear(cs.byPeers)
}

// sweep forgets the classes without routes, but for those of wanted ones.
func (cs *classes) sweep(wanted map[*class]bool) {
	unused := func(c *class) bool { return c.routes == (familyCount{}) && !wanted[c] }
	maps.DeleteFunc(cs.byPeers, func(_ string, c *class) bool { return unused(c) })
	maps.DeleteFunc(cs.all, func(_ uint32, c *class) bool { return unused(c) })
}

// list returns all classes in the order of their numbers.
func (cs *classes) list() []*class {
	return slices.SortedFunc(maps.Values(cs.all), func(a, b *class) int { return cmp.Compare(a.number, b.number) })
}

// count is how many routes a peer may have.
func (cs *classes) count(peer string) (total familyCount) {
	for _, c := range cs.all {
		if c.all || slices.Contains(c.peers, peer) {
			total[0] += c.routes[0]
			total[1] += c.routes[1]
		}
	}
	return total
}
