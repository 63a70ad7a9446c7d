package lab

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
)

// Host is a machine on the lab's switch.
type Host struct {
	*Namespace
	link  string
	mac   net.HardwareAddr
	addr4 netip.Prefix
	addr6 netip.Prefix

	podCount int // pods ever put on this node; guarded by Lab.mu
}

// addHost makes a host with the given number in the lab's network.
func (l *Lab) addHost(name, link string, number int) (*Host, error) {
	ns, err := l.newNamespace(name)
	if err != nil {
		return nil, err
	}
	h := &Host{Namespace: ns, link: link, addr4: lanAddr4(number), addr6: lanAddr6(number)}
	if err := h.Do(func() error { return setSysctls(hostDefaults()) }); err != nil {
		return nil, fmt.Errorf("prepare host %s: %w", name, err)
	}
	if h.mac, err = l.net.plug(ns, link, number); err != nil {
		return nil, err
	}
	err = h.Do(func() error {
		eth, err := bringUp(link, h.addr4, h.addr6)
		if err != nil || number <= lastRouter {
			return err // a router knows its networks only
		}
		if err := addRoute(eth, netip.MustParsePrefix("0.0.0.0/0"), lanAddr4(routerNumber).Addr()); err != nil {
			return err
		}
		return addRoute(eth, netip.MustParsePrefix("::/0"), lanAddr6(routerNumber).Addr())
	})
	if err != nil {
		return nil, fmt.Errorf("configure host %s: %w", name, err)
	}
	return h, nil
}

// MAC is the hardware address of the host's link to the switch.
func (h *Host) MAC() net.HardwareAddr { return slices.Clone(h.mac) }

// Link is the name of the host's link to the switch.
func (h *Host) Link() string { return h.link }

// Addr4 is the host's IPv4 address on the switch.
func (h *Host) Addr4() netip.Addr { return h.addr4.Addr() }

// Addr6 is the host's IPv6 address on the switch.
func (h *Host) Addr6() netip.Addr { return h.addr6.Addr() }

// LinkLocal is the link-local address that the kernel gave the host's link.
func (h *Host) LinkLocal() (netip.Addr, error) {
	var found netip.Addr
	err := h.Do(func() error {
		link, err := netlink.LinkByName(h.link)
		if err != nil {
			return err
		}
		addrs, err := netlink.AddrList(link, netlink.FAMILY_V6)
		for _, a := range addrs {
			if a.IP.IsLinkLocalUnicast() {
				found = toAddr(a.IP)
			}
		}
		return err
	})
	if err == nil && !found.IsValid() {
		err = errors.New("there is none")
	}
	if err != nil {
		return netip.Addr{}, fmt.Errorf("link-local address of %s: %w", h.name, err)
	}
	return found, nil
}

// SetLink pulls the host's cable at the switch, or plugs it in again. The host
// sees its link without carrier, its addresses stay. It returns when the kernel
// has noticed.
func (h *Host) SetLink(up bool) error {
	if err := h.lab.net.setPort(h.name, up); err != nil {
		return err
	}
	return h.awaitCable(context.Background(), up)
}

func (h *Host) awaitCable(ctx context.Context, up bool) error {
	if err := h.lab.net.awaitLink(ctx, portName(h.name), up); err != nil {
		return err
	}
	return h.awaitLink(ctx, h.link, up)
}

// hostByMAC finds who has that hardware address, nil if nobody on the switch.
func (l *Lab) hostByMAC(mac net.HardwareAddr) *Host {
	for _, h := range l.hosts() {
		if slices.Equal(h.mac, mac) {
			return h
		}
	}
	return nil
}

// actAsRouter makes a node of a host: it forwards between its pods and the LAN.
func (h *Host) actAsRouter() error {
	err := h.Do(func() error {
		return setSysctls(map[string]string{
			"net.ipv4.ip_forward":          "1",
			"net.ipv6.conf.all.forwarding": "1",
		})
	})
	if err != nil {
		return fmt.Errorf("make host %s a node: %w", h.name, err)
	}
	return nil
}

// hostDefaults are a kernel's own defaults, but hosts do not listen to what
// routers advertise: a redirect would lead a client past a router on the same
// link, and FRR's advertisements for unnumbered neighbors offer a default route.
// IPv4 settings of a new namespace are copies of the machine's, which may have
// been changed.
func hostDefaults() map[string]string {
	settings := map[string]string{}
	for _, conf := range []string{"net.ipv6.conf.all.", "net.ipv6.conf.default."} {
		settings[conf+"accept_redirects"] = "0"
		settings[conf+"accept_ra"] = "0"
	}
	for _, conf := range []string{"net.ipv4.conf.all.", "net.ipv4.conf.default."} {
		settings[conf+"rp_filter"] = "0"
		settings[conf+"arp_ignore"] = "0"
		settings[conf+"arp_announce"] = "0"
		settings[conf+"arp_accept"] = "0"
		settings[conf+"proxy_arp"] = "0"
		settings[conf+"forwarding"] = "0"
		settings[conf+"accept_redirects"] = "0"
	}
	return settings
}
