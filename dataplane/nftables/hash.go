package nftables

import (
	"slices"

	"github.com/fairway-lb/fairway/dataplane/maglev"
	"github.com/fairway-lb/fairway/dataplane/service"
)

// hashSeed is the same on all nodes and for ever: another would have every
// flow choose again. All nodes have to be of one byte order, too, in which the
// kernel reads what it hashes.
const hashSeed = 0x46616972 // "Fair"

// All tables of consistent hashing are in one map, one after the other: a rule
// can add a constant to a hash, but nft cannot list a lookup by what another
// lookup has found. Each port has two places for tables, for its endpoints of
// policy Cluster and those of policy Local, which all its frontends share.
const (
	tableSize     = maglev.DefaultSize
	tablesPerPort = 2
)

// offset is where a table begins.
func offset(number int, local bool) uint32 {
	place := tablesPerPort * number
	if local {
		place++
	}
	return uint32(place * tableSize)
}

// hashOf is how a port chooses its endpoint. A client that is to stay with its
// endpoint cannot choose by its ports; by its address it stays, and does so on
// every node without learning anything.
func hashOf(p *service.Port) service.Hash {
	if p == nil {
		return service.HashNone
	}
	if p.Hash != service.HashNone && p.Affinity > 0 {
		return service.HashSource
	}
	return p.Hash
}

// numbers are what places ports have that choose by a hash. A port keeps its
// own while it does.
type numbers struct {
	of   map[service.PortName]int
	free []int // in descending order
	// released are free when the elements are gone that are there.
	released []int
	next     int
}

// take returns the number of a port, a new one if it has none.
func (n *numbers) take(name service.PortName) int {
	if number, ok := n.of[name]; ok {
		return number
	}
	number := n.next
	if last := len(n.free) - 1; last >= 0 {
		number, n.free = n.free[last], n.free[:last]
	} else {
		n.next++
	}
	n.of[name] = number
	return number
}

func (n *numbers) release(name service.PortName) {
	n.released = append(n.released, n.of[name])
	delete(n.of, name)
}

// settle makes what was released free for the next change.
func (n *numbers) settle() {
	n.free = append(n.free, n.released...)
	slices.SortFunc(n.free, func(a, b int) int { return b - a })
	n.released = n.released[:0]
}

// hashed hands every slot of a port's tables to yield that is not as before.
func hashed(number int, before, after *service.Port, yield func(elementKey, flip)) {
	for _, local := range []bool{false, true} {
		at := offset(number, local)
		for _, c := range maglev.Diff(tableOf(before, local), tableOf(after, local)) {
			f := flip{was: c.Before.IsValid(), is: c.After.IsValid()}
			if f.was {
				f.before.endpoint = endpointData(c.Before)
			}
			if f.is {
				f.after.endpoint = endpointData(c.After)
			}
			yield(elementKey{set: hashedSet, key: string(native(at + uint32(c.Slot)))}, f)
		}
	}
}

func tableOf(p *service.Port, local bool) maglev.Table {
	if hashOf(p) == service.HashNone {
		return maglev.Table{}
	}
	endpoints := p.Cluster
	if local {
		endpoints = p.Local
	}
	table, _ := maglev.New(endpoints, tableSize) // only a size that is no prime fails
	return table
}
