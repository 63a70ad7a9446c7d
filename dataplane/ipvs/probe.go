package ipvs

import (
	"errors"
	"fmt"
	"os"
	"os/exec"

	"github.com/moby/ipvs"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/fairway-lb/fairway/dataplane/service"
)

var errMissing = errors.New("this node does not have all that the IPVS backend needs; use --dataplane=nftables or --dataplane=iptables instead")

func missing(what string, err error) error {
	return fmt.Errorf("%w: the kernel lacks %s: %w", errMissing, what, err)
}

// openIPVS makes sure that there is IPVS before it asks the library for a
// handle: that one answers without an error where there is none.
func openIPVS() (*ipvs.Handle, error) {
	if _, err := netlink.GenlFamilyGet("IPVS"); err != nil {
		// The kernel does not load the module by itself.
		out, failure := exec.Command("modprobe", "ip_vs").CombinedOutput()
		if _, err = netlink.GenlFamilyGet("IPVS"); err != nil {
			if failure != nil {
				err = fmt.Errorf("%w (modprobe ip_vs: %w: %s)", err, failure, out)
			}
			return nil, missing("IPVS (module ip_vs)", err)
		}
	}
	h, err := ipvs.New("")
	if err != nil {
		return nil, fmt.Errorf("open a netlink socket for IPVS: %w", err)
	}
	return h, nil
}

// probe has the kernel make one of everything, and reads it back. Without IPv6
// it passes that over.
func (k *kernel) probe(o Options, marks marking) error {
	for _, f := range k.families {
		err := k.probeFamily(f, o, marks)
		if err != nil && (f != service.IPv6 || !errors.Is(err, errMissing)) {
			return err
		}
		if err != nil {
			k.passOver(err)
		}
	}
	if _, err := os.Stat("/proc/sys/net/ipv4/vs/conntrack"); err != nil {
		return missing("connection tracking of IPVS (CONFIG_IP_VS_NFCT)", err)
	}
	return nil
}

func (k *kernel) probeFamily(f service.Family, o Options, marks marking) error {
	if err := k.probeIPVS(f, o, marks); err != nil {
		return err
	}
	probed := map[setSpec]struct{}{}
	for _, spec := range sets {
		spec.name = "" // it takes a moment until the kernel is rid of a set
		if _, has := probed[spec]; has {
			continue
		}
		probed[spec] = struct{}{}
		const name = namePrefix + "probe"
		err := k.sets.create(name, spec, f)
		if errors.Is(err, unix.EEXIST) {
			err = errors.Join(k.sets.destroy(name), k.sets.create(name, spec, f)) // from one that was killed
		}
		if errors.Is(err, os.ErrPermission) {
			return fmt.Errorf("the IPVS backend needs CAP_NET_ADMIN: %w", err)
		}
		if err != nil {
			return missing(fmt.Sprintf("ipsets of type %s for %s", spec.typ, f), err)
		}
		if err := k.sets.destroy(name); err != nil {
			return err
		}
	}
	return nil
}

func (k *kernel) probeIPVS(f service.Family, o Options, marks marking) error {
	key := orphan(f, marks.tag())
	want := spec{scheduler: newScheduler(o.Scheduler, o.HashPorts)}
	v := kernelVirtual(key, marks.tag(), want)
	err := createVirtual(k.ipvs, v)
	switch {
	case errors.Is(err, os.ErrPermission):
		return fmt.Errorf("the IPVS backend needs CAP_NET_ADMIN: %w", err)
	case errors.Is(err, unix.ENOENT):
		return missing(fmt.Sprintf("the scheduler %s (module ip_vs_%s)", o.Scheduler, o.Scheduler), err)
	case err != nil:
		return missing(fmt.Sprintf("IPVS for %s", f), err)
	}
	got, err := k.ipvs.GetService(v)
	if err = errors.Join(err, k.ipvs.DelService(v)); err != nil {
		return missing(fmt.Sprintf("IPVS for %s", f), err)
	}
	if _, s := readVirtual(got); s != want {
		return missing(fmt.Sprintf("IPVS for %s", f), fmt.Errorf("it made %v of %v", s, want))
	}
	return nil
}
