package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/fairway-lb/fairway/test/controlplane/pki"
)

const controlPlaneHelp = `Run etcd, kube-apiserver and kube-controller-manager in one process, for tests.

The first start makes certificates, keys and an empty cluster in --dir; later
starts continue with them. Use these to reach the API server:
  DIR/admin.kubeconfig        may do everything (system:masters)
  DIR/kube-proxy.kubeconfig   user system:kube-proxy
The programs' own logs go to DIR/controlplane.log, progress goes to stderr.

SIGTERM or SIGINT stops everything in order, within 5 seconds; etcd's data stay.
One process holds one control plane; start several with different --dir and
--bind-address (or --secure-port) for several clusters on one machine.`

// options is what the command line asks for.
type options struct {
	dir      string // absolute
	address  netip.AddrPort
	services []netip.Prefix // in order of preference: at most one per family
	readyFD  int            // negative: nobody waits
}

// runControlPlane runs the subcommand and returns the exit code of the process.
func runControlPlane() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	// A second signal ends the process at once, whatever it still waits for.
	context.AfterFunc(ctx, stop)

	progress, err := newProgress()
	if err != nil {
		fmt.Fprintf(os.Stderr, "controlplane: %v\n", err)
		return 1
	}
	if err := controlPlaneCommand(progress).ExecuteContext(ctx); err != nil {
		fmt.Fprintf(progress.out, "controlplane: %v\n", err)
		return 1
	}
	return 0
}

func controlPlaneCommand(progress *progress) *cobra.Command {
	var (
		o        options
		bind     string
		port     uint16
		services []string
	)
	c := &cobra.Command{
		Use:           "controlplane --dir DIR --bind-address IP",
		Short:         "Run a whole control plane in one process, for tests",
		Long:          controlPlaneHelp,
		Args:          cobra.NoArgs,
		SilenceUsage:  true,
		SilenceErrors: true,
		RunE: func(c *cobra.Command, _ []string) (err error) {
			if o.dir, err = filepath.Abs(o.dir); err != nil {
				return fmt.Errorf("--dir: %w", err)
			}
			if o.address, err = parseBindAddress(bind, port); err != nil {
				return err
			}
			if o.services, err = parseServiceRanges(services); err != nil {
				return err
			}
			return o.run(c.Context(), progress)
		},
	}
	// Flags that upstream's packages add to every command of the process.
	pflag.CommandLine.VisitAll(func(f *pflag.Flag) { f.Hidden = true })
	f := c.Flags()
	f.StringVar(&o.dir, "dir", "", "directory for data, certificates and kubeconfigs (made if absent)")
	f.StringVar(&bind, "bind-address", "", "the one address that the API server listens on")
	f.Uint16Var(&port, "secure-port", 6443, "port of the API server")
	f.StringSliceVar(&services, "service-cluster-ip-range", []string{"10.96.0.0/16", "fd00:10:96::/112"},
		"ranges of cluster IPs, the preferred family first; fixed by the first start")
	f.IntVar(&o.readyFD, "ready-fd", -1, "inherited pipe that gets one byte and is closed when the cluster is ready; "+
		"it is closed without a byte if the start fails")
	for _, name := range []string{"dir", "bind-address"} {
		if err := c.MarkFlagRequired(name); err != nil {
			panic(err) // the flag is defined a few lines above
		}
	}
	return c
}

// run starts everything, tells whoever waits, and stays until the context
// ends (then it stops in order and returns nil) or a part fails.
func (o options) run(ctx context.Context, progress *progress) (err error) {
	ready, err := openReadyPipe(o.readyFD)
	if err != nil {
		return err
	}
	defer ready.Close() // without a byte, unless the cluster became ready

	unlock, err := claimDir(o.dir)
	if err != nil {
		return err
	}
	defer unlock()

	listener, err := listen(ctx, o.address)
	if err != nil {
		return err
	}
	defer listener.Close()

	files, err := pki.Ensure(o.dir, pki.Config{Address: o.address, Services: o.services}, time.Now())
	if err != nil {
		return err
	}

	log := filepath.Join(o.dir, "controlplane.log")
	if err := progress.divertLogs(log); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = fmt.Errorf("%w (details in %s)", err, log)
		}
	}()

	parts := newParts(ctx)
	defer func() {
		stopping := time.Now()
		err = errors.Join(err, parts.stop())
		progress.say("stopped after %.1f s", time.Since(stopping).Seconds())
	}()
	err = o.start(parts, files, listener, progress)
	if err == nil {
		progress.say("ready: export KUBECONFIG=%s", files.AdminKubeconfig)
		err = ready.Signal()
	}
	if err == nil {
		<-parts.running.Done()
	}
	switch {
	case ctx.Err() != nil: // asked to stop, also in the middle of the start
		return nil
	case parts.running.Err() != nil: // a part failed: that is why a wait ended
		return context.Cause(parts.running)
	default:
		return err
	}
}

// start brings up one part after the other, each when it can use the one before.
func (o options) start(parts *parts, files pki.Files, listener net.Listener, progress *progress) error {
	etcd, err := startEtcd(parts, o.dir)
	if err != nil {
		return err
	}
	progress.say("etcd is ready")

	if err := startAPIServer(parts, o, files, etcd, listener); err != nil {
		return err
	}
	restConfig, err := clientcmd.BuildConfigFromFlags("", files.AdminKubeconfig)
	if err != nil {
		return fmt.Errorf("read the admin's kubeconfig: %w", err)
	}
	client, err := kubernetes.NewForConfig(restConfig)
	if err != nil {
		return fmt.Errorf("make a client for %s: %w", restConfig.Host, err)
	}
	if err := waitAPIServer(parts.running, client); err != nil {
		return err
	}
	progress.say("kube-apiserver is ready on %s", restConfig.Host)

	if err := startControllerManager(parts, files); err != nil {
		return err
	}
	if err := waitDefaultServiceAccount(parts.running, client); err != nil {
		return err
	}
	progress.say("controllers work")
	return nil
}

// parseBindAddress wants one address, because the kubeconfigs and the
// certificate carry it.
func parseBindAddress(s string, port uint16) (netip.AddrPort, error) {
	addr, err := netip.ParseAddr(s)
	switch {
	case err != nil:
		return netip.AddrPort{}, fmt.Errorf("--bind-address %q is not an IP address", s)
	case addr.IsUnspecified():
		return netip.AddrPort{}, fmt.Errorf("--bind-address %s: name one address of this machine, for the kubeconfigs and the certificate", s)
	case addr.Zone() != "":
		return netip.AddrPort{}, fmt.Errorf("--bind-address %s: an address with a zone cannot be in a certificate, use another", s)
	case port == 0:
		return netip.AddrPort{}, errors.New("--secure-port 0: name a port")
	}
	return netip.AddrPortFrom(addr.Unmap(), port), nil
}

func parseServiceRanges(list []string) ([]netip.Prefix, error) {
	var ranges []netip.Prefix
	for _, s := range list {
		p, err := netip.ParsePrefix(s)
		if err != nil {
			return nil, fmt.Errorf("--service-cluster-ip-range: %q is not a CIDR such as 10.96.0.0/16", s)
		}
		ranges = append(ranges, p.Masked())
	}
	if len(ranges) == 0 || len(ranges) > 2 || len(ranges) == 2 && ranges[0].Addr().Is4() == ranges[1].Addr().Is4() {
		return nil, errors.New("--service-cluster-ip-range: give one range, or one of each family")
	}
	return ranges, nil
}

// listen takes the API server's port before anything else is started, so that
// a wrong address is reported at once and in plain words.
func listen(ctx context.Context, address netip.AddrPort) (net.Listener, error) {
	var config net.ListenConfig
	listener, err := config.Listen(ctx, "tcp", address.String())
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, fmt.Errorf("port %d of %s is in use: stop the other program or choose another with --secure-port", address.Port(), address.Addr())
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return nil, fmt.Errorf("%s is no address of this machine: choose another with --bind-address", address.Addr())
	case err != nil:
		return nil, fmt.Errorf("listen for the API server: %w", err)
	}
	return listener, nil
}

// serviceRangesFlag is the ranges as upstream's flags want them.
func (o options) serviceRangesFlag() string {
	list := make([]string, 0, len(o.services))
	for _, p := range o.services {
		list = append(list, p.String())
	}
	return strings.Join(list, ",")
}

func (o options) portFlag() string { return strconv.Itoa(int(o.address.Port())) }
