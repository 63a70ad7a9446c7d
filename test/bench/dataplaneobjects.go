package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/fairway-lb/fairway/test/bench/measure"
	"github.com/fairway-lb/fairway/test/lab"
)

const (
	// endpointsEach is how many a Service has.
	endpointsEach = 2
	// endpointsForMemory is how many a Service has when memory is measured.
	endpointsForMemory = 10
	// serviceCIDR is where the lab's cluster IPs are.
	serviceCIDR = "10.96.0.0/16"
	// servicePort is where Services answer, and their endpoints.
	servicePort = 80
)

// Every Service has endpoints of its own, as in a real cluster, and all of them
// answer: they are addresses of one pod. Those that replace others are of
// another pod, so that an answer tells which it is from.
const (
	oldEndpoints = "10.144.0.0/12"
	newEndpoints = "10.160.0.0/12"
	newEndpoint  = 16 // the first number of those of the other pod
	newPod       = "new"
)

// endpointAddress is that of an endpoint of a Service, by their numbers.
func endpointAddress(service, endpoint int) netip.Addr {
	return netip.AddrFrom4([4]byte{10, byte(144 + endpoint), byte(service >> 8), byte(service)})
}

// clusterIP is that of a Service. The first 256 are for those that a cluster
// needs itself.
func clusterIP(service int) netip.Addr {
	n := 256 + service
	return netip.AddrFrom4([4]byte{10, 96, byte(n >> 8), byte(n)})
}

func serviceName(service int) string { return fmt.Sprintf("service-%d", service) }

// serviceObject is one as the API server has it. It has no selector: nobody writes
// its endpoints but the benchmark.
func serviceObject(number int) *corev1.Service {
	ip := clusterIP(number).String()
	return &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: namespace,
			Name:      serviceName(number),
			Labels:    map[string]string{"app.kubernetes.io/name": serviceName(number), "app.kubernetes.io/part-of": "shop"},
		},
		Spec: corev1.ServiceSpec{
			Type:       corev1.ServiceTypeClusterIP,
			ClusterIP:  ip,
			ClusterIPs: []string{ip},
			IPFamilies: []corev1.IPFamily{corev1.IPv4Protocol},
			Ports:      []corev1.ServicePort{{Name: "http", Protocol: corev1.ProtocolTCP, Port: servicePort}},
		},
	}
}

// endpointSlice is that of a Service with endpoints of these numbers, on a node.
func endpointSlice(number int, node string, endpoints ...int) *discoveryv1.EndpointSlice {
	s := &discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: namespace,
			Name:      serviceName(number) + "-x7k2p",
			Labels:    map[string]string{discoveryv1.LabelServiceName: serviceName(number), discoveryv1.LabelManagedBy: "bench"},
		},
		AddressType: discoveryv1.AddressTypeIPv4,
		Ports:       []discoveryv1.EndpointPort{{Name: new("http"), Protocol: new(corev1.ProtocolTCP), Port: new(int32(servicePort))}},
	}
	for _, e := range endpoints {
		s.Endpoints = append(s.Endpoints, discoveryv1.Endpoint{
			Addresses:  []string{endpointAddress(number, e).String()},
			NodeName:   &node,
			Conditions: discoveryv1.EndpointConditions{Ready: new(true), Serving: new(true), Terminating: new(false)},
		})
	}
	return s
}

// numbers are those of so many endpoints.
func numbers(n int) []int {
	all := make([]int, n)
	for i := range all {
		all[i] = i
	}
	return all
}

// setUp starts the cluster, with one Service and all pods.
func (d *dataplaneBench) setUp() error {
	if err := d.StartCluster(d.ctx); err != nil {
		return fmt.Errorf("starting the cluster: %w", err)
	}
	config, err := d.RESTConfig()
	if err != nil {
		return err
	}
	config.QPS = -1 // the benchmark is not to wait for its own client
	if d.clientset, err = kubernetes.NewForConfig(config); err != nil {
		return err
	}
	if err := d.EnsureNamespace(d.ctx, namespace); err != nil {
		return err
	}
	if err := d.createServices(0, 1); err != nil {
		return err
	}
	if err := d.reserveWebhook(); err != nil {
		return err
	}
	if err := d.Install(d.ctx); err != nil {
		return fmt.Errorf("installing Fairway: %w", err)
	}
	if err := d.makeGossipKey(); err != nil {
		return err
	}
	return d.addPods()
}

// makeGossipKey runs the controller until it has made the key that speakers
// wait for. It is not to take processors away from what is measured.
func (d *dataplaneBench) makeGossipKey() (err error) {
	controller, err := d.StartController(d.ctx)
	if err != nil {
		return fmt.Errorf("starting the controller: %w", err)
	}
	defer func() { err = errors.Join(err, controller.Stop(d.ctx)) }()
	ctx, cancel := context.WithTimeout(d.ctx, patience)
	defer cancel()
	return measure.Until(ctx, func() (bool, error) {
		_, err := d.clientset.CoreV1().Secrets("fairway-system").Get(ctx, "fairway-memberlist", metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			return false, controller.Err()
		}
		return err == nil, err
	})
}

// reserveWebhook creates the Service of Fairway's webhooks with an address that
// none of the benchmark's has; the API server might choose one of theirs.
func (d *dataplaneBench) reserveWebhook() error {
	const system, name, ip = "fairway-system", "fairway-webhook", "10.96.0.200"
	if err := d.EnsureNamespace(d.ctx, system); err != nil {
		return err
	}
	svc := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: system, Name: name},
		Spec:       corev1.ServiceSpec{ClusterIP: ip, Ports: []corev1.ServicePort{{Name: "webhook", Port: 443}}},
	}
	if _, err := d.clientset.CoreV1().Services(system).Create(d.ctx, svc, metav1.CreateOptions{}); err != nil {
		return fmt.Errorf("creating Service %s: %w", name, err)
	}
	return nil
}

// createServices creates Services with their endpoints, of the numbers from
// first up to end.
func (d *dataplaneBench) createServices(first, end int) error {
	return d.each(first, end, func(ctx context.Context, number int) error {
		if _, err := d.clientset.CoreV1().Services(namespace).Create(ctx, serviceObject(number), metav1.CreateOptions{}); err != nil {
			return fmt.Errorf("creating Service %s: %w", serviceName(number), err)
		}
		slice := endpointSlice(number, d.byHandNode(nodeOfFew).Name(), numbers(endpointsEach)...)
		if _, err := d.clientset.DiscoveryV1().EndpointSlices(namespace).Create(ctx, slice, metav1.CreateOptions{}); err != nil {
			return fmt.Errorf("creating EndpointSlice %s: %w", slice.Name, err)
		}
		return nil
	})
}

// setEndpoints replaces the endpoints of a Service.
func (d *dataplaneBench) setEndpoints(ctx context.Context, number int, endpoints ...int) error {
	slice := endpointSlice(number, d.byHandNode(nodeOfFew).Name(), endpoints...)
	if _, err := d.clientset.DiscoveryV1().EndpointSlices(namespace).Update(ctx, slice, metav1.UpdateOptions{}); err != nil {
		return fmt.Errorf("updating EndpointSlice %s: %w", slice.Name, err)
	}
	return nil
}

// each does something for the numbers from first up to end, many at once.
func (d *dataplaneBench) each(first, end int, do func(ctx context.Context, number int) error) error {
	group, ctx := errgroup.WithContext(d.ctx)
	group.SetLimit(measure.Clients)
	for number := first; number < end; number++ {
		group.Go(func() error { return do(ctx, number) })
	}
	return group.Wait()
}

// addPods adds a client on every node, and the pods behind the Services on those
// that are no candidate's: the node of few has those for the candidates too.
func (d *dataplaneBench) addPods() error {
	add := func(name string, node *lab.Host) (*lab.RunningPod, error) {
		return d.AddPod(d.ctx, lab.Pod{Namespace: namespace, Name: name, Node: node.Name(), Ports: []int{servicePort}})
	}
	few, many, none := d.byHandNode(nodeOfFew), d.byHandNode(nodeOfMany), d.byHandNode(nodeOfNone)
	for _, pod := range []struct {
		name, network string
		node          *lab.Host
	}{
		{"old", oldEndpoints, few},
		{newPod, newEndpoints, few},
		{"old-of-many", oldEndpoints, many},
		{"old-of-none", oldEndpoints, none},
	} {
		server, err := add(pod.name, pod.node)
		if err != nil {
			return err
		}
		// The pod answers at all addresses of the network.
		if err := d.route(server.Namespace, "local", pod.network, "dev", "lo"); err != nil {
			return err
		}
		if err := d.route(pod.node.Namespace, pod.network, "via", server.Addr4().String()); err != nil {
			return err
		}
	}
	for i, node := range d.Nodes() {
		client, err := add("client-"+node.Name(), node)
		if err != nil {
			return err
		}
		d.clients[node] = client
		if err := d.refuseUnforwarded(node); err != nil {
			return err
		}
		if i >= len(d.candidates) {
			continue
		}
		for _, network := range []string{oldEndpoints, newEndpoints} {
			if err := d.route(node.Namespace, network, "via", few.Addr4().String()); err != nil {
				return err
			}
		}
	}
	return nil
}

// refuseUnforwarded has a node tell a client at once that nobody forwards to a
// Service, however often it asks.
func (d *dataplaneBench) refuseUnforwarded(node *lab.Host) error {
	if err := d.route(node.Namespace, "unreachable", serviceCIDR); err != nil {
		return err
	}
	err := node.Do(func() error { return os.WriteFile("/proc/sys/net/ipv4/icmp_ratelimit", []byte("0"), 0) })
	if err != nil {
		return fmt.Errorf("lifting the limit of ICMP errors on %s: %w", node.Name(), err)
	}
	return nil
}

func (d *dataplaneBench) route(in *lab.Namespace, route ...string) error {
	if out, err := in.Command(d.ctx, "ip", append([]string{"route", "add"}, route...)...).CombinedOutput(); err != nil {
		return fmt.Errorf("adding route %v on %s: %w: %s", route, in.Name(), err, out)
	}
	return nil
}
