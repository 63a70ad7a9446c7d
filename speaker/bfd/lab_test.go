package bfd

import (
	"net/netip"
	"os"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/fairway-lb/fairway/internal/netnstest"
)

const (
	// patience is how long a test waits for what must come.
	patience = 30 * time.Second
	tick     = 2 * time.Millisecond
)

// fast is found by the neighbor in 300 ms.
func fast() Profile {
	return Profile{MinTx: 100 * time.Millisecond, MinRx: 100 * time.Millisecond, DetectMult: 3}
}

// calm is for tests in which nobody is to be lost, however busy the machine is.
func calm() Profile { p := fast(); p.DetectMult = 20; return p }

func over(p Profile, multihop bool) Profile { p.Multihop = multihop; return p }

func addr(s string) netip.Addr { return netip.MustParseAddr(s) }

// A host is a network namespace with at most one Server.
type host struct {
	t      testing.TB
	ns     netns.NsHandle
	nl     *netlink.Handle
	server *Server
	reg    *prometheus.Registry

	mu     sync.Mutex
	events []Event
}

func newHost(t testing.TB) *host {
	t.Helper()
	netnstest.Need(t)
	h := &host{t: t}
	made := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		var err error
		h.ns, err = netns.New()
		made <- err
	}()
	must(t, <-made)
	t.Cleanup(func() { _ = h.ns.Close() })
	h.do(func() error {
		for _, f := range []string{"conf/all/accept_dad", "conf/default/accept_dad", "conf/default/router_solicitations"} {
			if err := os.WriteFile("/proc/sys/net/ipv6/"+f, []byte("0"), 0); err != nil {
				return err
			}
		}
		return nil
	})
	var err error
	h.nl, err = netlink.NewHandleAt(h.ns)
	must(t, err)
	t.Cleanup(h.nl.Close)
	return h
}

// do runs f in the host's namespace.
func (h *host) do(f func() error) {
	h.t.Helper()
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		if err := netns.Set(h.ns); err != nil {
			done <- err
			return
		}
		done <- f()
	}()
	must(h.t, <-done)
}

// plug joins a link of h to one of other, with addresses, in prefixes.
func (h *host) plug(link string, addrs []string, other *host, otherLink string, otherAddrs []string) {
	h.t.Helper()
	attrs := netlink.NewLinkAttrs()
	attrs.Name = link
	must(h.t, h.nl.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: otherLink, PeerNamespace: netlink.NsFd(other.ns)}))
	for _, end := range []struct {
		h     *host
		link  string
		addrs []string
	}{{h, link, addrs}, {other, otherLink, otherAddrs}} {
		l := end.h.link(end.link)
		for _, a := range end.addrs {
			parsed, err := netlink.ParseAddr(a)
			must(h.t, err)
			must(h.t, end.h.nl.AddrAdd(l, parsed))
		}
		must(h.t, end.h.nl.LinkSetUp(l))
	}
	eventually(h.t, "carrier and addresses", func() bool { return h.ready(link) && other.ready(otherLink) })
}

// ready says if a link has a carrier and addresses that can be used.
func (h *host) ready(link string) bool {
	h.t.Helper()
	l := h.link(link)
	addrs, err := h.nl.AddrList(l, netlink.FAMILY_V6)
	must(h.t, err)
	tentative := slices.ContainsFunc(addrs, func(a netlink.Addr) bool { return a.Flags&unix.IFA_F_TENTATIVE != 0 })
	return l.Attrs().OperState == netlink.OperUp && !tentative
}

func (h *host) link(name string) netlink.Link {
	h.t.Helper()
	l, err := h.nl.LinkByName(name)
	must(h.t, err)
	return l
}

func (h *host) cut(link string) { h.t.Helper(); must(h.t, h.nl.LinkSetDown(h.link(link))) }

// route adds a route by a gateway.
func (h *host) route(to, gateway string) {
	h.t.Helper()
	dst, err := netlink.ParseIPNet(to)
	must(h.t, err)
	must(h.t, h.nl.RouteAdd(&netlink.Route{Dst: dst, Gw: addr(gateway).AsSlice()}))
}

// linkLocal waits for the link-local address of a link.
func (h *host) linkLocal(link string) netip.Addr {
	h.t.Helper()
	var found netip.Addr
	eventually(h.t, "link-local address", func() bool {
		addrs, err := h.nl.AddrList(h.link(link), netlink.FAMILY_V6)
		must(h.t, err)
		for _, a := range addrs {
			if ip, ok := netip.AddrFromSlice(a.IP); ok && ip.IsLinkLocalUnicast() && a.Flags&unix.IFA_F_TENTATIVE == 0 {
				found = ip
			}
		}
		return found.IsValid()
	})
	return found
}

// start gives the host a Server with the sessions.
func (h *host) start(sessions map[Key]Profile) {
	h.t.Helper()
	h.reg = prometheus.NewRegistry()
	h.server = New(Options{Log: logr.Discard(), Registerer: h.reg, Notify: func(e Event) {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.events = append(h.events, e)
	}})
	server := h.server
	h.t.Cleanup(func() { must(h.t, server.Close()) })
	h.set(sessions)
}

func (h *host) set(sessions map[Key]Profile) {
	h.t.Helper()
	h.do(func() error { return h.server.Set(sessions) })
}

func (h *host) session(key Key) Session {
	h.t.Helper()
	all := h.server.Sessions()
	i := slices.IndexFunc(all, func(s Session) bool { return s.Key == key })
	if i < 0 {
		h.t.Fatalf("no session with %v among %v", key, all)
	}
	return all[i]
}

// await waits for a state, and when Up for the negotiation that follows: before it,
// the shortest detection time is 3 s.
func (h *host) await(key Key, want State) Session {
	h.t.Helper()
	var s Session
	eventually(h.t, key.String()+" "+want.String(), func() bool {
		s = h.session(key)
		return s.State == want && (want != Up || s.TransmitInterval < slowTx && s.DetectionTime <= 2*time.Second)
	})
	return s
}

// seen returns the events until now.
func (h *host) seen() []Event {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.events)
}

// lost says if an event had Lost.
func (h *host) lost() bool {
	return slices.ContainsFunc(h.seen(), func(e Event) bool { return e.Lost })
}

// metric returns the sum of a metric over the series that have the label value.
func (h *host) metric(name, label string) float64 {
	h.t.Helper()
	families, err := h.reg.Gather()
	must(h.t, err)
	sum := 0.0
	for _, f := range families {
		for _, m := range f.GetMetric() {
			match := label == ""
			for _, l := range m.GetLabel() {
				match = match || l.GetValue() == label
			}
			if f.GetName() == "fairway_bfd_"+name && match {
				sum += m.GetCounter().GetValue() + m.GetGauge().GetValue()
			}
		}
	}
	return sum
}

func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	deadline := time.After(patience)
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	for !ok() {
		select {
		case <-deadline:
			t.Fatalf("no %s after %v", what, patience)
		case <-ticker.C:
		}
	}
}

// throughout checks a condition for a while.
func throughout(t testing.TB, what string, d time.Duration, ok func() bool) {
	t.Helper()
	end := time.After(d)
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	for {
		if !ok() {
			t.Fatalf("not %s", what)
		}
		select {
		case <-end:
			return
		case <-ticker.C:
		}
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func sysctl(name, value string) error { return os.WriteFile("/proc/sys/"+name, []byte(value), 0) }
