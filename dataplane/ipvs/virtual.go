package ipvs

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/moby/ipvs"
	"golang.org/x/sys/unix"

	"github.com/fairway-lb/fairway/dataplane/service"
)

// installed is a virtual service as the kernel has it.
type installed struct {
	spec
	weights map[netip.AddrPort]int // by endpoint
	// leaving is since when endpoints of UDP have served no longer.
	leaving map[netip.AddrPort]time.Time
}

func newInstalled(s spec, weights map[netip.AddrPort]int) *installed {
	return &installed{s, weights, map[netip.AddrPort]time.Time{}}
}

// foreignWeight is that of an endpoint which is not translated to, and is
// therefore to be set anew whatever its weight.
const foreignWeight = -1

// kernelVirtual is a virtual service as the library names it. mark is for those
// that have one.
func kernelVirtual(k virtualKey, mark uint32, s spec) *ipvs.Service {
	v := &ipvs.Service{
		AddressFamily: unix.AF_INET,
		Netmask:       0xffffffff, // a client is a single address
		SchedName:     s.scheduler.name,
		Flags:         s.flags(),
		Timeout:       s.timeout,
	}
	if k.family() == service.IPv6 {
		v.AddressFamily, v.Netmask = unix.AF_INET6, 128
	}
	if k.byMark() {
		v.FWMark = mark
		return v
	}
	v.Address, v.Port, v.Protocol = k.address.Addr().AsSlice(), k.address.Port(), uint16(k.protocol)
	return v
}

// readVirtual returns what the kernel has. The key of one that is found by mark
// is that of an orphan.
func readVirtual(v *ipvs.Service) (virtualKey, spec) {
	s := spec{scheduler: scheduler{v.SchedName, v.Flags &^ (flagHashed | flagPersistent)}}
	if v.Flags&flagPersistent != 0 {
		s.timeout = v.Timeout
	}
	if v.FWMark != 0 {
		family := service.IPv4
		if v.AddressFamily == unix.AF_INET6 {
			family = service.IPv6
		}
		return orphan(family, v.FWMark), s
	}
	return virtualKey{protocol: service.Protocol(v.Protocol), address: addrPort(v.Address, v.Port)}, s
}

func addrPort(ip net.IP, port uint16) netip.AddrPort {
	addr, _ := netip.AddrFromSlice(ip)
	return netip.AddrPortFrom(addr.Unmap(), port)
}

func kernelDestination(endpoint netip.AddrPort, weight int) *ipvs.Destination {
	d := &ipvs.Destination{
		Address: endpoint.Addr().AsSlice(), Port: endpoint.Port(), Weight: weight,
		AddressFamily: unix.AF_INET, ConnectionFlags: ipvs.ConnectionFlagMasq,
	}
	if endpoint.Addr().Is6() {
		d.AddressFamily = unix.AF_INET6
	}
	return d
}

// readDestinations returns the endpoints of a virtual service, and which of
// them still have flows.
func readDestinations(h *ipvs.Handle, v *ipvs.Service) (weights map[netip.AddrPort]int, busy map[netip.AddrPort]bool, err error) {
	all, err := h.GetDestinations(v)
	if err != nil {
		return nil, nil, fmt.Errorf("list the endpoints of a virtual service: %w", err)
	}
	weights, busy = make(map[netip.AddrPort]int, len(all)), map[netip.AddrPort]bool{}
	for _, d := range all {
		endpoint := addrPort(d.Address, d.Port)
		weights[endpoint] = d.Weight
		if d.ConnectionFlags&ipvs.ConnectionFlagFwdMask != ipvs.ConnectionFlagMasq {
			weights[endpoint] = foreignWeight
		}
		busy[endpoint] = d.ActiveConnections+d.InactiveConnections > 0
	}
	return weights, busy, nil
}

// createVirtual makes a virtual service, or has one that is there be like it.
func createVirtual(h *ipvs.Handle, v *ipvs.Service) error {
	err := h.NewService(v)
	if errors.Is(err, unix.EEXIST) {
		err = h.UpdateService(v)
	}
	return err
}

// gone tells whether something could not be removed because it is not there.
func gone(err error) bool {
	return errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ESRCH)
}
