// Package acceptance has the tests of the running control plane.
package acceptance

import (
	"context"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

func TestServiceGetsAddressesAndEndpoints(t *testing.T) {
	ctx := testContext(t)
	c := start(t, t.TempDir(), "127.0.0.1", freePort(t, "127.0.0.1"))
	admin := c.client(t, "admin.kubeconfig")

	version, err := admin.Discovery().ServerVersion()
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(version.GitVersion, "v1.") {
		t.Errorf("the server's version is %q: the build did not set it", version.GitVersion)
	}

	dualStack := corev1.IPFamilyPolicyRequireDualStack
	service, err := admin.CoreV1().Services("default").Create(ctx, &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: "web"},
		Spec: corev1.ServiceSpec{
			Type: corev1.ServiceTypeLoadBalancer, IPFamilyPolicy: &dualStack,
			Selector: map[string]string{"app": "web"},
			Ports:    []corev1.ServicePort{{Port: 80}},
		},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	ranges := []netip.Prefix{netip.MustParsePrefix("10.96.0.0/16"), netip.MustParsePrefix("fd00:10:96::/112")}
	if len(service.Spec.ClusterIPs) != len(ranges) {
		t.Fatalf("cluster IPs %v, want one of each of %v", service.Spec.ClusterIPs, ranges)
	}
	for i, s := range service.Spec.ClusterIPs {
		if ip, err := netip.ParseAddr(s); err != nil || !ranges[i].Contains(ip) {
			t.Errorf("cluster IP %q is not in %v", s, ranges[i])
		}
	}
	if service.Spec.Ports[0].NodePort == 0 {
		t.Error("the Service got no node port")
	}

	addRunningPod(ctx, t, admin, "node1", "web-1", "10.244.1.5", "fd00:10:244:1::5")
	awaitEndpoint(ctx, t, admin, "web", "node1", "10.244.1.5")
	awaitEndpoint(ctx, t, admin, "web", "node1", "fd00:10:244:1::5")

	// A real cluster's rights: kube-proxy reads what it needs, and no more.
	kubeProxy := c.client(t, "kube-proxy.kubeconfig")
	if _, err := kubeProxy.DiscoveryV1().EndpointSlices("").List(ctx, metav1.ListOptions{}); err != nil {
		t.Error(err)
	}
	if _, err := kubeProxy.CoreV1().Secrets("").List(ctx, metav1.ListOptions{}); !apierrors.IsForbidden(err) {
		t.Errorf("kube-proxy lists Secrets: got %v, want forbidden", err)
	}
}

func TestRestartKeepsObjectsAndCredentials(t *testing.T) {
	ctx := testContext(t)
	dir, port := t.TempDir(), freePort(t, "127.0.0.1")
	c := start(t, dir, "127.0.0.1", port)
	admin := c.client(t, "admin.kubeconfig")
	if _, err := admin.CoreV1().ConfigMaps("default").Create(ctx, &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Name: "kept"},
	}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	// A client that watches must not delay the stop.
	watch, err := admin.CoreV1().ConfigMaps("").Watch(ctx, metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer watch.Stop()

	c.stop(t)
	start(t, dir, "127.0.0.1", port)
	if _, err := admin.CoreV1().ConfigMaps("default").Get(ctx, "kept", metav1.GetOptions{}); err != nil {
		t.Errorf("with the credentials from before the restart: %v", err)
	}
	// Controllers work again, too: a new namespace gets its ServiceAccount.
	if _, err := admin.CoreV1().Namespaces().Create(ctx, &corev1.Namespace{
		ObjectMeta: metav1.ObjectMeta{Name: "later"},
	}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	accounts, err := admin.CoreV1().ServiceAccounts("later").Watch(ctx, metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer accounts.Stop()
	if _, open := <-accounts.ResultChan(); !open {
		t.Error("no ServiceAccount in a namespace that was made after the restart")
	}
}

func TestKilledControlPlaneStartsAgain(t *testing.T) {
	dir, port := t.TempDir(), freePort(t, "127.0.0.1")
	c := start(t, dir, "127.0.0.1", port)
	admin := c.client(t, "admin.kubeconfig")
	ctx := testContext(t)
	if _, err := admin.CoreV1().ConfigMaps("default").Create(ctx, &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Name: "kept"},
	}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := c.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = c.cmd.Wait() // "signal: killed"
	start(t, dir, "127.0.0.1", port)
	if _, err := admin.CoreV1().ConfigMaps("default").Get(ctx, "kept", metav1.GetOptions{}); err != nil {
		t.Error(err)
	}
}

func TestTwoSideBySide(t *testing.T) {
	ctx := testContext(t)
	port := freePort(t, "127.0.0.1", "127.0.0.2")
	one, oneReady := launch(t, t.TempDir(), "127.0.0.1", port)
	two, twoReady := launch(t, t.TempDir(), "127.0.0.2", port)
	awaitReady(t, one, oneReady)
	awaitReady(t, two, twoReady)

	if _, err := one.client(t, "admin.kubeconfig").CoreV1().Nodes().Create(ctx, &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: "only-in-one"},
	}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	nodes, err := two.client(t, "admin.kubeconfig").CoreV1().Nodes().List(ctx, metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if len(nodes.Items) != 0 {
		t.Errorf("the second cluster has %d nodes of the first", len(nodes.Items))
	}

	// A third one in the directory of a running one must not touch its data.
	out, err := exec.CommandContext(ctx, program(t), "controlplane", "--dir", one.dir, "--bind-address", "127.0.0.3").CombinedOutput()
	if err == nil || !strings.Contains(string(out), "another control plane runs in "+one.dir) {
		t.Errorf("a third one in the directory of the first: %v, %s", err, out)
	}
}

func TestRefusals(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	takenPort := strconv.Itoa(taken.Addr().(*net.TCPAddr).Port)
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	long := filepath.Join(t.TempDir(), strings.Repeat("d", 120))

	for _, test := range []struct {
		name string
		args []string
		want string
	}{
		{"no directory", []string{"--bind-address", "127.0.0.1"}, `required flag(s) "dir" not set`},
		{"not an address", []string{"--bind-address", "localhost"}, `--bind-address "localhost" is not an IP address`},
		{"every address", []string{"--bind-address", "0.0.0.0"}, "name one address of this machine"},
		{"an address of another machine", []string{"--bind-address", "192.0.2.1"}, "192.0.2.1 is no address of this machine"},
		{"a port in use", []string{"--bind-address", "127.0.0.1", "--secure-port", takenPort}, "port " + takenPort + " of 127.0.0.1 is in use"},
		{"a file for a directory", []string{"--bind-address", "127.0.0.1", "--dir", file}, "not a directory: choose another with --dir"},
		{"a path too long for sockets", []string{"--bind-address", "127.0.0.1", "--dir", long}, "choose a shorter one"},
		{"two ranges of a family", []string{"--bind-address", "127.0.0.1", "--service-cluster-ip-range", "10.1.0.0/16,10.2.0.0/16"}, "one of each family"},
		{"a range too small", []string{"--bind-address", "127.0.0.1", "--service-cluster-ip-range", "10.1.0.0/30"}, "at least 8"},
		{"a pipe that was not passed", []string{"--bind-address", "127.0.0.1", "--ready-fd", "77"}, "--ready-fd 77 is not an inherited pipe"},
	} {
		t.Run(test.name, func(t *testing.T) {
			args := append([]string{"controlplane"}, test.args...)
			if !slices.Contains(args, "--dir") && test.name != "no directory" {
				args = append(args, "--dir", t.TempDir())
			}
			if !slices.Contains(args, "--secure-port") {
				args = append(args, "--secure-port", strconv.Itoa(freePort(t, "127.0.0.1")))
			}
			out, err := exec.CommandContext(testContext(t), program(t), args...).CombinedOutput()
			if err == nil || !strings.Contains(string(out), test.want) {
				t.Errorf("got %v and\n%s\nwant an error and %q", err, out, test.want)
			}
		})
	}
}

// addRunningPod makes a Node and a Pod on it and reports it running, as the
// node's kubelet would.
func addRunningPod(ctx context.Context, t *testing.T, client kubernetes.Interface, node, pod string, ips ...string) {
	t.Helper()
	if _, err := client.CoreV1().Nodes().Create(ctx, &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: node},
	}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	p, err := client.CoreV1().Pods("default").Create(ctx, &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: pod, Labels: map[string]string{"app": "web"}},
		Spec: corev1.PodSpec{
			NodeName:   node,
			Containers: []corev1.Container{{Name: "main", Image: "none"}},
		},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	p.Status.Phase = corev1.PodRunning
	p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}
	p.Status.PodIP = ips[0]
	for _, ip := range ips {
		p.Status.PodIPs = append(p.Status.PodIPs, corev1.PodIP{IP: ip})
	}
	if _, err := client.CoreV1().Pods("default").UpdateStatus(ctx, p, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
}

func awaitEndpoint(ctx context.Context, t *testing.T, client kubernetes.Interface, service, node, address string) {
	t.Helper()
	watch, err := client.DiscoveryV1().EndpointSlices("default").Watch(ctx, metav1.ListOptions{
		LabelSelector: discoveryv1.LabelServiceName + "=" + service,
	})
	if err != nil {
		t.Fatal(err)
	}
	defer watch.Stop()
	for event := range watch.ResultChan() {
		slice, ok := event.Object.(*discoveryv1.EndpointSlice)
		if !ok {
			t.Fatalf("watch EndpointSlices: %v", event.Object)
		}
		for _, e := range slice.Endpoints {
			if slices.Contains(e.Addresses, address) && e.Conditions.Ready != nil && *e.Conditions.Ready &&
				e.NodeName != nil && *e.NodeName == node {
				return
			}
		}
	}
	t.Errorf("no ready endpoint %s on %s for Service %s", address, node, service)
}

func testContext(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), startLimit)
	t.Cleanup(cancel)
	return ctx
}
