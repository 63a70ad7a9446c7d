package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	toolscache "k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/events"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/metrics"

	"github.com/fairway-lb/fairway/dataplane"
	"github.com/fairway-lb/fairway/dataplane/conntrack"
	"github.com/fairway-lb/fairway/dataplane/healthcheck"
	"github.com/fairway-lb/fairway/dataplane/iptables"
	"github.com/fairway-lb/fairway/dataplane/kubeproxy"
	"github.com/fairway-lb/fairway/dataplane/nftables"
	"github.com/fairway-lb/fairway/dataplane/service"
	"github.com/fairway-lb/fairway/dataplane/sysctl"
	"github.com/fairway-lb/fairway/internal/note"
	"github.com/fairway-lb/fairway/speaker"
	"github.com/fairway-lb/fairway/speaker/membership"
)

// The values of --dataplane.
const (
	dataplaneAuto     = "auto"
	dataplaneNone     = "none"
	dataplaneNFTables = "nftables"
	dataplaneIPTables = "iptables"
)

// unhealthyAfter is how long a change may wait before /healthz says so: as
// long as with kube-proxy, twice its sync period.
const unhealthyAfter = time.Minute

// forwarding are the flags of the dataplane.
type forwarding struct {
	dataplane         string
	detectLocal       string
	nodePortAddresses string
	localhost         bool
	masqueradeAll     bool
	healthAddress     string
	ipv6              bool // the node has an address of IPv6
}

func (f *forwarding) flags() {
	flag.StringVar(&f.dataplane, "dataplane", dataplaneAuto, "What forwards the traffic of Services on this node: nftables; iptables; none, which leaves it to kube-proxy or the network plugin; or auto, which is none where a kube-proxy runs and nftables elsewhere")
	flag.StringVar(&f.detectLocal, "detect-local", "pod-cidr", "How traffic of this node's pods is told from others': pod-cidr, by spec.podCIDRs of the Node; a list of CIDRs; interface-prefix=NAME, by the beginning of the names of their interfaces; bridge=NAME; or none")
	flag.StringVar(&f.nodePortAddresses, "nodeport-addresses", "", "Which of the node's addresses answer at NodePorts: a list of CIDRs, or primary for the Node's InternalIPs. Default: all but the loopback")
	flag.BoolVar(&f.localhost, "localhost-nodeports", false, "NodePorts answer processes of the node at 127.0.0.1 too. Sets net.ipv4.conf.all.route_localnet")
	flag.BoolVar(&f.masqueradeAll, "masquerade-all", false, "Endpoints see the node's address in place of that of any client of a cluster IP")
	flag.StringVar(&f.healthAddress, "proxy-healthz-addr", ":10256", "Address that the dataplane's /healthz and /livez are served on, for load balancers outside of the cluster, 0 for none")
}

// plane is the dataplane of this node.
type plane struct {
	*dataplane.Syncer
	readiness *dataplane.Readiness
	speaker   *speaker.Speaker // set before the manager starts
}

// startDataplane has the manager run this node's dataplane. It returns nil where
// that is left to others.
func startDataplane(ctx context.Context, mgr manager.Manager, o options, node *corev1.Node, kubeProxy kubeproxy.Found, cluster *membership.Cluster, recorder events.EventRecorder, log logr.Logger) (*plane, error) {
	config, err := o.forwarding.config(ctx, mgr.GetAPIReader(), node, log)
	if err != nil {
		return nil, err
	}
	for _, addr := range config.NodeAddresses {
		o.forwarding.ipv6 = o.forwarding.ipv6 || addr.Is6()
	}
	if err := o.forwarding.setKernel(log); err != nil {
		return nil, err
	}
	open, err := o.forwarding.backend(config)
	if err != nil {
		return nil, err
	}
	figures, err := dataplane.NewMetrics(o.forwarding.dataplane, metrics.Registry)
	if err != nil {
		return nil, err
	}
	health, err := healthcheck.NewProxy(unhealthyAfter, time.Now, metrics.Registry)
	if err != nil {
		return nil, fmt.Errorf("registering the metrics of the dataplane's health: %w", err)
	}
	reporter := &findings{cluster: cluster, node: o.nodeName, reader: mgr.GetClient(), recorder: recorder, log: log}
	cleaner := conntrack.NewCleaner(config.NodePortAddresses)
	p := &plane{readiness: dataplane.NewReadiness()}
	p.Syncer = dataplane.NewSyncer(dataplane.SyncConfig{
		NodeName:   o.nodeName,
		Open:       open,
		Opened:     func() error { return removeAllBut(o.forwarding.dataplane) },
		Readiness:  p.readiness,
		Concerned:  func(ctx context.Context, name types.NamespacedName) { p.speaker.ForwardingChanged(ctx, name) },
		FitChanged: func(ctx context.Context) { p.speaker.FitnessChanged(ctx) },
		Failing: func(err error) {
			note.Write(recorder, node, corev1.EventTypeWarning, "DataplaneFailing", "Forward",
				fmt.Sprintf("The kernel of node %s does not follow the Services; what it had goes on working: %v", node.Name, err))
		},
		Health: health,
		HealthCheckPorts: healthcheck.NewNodePorts(healthcheck.Config{
			Addresses: addressesIn(config.NodePortAddresses),
			Healthy:   health.Healthy,
			Report:    reporter.healthCheckPort,
		}),
		Clean:   cleaner.Clean,
		Found:   reporter.found,
		Metrics: figures,
		Log:     log,
	})
	if err := mgr.Add(p.Syncer); err != nil {
		return nil, fmt.Errorf("adding the dataplane to the manager: %w", err)
	}
	if err := mgr.Add(&takeover{found: kubeProxy, forwarding: p.Synced(), node: node, recorder: recorder, log: log}); err != nil {
		return nil, fmt.Errorf("adding the take-over from kube-proxy to the manager: %w", err)
	}
	if err := p.watch(ctx, mgr, o.nodeName); err != nil {
		return nil, err
	}
	if o.forwarding.healthAddress != "0" {
		if err := mgr.Add(&healthServer{address: o.forwarding.healthAddress, handler: health.Handler(), log: log}); err != nil {
			return nil, fmt.Errorf("adding the dataplane's health to the manager: %w", err)
		}
	}
	log.Info("Forwarding the traffic of Services", "dataplane", o.forwarding.dataplane, "pods", config.Pods, "nodePortAddresses", config.NodePortAddresses, "serviceCIDRs", config.ServiceCIDRs)
	return p, nil
}

// backend returns what makes the backend that the flags ask for.
func (f *forwarding) backend(config dataplane.Config) (func() (dataplane.Backend, error), error) {
	switch f.dataplane {
	case dataplaneNFTables:
		return func() (dataplane.Backend, error) { return nftables.New(config) }, nil
	case dataplaneIPTables:
		return func() (dataplane.Backend, error) { return iptables.New(config, iptables.Auto) }, nil
	}
	return nil, fmt.Errorf("--dataplane %q: must be one of auto, none, nftables, iptables", f.dataplane)
}

// config makes of the flags and the Node what the backend has to know.
func (f *forwarding) config(ctx context.Context, reader client.Reader, node *corev1.Node, log logr.Logger) (dataplane.Config, error) {
	c := dataplane.Config{LocalhostNodePorts: f.localhost, MasqueradeAll: f.masqueradeAll}
	for _, a := range node.Status.Addresses {
		if addr, err := netip.ParseAddr(a.Address); err == nil && a.Type == corev1.NodeInternalIP {
			c.NodeAddresses = append(c.NodeAddresses, addr)
		}
	}
	var err error
	if c.Pods, err = f.detector(node, log); err != nil {
		return c, fmt.Errorf("--detect-local %q: %w", f.detectLocal, err)
	}
	switch f.nodePortAddresses {
	case "":
	case "primary":
		for _, addr := range c.NodeAddresses {
			c.NodePortAddresses = append(c.NodePortAddresses, netip.PrefixFrom(addr, addr.BitLen()))
		}
	default:
		if c.NodePortAddresses, err = prefixes(f.nodePortAddresses); err != nil {
			return c, fmt.Errorf("--nodeport-addresses %q: %w", f.nodePortAddresses, err)
		}
	}
	if c.ServiceCIDRs, err = serviceCIDRs(ctx, reader); err != nil {
		return c, err
	}
	return c, c.Check()
}

func (f *forwarding) detector(node *corev1.Node, log logr.Logger) (d dataplane.Detector, err error) {
	kind, name, named := strings.Cut(f.detectLocal, "=")
	switch {
	case named && name == "":
		return d, errors.New("a name has to follow the equals sign")
	case named && kind == "interface-prefix":
		d.InterfacePrefix = name
	case named && kind == "bridge":
		d.Bridge = name
	case f.detectLocal == "none":
	case f.detectLocal == "pod-cidr":
		d.CIDRs, err = prefixes(strings.Join(node.Spec.PodCIDRs, ","))
		if err != nil {
			return d, fmt.Errorf("spec.podCIDRs of Node %s: %w", node.Name, err)
		}
		if len(d.CIDRs) == 0 {
			log.Info("The Node has no spec.podCIDRs: all traffic counts as from outside of the node. Set --detect-local to the interfaces or addresses of the pods", "node", node.Name)
		}
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

// serviceCIDRs returns where cluster IPs come from, none if the API server does
// not say (before Kubernetes 1.33).
func serviceCIDRs(ctx context.Context, reader client.Reader) ([]netip.Prefix, error) {
	var list networkingv1.ServiceCIDRList
	err := reader.List(ctx, &list)
	if meta.IsNoMatchError(err) || apierrors.IsNotFound(err) || apierrors.IsForbidden(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("listing ServiceCIDRs: %w", err)
	}
	var all []netip.Prefix
	for _, c := range list.Items {
		of, err := prefixes(strings.Join(c.Spec.CIDRs, ","))
		if err != nil {
			return nil, fmt.Errorf("ServiceCIDR %s: %w", c.Name, err)
		}
		all = append(all, of...)
	}
	return all, nil
}

// watch hands objects on from the manager's cache.
func (p *plane) watch(ctx context.Context, mgr manager.Manager, node string) error {
	var handlers []toolscache.ResourceEventHandlerRegistration
	for _, w := range []struct {
		object      client.Object
		set, delete func(any)
	}{
		{&corev1.Service{}, func(o any) { p.SetService(o.(*corev1.Service)) }, func(o any) { p.DeleteService(client.ObjectKeyFromObject(o.(*corev1.Service))) }},
		{&discoveryv1.EndpointSlice{}, func(o any) { p.SetEndpointSlice(o.(*discoveryv1.EndpointSlice)) }, func(o any) { p.DeleteEndpointSlice(client.ObjectKeyFromObject(o.(*discoveryv1.EndpointSlice))) }},
		{&corev1.Node{}, func(o any) {
			if n := o.(*corev1.Node); n.Name == node {
				p.SetNode(n)
			}
		}, func(o any) {
			if o.(*corev1.Node).Name == node {
				p.SetNode(nil)
			}
		}},
	} {
		informer, err := mgr.GetCache().GetInformer(ctx, w.object, cache.BlockUntilSynced(false))
		if err != nil {
			return fmt.Errorf("watching %T: %w", w.object, err)
		}
		handler, err := informer.AddEventHandler(toolscache.ResourceEventHandlerFuncs{
			AddFunc:    w.set,
			UpdateFunc: func(_, o any) { w.set(o) },
			DeleteFunc: func(o any) {
				if gone, ok := o.(toolscache.DeletedFinalStateUnknown); ok {
					o = gone.Obj
				}
				w.delete(o)
			},
		})
		if err != nil {
			return fmt.Errorf("watching %T: %w", w.object, err)
		}
		handlers = append(handlers, handler)
	}
	return mgr.Add(everywhere(func(ctx context.Context) error {
		for _, h := range handlers {
			if !toolscache.WaitForCacheSync(ctx.Done(), h.HasSynced) {
				return nil // the process ends
			}
		}
		p.Loaded()
		return nil
	}))
}

// everywhere is a Runnable of every speaker, not of a leader.
type everywhere manager.RunnableFunc

func (f everywhere) Start(ctx context.Context) error { return f(ctx) }
func (f everywhere) NeedLeaderElection() bool        { return false }

// findings tells the owners of Services what is not done as they say: one
// speaker for all.
type findings struct {
	cluster  *membership.Cluster
	node     string
	reader   client.Reader
	recorder events.EventRecorder
	log      logr.Logger
}

func (f *findings) found(change service.FindingsChange) {
	for _, finding := range change.Findings {
		f.log.Info("Not all is done as an object says", "service", change.Service, "finding", finding.String())
		if f.speaksForAll() {
			f.write(change.Service, "Unserved", finding.String())
		}
	}
}

func (f *findings) healthCheckPort(failure healthcheck.Failure) {
	f.log.Error(failure.Err, "Serving a health-check node port", "service", failure.Service, "port", failure.Port)
	f.write(failure.Service, "FailedToStartServiceHealthcheck", fmt.Sprintf("Node %s: %s", f.node, failure))
}

func (f *findings) speaksForAll() bool {
	members := f.cluster.Members()
	return len(members) == 0 || slices.MinFunc(members, func(a, b membership.Member) int { return strings.Compare(a.Name, b.Name) }).Name == f.node
}

func (f *findings) write(name types.NamespacedName, reason, text string) {
	svc := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: name.Namespace, Name: name.Name}}
	if err := f.reader.Get(context.Background(), name, svc); err != nil {
		return // it is gone, and nobody looks for its events
	}
	note.Write(f.recorder, svc, corev1.EventTypeWarning, reason, "Forward", text)
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
	node, err := sysctl.ReadNode(root)
	if err != nil {
		return fmt.Errorf("reading the kernel's settings: %w", err)
	}
	result, err := sysctl.Apply(root, sysctl.Wanted(node, sysctl.Options{IPv6: f.ipv6, LocalhostNodePorts: f.localhost}))
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
