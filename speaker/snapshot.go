package speaker

import (
	"context"
	"fmt"
	"net/netip"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fairway-lb/fairway/api/v1alpha2"
	"github.com/fairway-lb/fairway/dataplane/service"
	"github.com/fairway-lb/fairway/speaker/plan"
)

// sliceIndex finds the EndpointSlices of a Service in the cache.
const sliceIndex = "service"

// nodes returns what the plan needs to know of every Node.
func (s *Speaker) nodes(ctx context.Context) (map[string]plan.Node, error) {
	var list corev1.NodeList
	if err := s.Reader.List(ctx, &list, client.UnsafeDisableDeepCopy); err != nil {
		return nil, fmt.Errorf("listing Nodes: %w", err)
	}
	nodes := make(map[string]plan.Node, len(list.Items))
	for i := range list.Items {
		nodes[list.Items[i].Name] = planNode(&list.Items[i], s.IgnoreExcludeLabel)
	}
	return nodes, nil
}

func planNode(node *corev1.Node, ignoreExcludeLabel bool) plan.Node {
	_, excluded := node.Labels[corev1.LabelNodeExcludeBalancers]
	return plan.Node{
		Excluded: excluded && !ignoreExcludeLabel,
		Deleting: !node.DeletionTimestamp.IsZero(),
	}
}

// endpointSlices returns those of one Service. They are the cache's own and
// must not be changed.
func (s *Speaker) endpointSlices(ctx context.Context, name types.NamespacedName) ([]*discoveryv1.EndpointSlice, error) {
	var list discoveryv1.EndpointSliceList
	if err := s.Reader.List(ctx, &list, client.InNamespace(name.Namespace),
		client.MatchingFields{sliceIndex: name.Name}, client.UnsafeDisableDeepCopy); err != nil {
		return nil, fmt.Errorf("listing EndpointSlices of Service %s: %w", name, err)
	}
	slices := make([]*discoveryv1.EndpointSlice, len(list.Items))
	for i := range list.Items {
		slices[i] = &list.Items[i]
	}
	return slices, nil
}

// holdsAddress tells whether a Service has an address that Fairway gave it.
// The controller's label is the mark of that: an address that another
// controller wrote is not ours to announce.
func holdsAddress(svc *corev1.Service) bool {
	return svc.Spec.Type == corev1.ServiceTypeLoadBalancer &&
		svc.Labels[v1alpha2.LabelPool] != "" &&
		len(svc.Status.LoadBalancer.Ingress) > 0
}

// addressesOf reads a Service that holds addresses. Those that a proxy
// answers for (ipMode Proxy, KEP-1860) are not announced.
func addressesOf(svc *corev1.Service, slices []*discoveryv1.EndpointSlice, pools map[string]pool) []plan.Address {
	var addresses []plan.Address
	for _, ingress := range svc.Status.LoadBalancer.Ingress {
		addr, err := netip.ParseAddr(ingress.IP)
		if err != nil || (ingress.IPMode != nil && *ingress.IPMode != corev1.LoadBalancerIPModeVIP) {
			continue // a hostname or a proxy's address
		}
		family := discoveryv1.AddressTypeIPv4
		if addr.Is6() {
			family = discoveryv1.AddressTypeIPv6
		}
		addresses = append(addresses, plan.Address{
			Addr:        addr,
			Pool:        pools[svc.Labels[v1alpha2.LabelPool]].Pool,
			LocalPolicy: svc.Spec.ExternalTrafficPolicy == corev1.ServiceExternalTrafficPolicyLocal,
			Endpoints:   service.ReadEndpoints(slices, family),
		})
	}
	return addresses
}
