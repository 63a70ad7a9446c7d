package measure

import (
	"context"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"sync/atomic"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/fairway-lb/fairway/api/v1alpha2"
)

// Clients is how many clients create Services at the same time.
const Clients = 16

// A Service and an EndpointSlice with this label are nothing to the kube-proxies
// of the lab's nodes, which leave the machine to those that are measured.
const (
	serviceProxyName = "service.kubernetes.io/service-proxy-name"
	noServiceProxy   = "none"
)

// Service is a Service like many: two ports, a few labels and the annotation
// that kubectl apply leaves. It asks for an address of a pool.
func Service(namespace, name, pool string) *corev1.Service {
	return &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: namespace,
			Name:      name,
			Labels: map[string]string{
				"app.kubernetes.io/name": name, "app.kubernetes.io/part-of": "shop", "app.kubernetes.io/managed-by": "kubectl",
				serviceProxyName: noServiceProxy,
			},
			Annotations: map[string]string{
				v1alpha2.AnnotationLoadBalancer:                    v1alpha2.LoadBalancerValue,
				v1alpha2.AnnotationPool:                            pool,
				"kubectl.kubernetes.io/last-applied-configuration": lastApplied(namespace, name, pool),
			},
		},
		Spec: corev1.ServiceSpec{
			Type: corev1.ServiceTypeLoadBalancer,
			// No selector: for each Service that has one, Kubernetes looks at
			// all EndpointSlices of the namespace, which with thousands takes
			// longer than what is measured.
			Ports: []corev1.ServicePort{{Name: "http", Port: 80}, {Name: "https", Port: 443}},
			// A cluster has 2768 of them.
			AllocateLoadBalancerNodePorts: new(false),
		},
	}
}

func lastApplied(namespace, name, pool string) string {
	return fmt.Sprintf(`{"apiVersion":"v1","kind":"Service","metadata":{"annotations":{"lb.kubesphere.io/v1alpha1":"openelb","eip.openelb.kubesphere.io/v1alpha2":%[3]q},`+
		`"labels":{"app.kubernetes.io/name":%[2]q,"app.kubernetes.io/part-of":"shop","app.kubernetes.io/managed-by":"kubectl"},"name":%[2]q,"namespace":%[1]q},`+
		`"spec":{"ports":[{"name":"http","port":80},{"name":"https","port":443}],"type":"LoadBalancer"}}`, namespace, name, pool)
}

// Creator creates objects in a namespace, with many clients at once.
type Creator struct {
	client    kubernetes.Interface
	namespace string
	// clusterIPs counts the ClusterIPs that were asked for.
	clusterIPs atomic.Uint32
}

// NewCreator returns a Creator for the only namespace with many Services.
func NewCreator(client kubernetes.Interface, namespace string) *Creator {
	return &Creator{client: client, namespace: namespace}
}

// Services creates n Services at once: <prefix>-0 and so on, of one pool. It
// returns their names.
func (c *Creator) Services(ctx context.Context, prefix, pool string, n int) ([]string, error) {
	names := make([]string, n)
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(Clients)
	for i := range names {
		names[i] = prefix + "-" + strconv.Itoa(i)
		group.Go(func() error { return c.Service(ctx, names[i], pool) })
	}
	return names, group.Wait()
}

// Service creates a Service with a ClusterIP of its own choice: where the API
// server chooses, it creates one Service after the other.
func (c *Creator) Service(ctx context.Context, name, pool string) error {
	svc := Service(c.namespace, name, pool)
	for {
		svc.Spec.ClusterIP = c.nextClusterIP()
		_, err := c.client.CoreV1().Services(c.namespace).Create(ctx, svc, metav1.CreateOptions{})
		switch {
		case err == nil:
			return nil
		case apierrors.IsInvalid(err) && strings.Contains(err.Error(), "already allocated"):
			// The API server has chosen it for another Service.
		default:
			return fmt.Errorf("creating Service %s: %w", name, err)
		}
	}
}

// nextClusterIP is one of the lab's 65,536 that was not asked for yet. The
// first 256 are for those that a cluster needs itself.
func (c *Creator) nextClusterIP() string {
	n := 255 + c.clusterIPs.Add(1)
	return netip.AddrFrom4([4]byte{10, 96, byte(n >> 8), byte(n)}).String()
}
