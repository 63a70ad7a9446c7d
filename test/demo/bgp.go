package main

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/fairway-lb/fairway/test/lab"
)

// What config/samples/bgp.yaml says.
const (
	bgpAddress = "172.22.0.2"
	nodesAS    = 50000
	routerAS   = 50001
)

// bgp shows an address that all nodes announce to a router: the router's
// routes, a client behind it, the death of a speaker, the drain of a node.
func (d *demo) bgp() error {
	d.title("A router (BIRD), and an address that every node announces to it by BGP")
	router, err := d.AddRouter(d.ctx, lab.RouterOptions{Kind: lab.BIRD, Name: "tor", Number: 1, AS: routerAS,
		Neighbors: []lab.Neighbor{{Range: netip.MustParsePrefix("192.168.93.0/24"), AS: nodesAS}}})
	if err != nil {
		return fmt.Errorf("adding a router: %w", err)
	}
	prefix := netip.PrefixFrom(netip.MustParseAddr(bgpAddress), 32)
	watch, err := router.WatchRoutes(prefix)
	if err != nil {
		return fmt.Errorf("watching the router: %w", err)
	}
	defer watch.Close()
	if err := d.show("apply", "-f", "config/samples/bgp.yaml"); err != nil {
		return err
	}
	var nodes []netip.Addr
	for _, node := range d.Nodes() {
		nodes = append(nodes, node.Addr4())
	}
	if err := d.waitForRoute(watch, prefix, nodes...); err != nil {
		return err
	}
	if err := d.showRoute(router); err != nil {
		return err
	}
	if err := d.show("get", "svc", "bgp-svc", "-n", "dev"); err != nil {
		return err
	}
	if err := d.show("get", "bgppeer", "bgp-peer", "-o", "jsonpath={range .status.nodesPeerStatus.*}{.peerState.sessionState} {.conditions[?(@.type==\"Established\")].message}{'\\n'}{end}"); err != nil {
		return err
	}
	for range 3 {
		if err := d.askThrough(router); err != nil {
			return err
		}
	}

	d.title("A speaker is killed and comes back: the router keeps the route (graceful restart)")
	first := d.Nodes()[0].Name()
	changes := len(watch.Changes(prefix))
	if err := d.speakers[first].Kill(); err != nil {
		return err
	}
	if err := d.askThrough(router); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(d.ctx, patience)
	defer cancel()
	if err := router.WaitNoSession(ctx, d.Nodes()[0].Addr4()); err != nil {
		return err
	}
	if err := d.startSpeaker(first); err != nil {
		return err
	}
	if err := router.WaitSession(ctx, d.Nodes()[0].Addr4()); err != nil {
		return err
	}
	fmt.Printf("   the session is back; changes of the route in the router's kernel meanwhile: %d\n", len(watch.Changes(prefix))-changes)

	d.title("A node is excluded: it asks for less preference, then withdraws")
	last := d.Nodes()[len(d.Nodes())-1]
	began := time.Now()
	if err := d.show("label", "node", last.Name(), "node.kubernetes.io/exclude-from-external-load-balancers="); err != nil {
		return err
	}
	if err := d.waitForRoute(watch, prefix, nodes[:len(nodes)-1]...); err != nil {
		return err
	}
	fmt.Printf("   out of the router's route after %.1f s\n", time.Since(began).Seconds())
	if err := d.showRoute(router); err != nil {
		return err
	}
	return d.askThrough(router)
}

func (d *demo) waitForRoute(watch *lab.RouteWatch, prefix netip.Prefix, nodes ...netip.Addr) error {
	ctx, cancel := context.WithTimeout(d.ctx, patience)
	defer cancel()
	_, err := watch.Wait(ctx, prefix, nodes...)
	return err
}

// showRoute shows the kernel's route of the router.
func (d *demo) showRoute(router *lab.Router) error {
	out, err := router.Command(d.ctx, "ip", "route", "show", bgpAddress).Output()
	if err != nil {
		return fmt.Errorf("reading the router's routes: %w", err)
	}
	fmt.Printf("   tor$ ip route show %s\n", bgpAddress)
	for line := range strings.Lines(string(out)) {
		fmt.Print("   ", line)
	}
	return nil
}

// askThrough sends a request from the client behind the router.
func (d *demo) askThrough(router *lab.Router) error {
	body, err := router.Client().Get(d.ctx, "http://"+bgpAddress+"/")
	if err != nil {
		return fmt.Errorf("a request through the router: %w", err)
	}
	pod, _, _ := strings.Cut(body, " ")
	fmt.Printf("   through the router: %s answered\n", pod)
	return nil
}
