package dataplanetest

import (
	"fmt"
	"net/netip"
	"slices"
	"sync"

	"github.com/fairway-lb/fairway/dataplane/service"
)

// Cell is one connection of the table of decisions, repeated, and what is to
// come of it.
type Cell struct {
	What     string
	From     *Host
	Protocol service.Protocol
	To       netip.AddrPort
	Want     []string // who may answer, each of which must in the end; or one of Reject and Drop
	Source   Source   // if somebody answers
}

// Source is what an endpoint sees of who asks.
type Source string

const (
	Own        Source = "own"  // the client's address
	Translated Source = "node" // an address of the node
)

// draws are enough for two endpoints that both have a chance of 1/2: the other
// one stays away once in 2^40 times.
const draws = 40

// Check makes the connections of all cells, many at a time: all of those that
// nobody is to answer, since they do nothing but wait, and else one to each
// frontend. Two clients that take turns with a scheduler that does so too would
// each see one endpoint only.
func (l *Lab) Check(cells []Cell) {
	l.T.Helper()
	type frontend struct {
		protocol service.Protocol
		to       netip.AddrPort
	}
	byFrontend := map[frontend][]Cell{}
	var wait sync.WaitGroup
	check := func(c Cell) {
		if problem := c.run(); problem != "" {
			l.T.Errorf("%s: %s -> %s %v: %s", c.What, c.From.Name, c.Protocol, c.To, problem)
		}
	}
	for _, c := range cells {
		if l.deviates != nil {
			l.deviates(&c)
		}
		if slices.Contains(c.Want, Drop) {
			wait.Go(func() { check(c) })
		} else {
			at := frontend{c.Protocol, c.To}
			byFrontend[at] = append(byFrontend[at], c)
		}
	}
	tickets := make(chan struct{}, 48)
	for _, some := range byFrontend {
		wait.Go(func() {
			tickets <- struct{}{}
			defer func() { <-tickets }()
			for _, c := range some {
				check(c)
			}
		})
	}
	wait.Wait()
}

func (c *Cell) run() string {
	seen := map[string]bool{}
	wait := patience
	if slices.Contains(c.Want, Drop) {
		wait = silence
	}
	for range draws {
		got := c.From.dial(c.Protocol, netip.AddrPort{}, c.To, wait)
		if !slices.Contains(c.Want, got.Who) {
			return fmt.Sprintf("got %s, want %v", got.Who, c.Want)
		}
		if got.Who == Reject || got.Who == Drop {
			return ""
		}
		family := service.FamilyOf(c.To.Addr())
		switch {
		case c.Source == Translated && !isNode(got.Source),
			c.Source == Own && c.From.Name != ThisNode && got.Source != c.From.Addrs[family],
			c.Source == Own && c.From.Name == ThisNode && !isNode(got.Source):
			return fmt.Sprintf("%s saw %v, want %s", got.Who, got.Source, c.Source)
		}
		if seen[got.Who] = true; len(seen) == len(c.Want) {
			return ""
		}
	}
	return fmt.Sprintf("got %v, want all of %v", seen, c.Want)
}
