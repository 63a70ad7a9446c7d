package dataplanetest

import (
	"fmt"
	"net/netip"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fairway-lb/fairway/dataplane"
	"github.com/fairway-lb/fairway/dataplane/service"
)

// ThisNode is the name of the node under test.
const ThisNode = "node"

// Frontends are the addresses that the Service of a number has.
type Frontends struct{ Number int }

// Name is that of the Service, in namespace default.
func (f Frontends) Name() string { return fmt.Sprintf("s%d", f.Number) }

func (f Frontends) at(prefix4, prefix6 string) [2]netip.Addr {
	return [2]netip.Addr{
		netip.MustParseAddr(fmt.Sprintf("%s.%d.%d", prefix4, f.Number/250, 1+f.Number%250)),
		netip.MustParseAddr(fmt.Sprintf("%s::%x", prefix6, 1+f.Number)),
	}
}

// The addresses by family, and the port of the node. All others are port 80.
func (f Frontends) ClusterIP() [2]netip.Addr  { return f.at("10.96", "fd00:96") }
func (f Frontends) VIP() [2]netip.Addr        { return f.at("198.18", "fd00:18") }
func (f Frontends) ExternalIP() [2]netip.Addr { return f.at("198.19", "fd00:19") }
func (f Frontends) NodePort() uint16          { return uint16(30000 + f.Number) }

// NewService returns a Service of both families and of TCP and UDP, with all
// kinds of frontends.
func NewService(f Frontends, edit func(*corev1.ServiceSpec)) *corev1.Service {
	cluster := corev1.ServiceInternalTrafficPolicyCluster
	svc := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: f.Name()},
		Spec: corev1.ServiceSpec{
			Type:                  corev1.ServiceTypeLoadBalancer,
			ClusterIP:             f.ClusterIP()[0].String(),
			IPFamilies:            []corev1.IPFamily{corev1.IPv4Protocol, corev1.IPv6Protocol},
			InternalTrafficPolicy: &cluster,
			ExternalTrafficPolicy: corev1.ServiceExternalTrafficPolicyCluster,
		},
	}
	for family := range 2 {
		svc.Spec.ClusterIPs = append(svc.Spec.ClusterIPs, f.ClusterIP()[family].String())
		svc.Spec.ExternalIPs = append(svc.Spec.ExternalIPs, f.ExternalIP()[family].String())
		svc.Status.LoadBalancer.Ingress = append(svc.Status.LoadBalancer.Ingress, corev1.LoadBalancerIngress{IP: f.VIP()[family].String()})
	}
	for _, p := range []corev1.Protocol{corev1.ProtocolTCP, corev1.ProtocolUDP} {
		svc.Spec.Ports = append(svc.Spec.Ports, corev1.ServicePort{Name: string(p), Protocol: p, Port: 80, NodePort: int32(f.NodePort())})
	}
	if edit != nil {
		edit(&svc.Spec)
	}
	return svc
}

// Annotate sets an annotation of a Service, or none if the value is "".
func Annotate(svc *corev1.Service, key, value string) *corev1.Service {
	if value != "" {
		svc.Annotations = map[string]string{key: value}
	}
	return svc
}

// Endpoint is a host in some state.
type Endpoint struct {
	Host *Host
	Is   Condition
}

// Condition is what an EndpointSlice says of an endpoint.
type Condition string

// The conditions.
const (
	Ready              Condition = "ready"
	NotReady           Condition = "not ready"
	ServingTerminating Condition = "serving, terminating"
	Terminating        Condition = "terminating"
)

// sliceSink takes EndpointSlices: a service.State, or a dataplane.Syncer.
type sliceSink interface {
	SetEndpointSlice(*discoveryv1.EndpointSlice)
}

// SetEndpoints replaces the endpoints of a Service.
func SetEndpoints(s sliceSink, f Frontends, endpoints ...Endpoint) {
	SetEndpointsAt(s, f, ServerPort, endpoints...)
}

// SetEndpointsAt replaces them by those of some port.
func SetEndpointsAt(s sliceSink, f Frontends, port int32, endpoints ...Endpoint) {
	for i, addressType := range []discoveryv1.AddressType{discoveryv1.AddressTypeIPv4, discoveryv1.AddressTypeIPv6} {
		slice := &discoveryv1.EndpointSlice{
			ObjectMeta: metav1.ObjectMeta{
				Namespace: "default", Name: f.Name() + "-" + string(addressType),
				Labels: map[string]string{discoveryv1.LabelServiceName: f.Name()},
			},
			AddressType: addressType,
		}
		for _, p := range []corev1.Protocol{corev1.ProtocolTCP, corev1.ProtocolUDP, corev1.ProtocolSCTP} {
			slice.Ports = append(slice.Ports, discoveryv1.EndpointPort{Name: new(string(p)), Protocol: new(p), Port: &port})
		}
		for _, e := range endpoints {
			node := ThisNode
			if e.Host.Name == remote {
				node = "other"
			}
			slice.Endpoints = append(slice.Endpoints, discoveryv1.Endpoint{
				Addresses: []string{e.Host.Addrs[i].String()},
				NodeName:  &node,
				Conditions: discoveryv1.EndpointConditions{
					Ready:       new(e.Is == Ready),
					Serving:     new(e.Is == Ready || e.Is == ServingTerminating),
					Terminating: new(e.Is == ServingTerminating || e.Is == Terminating),
				},
			})
		}
		s.SetEndpointSlice(slice)
	}
}

// Sync applies what has changed.
func Sync(t testing.TB, b dataplane.Backend, s *service.State) {
	t.Helper()
	must(t, b.Apply(s.Changes().Ports))
}
