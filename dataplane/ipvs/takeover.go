package ipvs

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/moby/ipvs"
	"github.com/vishvananda/netlink"

	"github.com/fairway-lb/fairway/dataplane/service"
)

// ErrDraining is that of virtual services that still forward flows.
var ErrDraining = errors.New("virtual services of IPVS still forward flows that began with them, and go when those have ended")

// Load makes sure that the kernel has IPVS, whose sysctls are not there before.
// It returns what the node lacks.
func Load() error {
	h, err := openIPVS()
	if err != nil {
		return err
	}
	h.Close()
	return nil
}

// RemoveVirtualServices takes virtual services away whose owner is gone, and
// which are not ours: those for which theirs is true. They get no new flows. One
// that still has flows stays, and the error is ErrDraining.
func RemoveVirtualServices(theirs func(service.Protocol, netip.AddrPort) bool) (err error) {
	if _, err := netlink.GenlFamilyGet("IPVS"); err != nil {
		return nil // there are none
	}
	k, err := openNetlink()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, k.close()) }()
	ours := map[entryKey]bool{}
	for _, f := range families {
		elements, err := k.sets.list(setName(servicesSet, f), servicesSet)
		if err != nil {
			return err
		}
		for _, x := range elements {
			ours[x.entryKey] = true
		}
	}
	all, err := k.ipvs.GetServices()
	if err != nil {
		return fmt.Errorf("list the virtual services: %w", err)
	}
	var errs []error
	draining := false
	for _, v := range all {
		key, _ := readVirtual(v)
		if key.orphan != 0 || ours[serviceEntry(key)] || !theirs(key.protocol, key.address) {
			continue
		}
		busy, _, err := drainOf(k.ipvs, v)
		if err == nil && !busy {
			err = k.ipvs.DelService(v)
		}
		if err != nil && !gone(err) {
			errs = append(errs, fmt.Errorf("remove the virtual service %s/%s: %w", key.address, key.protocol, err))
		}
		draining = draining || busy
	}
	if draining {
		errs = append(errs, ErrDraining)
	}
	return errors.Join(errs...)
}

// drainOf has a virtual service get no new flows, and tells whether it has some,
// and whether it got new ones until now.
func drainOf(h *ipvs.Handle, v *ipvs.Service) (busy, until bool, err error) {
	all, err := h.GetDestinations(v)
	if err != nil {
		return false, false, fmt.Errorf("list its endpoints: %w", err)
	}
	for _, d := range all {
		busy = busy || d.ActiveConnections+d.InactiveConnections > 0
		if d.Weight == 0 {
			continue
		}
		d.Weight, until = 0, true
		if err := h.UpdateDestination(v, d); err != nil {
			return busy, until, fmt.Errorf("have endpoint %s get no new flows: %w", addrPort(d.Address, d.Port), err)
		}
	}
	return busy, until, nil
}

// leftSomething tells whether anything of ours is in the kernel, as far as one
// can see without the rest. Rules are where there are sets.
func leftSomething() (_ bool, err error) {
	if _, err := netlink.LinkByName(linkName); err == nil {
		return true, nil
	} else if _, missing := err.(netlink.LinkNotFoundError); !missing {
		return false, fmt.Errorf("look for the link %s: %w", linkName, err)
	}
	s, err := dialIPSet()
	if err != nil {
		return false, nil // a kernel without netfilter
	}
	defer func() { err = errors.Join(err, s.close()) }()
	for kind := range setKinds {
		for _, f := range families {
			if there, err := s.exists(setName(kind, f)); there || err != nil {
				return there, err
			}
		}
	}
	return false, nil
}
