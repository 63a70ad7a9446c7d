package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/spf13/pflag"
	"k8s.io/apimachinery/pkg/util/wait"
	utilfeature "k8s.io/apiserver/pkg/util/feature"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	cliflag "k8s.io/component-base/cli/flag"
	logsapi "k8s.io/component-base/logs/api/v1"
	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
	apiserveroptions "k8s.io/kubernetes/cmd/kube-apiserver/app/options"

	"github.com/fairway-lb/fairway/test/controlplane/pki"
)

// startAPIServer starts kube-apiserver. It goes round upstream's command,
// which installs a signal handler of its own.
func startAPIServer(parts *parts, o options, files pki.Files, etcd string, listener net.Listener) error {
	config := apiserveroptions.NewServerRunOptions()
	err := parseFlags("kube-apiserver", config.Flags(), []string{
		"--etcd-servers=" + etcd,
		"--bind-address=" + o.address.Addr().String(),
		"--secure-port=" + o.portFlag(),
		"--advertise-address=" + o.address.Addr().String(),
		// Endpoints of the Service "kubernetes" may not be loopback addresses,
		// and nothing here uses that Service.
		"--endpoint-reconciler-type=none",
		"--service-cluster-ip-range=" + o.serviceRangesFlag(),
		"--tls-cert-file=" + files.ServerCert,
		"--tls-private-key-file=" + files.ServerKey,
		"--client-ca-file=" + files.CA,
		"--service-account-issuer=https://kubernetes.default.svc.cluster.local",
		"--service-account-signing-key-file=" + files.ServiceAccountKey,
		"--service-account-key-file=" + files.ServiceAccountPublicKey,
		"--authorization-mode=Node,RBAC",
		"--allow-privileged=true",
		// A webhook is called at its Service's endpoints: no kube-proxy is on
		// this host to lead from the Service's address to them.
		"--enable-aggregator-routing=true",
		// Any value makes open watches end at shutdown; without one their
		// connections hold the process for a minute.
		"--shutdown-watch-termination-grace-period=1s",
	})
	if err != nil {
		return err
	}
	config.SecureServing.Listener = listener

	// Feature gates, logging and client warnings belong to the process: set
	// here for all of it, and not again for the controllers.
	rest.SetDefaultWarningHandler(rest.NoWarnings{})
	if err := config.GenericServerRunOptions.ComponentGlobalsRegistry.Set(); err != nil {
		return fmt.Errorf("set the feature gates: %w", err)
	}
	if err := logsapi.ValidateAndApply(config.Logs, utilfeature.DefaultFeatureGate); err != nil {
		return fmt.Errorf("set up logging: %w", err)
	}

	completed, err := config.Complete(parts.running)
	if err != nil {
		return fmt.Errorf("complete the options of kube-apiserver: %w", err)
	}
	if errs := completed.Validate(); len(errs) > 0 {
		return fmt.Errorf("options of kube-apiserver: %w", errors.Join(errs...))
	}
	parts.launch("kube-apiserver", 3*time.Second, func(ctx context.Context) error {
		return apiserver.Run(ctx, completed)
	})
	return nil
}

// waitAPIServer returns when /readyz says so. There is no event for that.
func waitAPIServer(ctx context.Context, client kubernetes.Interface) error {
	var last error
	err := wait.PollUntilContextCancel(ctx, 50*time.Millisecond, true, func(ctx context.Context) (bool, error) {
		var status int
		result := client.Discovery().RESTClient().Get().AbsPath("/readyz").Do(ctx).StatusCode(&status)
		last = result.Error()
		return status == http.StatusOK, nil
	})
	if err != nil {
		return fmt.Errorf("wait for kube-apiserver: %w (last answer: %v)", err, last)
	}
	return nil
}

// parseFlags sets upstream's options by the names that its documentation uses.
func parseFlags(program string, sets cliflag.NamedFlagSets, args []string) error {
	all := pflag.NewFlagSet(program, pflag.ContinueOnError)
	for _, set := range sets.FlagSets {
		all.AddFlagSet(set)
	}
	if err := all.Parse(args); err != nil {
		return fmt.Errorf("flags of %s: %w", program, err)
	}
	return nil
}
