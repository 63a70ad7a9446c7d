package e2e

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/controller-runtime/pkg/client"
	ctrllog "sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/fairway-lb/fairway/api/v1alpha2"
	"github.com/fairway-lb/fairway/speaker/rendezvous"
	"github.com/fairway-lb/fairway/test/lab"
)

// patience is how long a test waits for what takes milliseconds on an idle
// machine. It is longer than client-go may pause (60 s) before it watches again
// after the API server was away.
const patience = 90 * time.Second

// cluster is a lab with Fairway in it.
type cluster struct {
	*lab.Lab
	t          *testing.T
	api        client.WithWatch
	controller *lab.Process
	speakers   map[string]*lab.Process
	// dataplane is what the speakers forward with in place of kube-proxy, ""
	// for nodes with a kube-proxy.
	dataplane string
}

// newCluster makes a lab with a cluster and Fairway's kinds and rights, but
// without its programs. At the end of the test it removes all; if the test
// failed it shows what the programs logged. A data race in one of them fails
// the test.
func newCluster(t *testing.T, nodes int) *cluster {
	t.Helper()
	return newClusterWith(t, lab.Options{Nodes: nodes}, "")
}

// newClusterWith is newCluster whose speakers forward traffic themselves, if
// dataplane names with what.
func newClusterWith(t *testing.T, opts lab.Options, dataplane string) *cluster {
	t.Helper()
	if os.Getuid() != 0 {
		t.Fatal("this test makes network namespaces: run it as root")
	}
	ctrllog.SetLogger(logr.Discard()) // the client warns if it has none
	ctx := t.Context()
	opts.Log = t.Logf
	l, err := lab.New(ctx, opts)
	if err != nil {
		t.Fatalf("making a lab: %v", err)
	}
	c := &cluster{Lab: l, t: t, speakers: map[string]*lab.Process{}, dataplane: dataplane}
	t.Cleanup(c.close)
	if err := l.StartCluster(ctx); err != nil {
		t.Fatalf("starting the cluster: %v", err)
	}
	if err := l.Install(ctx); err != nil {
		t.Fatalf("installing Fairway: %v", err)
	}
	config, err := l.RESTConfig()
	if err != nil {
		t.Fatal(err)
	}
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{clientgoscheme.AddToScheme, v1alpha2.AddToScheme} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	config.QPS, config.Burst = -1, -1 // the tests create hundreds of objects at once
	if c.api, err = client.NewWithWatch(config, client.Options{Scheme: scheme}); err != nil {
		t.Fatal(err)
	}
	return c
}

// newFairway is newCluster with the controller and a speaker on every node.
func newFairway(t *testing.T, nodes int) *cluster {
	t.Helper()
	return newCluster(t, nodes).startFairway()
}

// newForwarding is newCluster without kube-proxy: the speakers forward.
func newForwarding(t *testing.T, nodes int, dataplane string) *cluster {
	t.Helper()
	return newClusterWith(t, lab.Options{Nodes: nodes, KubeProxy: lab.NoKubeProxy, Uplink: uplink()}, dataplane)
}

// startFairway starts the controller, and a speaker on every node.
func (c *cluster) startFairway() *cluster {
	c.t.Helper()
	c.startController()
	for _, node := range c.Nodes() {
		c.startSpeaker(node.Name())
	}
	return c
}

// newServed is newFairway with three nodes, a ready pod on each, and the
// Service of config/samples/layer2.yaml, which the client reaches.
func newServed(t *testing.T) *cluster {
	t.Helper()
	return newFairway(t, 3).serve()
}

// serve does as newServed says.
func (c *cluster) serve() *cluster {
	c.t.Helper()
	c.kubectl("create", "namespace", "dev")
	c.pods("dev", "nginx", "n1", "n2", "n3")
	c.kubectl("apply", "-f", "config/samples/layer2.yaml")
	c.hasIP("dev", "svc-lb", "192.168.93.231")
	c.settles("192.168.93.231", "n1", "n2", "n3")
	c.reaches("http://192.168.93.231/", "nginx-n1", "nginx-n2", "nginx-n3")
	return c
}

// settles waits until the first of the nodes by rendezvous hash answers for an
// address: before all speakers have found each other another one may.
func (c *cluster) settles(addr string, nodes ...string) {
	c.t.Helper()
	want := rendezvous.First(netip.MustParseAddr(addr), nodes)
	c.eventually(want+" answers for "+addr, func() string {
		if owners := c.owners(addr); len(owners) != 1 || owners[0] != want {
			return fmt.Sprintf("%v do", owners)
		}
		return ""
	})
}

// serveIPv6 adds the Service of config/samples/eip-ipv6.yaml, which the client
// reaches at the same pods.
func (c *cluster) serveIPv6() {
	c.t.Helper()
	c.kubectl("apply", "-f", "config/samples/eip-ipv6.yaml")
	c.hasIP("dev", "svc-lb-ipv6", "fd93::231")
	c.settles("fd93::231", "n1", "n2", "n3")
	c.reaches("http://[fd93::231]/", "nginx-n1", "nginx-n2", "nginx-n3")
}

func (c *cluster) close() { closeLab(c.t, c.Lab) }

// closeLab removes a lab. If the test failed it shows what the lab's programs
// logged, and it fails the test for data races and panics in there.
func closeLab(t *testing.T, l interface {
	Dir() string
	WriteLogs(w io.Writer, lines int) error
	Close() error
}) {
	if t.Failed() {
		var logs bytes.Buffer
		if err := l.WriteLogs(&logs, 60); err != nil {
			t.Logf("reading logs: %v", err)
		}
		t.Logf("logs:\n%s", logs.String())
	}
	files, err := filepath.Glob(filepath.Join(l.Dir(), "logs", "*.log"))
	if err != nil || len(files) == 0 {
		t.Errorf("no logs to look for data races in: %v", err)
	}
	for _, file := range files {
		content, err := os.ReadFile(file)
		if err != nil {
			t.Errorf("looking for data races: %v", err)
		}
		if i := bytes.Index(content, []byte("WARNING: DATA RACE")); i >= 0 {
			t.Errorf("%s: %s", filepath.Base(file), content[i:min(len(content), i+4000)])
		}
		if i := bytes.Index(content, []byte("panic: ")); i >= 0 && strings.Contains(file, "fairway") {
			t.Errorf("%s: %s", filepath.Base(file), content[i:min(len(content), i+4000)])
		}
	}
	if err := l.Close(); err != nil {
		t.Errorf("removing the lab: %v", err)
	}
}

// run is t.Run: in the subtest, what the cluster's methods find amiss fails
// the subtest.
func (c *cluster) run(name string, f func(t *testing.T)) {
	parent := c.t
	defer func() { c.t = parent }()
	parent.Run(name, func(t *testing.T) {
		c.t = t
		f(t)
	})
}

func (c *cluster) startController(args ...string) {
	c.t.Helper()
	if uplink() != "" {
		return // it runs with the control plane
	}
	process, err := c.StartController(c.t.Context(), args...)
	if err != nil {
		c.t.Fatalf("starting the controller: %v", err)
	}
	c.controller = process
}

func (c *cluster) startSpeaker(node string, args ...string) {
	c.t.Helper()
	if c.dataplane != "" {
		args = append([]string{"--dataplane", c.dataplane}, args...)
	}
	args = append(args, unhurried()...)
	process, err := c.StartSpeaker(c.t.Context(), node, args...)
	if err != nil {
		c.t.Fatalf("starting the speaker of %s: %v", node, err)
	}
	c.speakers[node] = process
}

// kubectl runs kubectl and returns what it printed; the test fails if it does.
func (c *cluster) kubectl(args ...string) string {
	c.t.Helper()
	out, err := c.Kubectl(c.t.Context(), "", args...)
	if err != nil {
		c.t.Fatalf("kubectl %s: %v", strings.Join(args, " "), err)
	}
	return strings.TrimRight(out, "\n")
}

// apply applies documents from text, as a user does.
func (c *cluster) apply(documents string) {
	c.t.Helper()
	if _, err := c.Kubectl(c.t.Context(), documents, "apply", "-f", "-"); err != nil {
		c.t.Fatalf("kubectl apply: %v", err)
	}
}

// refuses fails the test unless the API server refuses documents with a
// message that contains the text.
func (c *cluster) refuses(documents, text string) {
	c.t.Helper()
	if _, err := c.Kubectl(c.t.Context(), documents, "apply", "-f", "-"); err == nil || !strings.Contains(err.Error(), text) {
		c.t.Errorf("apply: %v, want a refusal with %q of\n%s", err, text, documents)
	}
}

// pods adds a ready pod on each node, named <app>-<node> and labelled app=<app>.
func (c *cluster) pods(namespace, app string, nodes ...string) {
	c.t.Helper()
	for _, node := range nodes {
		c.pod(namespace, app+"-"+node, map[string]string{"app": app}, node)
	}
}

func (c *cluster) pod(namespace, name string, labels map[string]string, node string, ports ...int) *lab.RunningPod {
	c.t.Helper()
	pod, err := c.AddPod(c.t.Context(), lab.Pod{Namespace: namespace, Name: name, Labels: labels, Node: node, Ports: ports})
	if err != nil {
		c.t.Fatalf("adding pod %s: %v", name, err)
	}
	return pod
}

// eventually waits until the check returns "", and fails the test with the
// last thing that was missing if that takes longer than patience.
func (c *cluster) eventually(what string, check func() (missing string)) {
	c.t.Helper()
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	deadline := time.Now().Add(patience)
	for {
		missing := check()
		if missing == "" {
			return
		}
		if time.Now().After(deadline) {
			c.t.Fatalf("%s: after %v: %s", what, patience, missing)
		}
		select {
		case <-ticker.C:
		case <-c.t.Context().Done():
			c.t.Fatalf("%s: interrupted: %s", what, missing)
		}
	}
}

func (c *cluster) service(namespace, name string) *corev1.Service {
	c.t.Helper()
	var svc corev1.Service
	if err := c.api.Get(c.t.Context(), client.ObjectKey{Namespace: namespace, Name: name}, &svc); err != nil {
		c.t.Fatalf("reading Service %s/%s: %v", namespace, name, err)
	}
	return &svc
}

// externalIPs returns the addresses in a Service's status, joined by commas.
func externalIPs(svc *corev1.Service) string {
	var ips []string
	for _, ingress := range svc.Status.LoadBalancer.Ingress {
		ips = append(ips, ingress.IP)
	}
	return strings.Join(ips, ",")
}

// hasIP waits until a Service has exactly this address, "" for none.
func (c *cluster) hasIP(namespace, name, ip string) {
	c.t.Helper()
	c.eventually(fmt.Sprintf("Service %s/%s gets the address %q", namespace, name, ip), func() string {
		if got := externalIPs(c.service(namespace, name)); got != ip {
			return fmt.Sprintf("it has %q", got)
		}
		return ""
	})
}

// hasSomeIP waits until a Service has an address, and returns it.
func (c *cluster) hasSomeIP(namespace, name string) (ip string) {
	c.t.Helper()
	c.eventually(fmt.Sprintf("Service %s/%s gets an address", namespace, name), func() string {
		if ip = externalIPs(c.service(namespace, name)); ip == "" {
			return "it has none"
		}
		return ""
	})
	return ip
}

// ownerOf waits until exactly one node answers for an address, and returns it.
func (c *cluster) ownerOf(addr string) string {
	c.t.Helper()
	var owner string
	c.eventually("one node answers for "+addr, func() string {
		owners := c.owners(addr)
		if len(owners) != 1 {
			return fmt.Sprintf("%d answer: %v", len(owners), owners)
		}
		owner = owners[0]
		return ""
	})
	return owner
}

// owners asks once who answers for an address.
func (c *cluster) owners(addr string) []string {
	c.t.Helper()
	owners, err := c.Owner(c.t.Context(), netip.MustParseAddr(addr))
	if err != nil {
		c.t.Fatalf("asking for %s: %v", addr, err)
	}
	return owners
}

// noOwner waits until no node answers for an address.
func (c *cluster) noOwner(addr string) {
	c.t.Helper()
	c.eventually("nobody answers for "+addr, func() string {
		if owners := c.owners(addr); len(owners) > 0 {
			return fmt.Sprintf("%v do", owners)
		}
		return ""
	})
}

// reaches asks a URL from the client until answers from all these pods have
// come, and returns the client addresses that the pods saw.
func (c *cluster) reaches(url string, pods ...string) (clients []string) {
	c.t.Helper()
	return c.reachesFrom(c.Client().Namespace, url, pods...)
}

// reachesFrom is reaches for a client other than the lab's, such as one behind
// a router.
func (c *cluster) reachesFrom(from *lab.Namespace, url string, pods ...string) (clients []string) {
	c.t.Helper()
	missing := slices.Clone(pods)
	c.eventually(fmt.Sprintf("%s reaches %v from %s", url, pods, from.Name()), func() string {
		body, err := from.Get(c.t.Context(), url)
		if err != nil {
			return err.Error()
		}
		pod, seen, _ := strings.Cut(body, " ")
		if !slices.Contains(pods, pod) {
			c.t.Fatalf("%s was answered by %q, want one of %v", url, pod, pods)
		}
		clients = append(clients, seen)
		missing = slices.DeleteFunc(missing, func(p string) bool { return p == pod })
		if len(missing) > 0 {
			return fmt.Sprintf("no answer from %v", missing)
		}
		return ""
	})
	return clients
}

// preserves waits until what answers a URL sees the client itself: the kernel of
// a node that served already follows a change of policy on its own time. From
// then on all these pods have to.
func (c *cluster) preserves(from *lab.Namespace, addr netip.Addr, url string, pods ...string) {
	c.t.Helper()
	c.eventually(fmt.Sprintf("what answers %s sees %s", url, addr), func() string {
		body, err := from.Get(c.t.Context(), url)
		if err != nil {
			return err.Error()
		}
		if _, seen, _ := strings.Cut(body, " "); seen != addr.String() {
			return body
		}
		return ""
	})
	for _, client := range c.reachesFrom(from, url, pods...) {
		if client != addr.String() {
			c.t.Errorf("a pod saw %s, want the client's address %s", client, addr)
		}
	}
}

// events returns Fairway's events on an object, as "Type Reason: note". The
// API server writes some of its own, when it finds a Service's cluster IP
// before it finds its allocation.
func (c *cluster) events(kind, namespace, name string) []string {
	c.t.Helper()
	var list corev1.EventList
	if err := c.api.List(c.t.Context(), &list); err != nil {
		c.t.Fatalf("listing events: %v", err)
	}
	var events []string
	for _, e := range list.Items {
		ours := strings.HasPrefix(e.ReportingController, "fairway-")
		if o := e.InvolvedObject; ours && o.Kind == kind && o.Namespace == namespace && o.Name == name {
			events = append(events, fmt.Sprintf("%s %s: %s", e.Type, e.Reason, e.Message))
		}
	}
	return events
}

// hasEvent waits for an event on an object that contains all the parts.
func (c *cluster) hasEvent(kind, namespace, name string, parts ...string) {
	c.t.Helper()
	c.eventually(fmt.Sprintf("an event on %s %s/%s with %q", kind, namespace, name, parts), func() string {
		events := c.events(kind, namespace, name)
		for _, event := range events {
			if !slices.ContainsFunc(parts, func(part string) bool { return !strings.Contains(event, part) }) {
				return ""
			}
		}
		return fmt.Sprintf("it has %q", events)
	})
}

// untouched fails the test if Fairway wrote anything to a Service.
func (c *cluster) untouched(namespace, name string) {
	c.t.Helper()
	svc := c.service(namespace, name)
	if len(svc.Finalizers) > 0 || svc.Labels[v1alpha2.LabelPool] != "" || len(svc.Status.LoadBalancer.Ingress) > 0 {
		c.t.Errorf("Service %s/%s was touched: finalizers %v, labels %v, status %v", namespace, name, svc.Finalizers, svc.Labels, svc.Status.LoadBalancer)
	}
	for _, field := range svc.ManagedFields {
		if strings.Contains(field.Manager, "fairway") {
			c.t.Errorf("Service %s/%s was written by %s", namespace, name, field.Manager)
		}
	}
	if events := c.events("Service", namespace, name); len(events) > 0 {
		c.t.Errorf("Service %s/%s has events %q", namespace, name, events)
	}
}

// contextWithTimeout is the test's context, bounded by patience.
func contextWithTimeout(t *testing.T) (context.Context, context.CancelFunc) {
	return context.WithTimeout(t.Context(), patience)
}
