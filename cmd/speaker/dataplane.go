package main

import (
	"context"
	"fmt"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
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
	"github.com/fairway-lb/fairway/dataplane/kubeproxy"
	"github.com/fairway-lb/fairway/dataplane/service"
	"github.com/fairway-lb/fairway/internal/note"
	"github.com/fairway-lb/fairway/speaker"
	"github.com/fairway-lb/fairway/speaker/membership"
)

// unhealthyAfter is how long a change may wait before /healthz says so: as
// long as with kube-proxy, twice its sync period.
const unhealthyAfter = time.Minute

// plane is the dataplane of this node.
type plane struct {
	*dataplane.Syncer
	readiness *dataplane.Readiness
	ranges    *ranges
	speaker   *speaker.Speaker // set before the manager starts
}

// startDataplane has the manager run this node's dataplane.
func startDataplane(ctx context.Context, mgr manager.Manager, o options, node *corev1.Node, kubeProxy kubeproxy.Found, cluster *membership.Cluster, recorder events.EventRecorder, log logr.Logger) (*plane, error) {
	services, err := readServiceCIDRs(ctx, mgr.GetAPIReader())
	if err != nil {
		return nil, err
	}
	config, err := o.forwarding.config(node, services, log)
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
		NodeName:  o.nodeName,
		Open:      open,
		Opened:    func() error { return removeAllBut(o.forwarding.dataplane, dataplaneIPVS) }, // which takes its time, see retirement
		Readiness: p.readiness,
		Concerned: func(ctx context.Context, name types.NamespacedName) { p.speaker.ForwardingChanged(ctx, name) },
		Unserved: func(_ service.Family, err error) {
			note.Write(recorder, node, corev1.EventTypeWarning, "Unserved", "Forward", fmt.Sprintf("Node %s: %v", node.Name, err))
		},
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
	p.ranges = &ranges{flags: o.forwarding, config: config, log: log, reopen: func(c dataplane.Config) {
		if open, err := o.forwarding.backend(c); err == nil { // the flags are as they were
			p.Reopen(open)
		}
	}}
	if err := mgr.Add(p.Syncer); err != nil {
		return nil, fmt.Errorf("adding the dataplane to the manager: %w", err)
	}
	if err := mgr.Add(&takeover{found: kubeProxy, forwarding: p.Synced(), node: node, recorder: recorder, log: log}); err != nil {
		return nil, fmt.Errorf("adding the take-over from kube-proxy to the manager: %w", err)
	}
	if o.forwarding.dataplane != dataplaneIPVS {
		if err := mgr.Add(&retirement{forwarding: p.Synced(), log: log}); err != nil {
			return nil, fmt.Errorf("adding the removal of the dataplane ipvs to the manager: %w", err)
		}
	}
	if err := mgr.Add(&conntrackRoom{node: node, recorder: recorder, log: log}); err != nil {
		return nil, fmt.Errorf("adding the watch of conntrack to the manager: %w", err)
	}
	if err := p.watch(ctx, mgr, o.nodeName, services != nil); err != nil {
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

// watched is a kind of objects, and who is told of them.
type watched struct {
	object      client.Object
	set, delete func(any)
}

// watch hands objects on from the manager's cache.
func (p *plane) watch(ctx context.Context, mgr manager.Manager, node string, serviceCIDRs bool) error {
	var handlers []toolscache.ResourceEventHandlerRegistration
	all := []watched{
		{&corev1.Service{}, func(o any) { p.SetService(o.(*corev1.Service)) }, func(o any) { p.DeleteService(client.ObjectKeyFromObject(o.(*corev1.Service))) }},
		{&discoveryv1.EndpointSlice{}, func(o any) { p.SetEndpointSlice(o.(*discoveryv1.EndpointSlice)) }, func(o any) { p.DeleteEndpointSlice(client.ObjectKeyFromObject(o.(*discoveryv1.EndpointSlice))) }},
		{&corev1.Node{}, func(o any) {
			if n := o.(*corev1.Node); n.Name == node {
				p.SetNode(n)
				p.ranges.setNode(n)
			}
		}, func(o any) {
			if o.(*corev1.Node).Name == node {
				p.SetNode(nil)
			}
		}},
	}
	if serviceCIDRs {
		all = append(all, watched{&networkingv1.ServiceCIDR{}, func(o any) { p.ranges.setServiceCIDR(o.(*networkingv1.ServiceCIDR)) }, func(o any) { p.ranges.deleteServiceCIDR(o.(*networkingv1.ServiceCIDR)) }})
	}
	for _, w := range all {
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
		p.ranges.loaded()
		p.Loaded()
		return nil
	}))
}

// everywhere is a Runnable of every speaker, not of a leader.
type everywhere manager.RunnableFunc

func (f everywhere) Start(ctx context.Context) error { return f(ctx) }
func (f everywhere) NeedLeaderElection() bool        { return false }
