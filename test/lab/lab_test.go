package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"
)

// patience is for things that take milliseconds on an idle machine.
const patience = 10 * time.Second

func testContext(t *testing.T, timeout time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	t.Cleanup(cancel)
	return ctx
}

// newLab makes a lab that ends with the test.
func newLab(t *testing.T, nodes int) *Lab {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Fatal("this test needs root: it makes network namespaces")
	}
	l, err := New(t.Context(), Options{Nodes: nodes, Log: t.Logf})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			if err := l.WriteLogs(t.Output(), 40); err != nil {
				t.Error(err)
			}
		}
		if err := l.Close(); err != nil {
			t.Errorf("close the lab: %v", err)
		}
	})
	return l
}

// reach connects from one host to an address of another and reports who called.
func reach(ctx context.Context, from, to *Host, addr netip.Addr) (caller netip.Addr, err error) {
	listener, err := to.Listen("tcp", netip.AddrPortFrom(addr, 0).String())
	if err != nil {
		return netip.Addr{}, err
	}
	defer listener.Close()
	answered := make(chan error, 1)
	go func() {
		conn, err := listener.Accept()
		if err != nil {
			answered <- err
			return
		}
		_, err = fmt.Fprint(conn, conn.RemoteAddr())
		answered <- errors.Join(err, conn.Close())
	}()
	conn, err := from.DialContext(ctx, "tcp", listener.Addr().String())
	if err != nil {
		return netip.Addr{}, err
	}
	defer conn.Close()
	text, err := io.ReadAll(conn)
	if err := errors.Join(err, <-answered); err != nil {
		return netip.Addr{}, err
	}
	ap, err := netip.ParseAddrPort(string(text))
	return ap.Addr(), err
}

func TestHostsReachEachOther(t *testing.T) {
	l := newLab(t, 2)
	ctx := testContext(t, patience)
	for _, from := range l.hosts() {
		for _, to := range l.hosts() {
			for _, pair := range [][2]netip.Addr{{from.Addr4(), to.Addr4()}, {from.Addr6(), to.Addr6()}} {
				caller, err := reach(ctx, from, to, pair[1])
				if err != nil {
					t.Fatalf("%s to %s at %s: %v", from.Name(), to.Name(), pair[1], err)
				}
				if caller != pair[0] && from != to {
					t.Errorf("%s at %s was called by %s, want %s", to.Name(), pair[1], caller, pair[0])
				}
			}
		}
	}
}

func TestNodesHaveTheLinkThatWasAskedFor(t *testing.T) {
	l := newLab(t, 1)
	node := l.Node("n1")
	err := node.Do(func() error {
		link, err := net.InterfaceByName("eth33")
		if err != nil {
			return err
		}
		if !bytes.Equal(link.HardwareAddr, node.MAC()) {
			t.Errorf("eth33 has %s, MAC() says %s", link.HardwareAddr, node.MAC())
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	if _, err := net.InterfaceByName(portName("n1")); err == nil {
		t.Error("the switch's port is in the machine's own namespace")
	}
	if l.Node("n2") != nil {
		t.Error("a lab of one node has an n2")
	}
}

func TestTwoLabsSideBySide(t *testing.T) {
	a, b := newLab(t, 1), newLab(t, 1)
	ctx := testContext(t, patience)
	for _, l := range []*Lab{a, b} {
		if _, err := reach(ctx, l.Client(), l.Node("n1"), l.Node("n1").Addr4()); err != nil {
			t.Errorf("in lab %s: %v", l.ID(), err)
		}
	}
	// The same address, but another switch.
	if err := a.Node("n1").SetLink(false); err != nil {
		t.Fatal(err)
	}
	owners, err := b.Owner(ctx, b.Node("n1").Addr4())
	if err != nil || len(owners) != 1 {
		t.Errorf("after a cut in the other lab %v answer (%v), want n1", owners, err)
	}
	if err := a.Close(); err != nil {
		t.Error(err)
	}
	if _, err := reach(ctx, b.Client(), b.Node("n1"), b.Node("n1").Addr6()); err != nil {
		t.Errorf("after the other lab was closed: %v", err)
	}
}

func TestNamesOfLabs(t *testing.T) {
	first, err := New(t.Context(), Options{Name: "names"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = first.Close() })
	longer, err := New(t.Context(), Options{Name: "names-too"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = longer.Close() })
	for _, name := range []string{"names", "Upper", "-a", "a/b", "..", strings.Repeat("a", 33)} {
		if l, err := New(t.Context(), Options{Name: name}); err == nil {
			t.Errorf("a lab called %q was made", name)
			_ = l.Close()
		}
	}
	// Closing "names" must not take the namespaces of "names-too" with it.
	before := len(namespacesOf(t, longer.ID()))
	if err := first.Close(); err != nil {
		t.Error(err)
	}
	if after := len(namespacesOf(t, longer.ID())); before == 0 || after != before {
		t.Errorf("the other lab has %d namespaces, had %d", after, before)
	}
	again, err := New(t.Context(), Options{Name: "names"})
	if err != nil {
		t.Fatalf("the name is not free after Close: %v", err)
	}
	if err := errors.Join(again.Close(), again.Close()); err != nil {
		t.Error(err)
	}
}

func TestNewRefusesTooManyNodes(t *testing.T) {
	if l, err := New(t.Context(), Options{Nodes: maxNodes + 1}); err == nil {
		_ = l.Close()
		t.Error("no error")
	}
}

func TestAPulledCable(t *testing.T) {
	l := newLab(t, 1)
	ctx := testContext(t, patience)
	node := l.Node("n1")
	for range 3 {
		if err := node.SetLink(false); err != nil {
			t.Fatal(err)
		}
		if up, err := hasCarrier(node); err != nil || up {
			t.Fatalf("carrier after the cable was pulled: %v, %v", up, err)
		}
		if owners, err := l.Owner(ctx, node.Addr4()); err != nil || len(owners) != 0 {
			t.Fatalf("%v answer for a host without a cable (%v)", owners, err)
		}
		if err := node.SetLink(true); err != nil {
			t.Fatal(err)
		}
		if _, err := reach(ctx, l.Client(), node, node.Addr6()); err != nil {
			t.Fatalf("after the cable is back: %v", err)
		}
	}
}

func hasCarrier(h *Host) (up bool, err error) {
	err = h.Do(func() error {
		link, err := net.InterfaceByName(h.Link())
		up = err == nil && link.Flags&net.FlagRunning != 0
		return err
	})
	return up, err
}

func TestCommandRunsInsideTheHost(t *testing.T) {
	l := newLab(t, 1)
	out, err := l.Node("n1").Command(testContext(t, patience), "ip", "-brief", "address", "show", "eth33").CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for _, want := range []string{"192.168.93.11/24", "fd93::11/64"} {
		if !strings.Contains(string(out), want) {
			t.Errorf("eth33 has %q, want also %s", out, want)
		}
	}
}

func TestDoLeavesTheThreadWhereItWas(t *testing.T) {
	l := newLab(t, 1)
	before, err := inodeOf("/proc/thread-self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	var inside inode
	if err := l.Client().Do(func() (err error) {
		inside, err = inodeOf("/proc/thread-self/ns/net")
		return err
	}); err != nil {
		t.Fatal(err)
	}
	after, err := inodeOf("/proc/thread-self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	if inside == before || after != before {
		t.Errorf("namespaces before, inside, after: %v %v %v", before, inside, after)
	}
}
