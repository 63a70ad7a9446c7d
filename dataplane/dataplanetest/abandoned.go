package dataplanetest

import (
	"bufio"
	"errors"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/fairway-lb/fairway/dataplane/conntrack"
	"github.com/fairway-lb/fairway/dataplane/service"
)

// A connection that was begun to an endpoint that is dead gets through once
// there is another, as does one from the port of a client that has given up.
func testAbandonedConnection(t *testing.T, subject Subject) {
	c := subject.NewScene(t, WithPods, nil)
	cleaner := conntrack.NewCleaner(nil)
	dead := c.newDead()
	SetEndpoints(c.State, c.Frontends, Endpoint{dead, Ready})
	c.syncAll(cleaner)
	var all sync.WaitGroup
	each := func(ask func(way int, from *Host, to netip.AddrPort)) {
		for family := range 2 {
			for i, way := range c.ways(family) {
				all.Go(func() { ask(i, way.from, way.to) })
			}
		}
	}
	samePort := func(wait time.Duration, want string) {
		each(func(way int, from *Host, to netip.AddrPort) {
			port := netip.AddrPortFrom(from.Addrs[service.FamilyOf(to.Addr())], uint16(21000+way))
			if got := from.dial(service.TCP, port, to, wait); got.Who != want {
				t.Errorf("%v -> %v: got %s, want %s", port, to, got.Who, want)
			}
		})
	}
	samePort(silence, Drop)
	all.Wait()
	each(func(_ int, from *Host, to netip.AddrPort) {
		f, err := from.connect(to)
		if err != nil {
			t.Errorf("begun while the endpoint was dead: %v", err)
			return
		}
		defer f.conn.Close()
		if line, err := bufio.NewReader(f.conn).ReadString('\n'); !strings.HasPrefix(line, "pod2 ") {
			t.Errorf("%s: got %q, %v, want pod2", f.what, line, err)
		}
	})
	const begun = 2 * 8
	for begin := time.Now(); c.flowsTo(dead) < begun; <-time.After(time.Millisecond) {
		if time.Since(begin) > patience {
			t.Fatalf("%d connections are begun, want %d", c.flowsTo(dead), begun)
		}
	}
	SetEndpoints(c.State, c.Frontends, OnPod2(c.Lab))
	for again := c.syncAll(cleaner); !again.IsZero(); again = c.syncAll(cleaner) {
		<-time.After(time.Until(again))
	}
	if n := c.flowsTo(dead); n > 0 {
		t.Errorf("%d connections still lead to the endpoint that is dead", n)
	}
	samePort(patience, "pod2")
	all.Wait()
}

// newDead returns what takes packets and never answers, in place of a host of
// Remote's.
func (l *Lab) newDead() *Host {
	l.T.Helper()
	h := &Host{Name: "dead", Addrs: [2]netip.Addr{netip.MustParseAddr("10.244.1.9"), netip.MustParseAddr("fd00:244:1::9")}}
	each := func(change func(*netlink.Route) error) {
		must(l.T, onThread(l.Remote.handle, func() (err error) {
			for _, addr := range h.Addrs {
				err = errors.Join(err, change(&netlink.Route{Dst: single(addr), Type: unix.RTN_BLACKHOLE}))
			}
			return err
		}))
	}
	each(netlink.RouteAdd)
	l.T.Cleanup(func() { each(netlink.RouteDel) })
	return h
}

// flowsTo returns how many TCP connections the node sends to a host.
func (l *Lab) flowsTo(to *Host) (n int) {
	l.T.Helper()
	for family, number := range []netlink.InetFamily{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		flows, err := netlink.ConntrackTableList(netlink.ConntrackTable, number)
		must(l.T, err)
		for _, f := range flows {
			if from, _ := netip.AddrFromSlice(f.Reverse.SrcIP); from.Unmap() == to.Addrs[family] && f.Forward.Protocol == uint8(service.TCP) {
				n++
			}
		}
	}
	return n
}
