// Package lab makes hosts out of network namespaces and a cluster out of hosts.
//
// A [Lab] is one switch with hosts on it: nodes n1, n2, …, a control-plane host
// and a client outside the cluster. Packets, neighbour tables, routes and
// netfilter are the kernel's own; [Lab.StartCluster] adds a real API server and
// one kube-proxy on every node, [Lab.AddPod] adds pods that answer HTTP,
// [Lab.AddRouter] adds routers that speak BGP and a client behind each. What
// the lab cannot have (a kubelet, containers) it replaces by the objects and
// the status that a kubelet would write.
//
// Everything that runs for long is a child process, so a lab can outlive the
// program that made it ([Lab.Keep]). A lab whose program died without closing
// it is removed by the next [New]. Labs run side by side: each has its own
// switch and shares no address, link or namespace with another or with the
// machine. The package needs root.
package lab

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sync"
)

// maxNodes keeps the nodes' addresses (.11 and up) clear of the client's (.100).
const maxNodes = 80

// Numbers of the control-plane host: that of a lab whose control plane is
// elsewhere is another one on the same network.
const (
	controlPlaneNumber  = 10
	administratorNumber = 99
)

// binDirVariable names the folder of the programs for all labs of a process,
// so that one test run can be made with the race detector in them.
const binDirVariable = "FAIRWAY_BIN"

// Options say what a lab looks like. The zero value is a lab with one node.
type Options struct {
	// Name is the lab's id: its namespaces are called fwlab-<Name>-<host>.
	// Lower-case letters, digits and dashes, at most 32. A random one if empty.
	Name string
	// Nodes is the number of nodes, 1 if zero.
	Nodes int
	// Interface is the name of the nodes' link to the switch, "eth33" if empty.
	Interface string
	// KubeProxy is the mode of the nodes' kube-proxy, "nftables" if empty, or
	// "none" for nodes without one.
	KubeProxy string
	// Uplink is the link of this machine to the switch of a [ControlPlane], which
	// the lab's switch is connected to by it: the cluster is to have that one.
	// The lab has a control plane of its own if empty.
	Uplink string
	// Root is the repository; found from the working directory upwards if empty.
	Root string
	// BinDir holds the programs that the lab starts (kubernetes, kubectl,
	// lab-pod, fairway-controller, fairway-speaker); the folder that the environment
	// variable FAIRWAY_BIN names, or else Root/bin, if empty.
	BinDir string
	// Log receives a line for every step that may take long; may be nil.
	Log func(format string, args ...any)
}

var errClosed = errors.New("the lab is closed")

// Lab is one switch and the hosts on it. Its methods are safe for concurrent use.
type Lab struct {
	opts   Options
	state  *state
	net    *network
	nodes  []*Host
	cp     *Host
	client *Host

	mu        sync.Mutex // guards what follows
	cluster   *cluster
	processes []*Process
	// Those that exist; a value, as its handle, is closed when it is taken out.
	namespaces map[*Namespace]bool
	pods       map[string]*RunningPod // by namespace/name
	routers    []*Router
	// kubeProxies are by node.
	kubeProxies map[string]*Process
	partitions  map[[2]string]bool // pairs of hosts, each sorted by name
	podCount    int                // ever created; numbers are not used again
	kept        bool
	closed      bool
}

// New removes the labs whose programs died, then makes a lab: namespaces, links
// and addresses, but no cluster yet. The caller must [Lab.Close] it, also when
// its own context was cancelled. ctx bounds New only.
func New(ctx context.Context, opts Options) (_ *Lab, err error) {
	l, err := newEmpty(opts)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, l.Close())
		}
	}()
	if l.client, err = l.addHost("client", "eth0", 100); err != nil {
		return nil, err
	}
	for i := range l.opts.Nodes {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		node, err := l.addHost(fmt.Sprintf("n%d", i+1), l.opts.Interface, 11+i)
		if err != nil {
			return nil, err
		}
		if err := node.actAsRouter(); err != nil {
			return nil, err
		}
		l.nodes = append(l.nodes, node)
	}
	for _, h := range l.hosts() {
		if err := h.awaitCable(ctx, true); err != nil {
			return nil, err
		}
	}
	l.logf("lab %s: %d nodes, a control-plane host and a client on one switch", l.ID(), len(l.nodes))
	return l, nil
}

// newEmpty removes the labs whose programs died, then makes the beginning of one:
// the switch, with the control-plane host.
func newEmpty(opts Options) (_ *Lab, err error) {
	if os.Geteuid() != 0 {
		return nil, errors.New("a lab needs root: it makes network namespaces")
	}
	if err := opts.complete(); err != nil {
		return nil, err
	}
	if err := Reap(); err != nil {
		return nil, fmt.Errorf("remove the labs of dead programs: %w", err)
	}
	st, err := newState(opts.Name)
	if err != nil {
		return nil, err
	}
	l := &Lab{opts: opts, state: st, namespaces: map[*Namespace]bool{}, pods: map[string]*RunningPod{}, kubeProxies: map[string]*Process{}, partitions: map[[2]string]bool{}}
	l.opts.Name = st.id
	defer func() {
		if err != nil {
			err = errors.Join(err, l.Close())
		}
	}()
	if l.net, err = l.newNetwork(); err != nil {
		return nil, err
	}
	number := controlPlaneNumber
	if opts.Uplink != "" {
		number = administratorNumber
		if err := l.net.connect(opts.Uplink); err != nil {
			return nil, err
		}
	}
	l.cp, err = l.addHost("cp", "eth0", number)
	return l, err
}

// ID is the lab's name, part of the names of its namespaces.
func (l *Lab) ID() string { return l.state.id }

// Dir is the lab's directory, with the logs of its processes in Dir/logs. It
// disappears with the lab.
func (l *Lab) Dir() string { return l.state.dir }

// Nodes returns the nodes in the order of their numbers.
func (l *Lab) Nodes() []*Host { return slices.Clone(l.nodes) }

// Node returns the node of that name ("n1"), nil if there is none.
func (l *Lab) Node(name string) *Host {
	for _, n := range l.nodes {
		if n.name == name {
			return n
		}
	}
	return nil
}

// nodeNumber is 1 for n1.
func (l *Lab) nodeNumber(node *Host) int { return slices.Index(l.nodes, node) + 1 }

// Client returns the host outside the cluster.
func (l *Lab) Client() *Host { return l.client }

// ControlPlane returns the host of the API server, where the controller runs too;
// if they are elsewhere, the one where this program's connections to the API
// server start.
func (l *Lab) ControlPlane() *Host { return l.cp }

// hosts returns everything that hangs on the switch.
func (l *Lab) hosts() []*Host {
	hosts := append([]*Host{l.cp, l.client}, l.nodes...)
	for _, r := range l.Routers() {
		hosts = append(hosts, r.Host)
	}
	return hosts
}

// Keep makes the lab outlive this program. Close then only lets go of it, and
// [Remove] removes it. Nothing restarts its processes.
func (l *Lab) Keep() error {
	if err := l.state.markKept(); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.kept = true
	return nil
}

// Close kills every process of the lab and removes its namespaces and its
// directory, unless [Lab.Keep] was called. Closing twice does nothing.
func (l *Lab) Close() error {
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return nil
	}
	l.closed = true
	kept := l.kept
	processes := l.processes
	namespaces := l.namespaces
	l.namespaces = nil
	l.mu.Unlock()

	var errs []error
	for n := range namespaces {
		errs = append(errs, n.handle.Close())
	}
	if kept {
		return errors.Join(append(errs, l.state.release())...)
	}
	// The data goes too, so nothing needs the time to stop in good order.
	for _, p := range processes {
		errs = append(errs, p.signalIfAlive(os.Kill))
	}
	for _, p := range processes {
		<-p.Done()
	}
	errs = append(errs, l.remove(), l.state.release())
	return errors.Join(errs...)
}

func (l *Lab) remove() error {
	if err := removeNamespaces(l.ID()); err != nil {
		return err
	}
	unlock, err := lockRegistry()
	if err != nil {
		return err
	}
	defer unlock()
	return removeFolder(l.ID())
}

// WriteLogs writes the last lines of every log of the lab to w: what a failed
// test wants to show.
func (l *Lab) WriteLogs(w io.Writer, lines int) error {
	logs, err := filepath.Glob(filepath.Join(l.state.logDir(), "*.log"))
	if err != nil {
		return err
	}
	if isFile(l.controlPlaneLog()) {
		logs = append(logs, l.controlPlaneLog())
	}
	for _, path := range logs {
		text, err := tail(path, lines)
		if err != nil {
			return err
		}
		if _, err := fmt.Fprintf(w, "==> %s <==\n%s\n", filepath.Base(path), text); err != nil {
			return err
		}
	}
	return nil
}

func (l *Lab) logf(format string, args ...any) {
	if l.opts.Log != nil {
		l.opts.Log(format, args...)
	}
}

// complete fills in the defaults and refuses what cannot work.
func (o *Options) complete() error {
	if o.Nodes == 0 {
		o.Nodes = 1
	}
	if o.Nodes < 0 || o.Nodes > maxNodes {
		return fmt.Errorf("%d nodes: a lab has 1 to %d", o.Nodes, maxNodes)
	}
	if o.Interface == "" {
		o.Interface = "eth33"
	}
	if o.Root == "" {
		root, err := findRoot()
		if err != nil {
			return err
		}
		o.Root = root
	}
	if o.BinDir == "" {
		o.BinDir = cmp.Or(os.Getenv(binDirVariable), filepath.Join(o.Root, "bin"))
	}
	var err error
	if o.BinDir, err = filepath.Abs(o.BinDir); err != nil {
		return fmt.Errorf("folder of the programs: %w", err)
	}
	return nil
}

// findRoot goes from the working directory upwards to the go.mod of the
// repository. A nested module's go.mod is not the one: only the root has api/.
func findRoot() (string, error) {
	start, err := os.Getwd()
	if err != nil {
		return "", fmt.Errorf("find the repository: %w", err)
	}
	for dir := start; ; dir = filepath.Dir(dir) {
		if isFile(filepath.Join(dir, "go.mod")) && isDir(filepath.Join(dir, "api")) {
			return dir, nil
		}
		if dir == filepath.Dir(dir) {
			return "", fmt.Errorf("find the repository: neither %s nor a folder above it has go.mod and api/", start)
		}
	}
}

func isFile(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular()
}

func isDir(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}
