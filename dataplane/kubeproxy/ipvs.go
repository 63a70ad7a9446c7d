package kubeproxy

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"

	"github.com/fairway-lb/fairway/dataplane/service"
)

// errNoHook is that of a caller that knows nothing of IPVS.
var errNoHook = errors.New("its virtual services would stay, because there is nothing here that removes them")

// ipvs is what kube-proxy leaves in IPVS mode besides rules of iptables: the
// link, sets, and virtual services.
type ipvs struct{ config Config }

func (p ipvs) find(ctx context.Context) (found []Leftover, err error) {
	s, err := findIPVS(ctx)
	if s.link != nil {
		found = append(found, Leftover{Mode: modeIPVS, Place: "links", Names: []string{ipvsLink}})
	}
	if len(s.sets) > 0 {
		found = append(found, Leftover{Mode: modeIPVS, Place: "ipsets", Names: s.sets})
	}
	return found, err
}

// remove begins with virtual services: link and sets tell which are
// kube-proxy's, so they stay until those are gone.
func (p ipvs) remove(ctx context.Context) error {
	s, err := findIPVS(ctx)
	if err != nil {
		return wrap(err, "remove what kube-proxy left of IPVS mode")
	}
	if s.link == nil && len(s.sets) == 0 {
		return nil
	}
	if p.config.RemoveVirtualServices == nil {
		return wrap(errNoHook, "remove what kube-proxy left of IPVS mode")
	}
	if err := p.config.RemoveVirtualServices(s.virtual.contains); err != nil {
		return fmt.Errorf("remove the virtual services of kube-proxy from IPVS: %w", err)
	}
	var errs []error
	if s.link != nil {
		if err := netlink.LinkDel(s.link); err != nil && !gone(err) {
			errs = append(errs, fmt.Errorf("delete the link %s of kube-proxy: %w", ipvsLink, err))
		}
	}
	for _, name := range s.sets {
		errs = append(errs, destroySet(ctx, name))
	}
	return errors.Join(errs...)
}

// VirtualServices returns what tells the virtual services of a kube-proxy in
// IPVS mode from others, whether it runs or has gone.
func VirtualServices(ctx context.Context) (theirs func(service.Protocol, netip.AddrPort) bool, err error) {
	s, err := findIPVS(ctx)
	return s.virtual.contains, wrap(err, "find out which virtual services are kube-proxy's")
}

// ipvsState is what there is of IPVS mode.
type ipvsState struct {
	link    netlink.Link
	sets    []string // sorted
	virtual virtualServices
}

func findIPVS(ctx context.Context) (s ipvsState, err error) {
	s.virtual = virtualServices{bound: map[netip.Addr]bool{}, local: map[netip.Addr]bool{},
		named: map[endpoint]bool{}, nodePorts: map[endpoint]bool{}}
	link, err := netlink.LinkByName(ipvsLink)
	switch {
	case err == nil:
		s.link = link
	case !gone(err):
		return s, fmt.Errorf("look for the link %s: %w", ipvsLink, err)
	}
	for _, name := range setNames() {
		elements, err := listSet(ctx, name)
		if errors.Is(err, errNoSet) {
			continue
		}
		if err != nil {
			return s, fmt.Errorf("look for ipset %s: %w", name, err)
		}
		s.sets = append(s.sets, name)
		s.virtual.add(name, elements)
	}
	slices.Sort(s.sets)
	if s.link == nil && len(s.sets) == 0 {
		return s, nil
	}
	return s, s.virtual.addAddresses(s.link)
}

func gone(err error) bool {
	var notFound netlink.LinkNotFoundError
	return errors.As(err, &notFound)
}

// virtualServices tells kube-proxy's virtual services from others, as those of
// keepalived on an address of the node.
type virtualServices struct {
	bound     map[netip.Addr]bool // on kube-proxy's link: all that is there is its own
	local     map[netip.Addr]bool // the node's other addresses
	named     map[endpoint]bool   // in a set of Services
	nodePorts map[endpoint]bool   // in a set of node ports, without address
}

// contains tells whether kube-proxy has a virtual service there.
func (v virtualServices) contains(p service.Protocol, at netip.AddrPort) bool {
	addr := at.Addr().Unmap()
	return v.bound[addr] || v.named[endpoint{p, netip.AddrPortFrom(addr, at.Port())}] ||
		v.local[addr] && v.nodePorts[endpoint{p, netip.AddrPortFrom(netip.Addr{}, at.Port())}]
}

// add takes the elements of a set. Sets with sources or endpoints name these
// besides, in another attribute, or have none with an address of a Service.
func (v virtualServices) add(set string, elements []endpoint) {
	protocol, isNodePort := nodePortProtocol(set)
	for _, e := range elements {
		switch {
		case isNodePort:
			v.nodePorts[endpoint{protocol, netip.AddrPortFrom(netip.Addr{}, e.Port())}] = true
		case isServiceSet(set):
			v.named[e] = true
		}
	}
}

// isServiceSet tells whether the elements of a set are what Services are
// reached at.
func isServiceSet(set string) bool {
	return slices.Contains([]string{
		"KUBE-CLUSTER-IP", "KUBE-EXTERNAL-IP", "KUBE-EXTERNAL-IP-LOCAL", "KUBE-LOAD-BALANCER", "KUBE-LOAD-BALANCER-LOCAL",
		"KUBE-6-CLUSTER-IP", "KUBE-6-EXTERNAL-IP", "KUBE-6-EXTERNAL-IP-LOCAL", "KUBE-6-LOAD-BALANCER", "KUBE-6-LOAD-BALANCER-LOCAL",
	}, set)
}

// addAddresses takes the addresses of the node.
func (v virtualServices) addAddresses(link netlink.Link) error {
	addresses, err := netlink.AddrList(nil, netlink.FAMILY_ALL)
	for range attempts { // as many as for a transaction: what changes has settled by then
		if !errors.Is(err, netlink.ErrDumpInterrupted) {
			break
		}
		addresses, err = netlink.AddrList(nil, netlink.FAMILY_ALL)
	}
	if err != nil {
		return fmt.Errorf("list the addresses of the node: %w", err)
	}
	for _, a := range addresses {
		addr, ok := netip.AddrFromSlice(a.IP)
		switch addr = addr.Unmap(); {
		case !ok:
		case link != nil && a.LinkIndex == link.Attrs().Index:
			v.bound[addr] = !addr.IsLinkLocalUnicast()
		default:
			v.local[addr] = true
		}
	}
	return nil
}
