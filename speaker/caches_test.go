package speaker

import (
	"fmt"
	"reflect"
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fairway-lb/fairway/dataplane/service"
)

// TestTrimmedSlices: what the cache does not keep changes nothing in where
// endpoints are, whoever forwards.
func TestTrimmedSlices(t *testing.T) {
	node := "n1"
	endpoints := []discoveryv1.Endpoint{{Addresses: []string{"10.0.0.1"}, NodeName: &node}}
	for _, forwards := range []bool{false, true} {
		for _, test := range []struct {
			name  string
			ports []discoveryv1.EndpointPort
			any   bool
		}{
			{"a port", []discoveryv1.EndpointPort{{Name: new("http"), Port: new(int32(8080))}}, true},
			{"no ports", nil, false},
			{"a port without a number", []discoveryv1.EndpointPort{{Name: new("http")}}, false},
		} {
			t.Run(fmt.Sprintf("%s, forwards: %v", test.name, forwards), func(t *testing.T) {
				slice := &discoveryv1.EndpointSlice{AddressType: discoveryv1.AddressTypeIPv4, Ports: test.ports, Endpoints: endpoints}
				trimmed, err := endpointSliceTrimmer(forwards)(slice)
				if err != nil {
					t.Fatal(err)
				}
				got := service.ReadEndpoints([]*discoveryv1.EndpointSlice{trimmed.(*discoveryv1.EndpointSlice)}, discoveryv1.AddressTypeIPv4)
				want := service.ReadEndpoints([]*discoveryv1.EndpointSlice{slice}, discoveryv1.AddressTypeIPv4)
				if got.Any() != test.any || !reflect.DeepEqual(got, want) {
					t.Errorf("%+v of what is kept, %+v of the slice", got, want)
				}
			})
		}
	}
}

// The dataplane follows the podCIDRs of its own Node, which the cache has to keep.
func TestNodeTrimmer(t *testing.T) {
	trim := nodeTrimmer("own")
	for name, want := range map[string][]string{"own": {"10.244.1.0/24"}, "other": nil} {
		node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: corev1.NodeSpec{PodCIDRs: []string{"10.244.1.0/24"}}}
		trimmed, err := trim(node)
		if err != nil {
			t.Fatal(err)
		}
		if got := trimmed.(*corev1.Node).Spec.PodCIDRs; !slices.Equal(got, want) {
			t.Errorf("node %s: kept %v, want %v", name, got, want)
		}
	}
}
