package speaker

import (
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fairway-lb/fairway/api/v1alpha2"
)

// CacheOptions returns what the manager's cache is to keep for a speaker: of
// the objects that there are thousands of, what the plan reads; Secrets and
// ConfigMaps of Fairway's own namespace only.
func CacheOptions(namespace string) cache.Options {
	own := cache.ByObject{Namespaces: map[string]cache.Config{namespace: {}}}
	return cache.Options{
		DefaultTransform: cache.TransformStripManagedFields(),
		ByObject: map[client.Object]cache.ByObject{
			&corev1.Service{}:            {Transform: trimService},
			&discoveryv1.EndpointSlice{}: {Transform: trimEndpointSlice},
			&corev1.Node{}:               {Transform: trimNode},
			&corev1.Secret{}:             own,
			&corev1.ConfigMap{}:          own,
		},
	}
}

func trimService(object any) (any, error) {
	svc, ok := object.(*corev1.Service)
	if !ok {
		return object, nil
	}
	trimmed := &corev1.Service{ObjectMeta: trimMeta(svc.ObjectMeta)}
	if pool, ok := svc.Labels[v1alpha2.LabelPool]; ok {
		trimmed.Labels = map[string]string{v1alpha2.LabelPool: pool}
	}
	trimmed.Spec.Type = svc.Spec.Type
	trimmed.Spec.ExternalTrafficPolicy = svc.Spec.ExternalTrafficPolicy
	trimmed.Status.LoadBalancer = svc.Status.LoadBalancer
	return trimmed, nil
}

func trimEndpointSlice(object any) (any, error) {
	slice, ok := object.(*discoveryv1.EndpointSlice)
	if !ok {
		return object, nil
	}
	trimmed := &discoveryv1.EndpointSlice{
		ObjectMeta:  trimMeta(slice.ObjectMeta),
		AddressType: slice.AddressType,
		Endpoints:   make([]discoveryv1.Endpoint, len(slice.Endpoints)),
	}
	if service, ok := slice.Labels[discoveryv1.LabelServiceName]; ok {
		trimmed.Labels = map[string]string{discoveryv1.LabelServiceName: service}
	}
	for i, endpoint := range slice.Endpoints {
		trimmed.Endpoints[i] = discoveryv1.Endpoint{
			Addresses:  endpoint.Addresses,
			Conditions: endpoint.Conditions,
			NodeName:   endpoint.NodeName,
		}
	}
	return trimmed, nil
}

func trimNode(object any) (any, error) {
	node, ok := object.(*corev1.Node)
	if !ok {
		return object, nil
	}
	trimmed := &corev1.Node{ObjectMeta: trimMeta(node.ObjectMeta)}
	trimmed.Labels = node.Labels
	trimmed.Status.Addresses = node.Status.Addresses
	for _, condition := range node.Status.Conditions {
		if condition.Type == corev1.NodeReady {
			trimmed.Status.Conditions = []corev1.NodeCondition{condition}
		}
	}
	return trimmed, nil
}

// trimMeta keeps what identifies an object and its version.
func trimMeta(meta metav1.ObjectMeta) metav1.ObjectMeta {
	return metav1.ObjectMeta{
		Name:              meta.Name,
		Namespace:         meta.Namespace,
		UID:               meta.UID,
		ResourceVersion:   meta.ResourceVersion,
		CreationTimestamp: meta.CreationTimestamp,
		DeletionTimestamp: meta.DeletionTimestamp,
	}
}
