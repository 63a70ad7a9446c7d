// Command controller gives addresses of Eips to Services of type
// LoadBalancer.
package main

import (
	"context"
	"flag"
	"fmt"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/healthz"
	"sigs.k8s.io/controller-runtime/pkg/metrics"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"github.com/fairway-lb/fairway/api/v1alpha2"
	"github.com/fairway-lb/fairway/cmd/internal/program"
	"github.com/fairway-lb/fairway/controller"
	"github.com/fairway-lb/fairway/controller/admission"
)

// leaseName is the Lease by which several controllers agree on one that
// works.
const leaseName = "fairway-controller"

// options are the command's flags. Those that OpenELB had keep their names.
type options struct {
	leaderElect         bool
	namespace           string
	defaultLoadBalancer bool
	metricsAddress      string
	healthAddress       string
	webhookPort         int
	webhookCertDir      string
}

// gcPercent has garbage be a smaller part of the memory than Go's default, 100:
// most of it is the cache of Services, and the controller has CPU to spare.
const gcPercent = 30

func main() {
	program.CollectAt(gcPercent)
	var o options
	flag.BoolVar(&o.leaderElect, "leader-elect", true, "Work only while holding the Lease "+leaseName+", so that several controllers can run")
	flag.StringVar(&o.namespace, "namespace", program.EnvOr("FAIRWAY_NAMESPACE", "fairway-system"), "Namespace of the Lease and of the speakers' Secret; also set by the environment variable FAIRWAY_NAMESPACE")
	flag.BoolVar(&o.defaultLoadBalancer, "default-load-balancer", false, "Serve every Service of type LoadBalancer that has no loadBalancerClass, annotated or not")
	flag.StringVar(&o.metricsAddress, "metrics-addr", ":50052", "Address that metrics are served on, 0 for none")
	flag.StringVar(&o.healthAddress, "readiness-addr", ":50054", "Address that /healthz and /readyz are served on, 0 for none")
	flag.IntVar(&o.webhookPort, "webhook-port", 9443, "Port that admission and conversion are served on, 0 for none (OpenELB's default was 443)")
	flag.StringVar(&o.webhookCertDir, "webhook-cert-dir", "", "Directory with tls.crt and tls.key to serve admission and conversion with, which the API server has been told to trust; without it, the controller makes a certificate and has it trusted")
	program.Main(func(ctx context.Context, log logr.Logger) error { return run(ctx, o, log) })
}

// run works until the context is done. The process is to end when it
// returns, because the Lease is given up then.
func run(ctx context.Context, o options, log logr.Logger) error {
	restConfig, err := ctrl.GetConfig()
	if err != nil {
		return fmt.Errorf("reading the kubeconfig: %w", err)
	}
	// The API server shares its capacity out itself (API priority and
	// fairness); the client's own limit would only make Services wait.
	restConfig.QPS = -1
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{corev1.AddToScheme, v1alpha2.AddToScheme} {
		if err := add(scheme); err != nil {
			return fmt.Errorf("registering the kinds: %w", err)
		}
	}
	mgr, err := ctrl.NewManager(restConfig, ctrl.Options{
		Scheme:                        scheme,
		Logger:                        log,
		Cache:                         controller.CacheOptions(o.namespace),
		Metrics:                       metricsserver.Options{BindAddress: o.metricsAddress},
		HealthProbeBindAddress:        o.healthAddress,
		LeaderElection:                o.leaderElect,
		LeaderElectionID:              leaseName,
		LeaderElectionNamespace:       o.namespace,
		LeaderElectionReleaseOnCancel: true,
	})
	if err != nil {
		return fmt.Errorf("making the manager: %w", err)
	}
	if err := mgr.AddHealthzCheck("ping", healthz.Ping); err != nil {
		return fmt.Errorf("adding the health check: %w", err)
	}
	if err := mgr.AddReadyzCheck("ping", healthz.Ping); err != nil {
		return fmt.Errorf("adding the readiness check: %w", err)
	}
	network, err := controller.NewNetworkCache(mgr)
	if err != nil {
		return err
	}
	err = controller.Setup(mgr, controller.Options{
		Namespace:           o.namespace,
		DefaultLoadBalancer: o.defaultLoadBalancer,
		Registerer:          metrics.Registry,
		Network:             network,
	})
	if err != nil {
		return err
	}
	if o.webhookPort > 0 {
		err := admission.Setup(mgr, admission.Options{
			Namespace:           o.namespace,
			Port:                o.webhookPort,
			CertDir:             o.webhookCertDir,
			DefaultLoadBalancer: o.defaultLoadBalancer,
			Network:             network,
		})
		if err != nil {
			return err
		}
	}
	return mgr.Start(ctx)
}
