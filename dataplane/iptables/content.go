package iptables

import (
	"cmp"
	"hash/maphash"
	"slices"
	"strings"
)

// content is what is to be in the chains of a table.
type content struct {
	chains  map[string]*chain
	touched map[string]text // as it was before
	digest  uint64          // of all that is settled
}

// text is the rules of a chain that may not be there.
type text struct {
	rules string
	is    bool
}

// chain is its items, sorted by key.
type chain struct {
	items  []item
	static bool // stays when it is empty
}

type item struct {
	key, rules string
	wanted     int // by how many
}

// change is a chain of which the kernel is to have something else.
type change struct {
	chain         string
	before, after text
}

func newContent() *content {
	return &content{chains: map[string]*chain{}, touched: map[string]text{}}
}

// keep puts a chain that stays for as long as the table.
func (c *content) keep(name, rules string) {
	c.touch(name)
	c.chains[name] = &chain{static: true}
	if rules != "" {
		c.put(name, before, rules)
	}
}

// put adds an item to a chain, and tells whether that chain is new.
func (c *content) put(name, key, rules string) (begun bool) {
	c.touch(name)
	to := c.chains[name]
	if to == nil {
		to, begun = &chain{}, true
		c.chains[name] = to
	}
	i, found := slices.BinarySearchFunc(to.items, key, compareKey)
	if !found {
		to.items = slices.Insert(to.items, i, item{key, rules, 0})
	}
	to.items[i].wanted++
	return begun
}

// remove undoes a put, and tells whether the chain is gone.
func (c *content) remove(name, key string) (ended bool) {
	c.touch(name)
	from := c.chains[name]
	if from == nil {
		return false
	}
	i, found := slices.BinarySearchFunc(from.items, key, compareKey)
	if !found {
		return false
	}
	if from.items[i].wanted--; from.items[i].wanted > 0 {
		return false
	}
	from.items = slices.Delete(from.items, i, i+1)
	if len(from.items) > 0 || from.static {
		return false
	}
	delete(c.chains, name)
	return true
}

func compareKey(i item, key string) int { return cmp.Compare(i.key, key) }

func (c *content) touch(name string) {
	if _, ok := c.touched[name]; !ok {
		c.touched[name] = c.text(name)
	}
}

func (c *content) text(name string) text {
	ch := c.chains[name]
	if ch == nil {
		return text{}
	}
	if len(ch.items) == 1 {
		return text{ch.items[0].rules, true}
	}
	var b strings.Builder
	for _, i := range ch.items {
		b.WriteString(i.rules)
	}
	return text{b.String(), true}
}

// settle returns which chains are otherwise than at the last settle, by name.
func (c *content) settle(hash hasher) []change {
	var changes []change
	for name, before := range c.touched {
		if after := c.text(name); after != before {
			changes = append(changes, change{name, before, after})
			c.digest += hash.chain(name, after) - hash.chain(name, before)
		}
	}
	// What was touched at a cold start is everything.
	c.touched = map[string]text{}
	slices.SortFunc(changes, func(a, b change) int { return cmp.Compare(a.chain, b.chain) })
	return changes
}

// differences returns what makes the chains of a listing equal to the content.
func (c *content) differences(l *listing) []change {
	var changes []change
	for name := range c.chains {
		is, ok := l.chains[name]
		before := text{is, ok}
		if after := c.text(name); before != after {
			changes = append(changes, change{name, before, after})
		}
	}
	for name, is := range l.chains {
		if c.chains[name] == nil {
			changes = append(changes, change{name, text{is, true}, text{}})
		}
	}
	slices.SortFunc(changes, func(a, b change) int { return cmp.Compare(a.chain, b.chain) })
	return changes
}

// hasher sums up chains, in any order.
type hasher struct {
	seed maphash.Seed
	// counted looks at the number of rules only: this iptables prints some
	// otherwise than they are written here.
	counted bool
}

func (h hasher) chain(name string, t text) uint64 {
	if !t.is {
		return 0
	}
	rules := t.rules
	if h.counted {
		rules = strings.Repeat("\n", strings.Count(rules, "\n"))
	}
	var sum maphash.Hash // of parts, which together are much
	sum.SetSeed(h.seed)
	for _, part := range []string{name, "\n", rules} {
		_, _ = sum.WriteString(part) // never fails
	}
	return sum.Sum64()
}
