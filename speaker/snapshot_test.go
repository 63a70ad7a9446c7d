package speaker

import (
	"net/netip"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fairway-lb/fairway/api/v1alpha2"
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
		Ports:       []discoveryv1.EndpointPort{{Name: new(""), Port: new(int32(8080))}},
		Endpoints:   []discoveryv1.Endpoint{{Addresses: []string{"fd00::1"}, NodeName: &node}},
	}}
	svc := assigned("192.168.93.231", "2001:db8::1", "", "junk", "192.168.93.232")
	svc.Status.LoadBalancer.Ingress[2].Hostname = "lb.example.com"
	proxy := corev1.LoadBalancerIPModeProxy
	svc.Status.LoadBalancer.Ingress[4].IPMode = &proxy
	svc.Spec.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyLocal

	svc.Namespace, svc.Name, svc.UID, svc.CreationTimestamp = "dev", "web", "uid-1", metav1.Unix(7, 0)

	got := addressesOf(svc, slices)
	if len(got) != 2 {
		t.Fatalf("%d addresses, want the two plain ones: %v", len(got), got)
	}
	for addr, any := range map[string]bool{"192.168.93.231": false, "2001:db8::1": true} {
		a := got[netip.MustParseAddr(addr)]
		if a.Endpoints.Any() != any {
			t.Errorf("%s has endpoints: %v, want %v", addr, a.Endpoints.Any(), any)
		}
		if !a.LocalPolicy || a.pool != "eip-pool" || a.subject() != (subject{client.ObjectKeyFromObject(svc), "uid-1"}) || a.Created.Unix() != 7 {
			t.Errorf("the tenant of %s is %+v", addr, a)
		}
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
			n.Status.Conditions = []corev1.NodeCondition{{Type: "Ready", Status: "True", LastHeartbeatTime: now}}
		}, false, false},
		{"not ready", func(n *corev1.Node) {
			n.Status.Conditions = []corev1.NodeCondition{{Type: "Ready", Status: "Unknown"}}
		}, false, true},
		{"another address", func(n *corev1.Node) {
			n.Status.Addresses = []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: "192.168.93.12"}}
		}, false, true},
		{"another rack", func(n *corev1.Node) { n.Labels = map[string]string{v1alpha2.LabelRack: "a"} }, false, true},
		{"a label of this node", func(n *corev1.Node) { n.Name, n.Labels = "n1", map[string]string{"zone": "a"} }, false, true},
		{"another label", func(n *corev1.Node) { n.Labels = map[string]string{"zone": "a"} }, false, false},
		{"excluded", func(n *corev1.Node) { n.Labels = excluded }, false, true},
		{"excluded, which is to be ignored", func(n *corev1.Node) { n.Labels = excluded }, true, false},
		{"being deleted", func(n *corev1.Node) { n.DeletionTimestamp = &now }, false, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			old, updated := &corev1.Node{}, &corev1.Node{}
			test.change(updated)
			s := &Speaker{Config: Config{NodeName: "n1", IgnoreExcludeLabel: test.ignore}}
			if got := s.nodeChanged(old, updated); got != test.changed {
				t.Errorf("nodeChanged = %v", got)
			}
		})
	}
}
