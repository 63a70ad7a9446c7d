package dataplanetest

import (
	"net/netip"
	"sync/atomic"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/fairway-lb/fairway/dataplane/service"
	"github.com/fairway-lb/fairway/internal/uml"
)

// policyChanges are enough to meet a moment in which a packet from within the
// node finds no endpoint, if there is one.
var policyChanges = func() int {
	if uml.Inside() {
		return 60
	}
	return 300
}()

// Who asks from within the node gets an answer whatever externalTrafficPolicy is,
// also in the moment in which it changes, alone or with the endpoints.
func testPolicyChanges(t *testing.T, subject Subject) {
	c := subject.NewScene(t, WithPods, nil, OnPod1, OnRemote)
	var total atomic.Int64
	for family := range 2 {
		for _, from := range []*Host{c.Node, c.Pod3} {
			for _, to := range []netip.AddrPort{
				netip.AddrPortFrom(c.VIP()[family], 80),
				netip.AddrPortFrom(c.Node.Addrs[family], c.NodePort()),
			} {
				t.Cleanup(c.prober(from, service.TCP, to, &total, "pod1", "remote"))
			}
		}
	}
	for i := range policyChanges {
		var edit func(*corev1.ServiceSpec)
		if i%2 == 0 {
			edit = PolicyLocal
		}
		c.State.SetService(NewService(c.Frontends, edit))
		if i%3 == 0 { // in turn with both policies
			SetEndpoints(c.State, c.Frontends, OnRemote(c.Lab))
		} else {
			SetEndpoints(c.State, c.Frontends, OnPod1(c.Lab), OnRemote(c.Lab))
		}
		Sync(t, c.Backend, c.State)
		for answered := total.Load(); !t.Failed() && total.Load() < answered+8; {
			c.Pod3.Dial(service.TCP, netip.AddrPortFrom(c.ClusterIP()[0], 80)) // others have a turn meanwhile
		}
	}
	t.Logf("%d connections", total.Load())
}
