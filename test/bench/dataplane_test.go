package main

import (
	"net/netip"
	"testing"
)

// Each candidate swaps endpoints of Services of its own, none of them one whose
// connections are timed.
func TestSwappedServices(t *testing.T) {
	const swaps = 7
	d := &dataplaneBench{sizes: sizes{swaps: swaps, services: leastServices(swaps)}}
	d.candidates = [candidateCount]*candidate{d.kubeProxy("nftables"), d.kubeProxy("iptables"), d.fairway("nftables"), d.fairway("iptables")}
	timed := map[int]bool{0: true, d.services - 1: true}
	seen := map[int]string{}
	for n, c := range d.candidates {
		c.number = n
		for i := range swaps + 1 {
			number := d.swapped(c, i)
			if timed[number] || number < 0 || number >= d.services {
				t.Errorf("%s swaps an endpoint of Service %d of %d", c.name, number, d.services)
			}
			if other, ok := seen[number]; ok {
				t.Errorf("%s and %s swap an endpoint of Service %d", c.name, other, number)
			}
			seen[number] = c.name
		}
	}
}

func TestEndpointsAreOfTheirPods(t *testing.T) {
	for _, number := range []int{0, 255, 256, 29_999} {
		for _, test := range []struct {
			network   string
			endpoints []int
		}{
			{oldEndpoints, numbers(endpointsForMemory)},
			{newEndpoints, []int{newEndpoint}},
		} {
			for _, e := range test.endpoints {
				if addr := endpointAddress(number, e); !netip.MustParsePrefix(test.network).Contains(addr) {
					t.Errorf("endpoint %d of Service %d is %v, not in %s", e, number, addr, test.network)
				}
			}
		}
		if ip := clusterIP(number); !netip.MustParsePrefix(serviceCIDR).Contains(ip) {
			t.Errorf("Service %d has %v", number, ip)
		}
	}
}
