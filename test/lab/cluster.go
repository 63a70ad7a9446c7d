package lab

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sync/errgroup"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

// Service addresses. Those of nodes and pods are in network.go and node.go.
const serviceCIDRs = "10.96.0.0/16,fd00:10:96::/112"

// pollInterval is how often the lab looks at what cannot tell by itself.
const pollInterval = 10 * time.Millisecond

// cluster is what a lab has after StartCluster.
type cluster struct {
	control *Process // guarded by Lab.mu; nil if it is elsewhere
	client  kubernetes.Interface
	config  *rest.Config
}

var errNoCluster = errors.New("the lab has no cluster: StartCluster comes first")

// StartCluster starts a control plane, makes a Node of every node, and starts
// their kube-proxies. It returns when Services work.
func (l *Lab) StartCluster(ctx context.Context) error {
	begin := time.Now()
	prepare := l.startControlPlane
	if l.opts.Uplink != "" {
		prepare = l.findControlPlane
	}
	control, err := prepare(ctx)
	if err != nil {
		return err
	}
	config, err := clientcmd.BuildConfigFromFlags("", l.Kubeconfig())
	if err != nil {
		return fmt.Errorf("read the admin's kubeconfig: %w", err)
	}
	config.Dial = l.cp.DialContext
	config.Proxy = http.ProxyURL(nil) // none, whatever the environment says
	config.QPS = -1                   // the tests are not to wait for their own client
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return fmt.Errorf("make a client: %w", err)
	}
	l.mu.Lock()
	l.cluster = &cluster{control: control, client: client, config: config}
	l.mu.Unlock()
	l.logf("lab %s: the API server is ready after %s", l.ID(), time.Since(begin).Round(10*time.Millisecond))

	group, ctx := errgroup.WithContext(ctx)
	for i, node := range l.nodes {
		group.Go(func() error { return l.joinNode(ctx, node, i+1) })
	}
	if err := group.Wait(); err != nil {
		return err
	}
	l.logf("lab %s: the cluster is ready after %s", l.ID(), time.Since(begin).Round(10*time.Millisecond))
	return nil
}

// StopAPIServer stops the whole control plane (etcd, API server, controller
// manager) in good order. Nodes and pods go on.
func (l *Lab) StopAPIServer(ctx context.Context) error {
	c, err := l.getCluster()
	if err != nil {
		return err
	}
	if c.control == nil {
		return errElsewhere
	}
	return c.control.Stop(ctx)
}

// StartAPIServer starts the control plane again, with the data that it had.
func (l *Lab) StartAPIServer(ctx context.Context) error {
	c, err := l.getCluster()
	if err != nil {
		return err
	}
	if c.control == nil {
		return errElsewhere
	}
	if c.control.Running() {
		return errors.New("the control plane is running")
	}
	control, err := l.startControlPlane(ctx)
	if err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.cluster = &cluster{control: control, client: c.client, config: c.config}
	return nil
}

// APIServer is the process of the control plane, for tests that kill it; nil
// before StartCluster, and if the control plane is elsewhere.
func (l *Lab) APIServer() *Process {
	c, err := l.getCluster()
	if err != nil {
		return nil
	}
	return c.control
}

// RESTConfig is the administrator's access to the API server from this program:
// its connections start on the control-plane host. It is a copy.
func (l *Lab) RESTConfig() (*rest.Config, error) {
	c, err := l.getCluster()
	if err != nil {
		return nil, err
	}
	return rest.CopyConfig(c.config), nil
}

// Clientset is a client with the administrator's access.
func (l *Lab) Clientset() (kubernetes.Interface, error) {
	c, err := l.getCluster()
	if err != nil {
		return nil, err
	}
	return c.client, nil
}

// Kubeconfig is the path of the administrator's kubeconfig, to be used by
// programs inside the lab's hosts. It exists after StartCluster.
func (l *Lab) Kubeconfig() string { return filepath.Join(l.controlPlaneDir(), "admin.kubeconfig") }

func (l *Lab) controlPlaneDir() string { return filepath.Join(l.state.dir, "controlplane") }

// controlPlaneLog is where the programs of the control plane log.
func (l *Lab) controlPlaneLog() string {
	return filepath.Join(l.controlPlaneDir(), "controlplane.log")
}

func (l *Lab) startControlPlane(ctx context.Context) (*Process, error) {
	if err := os.MkdirAll(l.controlPlaneDir(), 0o700); err != nil {
		return nil, fmt.Errorf("make the folder of the control plane: %w", err)
	}
	program, err := l.Program("kubernetes")
	if err != nil {
		return nil, err
	}
	return l.cp.StartReady(ctx, "controlplane", []string{
		program, "controlplane",
		"--dir", l.controlPlaneDir(),
		"--bind-address", l.cp.Addr4().String(),
		"--service-cluster-ip-range", serviceCIDRs,
		"--ready-fd", "3",
	}, nil)
}

func (l *Lab) getCluster() (cluster, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.cluster == nil {
		return cluster{}, errNoCluster
	}
	return *l.cluster, nil
}

// Program is the path of one of the built programs, or an error that says how it
// is missing.
func (l *Lab) Program(name string) (string, error) {
	path := filepath.Join(l.opts.BinDir, name)
	if !isFile(path) {
		return "", fmt.Errorf("program %s is not built: no file %s", name, path)
	}
	return path, nil
}

// poll asks for a condition until it holds, at most until ctx ends; the error
// then says why it did not hold.
func poll(ctx context.Context, what string, condition func() error) error {
	ticker := time.NewTicker(pollInterval)
	defer ticker.Stop()
	for {
		err := condition()
		if err == nil {
			return nil
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return fmt.Errorf("wait until %s: %w; last: %w", what, context.Cause(ctx), err)
		}
	}
}
