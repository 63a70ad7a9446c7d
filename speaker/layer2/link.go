package layer2

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"
	"go4.org/netipx"
	"golang.org/x/sys/unix"
)

// A Link is a network interface of this node as it was when it was read.
type Link struct {
	Name         string
	Index        int
	HardwareAddr net.HardwareAddr
	Up           bool // administratively and by its carrier
	// Prefixes are the subnets on the link: those of its usable addresses and
	// of routes that lead to it without a gateway, sorted.
	Prefixes []netip.Prefix
}

// CanServe reports whether addresses, all of a range, can be announced on the
// link: it is up, speaks Ethernet, and one of its subnets holds them all, unless
// allowOffSubnet. If not, the text says why, without naming the addresses.
func (l Link) CanServe(addresses netipx.IPRange, allowOffSubnet bool) (bool, string) {
	switch {
	case !addresses.IsValid():
		return false, "no valid addresses"
	case !l.Up:
		return false, fmt.Sprintf("interface %s is down", l.Name)
	case !isHost(l.HardwareAddr):
		return false, fmt.Sprintf("interface %s has no Ethernet address", l.Name)
	case addresses.From().Is6() && !slices.ContainsFunc(l.Prefixes, isLinkLocal):
		return false, fmt.Sprintf("interface %s has no IPv6 link-local address", l.Name)
	case allowOffSubnet:
		return true, ""
	}
	if _, ok := l.Subnet(addresses); ok {
		return true, ""
	}
	return false, fmt.Sprintf("in no subnet of interface %s, which has %s: give the interface an address there, or set spec.allowOffSubnet if the network delivers these addresses on that link",
		l.Name, subnets(l.Prefixes, addresses.From().Is4()))
}

// Subnet returns a subnet of the link that holds all of a range.
func (l Link) Subnet(addresses netipx.IPRange) (netip.Prefix, bool) {
	for _, p := range l.Prefixes {
		if p.Contains(addresses.From()) && p.Contains(addresses.To()) {
			return p, true
		}
	}
	return netip.Prefix{}, false
}

// subnets lists the prefixes of one family.
func subnets(prefixes []netip.Prefix, is4 bool) string {
	var list []string
	for _, p := range prefixes {
		if p.Addr().Is4() == is4 {
			list = append(list, p.String())
		}
	}
	if len(list) == 0 {
		return "none of that family"
	}
	return strings.Join(list, ", ")
}

func isLinkLocal(p netip.Prefix) bool { return p.Addr().Is6() && p.Addr().IsLinkLocalUnicast() }

// readLink completes what netlink knows of a link.
func readLink(l netlink.Link) (Link, error) {
	attrs := l.Attrs()
	link := Link{
		Name:         attrs.Name,
		Index:        attrs.Index,
		HardwareAddr: attrs.HardwareAddr,
		Up:           isUp(attrs),
	}
	addrs, err := usableAddrs(l, netlink.FAMILY_ALL)
	if err != nil {
		return Link{}, err
	}
	for _, a := range addrs {
		link.Prefixes = append(link.Prefixes, a.Masked())
	}
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		prefixes, err := routedPrefixes(attrs, family)
		if err != nil {
			return Link{}, err
		}
		link.Prefixes = append(link.Prefixes, prefixes...)
	}
	slices.SortFunc(link.Prefixes, netipx.ComparePrefix)
	link.Prefixes = slices.Compact(link.Prefixes)
	return link, nil
}

// routedPrefixes returns the subnets that the main table reaches on the link
// directly. A node with a /128 from DHCPv6 knows its subnet only so.
func routedPrefixes(attrs *netlink.LinkAttrs, family int) ([]netip.Prefix, error) {
	routes, err := consistent(func() ([]netlink.Route, error) {
		return netlink.RouteListFiltered(family,
			&netlink.Route{LinkIndex: attrs.Index, Table: unix.RT_TABLE_MAIN},
			netlink.RT_FILTER_OIF|netlink.RT_FILTER_TABLE)
	})
	if err != nil {
		return nil, fmt.Errorf("list routes of interface %s: %w", attrs.Name, err)
	}
	var prefixes []netip.Prefix
	for _, r := range routes {
		if r.Dst == nil || r.Gw != nil || r.Via != nil || r.Encap != nil || len(r.MultiPath) > 0 || r.Type != unix.RTN_UNICAST {
			continue
		}
		if p, ok := netipx.FromStdIPNet(r.Dst); ok && p.Bits() > 0 && !p.Addr().IsLinkLocalUnicast() {
			prefixes = append(prefixes, p)
		}
	}
	return prefixes, nil
}

// usableAddrs returns the addresses of a link that the node may send from:
// not those that are still, or in vain, checked for duplicates.
func usableAddrs(l netlink.Link, family int) ([]netip.Prefix, error) {
	addrs, err := consistent(func() ([]netlink.Addr, error) { return netlink.AddrList(l, family) })
	if err != nil {
		return nil, fmt.Errorf("list addresses of interface %s: %w", l.Attrs().Name, err)
	}
	var usable []netip.Prefix
	for _, a := range addrs {
		optimistic := a.Flags&unix.IFA_F_OPTIMISTIC != 0
		if a.Flags&unix.IFA_F_DADFAILED != 0 || a.Flags&unix.IFA_F_TENTATIVE != 0 && !optimistic {
			continue
		}
		ones, _ := a.Mask.Size()
		if ip, ok := netipx.FromStdIP(a.IP); ok {
			usable = append(usable, netip.PrefixFrom(ip, ones))
		}
	}
	return usable, nil
}

// isUp is true if frames can pass: IFF_RUNNING follows the carrier and 802.1X.
func isUp(attrs *netlink.LinkAttrs) bool {
	return attrs.RawFlags&unix.IFF_UP != 0 && attrs.RawFlags&unix.IFF_RUNNING != 0
}

// An identity is all of a link that a port's socket and frames depend on.
type identity struct {
	index     int
	mac       [6]byte
	linkLocal netip.Addr // IPv6 only
}

// identify reads a place's link and says why it cannot be served now.
func identify(at place) (identity, error) {
	l, err := netlink.LinkByName(at.link)
	if err != nil {
		if errors.As(err, &netlink.LinkNotFoundError{}) {
			return identity{}, errors.New("no such interface")
		}
		return identity{}, err
	}
	attrs := l.Attrs()
	if !isUp(attrs) {
		return identity{}, errors.New("the interface is down")
	}
	if !isHost(attrs.HardwareAddr) {
		return identity{}, errors.New("the interface has no Ethernet address")
	}
	id := identity{index: attrs.Index, mac: [6]byte(attrs.HardwareAddr)}
	if at.family == familyIPv4 {
		return id, nil
	}
	addrs, err := usableAddrs(l, netlink.FAMILY_V6)
	if err != nil {
		return identity{}, err
	}
	i := slices.IndexFunc(addrs, isLinkLocal)
	if i < 0 {
		return identity{}, errors.New("the interface has no usable IPv6 link-local address yet")
	}
	id.linkLocal = addrs[i].Addr()
	return id, nil
}

// consistent repeats a listing that the kernel changed while it was read.
func consistent[T any](list func() ([]T, error)) ([]T, error) {
	// Changes seldom fall into a listing; five in a row mean a node in such
	// turmoil that the next event is near, which repeats all of it anyway.
	const tries = 5
	var items []T
	var err error
	for range tries {
		if items, err = list(); !errors.Is(err, netlink.ErrDumpInterrupted) {
			break
		}
	}
	return items, err
}
