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
	backend *dataplane.Backend // what is closed in the end
}

// NewScene starts the subject with the Service of NewService.
func (subject Subject) NewScene(t *testing.T, config dataplane.Config, edit func(*corev1.ServiceSpec), endpoints ...func(*Lab) Endpoint) *Scene {
	l := NewLab(t)
	l.deviates = subject.Deviates
	backend := subject.start(t, config)
	c := &Scene{l, Frontends{1}, *backend, service.NewState(ThisNode), backend}
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
	c.Check(append(c.cells(what, service.TCP, from, to, port, as, want), c.cells(what, service.UDP, from, to, port, as, want)...))
}

// AskBy checks a connection in both families by one protocol.
func (c *Scene) AskBy(what string, protocol service.Protocol, from *Host, to [2]netip.Addr, port uint16, as Source, want ...string) {
	c.T.Helper()
	c.Check(c.cells(what, protocol, from, to, port, as, want))
}

func (c *Scene) cells(what string, protocol service.Protocol, from *Host, to [2]netip.Addr, port uint16, as Source, want []string) []Cell {
	return []Cell{
		{what, from, protocol, netip.AddrPortFrom(to[0], port), want, as},
		{what, from, protocol, netip.AddrPortFrom(to[1], port), want, as},
	}
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
