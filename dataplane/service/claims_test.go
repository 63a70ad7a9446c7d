package service

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
)

// owners returns which Services have a frontend, and all findings.
func owners(s *State, frontend string) (names []string, findings []string) {
	findings = findingsOf(s)
	for name, port := range s.Ports() {
		if slices.Contains(frontends(port), frontend) {
			names = append(names, name.Name)
		}
	}
	return names, findings
}

func expectOwner(t *testing.T, s *State, frontend, owner string, losers ...string) {
	t.Helper()
	names, findings := owners(s, frontend)
	if !slices.Equal(names, []string{owner}) {
		t.Errorf("%s leads to %q, want %s", frontend, names, owner)
	}
	var lost []string
	for _, f := range findings {
		if !strings.Contains(f, " belongs to the older Service default/"+owner+" ") {
			t.Errorf("finding %q, want %s as the owner", f, owner)
		}
		lost = append(lost, strings.TrimSuffix(strings.TrimPrefix(strings.Fields(f)[1], "default/"), ":"))
	}
	if !slices.Equal(lost, losers) {
		t.Errorf("findings about %q, want %q", lost, losers)
	}
}

func TestFrontendOfTwoServices(t *testing.T) {
	for frontend, change := range map[string]func(*corev1.Service){
		"NodePort 0.0.0.0:30080":    nodePort(30080),
		"LoadBalancer 192.0.2.1:80": ingress("192.0.2.1"),
		"ExternalIP 192.0.2.1:80":   externalIPs("192.0.2.1"),
	} {
		t.Run(frontend, func(t *testing.T) {
			younger := svc("a", clusterIPs("10.96.0.11"), createdAt(20), change)
			older := svc("b", clusterIPs("10.96.0.12"), createdAt(10), change)
			twin := svc("c", clusterIPs("10.96.0.13"), createdAt(10), change)
			for name, s := range map[string]*State{
				"younger first": feed(newState(), younger, twin, older),
				"older first":   feed(newState(), older, twin, younger),
				"between":       feed(newState(), twin, older, younger),
			} {
				t.Run(name, func(t *testing.T) {
					expectOwner(t, s, frontend, "b", "a", "c")
					s.DeleteService(named("b"))
					expectOwner(t, s, frontend, "c", "a")
					s.SetService(svc("c", clusterIPs("10.96.0.13"), createdAt(10)))
					expectOwner(t, s, frontend, "a")
					s.SetService(older)
					expectOwner(t, s, frontend, "b", "a")
					// The owner is made anew.
					s.SetService(svc("b", clusterIPs("10.96.0.12"), createdAt(30), change))
					expectOwner(t, s, frontend, "a", "b")
					s.DeleteService(named("b"))
					expectOwner(t, s, frontend, "a")
					s.DeleteService(named("a"))
					s.DeleteService(named("c"))
					s.Changes()
					if n := len(s.claims.holders) + len(s.claims.contenders) + len(s.services); n > 0 {
						t.Errorf("%d remain of nothing", n)
					}
				})
			}
		})
	}
}

func TestFindingOfTakenFrontend(t *testing.T) {
	for want, change := range map[string]func(*corev1.Service){
		"port 30080/TCP of the nodes": nodePort(30080),
		"192.0.2.1:80/TCP":            ingress("192.0.2.1"),
	} {
		got := findingsOf(feed(newState(), svc("a", clusterIPs("10.96.0.11", "fd00::11"), change), svc("b", clusterIPs("10.96.0.12", "fd00::12"), change)))
		if want := []string{"Service default/b: " + want + " belongs to the older Service default/a and does not lead to this one until that one gives it up: change one of the two"}; !slices.Equal(got, want) {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

func TestSharedAddressIsNoConflict(t *testing.T) {
	port := func(number int32, protocol corev1.Protocol) func(*corev1.Service) {
		return func(s *corev1.Service) {
			s.Spec.Ports[0] = corev1.ServicePort{Name: "http", Protocol: protocol, Port: number, NodePort: number + 30000}
		}
	}
	s := feed(newState(),
		svc("a", clusterIPs("10.96.0.11"), ingress("192.0.2.1"), port(80, corev1.ProtocolTCP)),
		svc("b", clusterIPs("10.96.0.12"), ingress("192.0.2.1"), port(80, corev1.ProtocolUDP)),
		svc("c", clusterIPs("10.96.0.13"), ingress("192.0.2.1"), port(81, corev1.ProtocolTCP)),
	)
	if findings := findingsOf(s); len(findings) > 0 {
		t.Errorf("findings %q", findings)
	}
	for name, p := range portsOf(s) {
		if len(p.Frontends) != 3 {
			t.Errorf("%s has %q", name, frontends(p))
		}
	}
}

// TestPortWithoutFrontend has a Service that lost all it had.
func TestPortWithoutFrontend(t *testing.T) {
	s := feed(newState(), svc("a"), svc("web", internalLocal), epSlice("a", "web", ready))
	if p := portsOf(s)[web(IPv4)]; p != nil {
		t.Errorf("there is %s", text(p))
	}
	s.DeleteService(named("a"))
	if p := portsOf(s)[web(IPv4)]; p == nil {
		t.Error("the Service did not get back what it lost")
	}
}

// TestLostFrontendIsNotExternal has a Service whose only external frontend
// leads to another.
func TestLostFrontendIsNotExternal(t *testing.T) {
	p := read(t, web(IPv4), svc("a", clusterIPs("10.96.0.11"), nodePort(30080)), svc("web", nodePort(30080), externalLocal), epSlice("a", "web", ready))
	if p.NeedsLocal {
		t.Error("the local set is needed for nothing")
	}
}

func TestHealthCheckPortOfTwoServices(t *testing.T) {
	check := func(s *corev1.Service) { ingress("192.0.2.1")(s); externalLocal(s); s.Spec.HealthCheckNodePort = 32000 }
	s := feed(newState(), svc("a", clusterIPs("10.96.0.11"), nodePort(32000)), svc("b", clusterIPs("10.96.0.12"), check))
	if checks := s.Changes().HealthChecks; len(checks) > 0 {
		t.Errorf("health checks %v at a node port of another Service", checks)
	}
	s.DeleteService(named("a"))
	if checks := s.Changes().HealthChecks; len(checks) != 1 || checks[0].After.Port != 32000 {
		t.Errorf("health checks %v", checks)
	}
}

// TestClaimsConcernFew has work in proportion: one that wants in vain what
// thousand others want in vain concerns none of them.
func TestClaimsConcernFew(t *testing.T) {
	s := newState()
	for i := range 1000 {
		s.SetService(svc(fmt.Sprint("a", i), clusterIPs(fmt.Sprintf("10.96.%d.%d", 1+i/250, 1+i%250)), createdAt(int64(i)), nodePort(30080)))
	}
	s.Changes()
	s.SetService(svc("b", clusterIPs("10.97.0.1"), createdAt(500), nodePort(30080)))
	if len(s.dirty) != 1 {
		t.Errorf("%d Services are decided on", len(s.dirty))
	}
	s.Changes()
	s.DeleteService(named("b"))
	if len(s.dirty) != 1 {
		t.Errorf("%d Services are decided on", len(s.dirty))
	}
}
