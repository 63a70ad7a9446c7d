package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"

	"github.com/fairway-lb/fairway/dataplane"
	"github.com/fairway-lb/fairway/dataplane/iptables"
	"github.com/fairway-lb/fairway/dataplane/ipvs"
	"github.com/fairway-lb/fairway/dataplane/kubeproxy"
	"github.com/fairway-lb/fairway/dataplane/nftables"
	"github.com/fairway-lb/fairway/dataplane/sysctl"
)

// The values of --dataplane.
const (
	dataplaneAuto     = "auto"
	dataplaneNone     = "none"
	dataplaneNFTables = "nftables"
	dataplaneIPTables = "iptables"
	dataplaneIPVS     = "ipvs"
)

// byPodCIDR is the value of --detect-local that asks the Node.
const byPodCIDR = "pod-cidr"

// forwarding are the flags of the dataplane.
type forwarding struct {
	dataplane         string
	detectLocal       string
	nodePortAddresses string
	localhost         bool
	masqueradeAll     bool
	ipvsScheduler     string
	healthAddress     string
	ipv6              bool // the node has an address of IPv6
}

func (f *forwarding) flags() {
	flag.StringVar(&f.dataplane, "dataplane", dataplaneAuto, "What forwards the traffic of Services on this node: nftables; iptables; ipvs; none, which leaves it to kube-proxy or the network plugin; or auto, which is none where a kube-proxy runs and nftables elsewhere")
	flag.StringVar(&f.detectLocal, "detect-local", byPodCIDR, "How traffic of this node's pods is told from others': pod-cidr, by spec.podCIDRs of the Node; a list of CIDRs; interface-prefix=NAME, by the beginning of the names of their interfaces; bridge=NAME; or none")
	flag.StringVar(&f.nodePortAddresses, "nodeport-addresses", "", "Which of the node's addresses answer at NodePorts: a list of CIDRs, or primary for the Node's InternalIPs. Default: all but the loopback")
	flag.BoolVar(&f.localhost, "localhost-nodeports", false, "NodePorts answer processes of the node at 127.0.0.1 too. Sets net.ipv4.conf.all.route_localnet. Not with ipvs")
	flag.BoolVar(&f.masqueradeAll, "masquerade-all", false, "Endpoints see the node's address in place of that of any client of a cluster IP")
	flag.StringVar(&f.ipvsScheduler, "ipvs-scheduler", ipvs.DefaultScheduler, "How --dataplane=ipvs chooses an endpoint for a Service that has no annotation for it: "+strings.Join(ipvs.Schedulers(), ", "))
	flag.StringVar(&f.healthAddress, "proxy-healthz-addr", ":10256", "Address that the dataplane's /healthz and /livez are served on, for load balancers outside of the cluster, 0 for none")
}

// check finds out what can be known to be wrong before anything begins.
func (f *forwarding) check() error {
	switch f.dataplane {
	case dataplaneAuto, dataplaneNone, dataplaneNFTables, dataplaneIPTables:
	case dataplaneIPVS:
		if f.localhost {
			return errors.New("--localhost-nodeports: IPVS does not forward what comes from 127.0.0.1; leave the flag out, or use --dataplane=nftables or --dataplane=iptables")
		}
	default:
		return fmt.Errorf("--dataplane %q: must be auto, none, nftables, iptables or ipvs", f.dataplane)
	}
	if !slices.Contains(ipvs.Schedulers(), f.ipvsScheduler) {
		return fmt.Errorf("--ipvs-scheduler %q: must be one of %s", f.ipvsScheduler, strings.Join(ipvs.Schedulers(), ", "))
	}
	if _, err := f.detector(&corev1.Node{}); err != nil {
		return fmt.Errorf("--detect-local %q: %w", f.detectLocal, err)
	}
	if _, err := f.nodePorts(nil); err != nil {
		return fmt.Errorf("--nodeport-addresses %q: %w", f.nodePortAddresses, err)
	}
	return nil
}

// backend returns what makes the backend that the flags ask for.
func (f *forwarding) backend(config dataplane.Config) (func() (dataplane.Backend, error), error) {
	switch f.dataplane {
	case dataplaneNFTables:
		return func() (dataplane.Backend, error) { return nftables.New(config) }, nil
	case dataplaneIPTables:
		return func() (dataplane.Backend, error) { return iptables.New(config, iptables.Auto) }, nil
	case dataplaneIPVS:
		return func() (dataplane.Backend, error) {
			return ipvs.New(config, ipvs.Options{Scheduler: f.ipvsScheduler})
		}, nil
	}
	return nil, f.check()
}

// config makes of the flags, the Node and ServiceCIDRs what the backend has to
// know.
func (f *forwarding) config(node *corev1.Node, services serviceCIDRs, log logr.Logger) (dataplane.Config, error) {
	c := dataplane.Config{LocalhostNodePorts: f.localhost, MasqueradeAll: f.masqueradeAll}
	for _, a := range node.Status.Addresses {
		if addr, err := netip.ParseAddr(a.Address); err == nil && a.Type == corev1.NodeInternalIP {
			c.NodeAddresses = append(c.NodeAddresses, addr)
		}
	}
	var err error
	if c.Pods, err = f.detector(node); err != nil {
		return c, fmt.Errorf("--detect-local %q: %w", f.detectLocal, err)
	}
	if c.Pods.None() && f.detectLocal == byPodCIDR {
		log.Info("The Node has no spec.podCIDRs: all traffic counts as from outside of the node. Set --detect-local to the interfaces or addresses of the pods", "node", node.Name)
	}
	if c.NodePortAddresses, err = f.nodePorts(c.NodeAddresses); err != nil {
		return c, fmt.Errorf("--nodeport-addresses %q: %w", f.nodePortAddresses, err)
	}
	if c.ServiceCIDRs, err = services.prefixes(); err != nil {
		return c, err
	}
	return c, c.Check()
}

// nodePorts returns where NodePorts answer, on a node with such InternalIPs.
func (f *forwarding) nodePorts(internal []netip.Addr) ([]netip.Prefix, error) {
	if f.nodePortAddresses != "primary" {
		return prefixes(f.nodePortAddresses)
	}
	var all []netip.Prefix
	for _, addr := range internal {
		all = append(all, netip.PrefixFrom(addr, addr.BitLen()))
	}
	return all, nil
}

// detector returns what tells the packets of a node's pods.
func (f *forwarding) detector(node *corev1.Node) (d dataplane.Detector, err error) {
	kind, name, named := strings.Cut(f.detectLocal, "=")
	switch {
	case named && name == "":
		return d, errors.New("a name has to follow the equals sign")
	case named && kind == "interface-prefix":
		d.InterfacePrefix = name
	case named && kind == "bridge":
		d.Bridge = name
	case f.detectLocal == "none":
	case f.detectLocal == byPodCIDR:
		d.CIDRs, err = prefixes(strings.Join(node.Spec.PodCIDRs, ","))
		if err != nil {
			return d, fmt.Errorf("spec.podCIDRs of Node %s: %w", node.Name, err)
		}
	case named:
		return d, fmt.Errorf("there are interface-prefix and bridge, not %s", kind)
	default:
		d.CIDRs, err = prefixes(f.detectLocal)
	}
	return d, err
}

// prefixes reads a list that is separated by commas. An empty one has none.
func prefixes(list string) ([]netip.Prefix, error) {
	var all []netip.Prefix
	for text := range strings.SplitSeq(list, ",") {
		if text = strings.TrimSpace(text); text == "" {
			continue
		}
		p, err := netip.ParsePrefix(text)
		if err != nil {
			return nil, fmt.Errorf("%q is not a CIDR such as 192.0.2.0/24", text)
		}
		all = append(all, p.Masked())
	}
	return all, nil
}

// addressesIn returns those prefixes that are one address. Health-check ports
// of others are served on all addresses.
func addressesIn(prefixes []netip.Prefix) []netip.Addr {
	var addrs []netip.Addr
	for _, p := range prefixes {
		if !p.IsSingleIP() {
			return nil
		}
		addrs = append(addrs, p.Addr())
	}
	return addrs
}

// choose settles what --dataplane=auto is, and tells whether a kube-proxy runs.
func (f *forwarding) choose(ctx context.Context, log logr.Logger) (kubeproxy.Found, error) {
	if f.dataplane == dataplaneNone {
		return kubeproxy.Found{}, nil
	}
	found, err := kubeproxy.Detect(ctx, kubeproxy.DefaultAddresses())
	switch {
	case err != nil:
		return found, fmt.Errorf("finding out whether a kube-proxy runs on this node, for --dataplane=%s: %w", f.dataplane, err)
	case f.dataplane != dataplaneAuto:
	case found.Running:
		f.dataplane = dataplaneNone
		log.Info("A kube-proxy forwards the traffic of Services on this node", "mode", found.Mode, "known by", found.Reason)
	default:
		f.dataplane = dataplaneNFTables
		log.Info("No kube-proxy runs on this node: Fairway forwards the traffic of Services", "dataplane", f.dataplane, "known by", found.Reason)
	}
	return found, nil
}

// setKernel sets what the kernel needs for the dataplane.
func (f *forwarding) setKernel(log logr.Logger) error {
	const root = "/"
	if f.dataplane == dataplaneIPVS {
		if err := ipvs.Load(); err != nil {
			return err
		}
	}
	node, err := sysctl.ReadNode(root)
	if err != nil {
		return fmt.Errorf("reading the kernel's settings: %w", err)
	}
	result, err := sysctl.Apply(root, sysctl.Wanted(node, sysctl.Options{IPv6: f.ipv6, LocalhostNodePorts: f.localhost, IPVS: f.dataplane == dataplaneIPVS}))
	for _, c := range result.Changed {
		log.Info("Set the kernel", "setting", c.Name, "from", c.From, "to", c.To)
	}
	for _, warning := range result.Warnings {
		log.Info("The kernel is not set as it should be", "why", warning.Error())
	}
	if err != nil {
		return fmt.Errorf("setting the kernel for --dataplane=%s: %w", f.dataplane, err)
	}
	return nil
}
