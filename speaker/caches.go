package speaker

import (
	"maps"
	"sync"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fairway-lb/fairway/api/v1alpha2"
	"github.com/fairway-lb/fairway/dataplane/service"
	"github.com/fairway-lb/fairway/speaker/bgp"
)

// helmReleases are Secrets of up to a megabyte that nobody here reads.
const helmReleases = "helm.sh/release.v1"

// CacheOptions returns what the manager's cache is to keep for the speaker of a
// node: of the objects that there are thousands of, what the plan reads; of
// statuses, the node's own; Secrets and ConfigMaps of Fairway's namespace only.
// With forwards, of Services and EndpointSlices also what their forwarding takes.
func CacheOptions(node, namespace string, forwards bool) cache.Options {
	own := map[string]cache.Config{namespace: {}}
	return cache.Options{
		DefaultTransform: cache.TransformStripManagedFields(),
		ByObject: map[client.Object]cache.ByObject{
			&corev1.Service{}:            {Transform: serviceTrimmer(forwards)},
			&discoveryv1.EndpointSlice{}: {Transform: endpointSliceTrimmer(forwards)},
			&corev1.Node{}:               {Transform: nodeTrimmer(node)},
			&v1alpha2.BgpConf{}:          {Transform: func(object any) (any, error) { return trimBGPStatus(object, node), nil }},
			&v1alpha2.BgpPeer{}:          {Transform: func(object any) (any, error) { return trimBGPStatus(object, node), nil }},
			&corev1.Secret{}:             {Namespaces: own, Field: fields.OneTermNotEqualSelector("type", helmReleases)},
			&corev1.ConfigMap{}:          {Namespaces: own, Transform: trimConfigMap},
		},
	}
}

// serviceTrimmer returns a transformation of Services. Those of a pool share a map
// of labels: the smallest one has room for eight.
func serviceTrimmer(forwards bool) toolscache.TransformFunc {
	var labels sync.Map // by pool
	return func(object any) (any, error) {
		svc, ok := object.(*corev1.Service)
		if !ok {
			return object, nil
		}
		trimmed := &corev1.Service{ObjectMeta: trimMeta(svc.ObjectMeta)}
		if pool, ok := svc.Labels[v1alpha2.LabelPool]; ok {
			shared, known := labels.Load(pool)
			if !known {
				shared, _ = labels.LoadOrStore(pool, map[string]string{v1alpha2.LabelPool: pool})
			}
			trimmed.Labels = shared.(map[string]string)
		}
		if forwards {
			keepForwarding(trimmed, svc)
		}
		trimmed.Spec.Type = svc.Spec.Type
		trimmed.Spec.ExternalTrafficPolicy = svc.Spec.ExternalTrafficPolicy
		trimmed.Status.LoadBalancer = svc.Status.LoadBalancer
		return trimmed, nil
	}
}

// keepForwarding copies what dataplane/service reads.
func keepForwarding(trimmed, svc *corev1.Service) {
	for _, key := range []string{v1alpha2.AnnotationScheduler, v1alpha2.AnnotationHash, v1alpha2.AnnotationWeights} {
		if value, ok := svc.Annotations[key]; ok {
			if trimmed.Annotations == nil {
				trimmed.Annotations = map[string]string{}
			}
			trimmed.Annotations[key] = value
		}
	}
	if value, ok := svc.Labels[v1alpha2.LabelServiceProxyName]; ok {
		labels := map[string]string{v1alpha2.LabelServiceProxyName: value}
		maps.Copy(labels, trimmed.Labels)
		trimmed.Labels = labels
	}
	trimmed.Spec = svc.Spec
	trimmed.Spec.Selector = nil
}

// somePorts stands for the ports of all slices that have any: who does not
// forward asks no more.
var somePorts = []discoveryv1.EndpointPort{{Name: new(""), Port: new(int32(1))}}

func endpointSliceTrimmer(forwards bool) toolscache.TransformFunc {
	return func(object any) (any, error) {
		slice, ok := object.(*discoveryv1.EndpointSlice)
		if !ok {
			return object, nil
		}
		trimmed := &discoveryv1.EndpointSlice{
			ObjectMeta:  trimMeta(slice.ObjectMeta),
			AddressType: slice.AddressType,
			Endpoints:   make([]discoveryv1.Endpoint, len(slice.Endpoints)),
		}
		keep := []string{discoveryv1.LabelServiceName}
		if forwards {
			keep = append(keep, corev1.IsHeadlessService)
			trimmed.Ports = slice.Ports
		} else if service.HasPorts(slice.Ports) {
			trimmed.Ports = somePorts
		}
		for _, key := range keep {
			if value, ok := slice.Labels[key]; ok {
				if trimmed.Labels == nil {
					trimmed.Labels = map[string]string{}
				}
				trimmed.Labels[key] = value
			}
		}
		for i, endpoint := range slice.Endpoints {
			trimmed.Endpoints[i] = discoveryv1.Endpoint{
				Addresses:  endpoint.Addresses,
				Conditions: endpoint.Conditions,
				NodeName:   endpoint.NodeName,
			}
			if forwards {
				trimmed.Endpoints[i].Hints = endpoint.Hints
			}
		}
		return trimmed, nil
	}
}

// nodeTrimmer returns a transformation of Nodes. Of one's own, taints matter, and
// where its pods have their addresses.
func nodeTrimmer(self string) toolscache.TransformFunc {
	return func(object any) (any, error) {
		node, ok := object.(*corev1.Node)
		if !ok {
			return object, nil
		}
		trimmed := trimNode(node)
		if node.Name == self {
			trimmed.Spec.Taints = node.Spec.Taints
			trimmed.Spec.PodCIDRs = node.Spec.PodCIDRs
		}
		return trimmed, nil
	}
}

func trimNode(node *corev1.Node) *corev1.Node {
	trimmed := &corev1.Node{ObjectMeta: trimMeta(node.ObjectMeta)}
	trimmed.Labels = node.Labels
	trimmed.Status.Addresses = node.Status.Addresses
	for _, condition := range node.Status.Conditions {
		if condition.Type == corev1.NodeReady {
			trimmed.Status.Conditions = []corev1.NodeCondition{condition}
		}
	}
	return trimmed
}

func trimConfigMap(object any) (any, error) {
	config, ok := object.(*corev1.ConfigMap)
	if !ok {
		return object, nil
	}
	trimmed := &corev1.ConfigMap{ObjectMeta: trimMeta(config.ObjectMeta)}
	if policy, ok := config.Data[bgp.PolicyKey]; ok {
		trimmed.Data = map[string]string{bgp.PolicyKey: policy}
	}
	return trimmed, nil
}

// trimBGPStatus keeps a node's own entry, of hundreds that there may be.
func trimBGPStatus(object any, node string) any {
	switch object := object.(type) {
	case *v1alpha2.BgpConf:
		object.ManagedFields = nil
		maps.DeleteFunc(object.Status.NodesConfStatus, func(name string, _ v1alpha2.NodeConfStatus) bool { return name != node })
	case *v1alpha2.BgpPeer:
		object.ManagedFields = nil
		maps.DeleteFunc(object.Status.NodesPeerStatus, func(name string, _ v1alpha2.NodePeerStatus) bool { return name != node })
	}
	return object
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
