package ipvs

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"net"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/fairway-lb/fairway/dataplane"
	"github.com/fairway-lb/fairway/dataplane/service"
)

// linkName is the link that has the addresses of Services.
const linkName = "fairway-ipvs"

// kubeProxyLink is the link of a kube-proxy that is or was there. The addresses
// on it are of Services, and they are to be on ours before that link goes.
const kubeProxyLink = "kube-ipvs0"

// link keeps the addresses. It is down and answers no ARP: what has the address
// is the node, whatever link packets come by.
type link struct {
	handle *netlink.Handle
	link   netlink.Link // nil until it is there
}

// nodeAddresses are all addresses of the node.
type nodeAddresses struct {
	exists bool // our link
	own    map[netip.Addr]struct{}
	others map[netip.Addr]struct{} // on other links
}

// ensure makes the link.
func (l *link) ensure() (err error) {
	l.link, err = l.handle.LinkByName(linkName)
	if _, missing := err.(netlink.LinkNotFoundError); missing {
		attrs := netlink.NewLinkAttrs()
		attrs.Name = linkName
		if err := l.handle.LinkAdd(&netlink.Dummy{LinkAttrs: attrs}); err != nil {
			return fmt.Errorf("make the link %s, for which the kernel needs the module dummy: %w", linkName, err)
		}
		l.link, err = l.handle.LinkByName(linkName)
	}
	if err != nil {
		return fmt.Errorf("find the link %s: %w", linkName, err)
	}
	if err := l.handle.LinkSetARPOff(l.link); err != nil {
		return fmt.Errorf("have the link %s answer no ARP: %w", linkName, err)
	}
	return nil
}

// retries are for lists in the midst of which addresses have changed. It has
// settled by then.
const retries = 10

// whole lists until nothing has changed in the midst.
func whole[T any](list func() ([]T, error)) (all []T, err error) {
	for range retries {
		if all, err = list(); !errors.Is(err, netlink.ErrDumpInterrupted) {
			break
		}
	}
	return all, err
}

// list returns the addresses of all links.
func (l *link) list() (*nodeAddresses, error) {
	n := &nodeAddresses{own: map[netip.Addr]struct{}{}, others: map[netip.Addr]struct{}{}}
	index, exists, err := l.index(linkName)
	if err != nil {
		return nil, err
	}
	passed, _, err := l.index(kubeProxyLink)
	if err != nil {
		return nil, err
	}
	n.exists = exists
	all, err := whole(func() ([]netlink.Addr, error) { return l.handle.AddrList(nil, netlink.FAMILY_ALL) })
	if err != nil {
		return nil, fmt.Errorf("list the addresses of the node: %w", err)
	}
	for _, a := range all {
		addr, ok := netip.AddrFromSlice(a.IP)
		if !ok {
			continue
		}
		addr = addr.Unmap()
		switch {
		case a.LinkIndex == passed:
		case a.LinkIndex != index:
			n.others[addr] = struct{}{}
		case !addr.IsLinkLocalUnicast(): // which the kernel gave it
			n.own[addr] = struct{}{}
		}
	}
	return n, nil
}

// index returns the number of a link, if it exists, and else one that no link has.
func (l *link) index(name string) (index int, exists bool, err error) {
	found, err := l.handle.LinkByName(name)
	if _, missing := err.(netlink.LinkNotFoundError); missing {
		return -1, false, nil
	}
	if err != nil {
		return -1, false, fmt.Errorf("find the link %s: %w", name, err)
	}
	return found.Attrs().Index, true, nil
}

// nodePorts returns where NodePorts answer, by family. Addresses of Services are
// not the node's, and link-local ones are as many as there are links.
func (n *nodeAddresses) nodePorts(config *dataplane.Config) (addrs [2][]netip.Addr) {
	for addr := range n.others {
		if addr.IsLoopback() || addr.IsLinkLocalUnicast() {
			continue
		}
		family := service.FamilyOf(addr)
		within := dataplane.OfFamily(family, config.NodePortAddresses)
		if len(within) == 0 || slices.ContainsFunc(within, func(p netip.Prefix) bool { return p.Contains(addr) }) {
			addrs[family] = append(addrs[family], addr)
		}
	}
	for _, of := range addrs {
		slices.SortFunc(of, netip.Addr.Compare)
	}
	return addrs
}

// equal tells whether nothing is different that matters to some addresses.
func (n *nodeAddresses) equal(other *nodeAddresses, config *dataplane.Config, wanted map[netip.Addr]int) bool {
	if n.exists != other.exists || !maps.Equal(n.own, other.own) {
		return false
	}
	for addr := range wanted {
		_, a := n.others[addr]
		_, b := other.others[addr]
		if a != b {
			return false
		}
	}
	a, b := n.nodePorts(config), other.nodePorts(config)
	return slices.Equal(a[0], b[0]) && slices.Equal(a[1], b[1])
}

// add gives the link addresses, and returns when packets to them are the node's.
// With errNotLocal all are there, but it is not known that they are.
func (l *link) add(addrs []netip.Addr) (err error) {
	routes, err := listenLocalRoutes()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, routes.close()) }()
	var late error
	// As many as there is room for their news in the socket.
	for some := range slices.Chunk(addrs, 64) {
		var waiting []netip.Addr
		for _, addr := range some {
			added, err := l.addOne(addr)
			if err != nil {
				return err
			}
			if added && addr.Is6() {
				waiting = append(waiting, addr)
			}
		}
		if late == nil { // once is enough to wait in vain
			late = routes.await(waiting)
		}
	}
	return late
}

func (l *link) addOne(addr netip.Addr) (added bool, err error) {
	// Neither is ever the source of what the node sends elsewhere: an IPv4
	// address of scope host, an IPv6 address that is deprecated.
	a := l.address(addr)
	a.Scope = unix.RT_SCOPE_HOST
	if addr.Is6() {
		a.Scope = unix.RT_SCOPE_UNIVERSE
		a.Flags = unix.IFA_F_NODAD
		a.ValidLft, a.PreferedLft = math.MaxUint32, 0
	}
	err = l.handle.AddrAdd(l.link, a)
	if errors.Is(err, unix.EEXIST) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("add %s to the link %s: %w", addr, linkName, err)
	}
	return true, nil
}

func (l *link) del(addr netip.Addr) error {
	if err := l.handle.AddrDel(l.link, l.address(addr)); err != nil && !errors.Is(err, unix.EADDRNOTAVAIL) {
		return fmt.Errorf("remove %s from the link %s: %w", addr, linkName, err)
	}
	return nil
}

func (l *link) address(addr netip.Addr) *netlink.Addr {
	return &netlink.Addr{IPNet: &net.IPNet{IP: addr.AsSlice(), Mask: net.CIDRMask(addr.BitLen(), addr.BitLen())}}
}

// remove takes the link away, and the addresses with it.
func (l *link) remove() error {
	found, err := l.handle.LinkByName(linkName)
	if _, missing := err.(netlink.LinkNotFoundError); missing {
		return nil
	}
	if err == nil {
		err = l.handle.LinkDel(found)
	}
	if err != nil {
		return fmt.Errorf("remove the link %s: %w", linkName, err)
	}
	return nil
}
