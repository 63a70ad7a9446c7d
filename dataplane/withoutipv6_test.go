package dataplane_test

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"k8s.io/apimachinery/pkg/types"

	"github.com/fairway-lb/fairway/dataplane"
	"github.com/fairway-lb/fairway/dataplane/conntrack"
	"github.com/fairway-lb/fairway/dataplane/iptables"
	"github.com/fairway-lb/fairway/dataplane/ipvs"
	"github.com/fairway-lb/fairway/dataplane/kubeproxy"
	"github.com/fairway-lb/fairway/dataplane/nftables"
	"github.com/fairway-lb/fairway/dataplane/service"
	"github.com/fairway-lb/fairway/dataplane/sysctl"
	"github.com/fairway-lb/fairway/internal/uml"
)

// A node that was booted with ipv6.disable=1 serves IPv4, and says why not IPv6.
// The guest has IPVS and iptables of flavour legacy; of nf_tables, neither family.
func TestBootedWithoutIPv6(t *testing.T) {
	if !uml.Test(t, "ipv6.disable=1") {
		return
	}
	must(t, ipvs.Load())
	node, err := sysctl.ReadNode("/")
	must(t, err)
	if _, err := sysctl.Apply("/", sysctl.Wanted(node, sysctl.Options{IPv6: true, IPVS: true})); err != nil {
		t.Errorf("sysctls: %v", err)
	}
	endpoint := serve(t)
	for name, backend := range map[string]struct {
		open    func(dataplane.Config) (dataplane.Backend, error)
		cleanup func() error
	}{
		// Of the flavours, the one that this kernel has.
		"iptables": {func(c dataplane.Config) (dataplane.Backend, error) { return iptables.New(c, iptables.Auto) }, iptables.Cleanup},
		"ipvs":     {func(c dataplane.Config) (dataplane.Backend, error) { return ipvs.New(c, ipvs.Options{}) }, ipvs.Cleanup},
	} {
		t.Run(name, func(t *testing.T) {
			config := dataplane.Config{
				Pods:         dataplane.Detector{CIDRs: prefixes("10.244.0.0/24", "fd00:244::/64")},
				ServiceCIDRs: prefixes("10.96.0.0/16", "fd00:96::/112"),
			}
			b, err := backend.open(config)
			must(t, err)
			defer func() { must(t, errors.Join(b.Close(), backend.cleanup())) }()
			if err := b.Unserved(service.IPv4); err != nil {
				t.Error(err)
			}
			if err := b.Unserved(service.IPv6); !errors.Is(err, dataplane.ErrNoIPv6) || !strings.Contains(err.Error(), "leave that out of the kernel's command line") {
				t.Errorf("unserved: %v", err)
			}
			changes := []service.PortChange{
				{Name: portName(service.IPv4), After: port("10.96.0.1:80", endpoint)},
				{Name: portName(service.IPv6), After: port("[fd00:96::1]:80", netip.MustParseAddrPort("[fd00:244::2]:8080"))},
			}
			must(t, b.Apply(changes))
			must(t, b.Apply(nil))
			conn, err := net.DialTimeout("tcp", "10.96.0.1:80", 10*time.Second)
			if err != nil {
				t.Error(err)
			} else {
				must(t, conn.Close())
			}
			for i := range changes {
				changes[i].Before, changes[i].After = changes[i].After, nil
			}
			must(t, b.Apply(changes))
			for i := range changes { // as if they had just come, with flows to look for
				changes[i].Before, changes[i].After, changes[i].Name.Protocol = nil, changes[i].Before, service.UDP
			}
			_, err = conntrack.NewCleaner(nil).Clean(changes)
			must(t, err)
		})
	}
	// All of these are run at each start, whatever the dataplane.
	must(t, nftables.Cleanup())
	if left, err := kubeproxy.Leftovers(context.Background()); err != nil || len(left) > 0 {
		t.Errorf("left of a kube-proxy: %v, %v", left, err)
	}
	if _, err := nftables.New(dataplane.Config{}); err == nil || !strings.Contains(err.Error(), "this kernel lacks nf_tables for IPv4") {
		t.Errorf("without nf_tables: %v", err)
	}
}

// serve has the node answer as an endpoint of its own.
func serve(t *testing.T) netip.AddrPort {
	attrs := netlink.NewLinkAttrs()
	attrs.Name = "pods"
	link := &netlink.Dummy{LinkAttrs: attrs}
	must(t, netlink.LinkAdd(link))
	addr, err := netlink.ParseAddr("10.244.0.2/24")
	must(t, err)
	must(t, netlink.AddrAdd(link, addr))
	must(t, netlink.LinkSetUp(link))
	everywhere := &net.IPNet{IP: net.IPv4zero, Mask: net.CIDRMask(0, 32)}
	must(t, netlink.RouteAdd(&netlink.Route{LinkIndex: link.Attrs().Index, Dst: everywhere}))
	listener, err := net.Listen("tcp", "10.244.0.2:8080")
	must(t, err)
	t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			conn.Close()
		}
	}()
	return netip.MustParseAddrPort(listener.Addr().String())
}

func portName(family service.Family) service.PortName {
	return service.PortName{NamespacedName: types.NamespacedName{Namespace: "default", Name: "web"}, Family: family, Protocol: service.TCP}
}

func port(clusterIP string, endpoint netip.AddrPort) *service.Port {
	all := []netip.AddrPort{endpoint}
	return &service.Port{
		Frontends: []service.Frontend{{Kind: service.ClusterIP, Address: netip.MustParseAddrPort(clusterIP)}},
		Cluster:   all, Serving: all, NeedsCluster: true, Usable: true,
	}
}

func prefixes(texts ...string) (all []netip.Prefix) {
	for _, text := range texts {
		all = append(all, netip.MustParsePrefix(text))
	}
	return all
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
