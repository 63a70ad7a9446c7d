package lab

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/vishvananda/netlink"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// Numbers of the pods' addresses in their node's network. The first one is the
// node's end of every pod's link.
const (
	podGateway  = 1
	firstPod    = 10
	lastPod     = 250
	podLinkName = "eth0"
)

// apiTimeout bounds the wait for what the API server does by itself, as the
// default ServiceAccount of a new namespace.
const apiTimeout = 30 * time.Second

// Pod says what pod to add.
type Pod struct {
	Namespace string // made if absent; "default" if empty
	Name      string
	Labels    map[string]string
	Node      string // "n1"
	Ports     []int  // TCP ports of its HTTP server; 80 if none
}

// RunningPod is a pod: a namespace behind its node, with an HTTP server that
// answers every request with "<pod name> <client address>".
type RunningPod struct {
	*Namespace
	spec   Pod
	node   *Host
	addrs  [2]netip.Addr
	server *Process
}

// AddPod makes a pod that runs and is ready: the namespace, the server, the Pod
// object and its status. The EndpointSlice controller does the rest.
func (l *Lab) AddPod(ctx context.Context, spec Pod) (_ *RunningPod, err error) {
	if spec.Namespace == "" {
		spec.Namespace = metav1.NamespaceDefault
	}
	if len(spec.Ports) == 0 {
		spec.Ports = []int{80}
	}
	p, err := l.newPod(spec)
	if err != nil {
		return nil, fmt.Errorf("add pod %s/%s: %w", spec.Namespace, spec.Name, err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("add pod %s/%s: %w", spec.Namespace, spec.Name, err), p.destroy())
		}
	}()
	if err := p.startServer(ctx); err != nil {
		return nil, err
	}
	if err := l.EnsureNamespace(ctx, spec.Namespace); err != nil {
		return nil, err
	}
	if err := p.createObject(ctx); err != nil {
		return nil, err
	}
	if err := p.SetReady(ctx, true); err != nil {
		return nil, err
	}
	return p, nil
}

// Pod finds a pod that was added and not deleted; nil if there is none.
func (l *Lab) Pod(namespace, name string) *RunningPod {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.pods[namespace+"/"+name]
}

// PodName is the name of the Pod object; Name is the namespace's.
func (p *RunningPod) PodName() string { return p.spec.Name }

// Node is the node that the pod runs on.
func (p *RunningPod) Node() *Host { return p.node }

// Addr4 is the pod's IPv4 address.
func (p *RunningPod) Addr4() netip.Addr { return p.addrs[0] }

// Addr6 is the pod's IPv6 address.
func (p *RunningPod) Addr6() netip.Addr { return p.addrs[1] }

// Server is the pod's process.
func (p *RunningPod) Server() *Process { return p.server }

// SetReady writes the pod's status: running, and ready or not. The server
// answers all the same.
func (p *RunningPod) SetReady(ctx context.Context, ready bool) error {
	c, err := p.lab.getCluster()
	if err != nil {
		return err
	}
	patch, err := json.Marshal(map[string]any{"status": p.status(ready)})
	if err != nil {
		return fmt.Errorf("encode the status of pod %s: %w", p.spec.Name, err)
	}
	_, err = c.client.CoreV1().Pods(p.spec.Namespace).Patch(ctx, p.spec.Name, types.MergePatchType, patch, metav1.PatchOptions{}, "status")
	if err != nil {
		return fmt.Errorf("write the status of pod %s/%s: %w", p.spec.Namespace, p.spec.Name, err)
	}
	return nil
}

// Delete deletes the Pod object at once, ends the server and removes the
// namespace.
func (p *RunningPod) Delete(ctx context.Context) error {
	c, err := p.lab.getCluster()
	if err != nil {
		return err
	}
	now := int64(0)
	err = c.client.CoreV1().Pods(p.spec.Namespace).Delete(ctx, p.spec.Name, metav1.DeleteOptions{GracePeriodSeconds: &now})
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("delete pod %s/%s: %w", p.spec.Namespace, p.spec.Name, err)
	}
	return p.destroy()
}

// newPod makes the namespace and the link, without any object.
func (l *Lab) newPod(spec Pod) (*RunningPod, error) {
	node := l.Node(spec.Node)
	if node == nil {
		return nil, fmt.Errorf("there is no node %q", spec.Node)
	}
	p := &RunningPod{spec: spec, node: node}
	number, err := l.registerPod(p)
	if err != nil {
		return nil, err
	}
	// The name of a host must not have a dash; see removeNamespaces.
	if p.Namespace, err = l.newNamespace(fmt.Sprintf("pod%d", number)); err != nil {
		l.unregisterPod(p)
		return nil, err
	}
	if err := p.connect(number); err != nil {
		return nil, errors.Join(err, p.destroy())
	}
	return p, nil
}

// registerPod gives the pod its number in the lab and its addresses, which no
// other pod of its node ever had: a late packet finds nobody else.
func (l *Lab) registerPod(p *RunningPod) (number int, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	key := p.spec.Namespace + "/" + p.spec.Name
	if l.pods[key] != nil {
		return 0, errors.New("there is one of that name already")
	}
	host := firstPod + p.node.podCount
	if host > lastPod {
		return 0, fmt.Errorf("no addresses left on %s", p.node.name)
	}
	p.node.podCount++
	l.podCount++
	l.pods[key] = p
	for i, cidr := range podCIDRsOf(l.nodeNumber(p.node)) {
		p.addrs[i] = nth(cidr, host)
	}
	return l.podCount, nil
}

func (l *Lab) unregisterPod(p *RunningPod) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.pods, p.spec.Namespace+"/"+p.spec.Name)
}

// connect makes the pod's link: routed, without a bridge on the node. Both ends
// know each other by a host route.
func (p *RunningPod) connect(number int) error {
	cidrs := podCIDRsOf(p.lab.nodeNumber(p.node))
	outside := fmt.Sprintf("pod%d", number)
	err := p.node.Do(func() error {
		attrs := netlink.NewLinkAttrs()
		attrs.Name = outside
		attrs.Index = 1000 + number // different from the other end's; see plug
		veth := &netlink.Veth{LinkAttrs: attrs, PeerName: podLinkName, PeerNamespace: netlink.NsFd(int(p.handle))}
		if err := netlink.LinkAdd(veth); err != nil {
			return fmt.Errorf("add link %s: %w", outside, err)
		}
		link, err := bringUp(outside, single(nth(cidrs[0], podGateway)), single(nth(cidrs[1], podGateway)))
		if err != nil {
			return err
		}
		for _, addr := range p.addrs {
			if err := addRoute(link, single(addr), netip.Addr{}); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("connect pod %s to %s: %w", p.spec.Name, p.node.name, err)
	}
	err = p.Do(func() error {
		link, err := bringUp(podLinkName, single(p.addrs[0]), single(p.addrs[1]))
		if err != nil {
			return err
		}
		everything := [2]netip.Prefix{netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0")}
		for i, cidr := range cidrs {
			gateway := nth(cidr, podGateway)
			if err := errors.Join(addRoute(link, single(gateway), netip.Addr{}), addRoute(link, everything[i], gateway)); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("configure pod %s: %w", p.spec.Name, err)
	}
	return nil
}

func (p *RunningPod) startServer(ctx context.Context) error {
	program, err := p.lab.Program("lab-pod")
	if err != nil {
		return err
	}
	var listen []string
	for _, port := range p.spec.Ports {
		listen = append(listen, fmt.Sprintf(":%d", port))
	}
	p.server, err = p.StartReady(ctx, p.spec.Name, []string{program, "-name", p.spec.Name, "-listen", strings.Join(listen, ",")}, nil)
	return err
}

// createObject waits for the namespace's default ServiceAccount, without which
// admission refuses every pod.
func (p *RunningPod) createObject(ctx context.Context) error {
	c, err := p.lab.getCluster()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, apiTimeout)
	defer cancel()
	noToken := false
	var ports []corev1.ContainerPort
	for _, port := range p.spec.Ports {
		ports = append(ports, corev1.ContainerPort{ContainerPort: int32(port)})
	}
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: p.spec.Namespace, Name: p.spec.Name, Labels: p.spec.Labels},
		Spec: corev1.PodSpec{
			NodeName:                     p.node.name,
			AutomountServiceAccountToken: &noToken,
			Containers:                   []corev1.Container{{Name: "server", Image: "lab-pod", Ports: ports}},
		},
	}
	var refused error
	err = poll(ctx, "the API server accepts the pod", func() error {
		_, err := c.client.CoreV1().Pods(p.spec.Namespace).Create(ctx, pod, metav1.CreateOptions{})
		if err == nil || apierrors.IsForbidden(err) {
			return err
		}
		refused = err
		return nil
	})
	return errors.Join(err, refused)
}

func (p *RunningPod) status(ready bool) corev1.PodStatus {
	now := metav1.Now()
	is := corev1.ConditionFalse
	if ready {
		is = corev1.ConditionTrue
	}
	return corev1.PodStatus{
		Phase:  corev1.PodRunning,
		HostIP: p.node.Addr4().String(),
		HostIPs: []corev1.HostIP{
			{IP: p.node.Addr4().String()}, {IP: p.node.Addr6().String()},
		},
		PodIP:     p.addrs[0].String(),
		PodIPs:    []corev1.PodIP{{IP: p.addrs[0].String()}, {IP: p.addrs[1].String()}},
		StartTime: &now,
		Conditions: []corev1.PodCondition{
			{Type: corev1.PodScheduled, Status: corev1.ConditionTrue, LastTransitionTime: now},
			{Type: corev1.PodInitialized, Status: corev1.ConditionTrue, LastTransitionTime: now},
			{Type: corev1.ContainersReady, Status: is, LastTransitionTime: now},
			{Type: corev1.PodReady, Status: is, LastTransitionTime: now},
		},
		ContainerStatuses: []corev1.ContainerStatus{{
			Name: "server", Image: "lab-pod", Ready: ready,
			State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: now}},
		}},
	}
}

// destroy ends the server and removes the namespace, and with it both ends of
// the link.
func (p *RunningPod) destroy() error {
	var errs []error
	if p.server != nil {
		errs = append(errs, p.server.Kill())
	}
	p.lab.unregisterPod(p)
	return errors.Join(append(errs, p.removeLink(), p.Namespace.delete())...)
}

// removeLink does not wait until the kernel has cleared away the namespace.
func (p *RunningPod) removeLink() error {
	err := p.Do(func() error {
		link, err := netlink.LinkByName(podLinkName)
		if errors.As(err, &netlink.LinkNotFoundError{}) {
			return nil
		} else if err != nil {
			return err
		}
		return netlink.LinkDel(link)
	})
	if err != nil {
		return fmt.Errorf("remove the link of pod %s: %w", p.spec.Name, err)
	}
	return nil
}

// nth is the address with that number in a network.
func nth(network netip.Prefix, number int) netip.Addr {
	b := network.Addr().AsSlice()
	b[len(b)-1] = byte(number)
	addr, _ := netip.AddrFromSlice(b)
	return addr
}
