// Package dataplanetest shows on real packets that a dataplane.Backend does
// what a Service means. Each backend runs the same tests on itself: the table
// of decisions, and what happens while things change.
package dataplanetest

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/fairway-lb/fairway/dataplane"
	"github.com/fairway-lb/fairway/dataplane/service"
)

// Subject is the backend under test.
type Subject struct {
	New     func(dataplane.Config) (dataplane.Backend, error)
	Cleanup func() error
	// Content is what of the backend is in the kernel, a line each in any
	// order, without what traffic leaves there. It may not depend on the way
	// in which it came about.
	Content func() ([]string, error)
	// Damage is what others may do to it.
	Damage []Damage
	// Deviates changes what a kernel forces to be otherwise. nil is nothing.
	Deviates func(*Cell)
	// AnswersByClient says that the kernel knows the flow of an answer by its
	// client and endpoint, not by its frontend, so that hosts are to ask from
	// another port each time. What comes of the same port has its own test.
	AnswersByClient bool
	// UDPGrace is how long flows of UDP may stay with an endpoint that serves no
	// longer.
	UDPGrace time.Duration
	// OwnAffinityTimeout says that the backend has a test of its own for when
	// a client is free again: the kernel does not count from its last flow.
	OwnAffinityTimeout bool
	// AffinityByFrontend says that a client may have another endpoint at each
	// frontend of a Service.
	AffinityByFrontend bool
	// AffinityForgets says that of hundreds of clients not all are remembered.
	AffinityForgets bool
	// NoHash says that the backend cannot choose by a hash of the client.
	NoHash bool
	// HashLags says that while an endpoint that has left has flows, other nodes
	// may choose otherwise for the clients of one endpoint or two.
	HashLags bool
	// NoLocalhostNodePorts says that New refuses that option.
	NoLocalhostNodePorts bool

	shared *Lab // by all tests
}

// Damage is something that is not to be, done by someone else.
type Damage struct {
	Name string
	Do   func() error
}

// Run runs all tests that are the same for all backends.
func Run(t *testing.T, subject Subject) {
	if subject.shared == nil {
		subject = subject.InOneLab(t)
	}
	for _, test := range []struct {
		name string
		run  func(*testing.T, Subject)
	}{
		{"Decisions", testDecisions},
		{"SourceRanges", testSourceRanges},
		{"Hairpin", testHairpin},
		{"Detectors", testDetectors},
		{"NodePortAddresses", testNodePortAddresses},
		{"LocalhostNodePorts", testLocalhostNodePorts},
		{"VIPOnNode", testVIPOnNode},
		{"SourceRangeOfNode", testSourceRangeOfNode},
		{"ProxyMode", testProxyMode},
		{"WithoutService", testWithoutService},
		{"HostNetworkEndpoint", testHostNetworkEndpoint},
		{"SCTP", testSCTP},
		{"MixedProtocols", testMixedProtocols},
		{"SamePort", testSamePort},
		{"ThousandPorts", testThousandPorts},
		{"Shares", testShares},
		{"Affinity", testAffinity},
		{"AffinityTimeout", testAffinityTimeout},
		{"AffinityOfFrontends", testAffinityOfFrontends},
		{"AffinityOfMany", testAffinityOfMany},
		{"RefusedDatagram", testRefusedDatagram},
		{"ForwardPolicy", testForwardPolicy},
		{"Hash", testHash},
		{"HashTables", testHashTables},
		{"Established", testEstablished},
		{"UDPFlows", testUDPFlows},
		{"AbandonedConnection", testAbandonedConnection},
		{"DelayedPacket", testDelayedPacket},
		{"SelfHeal", testSelfHeal},
		{"PolicyChanges", testPolicyChanges},
		{"Churn", testChurn},
		{"Restart", testRestart},
		{"Reconfigure", testReconfigure},
		{"Idempotence", testIdempotence},
		{"Cleanup", testCleanup},
	} {
		if test.name == "AffinityTimeout" && subject.OwnAffinityTimeout {
			continue
		}
		t.Run(test.name, func(t *testing.T) { test.run(t, subject) })
	}
}

// InOneLab has a test and its subtests share a lab, until the test ends: it takes
// long to make one.
func (subject Subject) InOneLab(t testing.TB) Subject {
	subject.shared = NewLab(t)
	subject.shared.deviates, subject.shared.newPorts = subject.Deviates, subject.AnswersByClient
	return subject
}

// Lab returns the lab, as it is without a backend.
func (subject Subject) Lab(t testing.TB) *Lab {
	if subject.shared == nil {
		subject = subject.InOneLab(t)
	}
	l := *subject.shared
	l.T = t
	l.forgetFlows()
	return &l
}

// Start makes a backend that the kernel is rid of when the test ends.
func (subject Subject) Start(t testing.TB, config dataplane.Config) dataplane.Backend {
	t.Helper()
	return *subject.start(t, config)
}

// start returns where the backend is, so that it can be closed earlier and
// followed by another.
func (subject Subject) start(t testing.TB, config dataplane.Config) *dataplane.Backend {
	t.Helper()
	b, err := subject.New(config)
	must(t, err)
	t.Cleanup(func() {
		must(t, b.Close())
		must(t, subject.Cleanup())
	})
	return &b
}

// everything is what a backend that starts is told.
func everything(s *service.State) []service.PortChange {
	var all []service.PortChange
	for name, p := range s.Ports() {
		all = append(all, service.PortChange{Name: name, After: p})
	}
	return all
}

func (subject Subject) content(t testing.TB) []string {
	t.Helper()
	lines, err := subject.Content()
	must(t, err)
	slices.Sort(lines)
	return lines
}

// EqualContent fails the test, with the difference, where there is one.
func EqualContent(t testing.TB, what string, got, want []string) {
	t.Helper()
	if slices.Equal(got, want) {
		return
	}
	only := func(a, b []string) string {
		in := map[string]int{}
		for _, x := range b {
			in[x]++
		}
		return strings.Join(slices.DeleteFunc(slices.Clone(a), func(x string) bool { in[x]--; return in[x] >= 0 }), "\n  ")
	}
	t.Fatalf("%s: what is in the kernel differs\nonly there:\n  %s\nmissing:\n  %s", what, only(got, want), only(want, got))
}

// AwaitChange waits until the backend has noticed what others did.
func AwaitChange(t testing.TB, b dataplane.Backend) {
	t.Helper()
	select {
	case <-b.Changed():
	case <-time.After(patienceWithBackend):
		t.Fatal("nobody noticed in a minute")
	}
}

// patienceWithBackend is longer than any interval at which one looks.
const patienceWithBackend = time.Minute
