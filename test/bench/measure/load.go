package measure

import (
	"context"
	"fmt"
	"strconv"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
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

// CreateServices creates n Services at once: <prefix>-0 and so on, of one
// pool. It returns their names.
func CreateServices(ctx context.Context, client kubernetes.Interface, namespace, prefix, pool string, n int) ([]string, error) {
	names := make([]string, n)
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(Clients)
	for i := range names {
		names[i] = prefix + "-" + strconv.Itoa(i)
		group.Go(func() error {
			if _, err := client.CoreV1().Services(namespace).Create(ctx, Service(namespace, names[i], pool), metav1.CreateOptions{}); err != nil {
				return fmt.Errorf("creating Service %s: %w", names[i], err)
			}
			return nil
		})
	}
	return names, group.Wait()
}
