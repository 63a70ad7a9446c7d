package dataplanetest

import (
	"net/netip"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/fairway-lb/fairway/dataplane"
	"github.com/fairway-lb/fairway/dataplane/service"
)

// Scene is one Service in the lab, to be asked of in both families.
type Scene struct {
	*Lab
	Frontends
	Backend dataplane.Backend
	State   *service.State
}

// NewScene starts the subject with the Service of NewService.
func (subject Subject) NewScene(t *testing.T, config dataplane.Config, edit func(*corev1.ServiceSpec), endpoints ...func(*Lab) Endpoint) *Scene {
	l := NewLab(t)
	l.deviates = subject.Deviates
	c := &Scene{l, Frontends{1}, subject.Start(t, config), service.NewState(ThisNode)}
	c.State.SetService(NewService(c.Frontends, edit))
	var all []Endpoint
	for _, e := range endpoints {
		all = append(all, e(l))
	}
	c.Set(all...)
	return c
}

// Set replaces the endpoints, and applies what has changed.
func (c *Scene) Set(endpoints ...Endpoint) {
	c.T.Helper()
	SetEndpoints(c.State, c.Frontends, endpoints...)
	Sync(c.T, c.Backend, c.State)
}

// Ready endpoints.
func OnPod1(l *Lab) Endpoint   { return Endpoint{l.Pod1, Ready} }
func OnPod2(l *Lab) Endpoint   { return Endpoint{l.Pod2, Ready} }
func OnRemote(l *Lab) Endpoint { return Endpoint{l.Remote, Ready} }

// Ask checks a connection in both families and protocols.
func (c *Scene) Ask(what string, from *Host, to [2]netip.Addr, port uint16, as Source, want ...string) {
	c.T.Helper()
	var cells []Cell
	for _, addr := range to {
		for _, p := range []service.Protocol{service.TCP, service.UDP} {
			cells = append(cells, Cell{what, from, p, netip.AddrPortFrom(addr, port), want, as})
		}
	}
	c.Check(cells)
}

// PolicyLocal sets externalTrafficPolicy: Local.
func PolicyLocal(spec *corev1.ServiceSpec) {
	spec.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyLocal
}

// Prefixes parses them.
func Prefixes(texts ...string) []netip.Prefix {
	var all []netip.Prefix
	for _, text := range texts {
		all = append(all, netip.MustParsePrefix(text))
	}
	return all
}

// WithPods is the configuration of most tests.
var WithPods = dataplane.Config{Pods: dataplane.Detector{CIDRs: PodCIDRs}}
