package speaker

import (
	"fmt"
	"reflect"
	"testing"

	discoveryv1 "k8s.io/api/discovery/v1"

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
