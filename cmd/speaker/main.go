// Go listens with Multipath TCP where the kernel has it, and such sockets know
// no TCP MD5 signatures (RFC 2385), which neighbors may ask for.
//go:debug multipathtcp=0

// Command speaker announces load-balancer addresses from the node that it
// runs on.
package main

import (
	"context"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"sync"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/healthz"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/metrics"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"github.com/fairway-lb/fairway/api/v1alpha2"
	"github.com/fairway-lb/fairway/cmd/internal/program"
	"github.com/fairway-lb/fairway/internal/note"
	"github.com/fairway-lb/fairway/speaker"
	"github.com/fairway-lb/fairway/speaker/bgp"
	"github.com/fairway-lb/fairway/speaker/layer2"
	"github.com/fairway-lb/fairway/speaker/membership"
	"github.com/fairway-lb/fairway/speaker/sessions"
)

// leaveTimeout bounds how long a speaker that is told to stop waits for the
// others to take its addresses. A hand-over takes milliseconds.
const leaveTimeout = 3 * time.Second

// options are the command's flags.
type options struct {
	nodeName            string
	namespace           string
	secret              string
	bindAddress         string
	bindPort            uint
	probeInterval       time.Duration
	suspicionMultiplier int
	ignoreExcludeLabel  bool
	drain               bool
	drainTime           time.Duration
	metricsAddress      string
	healthAddress       string
	forwarding          forwarding
}

// gcPercent has garbage be a smaller part of the memory than Go's default, 100:
// most of it is caches of what there are thousands of, which change little.
const gcPercent = 20

func main() {
	if len(os.Args) > 1 && os.Args[1] == cleanupCommand {
		os.Exit(cleanup(os.Args[2:]))
	}
	program.CollectAt(gcPercent)
	var o options
	flag.StringVar(&o.nodeName, "node-name", os.Getenv("NODE_NAME"), "Name of the Node that this speaker runs on; also set by the environment variable NODE_NAME")
	flag.StringVar(&o.namespace, "namespace", program.EnvOr("FAIRWAY_NAMESPACE", "fairway-system"), "Namespace of the gossip Secret; also set by the environment variable FAIRWAY_NAMESPACE")
	flag.StringVar(&o.secret, "secret", "fairway-memberlist", "Secret with the key that encrypts the speakers' gossip")
	flag.StringVar(&o.bindAddress, "bind-addr", "", "Address that gossip listens on. Default: the Node's first InternalIP")
	flag.UintVar(&o.bindPort, "bind-port", 7946, "Port that gossip listens on, TCP and UDP, the same on every node")
	flag.DurationVar(&o.probeInterval, "probe-interval", 100*time.Millisecond, "How often a speaker probes another one. A lost node is noticed after about four of these")
	flag.IntVar(&o.suspicionMultiplier, "suspicion-multiplier", 2, "For how many probe intervals, times log10 of the number of nodes, a silent speaker may still speak up")
	flag.BoolVar(&o.ignoreExcludeLabel, "ignore-exclude-label", false, "Announce also from nodes labelled node.kubernetes.io/exclude-from-external-load-balancers")
	flag.BoolVar(&o.drain, "drain", false, "When told to stop, withdraw what this node announces by BGP and close the sessions. Without it the neighbors keep the routes while the speaker is replaced (graceful restart)")
	flag.DurationVar(&o.drainTime, "drain-time", 3*time.Second, "How long a node that is drained, deleted or excluded asks its BGP neighbors to prefer others (RFC 8326) before it withdraws. With --drain, the pod's terminationGracePeriodSeconds is to be at least 10 s longer")
	flag.StringVar(&o.metricsAddress, "metrics-addr", ":50053", "Address that metrics are served on, 0 for none")
	flag.StringVar(&o.healthAddress, "readiness-addr", ":50055", "Address that /healthz and /readyz are served on, 0 for none")
	o.forwarding.flags()
	program.Main(func(ctx context.Context, log logr.Logger) error { return run(ctx, o, log) })
}

// run works until the context is done, then hands this node's addresses over
// to the other speakers before it stops.
func run(ctx context.Context, o options, log logr.Logger) error {
	if o.nodeName == "" {
		return fmt.Errorf("the node's name is unknown: set --node-name or the environment variable NODE_NAME")
	}
	if o.bindPort == 0 || o.bindPort > 65535 {
		return fmt.Errorf("--bind-port %d: must be a port, 1 to 65535", o.bindPort)
	}
	if o.drainTime < 0 {
		return fmt.Errorf("--drain-time %v: must not be negative", o.drainTime)
	}
	if err := o.forwarding.check(); err != nil {
		return err
	}
	kubeProxy, err := o.forwarding.choose(ctx, log)
	if err != nil {
		return err
	}
	restConfig, err := ctrl.GetConfig()
	if err != nil {
		return fmt.Errorf("reading the kubeconfig: %w", err)
	}
	mgr, err := newManager(restConfig, o)
	if err != nil {
		return err
	}
	responder, err := layer2.New(log.WithName("layer2"), metrics.Registry)
	if err != nil {
		return fmt.Errorf("starting the layer 2 responder: %w", err)
	}
	var node corev1.Node
	if err := mgr.GetAPIReader().Get(ctx, types.NamespacedName{Name: o.nodeName}, &node); err != nil {
		return fmt.Errorf("reading Node %s, named by --node-name: %w", o.nodeName, err)
	}
	held := speaker.NewHeld(responder)
	cluster, err := startCluster(ctx, restConfig, o, &node, held, log)
	if err != nil {
		return err
	}
	responder.Gate(cluster.Awake)
	peers := &speaker.Peers{Reader: mgr.GetAPIReader(), Cluster: cluster, NodeName: o.nodeName, Port: uint16(o.bindPort)}
	// Nothing is claimed before the others were looked for: an address that
	// one of them answers for must not be taken in ignorance of it.
	if err := peers.Join(ctx); err != nil {
		return err
	}
	peers.Reader = mgr.GetClient()

	links, err := layer2.Watch(ctx)
	if err != nil {
		return fmt.Errorf("watching this node's links: %w", err)
	}
	if err := speaker.IndexEndpointSlices(ctx, mgr); err != nil {
		return err
	}
	events, err := note.NewPaced(mgr.GetEventRecorder("fairway-speaker"), mgr.GetScheme(), log.WithName("events"), metrics.Registry)
	if err != nil {
		return fmt.Errorf("registering the metrics of events: %w", err)
	}
	router := bgp.New(bgp.Options{Log: log.WithName("bgp"), Registerer: metrics.Registry})
	writer := sessions.New(sessions.Config{
		NodeName: o.nodeName,
		Client:   mgr.GetClient(),
		Sessions: router.Sessions,
		Changed:  router.Changed(),
		Events:   events,
		Log:      log.WithName("sessions"),
	})
	convergence, err := speaker.ConvergenceHistogram(metrics.Registry)
	if err != nil {
		return err
	}
	config := speaker.Config{
		NodeName:           o.nodeName,
		IgnoreExcludeLabel: o.ignoreExcludeLabel,
		Reader:             mgr.GetClient(),
		Members:            cluster,
		Held:               held,
		BGP: speaker.BGP{
			Router:    router,
			Publish:   writer.Publish,
			Namespace: o.namespace,
			DrainTime: o.drainTime,
			Converged: convergence,
		},
		Events: events,
	}
	var forwards *plane
	if o.forwarding.dataplane != dataplaneNone {
		if forwards, err = startDataplane(ctx, mgr, o, &node, kubeProxy, cluster, events, log.WithName("dataplane")); err != nil {
			return err
		}
		config.Readiness, config.Forwarding = forwards.readiness, forwards.Synced()
	}
	s := speaker.New(config)
	if forwards != nil {
		forwards.speaker = s
	}
	if err := s.Setup(mgr, cluster.Changed(), links); err != nil {
		return err
	}
	for _, runnable := range []manager.Runnable{peers, writer, events} {
		if err := mgr.Add(runnable); err != nil {
			return fmt.Errorf("adding to the manager: %w", err)
		}
	}

	// The watches go on while the addresses are handed over.
	watching, stopWatching := context.WithCancel(context.WithoutCancel(ctx))
	defer stopWatching()
	stopped := make(chan error, 1)
	go func() { stopped <- mgr.Start(watching) }()
	select {
	case err = <-stopped:
		o.drain = false // a failure is no drain: the next speaker is to find the routes
	case <-ctx.Done():
		log.Info("Stopping: handing addresses over", "drain", o.drain)
	}
	leave(context.WithoutCancel(ctx), o, log, cluster, s, router)
	stopWatching()
	if err == nil {
		err = <-stopped
	}
	if closeErr := responder.Close(); closeErr != nil && err == nil {
		err = fmt.Errorf("stopping the layer 2 responder: %w", closeErr)
	}
	return err
}

// leave takes this node out of the cluster: its layer 2 addresses are handed
// over; its routes are withdrawn if it is to drain, and otherwise left with the
// neighbors for the speaker that comes next.
func leave(ctx context.Context, o options, log logr.Logger, cluster *membership.Cluster, s *speaker.Speaker, router *bgp.Server) {
	var drained sync.WaitGroup
	if o.drain {
		drained.Go(func() {
			draining, cancel := context.WithTimeout(ctx, o.drainTime+leaveTimeout)
			defer cancel()
			if err := s.Drain(draining); err != nil {
				log.Error(err, "Withdrawing routes")
			}
			closing, cancel := context.WithTimeout(ctx, leaveTimeout)
			defer cancel()
			router.Stop(closing)
		})
	}
	leaving, cancel := context.WithTimeout(ctx, leaveTimeout)
	defer cancel()
	if err := cluster.Leave(leaving); err != nil {
		log.Error(err, "Leaving the other speakers")
	}
	drained.Wait()
	if !o.drain {
		router.Leave()
	}
}

func newManager(restConfig *rest.Config, o options) (manager.Manager, error) {
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{corev1.AddToScheme, discoveryv1.AddToScheme, networkingv1.AddToScheme, v1alpha2.AddToScheme} {
		if err := add(scheme); err != nil {
			return nil, fmt.Errorf("registering API kinds: %w", err)
		}
	}
	mgr, err := ctrl.NewManager(restConfig, ctrl.Options{
		Scheme:                 scheme,
		Metrics:                metricsserver.Options{BindAddress: o.metricsAddress},
		HealthProbeBindAddress: o.healthAddress,
		Cache:                  speaker.CacheOptions(o.nodeName, o.namespace, o.forwarding.dataplane != dataplaneNone),
	})
	if err != nil {
		return nil, fmt.Errorf("connecting to the API server: %w", err)
	}
	if err := mgr.AddHealthzCheck("ping", healthz.Ping); err != nil {
		return nil, fmt.Errorf("adding /healthz: %w", err)
	}
	if err := mgr.AddReadyzCheck("ping", healthz.Ping); err != nil {
		return nil, fmt.Errorf("adding /readyz: %w", err)
	}
	return mgr, nil
}

// startCluster starts this node's part of the cluster of speakers, alone yet.
func startCluster(ctx context.Context, restConfig *rest.Config, o options, node *corev1.Node, held *speaker.Held, log logr.Logger) (*membership.Cluster, error) {
	clients, err := kubernetes.NewForConfig(restConfig)
	if err != nil {
		return nil, fmt.Errorf("making an API client: %w", err)
	}
	key, err := speaker.GossipKey(ctx, clients, log, o.namespace, o.secret)
	if err != nil {
		return nil, err
	}
	advertise, ok := speaker.InternalIP(node)
	if !ok {
		return nil, fmt.Errorf("the status of Node %s has no address of type InternalIP, which gossip needs", o.nodeName)
	}
	bind := advertise
	if o.bindAddress != "" {
		if bind, err = netip.ParseAddr(o.bindAddress); err != nil {
			return nil, fmt.Errorf("--bind-addr: %w", err)
		}
	}
	cluster, err := membership.Start(membership.Config{
		NodeName:            o.nodeName,
		BindAddr:            bind,
		BindPort:            int(o.bindPort),
		AdvertiseAddr:       advertise,
		Key:                 key,
		ProbeInterval:       o.probeInterval,
		SuspicionMultiplier: o.suspicionMultiplier,
		Apply:               held.Apply,
		Log:                 log.WithName("membership"),
		Registerer:          metrics.Registry,
	})
	if err != nil {
		return nil, fmt.Errorf("starting gossip on %s port %d: %w", bind, o.bindPort, err)
	}
	return cluster, nil
}
