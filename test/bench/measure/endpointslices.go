package measure

import (
	"context"
	"fmt"

	"golang.org/x/sync/errgroup"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// EndpointSlice is one with an endpoint on a node, of a Service that has no
// selector. It has the Service's name.
func EndpointSlice(namespace, service, node string, ready bool) *discoveryv1.EndpointSlice {
	return &discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: namespace,
			Name:      service,
			Labels: map[string]string{
				discoveryv1.LabelServiceName: service,
				discoveryv1.LabelManagedBy:   "bench",
				// As the Service has; see there.
				serviceProxyName: noServiceProxy,
			},
		},
		AddressType: discoveryv1.AddressTypeIPv4,
		Endpoints: []discoveryv1.Endpoint{{
			Addresses:  []string{"10.244.1.9"},
			NodeName:   &node,
			Conditions: discoveryv1.EndpointConditions{Ready: &ready, Serving: &ready},
		}},
		Ports: []discoveryv1.EndpointPort{{Name: new("http"), Port: new(int32(80))}},
	}
}

// EndpointSlices gives each of the Services a ready endpoint on a node.
func (c *Creator) EndpointSlices(ctx context.Context, node string, services ...string) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(Clients)
	for _, service := range services {
		group.Go(func() error {
			slice := EndpointSlice(c.namespace, service, node, true)
			if _, err := c.client.DiscoveryV1().EndpointSlices(c.namespace).Create(ctx, slice, metav1.CreateOptions{}); err != nil {
				return fmt.Errorf("creating EndpointSlice %s: %w", service, err)
			}
			return nil
		})
	}
	return group.Wait()
}
