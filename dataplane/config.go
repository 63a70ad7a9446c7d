package dataplane

import (
	"errors"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/fairway-lb/fairway/dataplane/service"
)

// defaultMark is the bit that kube-proxy uses too, and that network plugins
// therefore leave alone.
const defaultMark = 0x4000

// Config is what a Backend has to know of its node.
type Config struct {
	// Pods tells which packets come from pods of this node.
	Pods Detector
	// NodeAddresses are the node's own. A source range with one of them admits
	// a load-balancer address as source too, which a process of the node has
	// where that address is the node's.
	NodeAddresses []netip.Addr
	// NodePortAddresses are where NodePorts answer, of all addresses that the
	// node has. None of a family means all of them. The loopback never does.
	NodePortAddresses []netip.Prefix
	// LocalhostNodePorts has IPv4 NodePorts answer processes of the node at
	// 127.0.0.1 too, with an address of the node as the source that endpoints
	// see. It takes net.ipv4.conf.all.route_localnet, which the backend does not
	// set; it keeps others from reaching the loopback by it (CVE-2020-8558).
	LocalhostNodePorts bool
	// ServiceCIDRs are where cluster IPs come from. Those that no Service has
	// are dropped. None leaves them alone.
	ServiceCIDRs []netip.Prefix
	// MasqueradeAll has endpoints see the node's address instead of that of
	// any client of a cluster IP.
	MasqueradeAll bool
	// MasqueradeMark is the bit of the packet mark that says that the source
	// has to be translated. 0 is 0x4000.
	MasqueradeMark uint32
}

// Detector tells packets of local pods from others. At most one of its fields
// is set. Without any, or without addresses of a family, no packet is from a
// local pod, and cluster IPs keep all sources.
type Detector struct {
	CIDRs           []netip.Prefix // the pods' addresses on this node
	InterfacePrefix string         // how the names of their links begin
	Bridge          string         // the bridge that they are behind
}

// None tells whether no packet is from a local pod.
func (d Detector) None() bool {
	return len(d.CIDRs) == 0 && d.InterfacePrefix == "" && d.Bridge == ""
}

// Of leaves the addresses of a family.
func (d Detector) Of(family service.Family) Detector {
	d.CIDRs = OfFamily(family, d.CIDRs)
	return d
}

func (d Detector) check() error {
	set := 0
	for _, is := range []bool{len(d.CIDRs) > 0, d.InterfacePrefix != "", d.Bridge != ""} {
		if is {
			set++
		}
	}
	if set > 1 {
		return errors.New("local pods are told by one of addresses, an interface prefix and a bridge, not by several")
	}
	for _, name := range []string{d.InterfacePrefix, d.Bridge} {
		if len(name) >= unix.IFNAMSIZ {
			return fmt.Errorf("interface name %q is longer than %d characters", name, unix.IFNAMSIZ-1)
		}
	}
	return nil
}

// Check completes what is left open, and returns an error that says what of it
// cannot be.
func (c *Config) Check() error {
	if err := c.Pods.check(); err != nil {
		return err
	}
	if c.MasqueradeMark == 0 {
		c.MasqueradeMark = defaultMark
	}
	if c.MasqueradeMark&(c.MasqueradeMark-1) != 0 {
		return fmt.Errorf("mark %#x is not a single bit", c.MasqueradeMark)
	}
	for _, prefixes := range [][]netip.Prefix{c.Pods.CIDRs, c.NodePortAddresses, c.ServiceCIDRs} {
		for _, p := range prefixes {
			if !p.IsValid() || p.Addr().Is4In6() {
				return fmt.Errorf("%v is not a prefix of IPv4 or IPv6", p)
			}
		}
	}
	return nil
}

// OfFamily leaves the prefixes of a family.
func OfFamily(family service.Family, prefixes []netip.Prefix) []netip.Prefix {
	var those []netip.Prefix
	for _, p := range prefixes {
		if service.FamilyOf(p.Addr()) == family {
			those = append(those, p)
		}
	}
	return those
}
