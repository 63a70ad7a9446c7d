package layer2

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"

	"github.com/vishvananda/netlink"
)

const canReach = "can_reach"

// Choose reads the link that spec, the interface of a pool, means on this
// node: the link of that name, or, for can_reach:<IP address>, the link that
// the node's routes take to that address. A loopback is refused. The errors
// name the field and what to write into it; the words after the first colon
// are those of OpenELB.
func Choose(spec string) (Link, error) {
	l, err := find(spec)
	if err != nil {
		return Link{}, fmt.Errorf("spec.interface %q: %w", spec, err)
	}
	if l.Attrs().Flags&net.FlagLoopback != 0 {
		return Link{}, fmt.Errorf("spec.interface %q: invalid interface %s: it reaches no other host; name the interface of the LAN, or after can_reach: an address that is not this node's own, such as the router's",
			spec, l.Attrs().Name)
	}
	link, err := readLink(l)
	if err != nil {
		return Link{}, fmt.Errorf("spec.interface %q: %w", spec, err)
	}
	return link, nil
}

func find(spec string) (netlink.Link, error) {
	kind, target, found := strings.Cut(spec, ":")
	switch {
	case spec == "", found && kind != canReach:
		return nil, errors.New("invalid interface string, now only support can_reach: write the name of an interface, as eth0, or can_reach:<IP address>")
	case found:
		return linkTowards(target)
	}
	l, err := netlink.LinkByName(spec)
	if errors.As(err, &netlink.LinkNotFoundError{}) {
		return nil, errors.New("no such interface on this node: if the name differs between nodes, write can_reach:<IP address>")
	}
	return l, err
}

// linkTowards asks the kernel for the route to an address.
func linkTowards(target string) (netlink.Link, error) {
	addr, err := netip.ParseAddr(target)
	if err != nil || addr.Zone() != "" || addr.IsUnspecified() || addr.IsMulticast() {
		return nil, fmt.Errorf("invalid can_reach address %s: write one IPv4 or IPv6 address of a host, such as the router's", target)
	}
	routes, err := netlink.RouteGet(addr.Unmap().AsSlice())
	if err != nil {
		return nil, fmt.Errorf("no route to can_reach address %s on this node: %w", addr, err)
	}
	if len(routes) == 0 || routes[0].LinkIndex == 0 {
		return nil, fmt.Errorf("the route to can_reach address %s leads to no interface of this node", addr)
	}
	l, err := netlink.LinkByIndex(routes[0].LinkIndex)
	if err != nil {
		return nil, fmt.Errorf("interface of the route to can_reach address %s: %w", addr, err)
	}
	return l, nil
}
