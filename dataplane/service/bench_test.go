package service

import (
	"fmt"
	"net/netip"
	"runtime"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
)

// many is as many Services as a large cluster has.
const many = 10_000

// numbered is Service i with a cluster IP, a load-balancer address and a node
// port, as the API server has it.
func numbered(i int) *corev1.Service {
	object := svc(fmt.Sprint("service-", i), clusterIPs(netip.AddrFrom4([4]byte{10, 96, byte(i >> 8), byte(i)}).String()),
		ingress(netip.AddrFrom4([4]byte{198, 18, byte(i >> 8), byte(i)}).String()))
	object.Spec.Ports[0].NodePort = int32(30000 + i)
	return object
}

// numberedSlice is the slice of Service i, with n endpoints from the first.
func numberedSlice(i, first, n int) *discoveryv1.EndpointSlice {
	s := epSlice(fmt.Sprintf("service-%d-x", i), fmt.Sprint("service-", i))
	for j := first; j < first+n; j++ {
		node, is := fmt.Sprint("node-", j%50), true
		s.Endpoints = append(s.Endpoints, discoveryv1.Endpoint{
			Addresses:  []string{netip.AddrFrom4([4]byte{10, byte(128 + j), byte(i >> 8), byte(i)}).String()},
			NodeName:   &node,
			Conditions: discoveryv1.EndpointConditions{Ready: &is, Serving: &is},
		})
	}
	return s
}

// BenchmarkSwapEndpoint replaces one of two endpoints of one of 10,000
// Services.
func BenchmarkSwapEndpoint(b *testing.B) {
	s := newState()
	for i := range many {
		feed(s, numbered(i), numberedSlice(i, 0, 2))
	}
	s.Changes()
	objects := []*discoveryv1.EndpointSlice{numberedSlice(5000, 1, 2), numberedSlice(5000, 0, 2)}
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		s.SetEndpointSlice(objects[i%2])
		i++
		if n := len(s.Changes().Ports); n != 1 {
			b.Fatalf("%d ports changed", n)
		}
	}
}

// BenchmarkUnchangedSlice hears again of what it knows.
func BenchmarkUnchangedSlice(b *testing.B) {
	s := feed(newState(), numbered(0), numberedSlice(0, 0, 10))
	s.Changes()
	object := numberedSlice(0, 0, 10)
	b.ReportAllocs()
	for b.Loop() {
		s.SetEndpointSlice(object)
		s.Changes()
	}
}

// BenchmarkFill begins with 10,000 Services of 10 endpoints. The metric is
// what of it stays in memory.
func BenchmarkFill(b *testing.B) {
	objects := make([]any, 0, 2*many)
	for i := range many {
		objects = append(objects, numbered(i), numberedSlice(i, 0, 10))
	}
	b.ReportAllocs()
	var held uint64
	for b.Loop() {
		b.StopTimer()
		before := heap()
		b.StartTimer()
		s := feed(newState(), objects...)
		if n := len(s.Changes().Ports); n != many {
			b.Fatalf("%d ports", n)
		}
		b.StopTimer()
		held = heap() - before
		runtime.KeepAlive(s)
		b.StartTimer()
	}
	b.ReportMetric(float64(held)/many, "held-B/service")
}

func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
