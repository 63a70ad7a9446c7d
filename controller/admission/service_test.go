package admission

import (
	"fmt"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"github.com/fairway-lb/fairway/api/v1alpha2"
)

func TestReviewService(t *testing.T) {
	const (
		lb       = "lb.kubesphere.io/v1alpha1: openelb"
		pool     = "eip.openelb.kubesphere.io/v1alpha2: "
		address  = "eip.openelb.kubesphere.io/v1alpha1: "
		protocol = "protocol.openelb.kubesphere.io/v1alpha1: "
	)
	for _, c := range []struct {
		name        string
		annotations string // of a flow mapping
		spec        string // beside type LoadBalancer, which the last word changes
		byDefault   bool
		warnings    []string
	}{
		{name: "marked", annotations: lb},
		{name: "of our class", spec: "loadBalancerClass: network.kubesphere.io/eip"},
		{name: "by pool", annotations: lb + ", " + pool + "pool"},
		{name: "by pools", annotations: lb + ", " + pool + `" pool , a,"`},
		{name: "by address", annotations: lb + ", " + address + "10.0.0.9"},
		{name: "by two addresses", annotations: lb + ", " + address + `"10.0.0.9, 2001:db8::1"`},
		{name: "sharing", annotations: lb + ", network.kubesphere.io/allow-shared-ip: key"},
		{name: "of Porter's days", annotations: "lb.kubesphere.io/v1alpha1: porter, eip.porter.kubesphere.io/v1alpha2: pool, protocol.porter.kubesphere.io/v1alpha1: bgp"},
		{name: "of others", annotations: "metallb.io/address-pool: x, kubesphere.io/creator: me, example.com/v1alpha1: y, app.network.example.com/a: b"},
		{name: "protocol as a filter", annotations: lb + ", " + protocol + "layer2"},

		// As in OpenELB's own documents: it is so anyway.
		{name: "protocol of the pool", annotations: lb + ", " + protocol + "bgp, " + pool + "pool"},
		{name: "protocol of the address", annotations: lb + ", " + protocol + "bgp, " + address + "10.0.0.9"},
		{name: "another protocol than the pool's", annotations: lb + ", " + protocol + "layer2, " + pool + "pool", warnings: []string{"has no effect beside annotation eip.openelb.kubesphere.io/v1alpha2"}},
		{name: "another protocol than the address's", annotations: lb + ", " + protocol + "layer2", spec: "loadBalancerIP: 10.0.0.9", warnings: []string{"has no effect beside spec.loadBalancerIP"}},
		{name: "no such protocol", annotations: lb + ", " + protocol + "arp", warnings: []string{`is "arp", so no Eip serves the Service`}},

		{name: "not marked", annotations: pool + "pool", warnings: []string{"add annotation lb.kubesphere.io/v1alpha1: openelb"}},
		{name: "not marked, by default", annotations: pool + "pool", byDefault: true},
		{name: "marked in another way", annotations: `lb.kubesphere.io/v1alpha1: "true"`, warnings: []string{`is "true" and has no effect: only "openelb"`}},
		{name: "of a foreign class", annotations: lb + ", " + pool + "none", spec: "loadBalancerClass: example.com/lb", warnings: []string{"spec.loadBalancerClass example.com/lb leaves the Service"}},
		{name: "of a foreign class, by default", annotations: lb, spec: "loadBalancerClass: example.com/lb", byDefault: true, warnings: []string{"example.com/lb"}},
		{name: "of another type", annotations: lb + ", " + pool + "none", spec: "type: ClusterIP", warnings: []string{"no effect on a Service of type ClusterIP"}},
		{name: "of another type, not marked", annotations: pool + "none", spec: "type: NodePort"},

		{name: "pool that is not there", annotations: lb + ", " + pool + `"pool,none"`, warnings: []string{"names Eip none, which does not exist"}},
		{name: "address of two minds", annotations: lb + ", " + address + "10.0.0.9", spec: "loadBalancerIP: 10.0.0.8", warnings: []string{"spec.loadBalancerIP 10.0.0.8 has no effect: annotation eip.openelb.kubesphere.io/v1alpha1 asks for 10.0.0.9"}},
		{name: "address in two spellings", annotations: lb + ", " + address + `"2001:DB8::1"`, spec: `loadBalancerIP: "2001:db8:0::1"`},
		{name: "no address", annotations: lb + ", " + address + "10.0.0.0/24", warnings: []string{"10.0.0.0/24"}},
		{name: "no address in the spec", annotations: lb, spec: "loadBalancerIP: here", warnings: []string{"spec.loadBalancerIP"}},
		{name: "both generations", annotations: lb + ", " + pool + "pool, eip.porter.kubesphere.io/v1alpha2: a", warnings: []string{"eip.porter.kubesphere.io/v1alpha2 has no effect beside eip.openelb.kubesphere.io/v1alpha2"}},

		{name: "node of layer2", annotations: lb + ", layer2.openelb.kubesphere.io/v1alpha1: node1", warnings: []string{"Fairway chooses the node"}},
		{name: "node proxy", annotations: lb + ", node-proxy.openelb.kubesphere.io/type: daemonset", warnings: []string{"Fairway has no node proxy"}},
		{name: "typo", annotations: lb + ", eip.openelb.kubesphere.io/v1alhpa2: pool", warnings: []string{"did you mean eip.openelb.kubesphere.io/v1alpha2?"}},
		{name: "typo in what is new", annotations: lb + ", network.kubesphere.io/allow-share-ip: key", warnings: []string{"did you mean network.kubesphere.io/allow-shared-ip?"}},
		{name: "nothing of ours", annotations: lb + ", network.kubesphere.io/force-delete: \"true\"", warnings: []string{"Fairway knows no such key"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			svc := &corev1.Service{}
			spec := "type: LoadBalancer"
			if strings.HasPrefix(c.spec, "type: ") {
				spec = c.spec
			} else if c.spec != "" {
				spec += ", " + c.spec
			}
			text := fmt.Sprintf("{metadata: {annotations: {%s}}, spec: {%s}}", c.annotations, spec)
			if err := yaml.UnmarshalStrict([]byte(text), svc); err != nil {
				t.Fatalf("%s: %v", text, err)
			}
			before := svc.DeepCopy()
			expectWarnings(t, ReviewService(svc, c.byDefault, testCluster(t)), c.warnings)
			if before.String() != svc.String() {
				t.Error("the review changed the Service")
			}
		})
	}
}

func TestReviewServiceWithoutCluster(t *testing.T) {
	svc := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Annotations: map[string]string{
		v1alpha2.AnnotationLoadBalancer: v1alpha2.LoadBalancerValue, v1alpha2.AnnotationPool: "none",
	}}, Spec: corev1.ServiceSpec{Type: corev1.ServiceTypeLoadBalancer}}
	expectWarnings(t, ReviewService(svc, false, nil), nil)
}

// Whatever a Service says, there is an answer, and it is not long.
func FuzzReviewService(f *testing.F) {
	f.Add("eip.openelb.kubesphere.io/v1alpha1", "10.0.0.1,2001:db8::1", "openelb", "10.0.0.2", "")
	f.Add("network.kubesphere.io/", ",", "x", "x", "network.kubesphere.io/eip")
	f.Fuzz(func(t *testing.T, key, value, mark, ip, class string) {
		svc := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Annotations: map[string]string{v1alpha2.AnnotationLoadBalancer: mark, key: value}}}
		svc.Spec = corev1.ServiceSpec{Type: corev1.ServiceTypeLoadBalancer, LoadBalancerIP: ip}
		if class != "" {
			svc.Spec.LoadBalancerClass = &class
		}
		ReviewService(svc, false, testCluster(t))
	})
}
