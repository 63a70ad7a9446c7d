package speaker

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fairway-lb/fairway/api/v1alpha2"
	"github.com/fairway-lb/fairway/speaker/plan"
)

// assigned is a Service as the controller leaves it.
func assigned(ips ...string) *corev1.Service {
	svc := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{v1alpha2.LabelPool: "eip-pool"}}}
	svc.Spec.Type = corev1.ServiceTypeLoadBalancer
	for _, ip := range ips {
		svc.Status.LoadBalancer.Ingress = append(svc.Status.LoadBalancer.Ingress, corev1.LoadBalancerIngress{IP: ip})
	}
	return svc
}

func TestHoldsAddress(t *testing.T) {
	for _, test := range []struct {
		name   string
		change func(*corev1.Service)
		want   bool
	}{
		{"assigned", func(*corev1.Service) {}, true},
		{"without our label", func(s *corev1.Service) { s.Labels = nil }, false},
		{"without an address", func(s *corev1.Service) { s.Status.LoadBalancer.Ingress = nil }, false},
		{"of another type now", func(s *corev1.Service) { s.Spec.Type = corev1.ServiceTypeClusterIP }, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			svc := assigned("192.168.93.231")
			test.change(svc)
			if got := holdsAddress(svc); got != test.want {
				t.Errorf("holdsAddress = %v", got)
			}
		})
	}
}

func TestAddressesOf(t *testing.T) {
	node := "n1"
	slices := []*discoveryv1.EndpointSlice{{
		AddressType: discoveryv1.AddressTypeIPv6,
		Endpoints:   []discoveryv1.Endpoint{{Addresses: []string{"fd00::1"}, NodeName: &node}},
	}}
	pools := map[string]pool{"eip-pool": {Pool: plan.Pool{Name: "eip-pool", Protocol: "layer2"}}}
	svc := assigned("192.168.93.231", "2001:db8::1", "", "junk", "192.168.93.232")
	svc.Status.LoadBalancer.Ingress[2].Hostname = "lb.example.com"
	proxy := corev1.LoadBalancerIPModeProxy
	svc.Status.LoadBalancer.Ingress[4].IPMode = &proxy
	svc.Spec.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyLocal

	got := addressesOf(svc, slices, pools)
	if len(got) != 2 {
		t.Fatalf("%d addresses, want the two plain ones: %v", len(got), got)
	}
	for i, want := range []struct {
		addr string
		any  bool
	}{{"192.168.93.231", false}, {"2001:db8::1", true}} {
		a := got[i]
		if a.Addr.String() != want.addr || a.Endpoints.Any() != want.any || !a.LocalPolicy || a.Pool.Name != "eip-pool" {
			t.Errorf("address %d: %+v, want %s with endpoints: %v", i, a, want.addr, want.any)
		}
	}
	svc.Labels[v1alpha2.LabelPool] = "gone"
	if got := addressesOf(svc, slices, pools); got[0].Pool != (plan.Pool{}) {
		t.Errorf("the pool of a missing Eip is %v, want the zero Pool", got[0].Pool)
	}
}

func TestNodeChanged(t *testing.T) {
	excluded := map[string]string{corev1.LabelNodeExcludeBalancers: ""}
	now := metav1.Now()
	for _, test := range []struct {
		name    string
		change  func(*corev1.Node)
		ignore  bool
		changed bool
	}{
		{"a heartbeat", func(n *corev1.Node) {
			n.ResourceVersion = "2"
			n.Status.Conditions = []corev1.NodeCondition{{Type: "Ready"}}
		}, false, false},
		{"another label", func(n *corev1.Node) { n.Labels = map[string]string{"zone": "a"} }, false, false},
		{"excluded", func(n *corev1.Node) { n.Labels = excluded }, false, true},
		{"excluded, which is to be ignored", func(n *corev1.Node) { n.Labels = excluded }, true, false},
		{"being deleted", func(n *corev1.Node) { n.DeletionTimestamp = &now }, false, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			old, updated := &corev1.Node{}, &corev1.Node{}
			test.change(updated)
			if got := nodeChanged(old, updated, test.ignore); got != test.changed {
				t.Errorf("nodeChanged = %v", got)
			}
		})
	}
}
