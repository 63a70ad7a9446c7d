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
// nobody is to answer, since they do nothing but wait.
func (l *Lab) Check(cells []Cell) {
	l.T.Helper()
	var wait sync.WaitGroup
	tickets := make(chan struct{}, 48)
	for _, c := range cells {
		wait.Add(1)
		if l.deviates != nil {
			l.deviates(&c)
		}
		go func() {
			defer wait.Done()
			if !slices.Contains(c.Want, Drop) {
				tickets <- struct{}{}
				defer func() { <-tickets }()
			}
			if problem := c.run(); problem != "" {
				l.T.Errorf("%s: %s -> %s %v: %s", c.What, c.From.Name, c.Protocol, c.To, problem)
			}
		}()
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
