package speaker

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
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
	addr4, addr6 := InternalIPs(node)
	return plan.Node{
		Excluded: excluded && !ignoreExcludeLabel,
		Deleting: !node.DeletionTimestamp.IsZero(),
		NotReady: slices.ContainsFunc(node.Status.Conditions, func(c corev1.NodeCondition) bool {
			return c.Type == corev1.NodeReady && c.Status != corev1.ConditionTrue
		}),
		Rack:  node.Labels[v1alpha2.LabelRack],
		Addr4: addr4,
		Addr6: addr6,
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

// readServices enters all Services that have an address into the book. One
// that cannot be read does not hold up the others; its own request will try
// again.
func (s *Speaker) readServices(ctx context.Context) error {
	var list corev1.ServiceList
	if err := s.Reader.List(ctx, &list, client.UnsafeDisableDeepCopy); err != nil {
		return fmt.Errorf("listing Services: %w", err)
	}
	var errs []error
	for i := range list.Items {
		if svc := &list.Items[i]; holdsAddress(svc) {
			_, err := s.enter(ctx, client.ObjectKeyFromObject(svc), svc)
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// readService enters one Service into the book, or strikes it out if it is
// gone, going or not ours. It returns the addresses that it had or has.
func (s *Speaker) readService(ctx context.Context, name types.NamespacedName) (touched []netip.Addr, err error) {
	var svc corev1.Service
	if err := s.Reader.Get(ctx, name, &svc); apierrors.IsNotFound(err) {
		return s.book.enter(name, nil), nil
	} else if err != nil {
		return nil, fmt.Errorf("reading Service %s: %w", name, err)
	}
	return s.enter(ctx, name, &svc)
}

func (s *Speaker) enter(ctx context.Context, name types.NamespacedName, svc *corev1.Service) (touched []netip.Addr, err error) {
	if !holdsAddress(svc) || !svc.DeletionTimestamp.IsZero() {
		return s.book.enter(name, nil), nil
	}
	endpointSlices, err := s.endpointSlices(ctx, name)
	if err != nil {
		return nil, err
	}
	return s.book.enter(name, addressesOf(svc, endpointSlices)), nil
}

// addressesOf reads a Service that has addresses. Those that a proxy answers
// for (ipMode Proxy, KEP-1860) are not announced.
func addressesOf(svc *corev1.Service, slices []*discoveryv1.EndpointSlice) map[netip.Addr]tenant {
	addresses := make(map[netip.Addr]tenant, len(svc.Status.LoadBalancer.Ingress))
	for _, ingress := range svc.Status.LoadBalancer.Ingress {
		addr, err := netip.ParseAddr(ingress.IP)
		if err != nil || (ingress.IPMode != nil && *ingress.IPMode != corev1.LoadBalancerIPModeVIP) {
			continue // a hostname or a proxy's address
		}
		family := discoveryv1.AddressTypeIPv4
		if addr.Is6() {
			family = discoveryv1.AddressTypeIPv6
		}
		addresses[addr] = tenant{
			Tenant: plan.Tenant{
				Service:     client.ObjectKeyFromObject(svc),
				Created:     svc.CreationTimestamp.Time,
				LocalPolicy: svc.Spec.ExternalTrafficPolicy == corev1.ServiceExternalTrafficPolicyLocal,
				Endpoints:   service.ReadEndpoints(slices, family),
			},
			uid:  svc.UID,
			pool: svc.Labels[v1alpha2.LabelPool],
		}
	}
	return addresses
}
