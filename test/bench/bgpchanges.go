package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fairway-lb/fairway/test/bench/measure"
)

// oneChange counts the UPDATEs that a change of one Service costs each session.
func (g *bgpBench) oneChange() error {
	watches, err := g.watchRoutes()
	if err != nil {
		return err
	}
	defer watches.close()
	service := g.announced[len(g.announced)-1]
	route, err := g.prefixOf(service)
	if err != nil {
		return err
	}
	t := g.report.table(fmt.Sprintf("UPDATEs that one change costs, among %d routes", g.routes))
	t.row("change", "sent to "+g.routers[0].Name()+" by each node", "received by it", "sent to "+g.routers[1].Name()+" by each node")
	single := true
	for _, change := range []struct {
		what string
		do   func() error
		hops []netip.Addr // that the Service's route has then
	}{
		{"a Service loses its endpoint", func() error { return g.setReady(service, false) }, nil},
		{"it gets it back", func() error { return g.setReady(service, true) }, g.nodes},
		{"a Service is deleted", func() error { return g.deleteService(service) }, nil},
		{"a Service is added", func() (err error) {
			route, err = g.addService("added")
			return err
		}, g.nodes},
	} {
		before, err := g.updates()
		if err != nil {
			return err
		}
		if err := change.do(); err != nil {
			return fmt.Errorf("%s: %w", change.what, err)
		}
		if _, err := g.wait(watches, route, change.hops...); err != nil {
			return fmt.Errorf("%s: %w", change.what, err)
		}
		after, err := g.settledUpdates()
		if err != nil {
			return err
		}
		row := after.since(before)
		t.row(change.what, fmt.Sprint(row[0]), fmt.Sprint(row[1]), fmt.Sprint(row[2]))
		for _, counts := range row {
			for _, n := range counts {
				single = single && n == 1
			}
		}
	}
	t.verdict(single, "one change costs each session one UPDATE")
	return nil
}

// updateCounts are, each by node: the UPDATEs that the speakers sent to the
// first router, those that it received, and those sent to the second router,
// which does not count them.
type updateCounts [3][]int

func (c updateCounts) since(before updateCounts) (more updateCounts) {
	for i := range c {
		for j := range c[i] {
			more[i] = append(more[i], c[i][j]-before[i][j])
		}
	}
	return more
}

func (g *bgpBench) updates() (counts updateCounts, err error) {
	speakers, err := g.readSpeakers()
	if err != nil {
		return counts, err
	}
	received, err := g.received()
	if err != nil {
		return counts, err
	}
	for i, s := range speakers {
		counts[0] = append(counts[0], s.Updates[g.routers[0].Name()])
		counts[1] = append(counts[1], received[g.nodes[i].String()])
		counts[2] = append(counts[2], s.Updates[g.routers[1].Name()])
	}
	return counts, nil
}

// settledUpdates returns the counts when nothing is sent any more.
func (g *bgpBench) settledUpdates() (counts updateCounts, err error) {
	err = g.patiently(func(ctx context.Context) error {
		_, err := measure.Settle(ctx, time.Second, func() (string, error) {
			counts, err = g.updates()
			return fmt.Sprint(counts), err
		})
		return err
	})
	return counts, err
}

// received asks FRR how many UPDATEs each neighbor has sent.
func (g *bgpBench) received() (map[string]int, error) {
	text, err := g.routers[0].Show(g.ctx, "show bgp neighbors json")
	if err != nil {
		return nil, err
	}
	return parseReceived(text)
}

func parseReceived(text string) (map[string]int, error) {
	var neighbors map[string]json.RawMessage // and a few values that are no neighbors
	if err := json.Unmarshal([]byte(text), &neighbors); err != nil {
		return nil, fmt.Errorf("reading FRR's neighbors: %w", err)
	}
	received := map[string]int{}
	for name, raw := range neighbors {
		if _, err := netip.ParseAddr(name); err != nil {
			continue
		}
		var neighbor struct {
			Messages struct {
				Updates int `json:"updatesRecv"`
			} `json:"messageStats"`
		}
		if err := json.Unmarshal(raw, &neighbor); err != nil {
			return nil, fmt.Errorf("reading FRR's neighbor %s: %w", name, err)
		}
		received[name] = neighbor.Messages.Updates
	}
	return received, nil
}

func (g *bgpBench) setReady(service string, ready bool) error {
	slice := measure.EndpointSlice(namespace, service, g.Nodes()[0].Name(), ready)
	if _, err := g.clientset.DiscoveryV1().EndpointSlices(namespace).Update(g.ctx, slice, metav1.UpdateOptions{}); err != nil {
		return fmt.Errorf("updating EndpointSlice %s: %w", service, err)
	}
	return nil
}

func (g *bgpBench) deleteService(name string) error {
	if err := g.clientset.CoreV1().Services(namespace).Delete(g.ctx, name, metav1.DeleteOptions{}); err != nil {
		return fmt.Errorf("deleting Service %s: %w", name, err)
	}
	return nil
}
