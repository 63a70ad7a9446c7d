package ipvs

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/moby/ipvs"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/fairway-lb/fairway/dataplane"
	"github.com/fairway-lb/fairway/dataplane/service"
)

// kernel is what the backend speaks to in a network namespace.
type kernel struct {
	ipvs     *ipvs.Handle
	sets     *ipset
	link     link
	iptables []*iptables      // by family
	families []service.Family // that are served, IPv4 first
	unserved error            // why IPv6 is not, or nil
}

// content is what of the backend is in the kernel.
type content struct {
	rules     [2][]string         // by family, as they are listed
	entries   map[entryKey]uint32 // with their marks
	virtuals  map[virtualKey]*installed
	addresses *nodeAddresses
}

func (c *content) equal(other *content, d *desired) bool {
	return slices.Equal(c.rules[0], other.rules[0]) && slices.Equal(c.rules[1], other.rules[1]) &&
		maps.Equal(c.entries, other.entries) &&
		maps.EqualFunc(c.virtuals, other.virtuals, func(a, b *installed) bool { return a.spec == b.spec && maps.Equal(a.weights, b.weights) }) &&
		c.addresses.equal(other.addresses, &d.config, d.addresses)
}

func openKernel() (*kernel, error) {
	k, err := openNetlink()
	if err != nil {
		return nil, err
	}
	for _, f := range families {
		t, err := findIPTables(f)
		switch {
		case err == nil:
			k.iptables = append(k.iptables, t)
		case f == service.IPv6:
			k.passOver(fmt.Errorf("%w: %w", errMissing, err))
		default:
			return nil, errors.Join(fmt.Errorf("%w: %w", errMissing, err), k.close())
		}
	}
	return k, nil
}

// passOver leaves IPv6 out, and says why.
func (k *kernel) passOver(why error) {
	k.families, k.iptables = k.families[:1], k.iptables[:1]
	k.unserved = fmt.Errorf("IPv6 Services are not served: %w", why)
}

// openNetlink leaves rules out.
func openNetlink() (_ *kernel, err error) {
	k := &kernel{families: families}
	defer func() {
		if err != nil {
			err = errors.Join(err, k.close())
		}
	}()
	if k.ipvs, err = openIPVS(); err != nil {
		return nil, err
	}
	if k.sets, err = dialIPSet(); err != nil {
		return nil, err
	}
	if k.link.handle, err = netlink.NewHandle(unix.NETLINK_ROUTE); err != nil {
		return nil, fmt.Errorf("open a netlink socket for links: %w", err)
	}
	return k, nil
}

func (k *kernel) close() (err error) {
	if k.ipvs != nil {
		k.ipvs.Close()
	}
	if k.sets != nil {
		err = k.sets.close()
	}
	if k.link.handle != nil {
		k.link.handle.Close()
	}
	return err
}

// read returns what is there. Virtual services of others are left out: ours are
// on an address of our link, in our set of services, have a mark with our tag,
// or are where one is wanted.
func (k *kernel) read(marks *markTable, wanted func(virtualKey) bool) (*content, error) {
	c := &content{entries: map[entryKey]uint32{}, virtuals: map[virtualKey]*installed{}}
	var err error
	for i, t := range k.iptables {
		if c.rules[i], err = t.list(); err != nil {
			return nil, err
		}
	}
	for _, f := range k.families {
		for kind := range setKinds {
			elements, err := k.sets.list(setName(kind, f), kind)
			if err != nil {
				return nil, err
			}
			for _, x := range elements {
				c.entries[x.entryKey] = x.mark
			}
		}
	}
	if c.addresses, err = k.link.list(); err != nil {
		return nil, err
	}
	services, err := k.ipvs.GetServices()
	if err != nil {
		return nil, fmt.Errorf("list the virtual services: %w", err)
	}
	for _, v := range services {
		key, s := readVirtual(v)
		if key.orphan != 0 {
			if !isOurs(key.orphan) {
				continue
			}
			if whose, known := marks.who(key.family(), key.orphan); known {
				key = whose
			}
		} else {
			_, recorded := c.entries[serviceEntry(key)]
			_, local := c.addresses.own[key.address.Addr()]
			if !recorded && !local && !wanted(key) {
				continue
			}
		}
		weights, _, err := readDestinations(k.ipvs, v)
		if err != nil {
			return nil, fmt.Errorf("%v: %w", key.address, err)
		}
		c.virtuals[key] = newInstalled(s, weights)
	}
	return c, nil
}

// serviceEntry records a virtual service.
func serviceEntry(k virtualKey) entryKey {
	return entryKey{set: servicesSet, addr: k.address.Addr(), protocol: k.protocol, port: k.address.Port()}
}

// ensure makes the link, the sets and the rules that match them. What is there
// stays as it is.
func (k *kernel) ensure(config *dataplane.Config) error {
	if err := k.link.ensure(); err != nil {
		return err
	}
	for i, f := range k.families {
		err := k.ensureSets(f)
		if errors.Is(err, unix.EEXIST) {
			// Another version of us made them otherwise, and rules match them.
			if err = k.removeRules(k.iptables[i]); err == nil {
				err = k.removeSets(f)
			}
			if err == nil {
				err = k.ensureSets(f)
			}
		}
		if err != nil {
			return err
		}
		if err := k.ensureRules(k.iptables[i], config); err != nil {
			return err
		}
	}
	return nil
}

func (k *kernel) ensureSets(f service.Family) error {
	for kind := range setKinds {
		if err := k.sets.create(setName(kind, f), sets[kind], f); err != nil {
			return err
		}
	}
	return nil
}

func (k *kernel) removeSets(f service.Family) error {
	var errs []error
	for kind := range setKinds {
		errs = append(errs, k.sets.destroy(setName(kind, f)))
	}
	return errors.Join(errs...)
}

func (k *kernel) ensureRules(t *iptables, config *dataplane.Config) error {
	have, err := t.list()
	if err != nil {
		return err
	}
	var script strings.Builder
	for _, table := range tables(config, t.family) {
		script.WriteString(table.script(have))
	}
	return t.apply(script.String())
}

func (k *kernel) removeRules(t *iptables) error {
	have, err := t.list()
	if err != nil {
		return err
	}
	return t.apply(removal(have))
}

// cleanup removes everything but virtual services that are somebody else's, too.
func (k *kernel) cleanup(theirs func(service.Protocol, netip.AddrPort) bool) error {
	// Nothing is known of what they are for, only whose they are.
	c, err := k.read(newMarkTable(0), func(virtualKey) bool { return false })
	if err != nil {
		return err
	}
	var errs []error
	errs = append(errs, k.link.remove(), removeAnyIP())
	for key, v := range c.virtuals {
		if key.orphan == 0 && theirs(key.protocol, key.address) {
			continue
		}
		if err := k.ipvs.DelService(kernelVirtual(key, key.orphan, v.spec)); err != nil && !gone(err) {
			errs = append(errs, fmt.Errorf("remove the virtual service %v: %w", key.address, err))
		}
	}
	for i, f := range k.families {
		if err := k.iptables[i].apply(removal(c.rules[i])); err != nil {
			errs = append(errs, err)
			continue // they match the sets
		}
		errs = append(errs, k.removeSets(f))
	}
	return errors.Join(errs...)
}

// staticEntries are those of the node's configuration.
func staticEntries(config *dataplane.Config) map[entryKey]struct{} {
	all := map[entryKey]struct{}{}
	put := func(kind setKind, prefixes []netip.Prefix) {
		for _, p := range prefixes {
			for _, half := range halves(p) {
				all[entryKey{set: kind, source: half}] = struct{}{}
			}
		}
	}
	put(podsSet, config.Pods.CIDRs)
	put(serviceCIDRsSet, config.ServiceCIDRs)
	return all
}

// family returns of which family's set an entry is.
func (e entryKey) family() service.Family {
	if e.addr.IsValid() {
		return service.FamilyOf(e.addr)
	}
	return service.FamilyOf(e.source.Addr())
}
