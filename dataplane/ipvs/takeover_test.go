package ipvs

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"testing"

	"github.com/moby/ipvs"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/fairway-lb/fairway/dataplane/dataplanetest"
	"github.com/fairway-lb/fairway/dataplane/kubeproxy"
	"github.com/fairway-lb/fairway/dataplane/service"
)

// A NodePort of kube-proxy that is to be one of ours has its endpoints taken
// over, too.
func testTakeOverNodePort(t *testing.T) {
	c := subject.NewScene(t, dataplanetest.WithPods, nil, dataplanetest.OnPod1)
	must(t, c.Backend.Close())
	must(t, Cleanup())
	h, err := ipvs.New("")
	must(t, err)
	defer h.Close()
	at := netip.AddrPortFrom(c.Node.Addrs[0], c.NodePort())
	old := netip.AddrPortFrom(c.Pod2.Addrs[0], dataplanetest.ServerPort)
	v := &ipvs.Service{AddressFamily: unix.AF_INET, Protocol: unix.IPPROTO_TCP, Address: at.Addr().AsSlice(), Port: at.Port(), SchedName: "rr", Netmask: 0xffffffff}
	must(t, h.NewService(v))
	must(t, h.NewDestination(v, kernelDestination(old, 1)))
	c.Backend, err = subject.New(dataplanetest.WithPods)
	must(t, err)
	var all []service.PortChange
	for name, p := range c.State.Ports() {
		all = append(all, service.PortChange{Name: name, After: p})
	}
	must(t, c.Backend.Apply(all))
	if left := lines(t, fmt.Sprintf("virtual %s/TCP endpoint %s", at, old)); len(left) > 0 {
		t.Errorf("an endpoint of kube-proxy: %v", left)
	}
	c.Ask("afterwards", c.Client, [2]netip.Addr{at.Addr(), at.Addr()}, at.Port(), dataplanetest.Translated, "pod1")
	must(t, c.Backend.Close())
}

// A kube-proxy was here, in IPVS mode: connections that it forwards go on, those
// to Services that are still there by what is ours, and all of it goes in the
// end but what is of neither.
func testTakeOver(t *testing.T) {
	c := subject.NewScene(t, dataplanetest.WithPods, nil, dataplanetest.OnPod2)
	echo := serveEcho(t, netip.AddrPortFrom(c.Node.Addrs[0], 9000))
	kept, ended := netip.MustParseAddrPort("198.18.77.1:80"), netip.MustParseAddrPort("198.18.77.2:80")
	stranger := netip.AddrPortFrom(c.Node.Addrs[0], 443)

	attrs := netlink.NewLinkAttrs()
	attrs.Name = kubeProxyLink
	theirs := &netlink.Dummy{LinkAttrs: attrs}
	must(t, netlink.LinkAdd(theirs))
	h, err := ipvs.New("")
	must(t, err)
	defer h.Close()
	for _, at := range []netip.AddrPort{kept, ended, stranger} {
		if at != stranger {
			must(t, netlink.AddrAdd(theirs, &netlink.Addr{IPNet: netlink.NewIPNet(at.Addr().AsSlice())}))
		}
		v := &ipvs.Service{AddressFamily: unix.AF_INET, Protocol: unix.IPPROTO_TCP, Address: at.Addr().AsSlice(), Port: at.Port(), SchedName: "rr", Netmask: 0xffffffff}
		must(t, h.NewService(v))
		must(t, h.NewDestination(v, kernelDestination(echo, 1)))
		if at == stranger {
			t.Cleanup(func() {
				h, err := ipvs.New("")
				must(t, err)
				defer h.Close()
				must(t, h.DelService(v)) // an error if it has gone
			})
		}
	}
	there := func() (all []netip.AddrPort) {
		t.Helper()
		services, err := h.GetServices()
		must(t, err)
		for _, v := range services {
			if key, _ := readVirtual(v); slices.Contains([]netip.AddrPort{kept, ended, stranger}, key.address) {
				all = append(all, key.address)
			}
		}
		slices.SortFunc(all, netip.AddrPort.Compare)
		return all
	}
	remove := func() error {
		return kubeproxy.Remove(t.Context(), kubeproxy.Config{RemoveVirtualServices: RemoveVirtualServices})
	}

	old := map[netip.AddrPort]*held{kept: hold(t, kept), ended: hold(t, ended)}
	name := service.PortName{Protocol: service.TCP}
	name.Name = "kept"
	must(t, c.Backend.Apply([]service.PortChange{{Name: name, After: &service.Port{
		Frontends: []service.Frontend{{Kind: service.LoadBalancer, Address: kept}}, Cluster: []netip.AddrPort{echo}, Usable: true}}}))
	for range 2 {
		if err := remove(); !errors.Is(err, ErrDraining) {
			t.Errorf("with a connection that goes on: %v", err)
		}
		for _, h := range old {
			h.echoes("while it is removed")
		}
		hold(t, kept).echoes("a new one")
		if got := there(); len(got) != 3 {
			t.Errorf("there is %v", got)
		}
	}
	if got := c.Client.Dial(service.TCP, ended); got.Who != dataplanetest.Reject {
		t.Errorf("a new connection to what is being removed: %v", got)
	}
	old[ended].reset()
	await(t, "end of what kube-proxy left", func() bool { return remove() == nil })
	if got, want := there(), []netip.AddrPort{stranger, kept}; !slices.Equal(got, slices.SortedFunc(slices.Values(want), netip.AddrPort.Compare)) {
		t.Errorf("in the end there is %v, want %v", got, want)
	}
	if _, err := net.InterfaceByName(kubeProxyLink); err == nil {
		t.Errorf("the link %s is still there", kubeProxyLink)
	}
	old[kept].echoes("after all")
	hold(t, kept).echoes("a new one after all")
}
