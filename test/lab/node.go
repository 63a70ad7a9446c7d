package lab

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"github.com/vishvananda/netlink"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// The pods' networks; each node has a part of them with its number in it.
const (
	podCIDR4 = "10.244.0.0/16"
	podCIDR6 = "fd00:10:244::/48"
)

// NoKubeProxy is the value of Options.KubeProxy for nodes without one.
const NoKubeProxy = "none"

// kubeProxyMetrics is where a node's kube-proxy says how it is.
const kubeProxyMetrics = "127.0.0.1:10249"

func podCIDRsOf(number int) [2]netip.Prefix {
	return [2]netip.Prefix{
		netip.MustParsePrefix(fmt.Sprintf("10.244.%d.0/24", number)),
		netip.MustParsePrefix(fmt.Sprintf("fd00:10:244:%x::/64", number)),
	}
}

// joinNode does what a kubelet and a network plugin do: routes to the other
// nodes' pods, a Node object that is ready, a kube-proxy.
func (l *Lab) joinNode(ctx context.Context, node *Host, number int) error {
	if err := node.Do(func() error { return l.addPodRoutes(node) }); err != nil {
		return fmt.Errorf("connect %s to the other nodes' pods: %w", node.name, err)
	}
	if err := l.createNode(ctx, node, number); err != nil {
		return err
	}
	if l.opts.KubeProxy == NoKubeProxy {
		return nil
	}
	// kube-proxy reads its node's addresses once, so it comes last.
	proxy, err := l.StartKubeProxy(node.name, cmp.Or(l.opts.KubeProxy, "nftables"))
	if err != nil {
		return err
	}
	return l.awaitKubeProxy(ctx, node, proxy)
}

func (l *Lab) addPodRoutes(node *Host) error {
	link, err := netlink.LinkByName(node.link)
	if err != nil {
		return err
	}
	for i, other := range l.nodes {
		if other == node {
			continue
		}
		cidrs := podCIDRsOf(i + 1)
		if err := errors.Join(addRoute(link, cidrs[0], other.Addr4()), addRoute(link, cidrs[1], other.Addr6())); err != nil {
			return err
		}
	}
	return nil
}

func (l *Lab) createNode(ctx context.Context, host *Host, number int) error {
	c, err := l.getCluster()
	if err != nil {
		return err
	}
	cidrs := podCIDRsOf(number)
	nodes := c.client.CoreV1().Nodes()
	node, err := nodes.Create(ctx, &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{
			Name:   host.name,
			Labels: map[string]string{corev1.LabelHostname: host.name, corev1.LabelOSStable: "linux"},
		},
		Spec: corev1.NodeSpec{PodCIDR: cidrs[0].String(), PodCIDRs: []string{cidrs[0].String(), cidrs[1].String()}},
	}, metav1.CreateOptions{})
	if err != nil {
		return fmt.Errorf("create Node %s: %w", host.name, err)
	}
	// Admission taints every new Node as not ready; nothing in the lab removes
	// the taint again.
	if _, err := nodes.Patch(ctx, node.Name, types.MergePatchType, []byte(`{"spec":{"taints":null}}`), metav1.PatchOptions{}); err != nil {
		return fmt.Errorf("remove the taints of Node %s: %w", host.name, err)
	}
	return l.patchNodeStatus(ctx, host, nodeStatus(host))
}

func (l *Lab) patchNodeStatus(ctx context.Context, host *Host, status corev1.NodeStatus) error {
	c, err := l.getCluster()
	if err != nil {
		return err
	}
	patch, err := json.Marshal(map[string]any{"status": status})
	if err != nil {
		return fmt.Errorf("encode the status of Node %s: %w", host.name, err)
	}
	if _, err := c.client.CoreV1().Nodes().PatchStatus(ctx, host.name, patch); err != nil {
		return fmt.Errorf("write the status of Node %s: %w", host.name, err)
	}
	return nil
}

func nodeStatus(host *Host) corev1.NodeStatus {
	now := metav1.Now()
	condition := func(kind corev1.NodeConditionType, status corev1.ConditionStatus) corev1.NodeCondition {
		return corev1.NodeCondition{Type: kind, Status: status, Reason: "Lab", Message: "set by the lab", LastHeartbeatTime: now, LastTransitionTime: now}
	}
	room := corev1.ResourceList{
		corev1.ResourceCPU:    resource.MustParse("2"),
		corev1.ResourceMemory: resource.MustParse("4Gi"),
		corev1.ResourcePods:   resource.MustParse("110"),
	}
	return corev1.NodeStatus{
		Capacity:    room,
		Allocatable: room,
		Addresses: []corev1.NodeAddress{
			{Type: corev1.NodeInternalIP, Address: host.Addr4().String()},
			{Type: corev1.NodeInternalIP, Address: host.Addr6().String()},
			{Type: corev1.NodeHostName, Address: host.name},
		},
		Conditions: []corev1.NodeCondition{
			condition(corev1.NodeReady, corev1.ConditionTrue),
			condition(corev1.NodeMemoryPressure, corev1.ConditionFalse),
			condition(corev1.NodeDiskPressure, corev1.ConditionFalse),
			condition(corev1.NodePIDPressure, corev1.ConditionFalse),
			condition(corev1.NodeNetworkUnavailable, corev1.ConditionFalse),
		},
	}
}

// StartKubeProxy starts a kube-proxy on a node that has none, in a mode as
// Options.KubeProxy. It does not wait until its rules are in the kernel.
func (l *Lab) StartKubeProxy(node, mode string) (*Process, error) {
	host := l.Node(node)
	if host == nil {
		return nil, fmt.Errorf("start kube-proxy: there is no node %q", node)
	}
	program, err := l.Program("kubernetes")
	if err != nil {
		return nil, err
	}
	path := filepath.Join(l.state.dir, node+"-kube-proxy.yaml")
	if err := os.WriteFile(path, []byte(l.kubeProxyConfig(host, mode)), 0o600); err != nil {
		return nil, fmt.Errorf("write the configuration of kube-proxy on %s: %w", node, err)
	}
	proxy, err := host.Start("kube-proxy", []string{program, "kube-proxy", "--config", path}, nil)
	if err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.kubeProxies[node] = proxy
	return proxy, nil
}

// awaitKubeProxy returns when the node's first rules are in the kernel.
func (l *Lab) awaitKubeProxy(ctx context.Context, node *Host, proxy *Process) error {
	return poll(ctx, "kube-proxy on "+node.name+" has written its rules", func() error {
		if !proxy.Running() {
			return fmt.Errorf("it ended: %w", proxy.Err())
		}
		metrics, err := node.Get(ctx, "http://"+kubeProxyMetrics+"/metrics")
		if err != nil {
			return err
		}
		return syncedBothFamilies(metrics)
	})
}

// KubeProxy returns that of a node, nil if it has none.
func (l *Lab) KubeProxy(node string) *Process {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.kubeProxies[node]
}

// syncedBothFamilies reads kube-proxy's metrics: the time of the last complete
// sync of each family is not zero.
func syncedBothFamilies(metrics string) error {
	const name = "kubeproxy_sync_proxy_rules_last_timestamp_seconds{"
	synced := 0
	for line := range strings.Lines(metrics) {
		if strings.HasPrefix(line, name) && !strings.HasSuffix(strings.TrimSpace(line), " 0") {
			synced++
		}
	}
	if synced < 2 {
		return fmt.Errorf("%d of 2 families are written", synced)
	}
	return nil
}

func (l *Lab) kubeProxyConfig(node *Host, mode string) string {
	return fmt.Sprintf(`apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
mode: %s
hostnameOverride: %s
clientConnection:
  kubeconfig: %s
# Traffic that does not come from pods is from outside the cluster: with
# externalTrafficPolicy Local it keeps its source address.
clusterCIDR: %s,%s
detectLocalMode: ClusterCIDR
healthzBindAddress: 0.0.0.0:10256
metricsBindAddress: %s
# The machine's own namespace alone can set the size of the table, and the
# priority of a process needs rights that a container may lack.
conntrack: {maxPerCore: 0, min: 0}
oomScoreAdj: 0
# Rules follow the objects quickly; the default of 1 s is for big clusters.
nftables: {minSyncPeriod: 50ms, syncPeriod: 30s}
iptables: {minSyncPeriod: 50ms, syncPeriod: 30s}
`, mode, node.name, filepath.Join(l.controlPlaneDir(), "kube-proxy.kubeconfig"), podCIDR4, podCIDR6, kubeProxyMetrics)
}
