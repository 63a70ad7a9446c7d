package lab

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// The lab's network. Every lab has the same one, on a switch of its own.
const (
	lanPrefix4 = "192.168.93.0/24"
	lanPrefix6 = "fd93::/64"
	// The default route leads to router 1, whether there is one or not: it is
	// what makes the kernel start sending to a ClusterIP at all, before
	// kube-proxy's rules change the destination.
	routerNumber = 1
)

// network is the switch: a namespace with a bridge and nothing else.
type network struct {
	*Namespace
	bridge *netlink.Bridge
	ports  int // plugged in so far
}

func (l *Lab) newNetwork() (*network, error) {
	ns, err := l.newNamespace("switch")
	if err != nil {
		return nil, err
	}
	n := &network{Namespace: ns}
	err = n.Do(func() error {
		// A switch forwards frames; it has no addresses and filters nothing.
		if err := setSysctls(map[string]string{
			"net.ipv6.conf.all.disable_ipv6":     "1",
			"net.ipv6.conf.default.disable_ipv6": "1",
		}); err != nil {
			return err
		}
		if err := setSysctlsIfPresent(map[string]string{
			"net.bridge.bridge-nf-call-iptables":  "0",
			"net.bridge.bridge-nf-call-ip6tables": "0",
			"net.bridge.bridge-nf-call-arptables": "0",
		}); err != nil {
			return err
		}
		// A new bridge runs no spanning tree, so a port forwards as soon as its
		// cable is in. Without snooping, multicast reaches every port.
		off := false
		attrs := netlink.NewLinkAttrs()
		attrs.Name = "br0"
		n.bridge = &netlink.Bridge{LinkAttrs: attrs, MulticastSnooping: &off}
		if err := netlink.LinkAdd(n.bridge); err != nil {
			return fmt.Errorf("add the bridge: %w", err)
		}
		return netlink.LinkSetUp(n.bridge)
	})
	if err != nil {
		return nil, fmt.Errorf("make the switch: %w", err)
	}
	return n, nil
}

// plug connects a namespace to the switch: a link of the given name inside, a
// port called p-<host> at the switch. Returns the link's hardware address.
func (n *network) plug(host *Namespace, link string, number int) (net.HardwareAddr, error) {
	// Readable and the same in every run; the last octet is the host's number.
	mac := net.HardwareAddr{0x02, 0x00, 0x5e, 0x93, 0x00, byte(number)}
	n.ports++
	err := n.Do(func() error {
		attrs := netlink.NewLinkAttrs()
		attrs.Name = portName(host.name)
		// The kernel handles a change of carrier at once only if both ends of
		// the pair have different indexes, else up to a second later.
		attrs.Index = 1000 + n.ports
		attrs.MasterIndex = n.bridge.Index
		veth := &netlink.Veth{
			LinkAttrs:        attrs,
			PeerName:         link,
			PeerHardwareAddr: mac,
			PeerNamespace:    netlink.NsFd(int(host.handle)),
		}
		if err := netlink.LinkAdd(veth); err != nil {
			return err
		}
		return netlink.LinkSetUp(veth)
	})
	if err != nil {
		return nil, fmt.Errorf("plug %s into the switch: %w", host.name, err)
	}
	return mac, nil
}

// setPort switches a port of the switch on or off.
func (n *network) setPort(host string, up bool) error {
	return n.Do(func() error {
		port, err := netlink.LinkByName(portName(host))
		if err != nil {
			return fmt.Errorf("find the port of %s: %w", host, err)
		}
		set := netlink.LinkSetDown
		if up {
			set = netlink.LinkSetUp
		}
		if err := set(port); err != nil {
			return fmt.Errorf("switch the port of %s: %w", host, err)
		}
		return nil
	})
}

// linkTimeout is far more than the kernel needs to handle a change of carrier.
const linkTimeout = 10 * time.Second

// awaitLink waits until the kernel has handled a change of carrier, which it
// does in the background: queues, addresses and the bridge's port come after it.
func (n *Namespace) awaitLink(ctx context.Context, name string, up bool) error {
	ctx, cancel := context.WithTimeout(ctx, linkTimeout)
	defer cancel()
	return poll(ctx, fmt.Sprintf("link %s of %s follows its cable", name, n.name), func() error {
		return n.Do(func() error {
			link, err := netlink.LinkByName(name)
			if err != nil {
				return err
			}
			if state := link.Attrs().OperState; (state == netlink.OperUp) != up {
				return fmt.Errorf("its state is %s", state)
			}
			return nil
		})
	})
}

func portName(host string) string { return "p-" + host }

// lanAddr4 and lanAddr6 give the addresses of the host with that number, with
// the length of the network. The IPv6 address reads like the IPv4 one: .11 is
// fd93::11.
func lanAddr4(number int) netip.Prefix {
	p := netip.MustParsePrefix(lanPrefix4)
	b := p.Addr().As4()
	b[3] = byte(number)
	return netip.PrefixFrom(netip.AddrFrom4(b), p.Bits())
}

func lanAddr6(number int) netip.Prefix {
	p := netip.MustParsePrefix(lanPrefix6)
	return netip.PrefixFrom(netip.MustParseAddr(fmt.Sprintf("%s%d", p.Addr(), number)), p.Bits())
}

// setUpLoopback prepares a fresh namespace: loopback up, and addresses usable
// as soon as they are set. Duplicate address detection has to be off before a
// link exists, or its link-local address stays tentative for a second.
func setUpLoopback() error {
	if err := setSysctls(map[string]string{
		"net.ipv6.conf.all.accept_dad":     "0",
		"net.ipv6.conf.default.accept_dad": "0",
	}); err != nil {
		return err
	}
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return fmt.Errorf("find the loopback link: %w", err)
	}
	if err := netlink.LinkSetUp(lo); err != nil {
		return fmt.Errorf("set up the loopback link: %w", err)
	}
	return nil
}

// bringUp gives a link its addresses and switches it on.
func bringUp(name string, addrs ...netip.Prefix) (netlink.Link, error) {
	link, err := netlink.LinkByName(name)
	if err != nil {
		return nil, fmt.Errorf("find link %s: %w", name, err)
	}
	if err := netlink.LinkSetUp(link); err != nil {
		return nil, fmt.Errorf("set up link %s: %w", name, err)
	}
	for _, addr := range addrs {
		address := &netlink.Addr{IPNet: ipNet(addr)}
		if addr.Addr().Is6() {
			// Even a detection that is switched off ends later.
			address.Flags = unix.IFA_F_NODAD
		}
		if err := netlink.AddrAdd(link, address); err != nil {
			return nil, fmt.Errorf("add address %s to link %s: %w", addr, name, err)
		}
	}
	for _, addr := range addrs {
		if addr.Addr().Is6() {
			if err := awaitLocal(addr.Addr()); err != nil {
				return nil, err
			}
		}
	}
	return link, nil
}

// awaitLocal waits until an IPv6 address leads to the host itself. The kernel
// adds that route in the background, which takes a while on a busy machine.
func awaitLocal(addr netip.Addr) error {
	ctx, cancel := context.WithTimeout(context.Background(), linkTimeout)
	defer cancel()
	local := &netlink.Route{Table: unix.RT_TABLE_LOCAL, Dst: ipNet(single(addr))}
	return poll(ctx, fmt.Sprintf("address %s is local", addr), func() error {
		routes, err := netlink.RouteListFiltered(unix.AF_INET6, local, netlink.RT_FILTER_TABLE|netlink.RT_FILTER_DST)
		if err == nil && len(routes) == 0 {
			err = errors.New("no route")
		}
		return err
	})
}

// addRoute adds a route through a gateway; a zero gateway means on the link.
func addRoute(link netlink.Link, to netip.Prefix, via netip.Addr) error {
	route := &netlink.Route{LinkIndex: link.Attrs().Index, Dst: ipNet(to)}
	if via.IsValid() {
		route.Gw = via.AsSlice()
	} else {
		route.Scope = netlink.SCOPE_LINK
	}
	if err := netlink.RouteAdd(route); err != nil {
		return fmt.Errorf("add route to %s: %w", to, err)
	}
	return nil
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

func single(a netip.Addr) netip.Prefix { return netip.PrefixFrom(a, a.BitLen()) }

// setSysctls writes settings of the namespace of the calling thread.
func setSysctls(settings map[string]string) error {
	for key, value := range settings {
		if err := os.WriteFile(sysctlPath(key), []byte(value), 0); err != nil {
			return fmt.Errorf("set %s=%s: %w", key, value, err)
		}
	}
	return nil
}

func setSysctlsIfPresent(settings map[string]string) error {
	for key, value := range settings {
		if err := setSysctls(map[string]string{key: value}); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	return nil
}

func sysctlPath(key string) string {
	return filepath.Join("/proc/sys", strings.ReplaceAll(key, ".", "/"))
}
