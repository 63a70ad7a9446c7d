package main

import (
	"context"
	"fmt"
	"net/netip"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/fairway-lb/fairway/api/v1alpha2"
	"github.com/fairway-lb/fairway/test/bench/measure"
	"github.com/fairway-lb/fairway/test/lab"
)

// requestRate is how often the client behind each router asks, per second.
const requestRate = 200

// gracefulRestarts kills speakers and starts them again, one after the other,
// while a client behind each router uses a Service.
func (g *bgpBench) gracefulRestarts() error {
	route, err := g.serveWeb()
	if err != nil {
		return err
	}
	watches, err := g.watchRoutes()
	if err != nil {
		return err
	}
	defer watches.close()
	if _, err := g.wait(watches, route, g.nodes...); err != nil {
		return err
	}
	changesBefore := make([]int, len(watches))
	url := "http://" + route.Addr().String() + "/"
	clients := make([]*requests, len(g.routers))
	for i, router := range g.routers {
		changesBefore[i] = len(watches[i].Changes(route))
		// A rule of kube-proxy on any node may come after the route.
		if err := g.patiently(func(ctx context.Context) error { return answersInARow(ctx, router.Client(), url, 50) }); err != nil {
			return err
		}
		clients[i] = startRequests(g.ctx, router.Client(), url, requestRate)
	}
	took, failed := g.restartSpeakers(route)
	t := g.report.table(fmt.Sprintf("%d restarts of speakers (SIGKILL), while each router's client sends %d requests a second", g.restarts, requestRate))
	for i, router := range g.routers {
		result := clients[i].stop()
		kind := router.Options().Kind
		t.row(fmt.Sprintf("requests through %s", kind), fmt.Sprint(result.sent), fmt.Sprintf("%d failed", result.failed), "slowest "+round(result.slowest))
		t.row("changes of its kernel's route", fmt.Sprint(len(watches[i].Changes(route))-changesBefore[i]))
		t.verdict(result.failed == 0 && result.sent > 0, fmt.Sprintf("no request through %s failed%s", kind, result.why()))
	}
	t.row("from the start of a speaker until its routes are not stale any more", "slowest "+round(took))
	return failed
}

// restartSpeakers returns how long the slowest took until all routers had its
// routes anew.
func (g *bgpBench) restartSpeakers(route netip.Prefix) (slowest time.Duration, err error) {
	for i := range g.restarts {
		node := g.Nodes()[i%len(g.nodes)]
		if err := g.speakers[node.Name()].Kill(); err != nil {
			return 0, err
		}
		begin := time.Now()
		if err := g.startSpeaker(node.Name()); err != nil {
			return 0, err
		}
		if err := g.patiently(func(ctx context.Context) error { return g.awaitRefreshed(ctx, node, route) }); err != nil {
			return 0, fmt.Errorf("after restart %d, of %s: %w", i+1, node.Name(), err)
		}
		slowest = max(slowest, time.Since(begin))
	}
	return slowest, nil
}

// awaitRefreshed waits until a new speaker has sessions with all routers, and
// none keeps the route of the one before.
func (g *bgpBench) awaitRefreshed(ctx context.Context, node *lab.Host, route netip.Prefix) error {
	err := measure.Until(ctx, func() (bool, error) {
		s, err := measure.ReadSpeaker(ctx, node)
		if err != nil {
			return false, g.speakers[node.Name()].Err() // it does not listen yet
		}
		return len(s.Up) == len(g.routers), nil
	})
	if err != nil {
		return err
	}
	for _, router := range g.routers {
		_, err := router.AwaitBGPRoute(ctx, route, "has no stale path", func(r lab.BGPRoute) bool {
			for _, path := range r.Paths {
				if path.Stale {
					return false
				}
			}
			return len(r.Paths) == len(g.nodes)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// serveWeb adds a pod on every node and a Service that leads to them.
func (g *bgpBench) serveWeb() (netip.Prefix, error) {
	labels := map[string]string{"app": "web"}
	for _, node := range g.Nodes() {
		if _, err := g.AddPod(g.ctx, lab.Pod{Namespace: namespace, Name: "web-" + node.Name(), Labels: labels, Node: node.Name()}); err != nil {
			return netip.Prefix{}, err
		}
	}
	svc := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "web", Annotations: map[string]string{
			v1alpha2.AnnotationLoadBalancer: v1alpha2.LoadBalancerValue,
			v1alpha2.AnnotationPool:         bigPool,
		}},
		Spec: corev1.ServiceSpec{
			Type:     corev1.ServiceTypeLoadBalancer,
			Selector: labels,
			Ports:    []corev1.ServicePort{{Port: 80, TargetPort: intstr.FromInt32(80)}},
		},
	}
	if _, err := g.clientset.CoreV1().Services(namespace).Create(g.ctx, svc, metav1.CreateOptions{}); err != nil {
		return netip.Prefix{}, fmt.Errorf("creating Service %s: %w", svc.Name, err)
	}
	if err := g.patiently(func(ctx context.Context) error { return g.journal.Await(ctx, 1, svc.Name) }); err != nil {
		return netip.Prefix{}, err
	}
	g.announced = append(g.announced, svc.Name)
	return g.prefixOf(svc.Name)
}
