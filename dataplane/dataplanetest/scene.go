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
	put     *[]Cell            // questions to be asked together, or nil
}

// NewScene starts the subject with the Service of NewService.
func (subject Subject) NewScene(t *testing.T, config dataplane.Config, edit func(*corev1.ServiceSpec), endpoints ...func(*Lab) Endpoint) *Scene {
	return subject.newScene(t, subject.Lab(t), config, edit, endpoints...)
}

// newScene is for a lab that has been prepared.
func (subject Subject) newScene(t *testing.T, l *Lab, config dataplane.Config, edit func(*corev1.ServiceSpec), endpoints ...func(*Lab) Endpoint) *Scene {
	backend := subject.start(t, config)
	c := &Scene{Lab: l, Frontends: Frontends{1}, Backend: *backend, State: service.NewState(ThisNode), backend: backend}
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
	c.ask(append(c.cells(what, service.TCP, from, to, port, as, want), c.cells(what, service.UDP, from, to, port, as, want)...))
}

// AskBy checks a connection in both families by one protocol.
func (c *Scene) AskBy(what string, protocol service.Protocol, from *Host, to [2]netip.Addr, port uint16, as Source, want ...string) {
	c.T.Helper()
	c.ask(c.cells(what, protocol, from, to, port, as, want))
}

// Together has what f asks be asked at once: it takes long to hear nothing.
func (c *Scene) Together(f func()) {
	c.T.Helper()
	var cells []Cell
	c.put = &cells
	f()
	c.put = nil
	c.Check(cells)
}

func (c *Scene) ask(cells []Cell) {
	c.T.Helper()
	if c.put != nil {
		*c.put = append(*c.put, cells...)
		return
	}
	c.Check(cells)
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
