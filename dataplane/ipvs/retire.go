package ipvs

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/fairway-lb/fairway/dataplane/kubeproxy"
	"github.com/fairway-lb/fairway/dataplane/service"
)

// Retire removes what is ours from the network namespace of the calling thread,
// where another dataplane forwards now, which translates new flows before they
// come to IPVS. Virtual services go when the flows have ended that began with
// them, and so do the addresses that those are sent to: until then, the error is
// ErrDraining, and Retire is to be called again, after two seconds at least. Flows
// of UDP have no end, and are the other's from the second call on.
func Retire() (err error) {
	if there, err := leftSomething(); !there || err != nil {
		return err
	}
	k, err := openKernel()
	if err == nil {
		defer func() { err = errors.Join(err, k.close()) }()
		err = k.retire()
	}
	if err != nil {
		return fmt.Errorf("retire IPVS: %w", err)
	}
	return nil
}

func (k *kernel) retire() error {
	theirs, err := kubeproxy.VirtualServices(context.Background())
	if err != nil {
		return err
	}
	c, err := k.read(newMarkTable(0), func(virtualKey) bool { return false })
	if err != nil {
		return err
	}
	// The rest judges new flows, and what becomes of others is decided.
	for i, t := range k.iptables {
		last := lastRule()
		rest := slices.DeleteFunc(slices.Clone(c.rules[i]), func(line string) bool { return strings.HasPrefix(line, last.name+" ") })
		if err := t.apply(last.script(c.rules[i]) + removal(rest)); err != nil {
			return err
		}
	}
	if err := anyIP(slices.Collect(maps.Keys(c.addresses.own)), c.addresses.others); err != nil {
		return err
	}
	errs := []error{k.link.remove()}
	draining := false
	ended := flowsTo{}
	for key, v := range c.virtuals {
		if key.orphan == 0 && theirs(key.protocol, key.address) {
			continue
		}
		of := kernelVirtual(key, key.orphan, v.spec)
		busy, until, err := drainOf(k.ipvs, of)
		if key.orphan == 0 && !key.graceful() {
			busy, ended[key.address] = until, !until
		}
		if err == nil && !busy {
			err = k.ipvs.DelService(of)
		}
		if err != nil && !gone(err) {
			errs = append(errs, fmt.Errorf("remove the virtual service %s/%s: %w", key.address, key.protocol, err))
		}
		draining = draining || busy
	}
	errs = append(errs, ended.forget())
	if err := errors.Join(errs...); err != nil {
		return err
	}
	if !draining {
		draining, err = flowsFrom(c.entries)
	}
	if err == nil && draining {
		err = ErrDraining
	}
	if err != nil {
		return err
	}
	return k.cleanup(theirs)
}

// lastRule is for connections that processes of the node begin: their source, an
// address that the node chose without regard to endpoints, is none that these
// could answer to.
func lastRule() table {
	nat := table{name: "nat", chains: []string{postroutingChain}, jumps: [][2]string{{"POSTROUTING", postroutingChain}}}
	nat.add(postroutingChain, "! -o lo -m addrtype --src-type LOCAL -m conntrack --ctstate DNAT -j MASQUERADE --random-fully")
	return nat
}

// flowsFrom tells whether there are connections of processes of the node with an
// address of a Service as their source.
func flowsFrom(entries map[entryKey]uint32) (some bool, err error) {
	for _, family := range []netlink.InetFamily{unix.AF_INET, unix.AF_INET6} {
		flows, err := netlink.ConntrackTableList(netlink.ConntrackTable, family)
		if errors.Is(err, netlink.ErrDumpInterrupted) {
			return true, nil // as far as one knows
		}
		if err != nil {
			return false, fmt.Errorf("list the entries of conntrack: %w", err)
		}
		for _, flow := range flows {
			addr, _ := netip.AddrFromSlice(flow.Forward.SrcIP)
			if _, is := entries[entryKey{set: addressesSet, addr: addr.Unmap()}]; is {
				return true, nil
			}
		}
	}
	return false, nil
}

// flowsTo are those of UDP to some frontends. It implements
// netlink.CustomConntrackFilter.
type flowsTo map[netip.AddrPort]bool

// MatchConntrackFlow tells whether an entry is of one of the flows.
func (f flowsTo) MatchConntrackFlow(flow *netlink.ConntrackFlow) bool {
	addr, _ := netip.AddrFromSlice(flow.Forward.DstIP)
	return flow.Forward.Protocol == uint8(service.UDP) && f[netip.AddrPortFrom(addr.Unmap(), flow.Forward.DstPort)]
}

// forget deletes their entries of conntrack: the next packet is that of a new flow.
func (f flowsTo) forget() error {
	if len(f) == 0 {
		return nil
	}
	var errs []error
	for _, family := range []netlink.InetFamily{unix.AF_INET, unix.AF_INET6} {
		if _, err := netlink.ConntrackDeleteFilters(netlink.ConntrackTable, family, f); err != nil {
			errs = append(errs, fmt.Errorf("delete entries of conntrack: %w", err))
		}
	}
	return errors.Join(errs...)
}
