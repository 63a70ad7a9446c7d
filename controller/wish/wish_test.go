package wish

import (
	"reflect"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fairway-lb/fairway/api/v1alpha2"
	"github.com/fairway-lb/fairway/controller/ipam"
)

type change = func(*corev1.Service)

func loadBalancer(changes ...change) *corev1.Service {
	svc := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "svc"}}
	for _, c := range changes {
		c(svc)
	}
	return svc
}

func annotated(key, value string) change {
	return func(svc *corev1.Service) { metav1.SetMetaDataAnnotation(&svc.ObjectMeta, key, value) }
}

func showing(svc *corev1.Service) {
	svc.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: "10.0.0.1"}}
}

// What Services ask for, and what is refused as unreadable.
func TestOf(t *testing.T) {
	byAnnotation := func(text string) change { return annotated(v1alpha2.AnnotationAddress, text) }
	byField := func(text string) change {
		return func(svc *corev1.Service) { svc.Spec.LoadBalancerIP = text }
	}
	for _, test := range []struct {
		name    string
		svc     *corev1.Service
		pool    string
		address string
		refused string // a part of the message
	}{
		{"nothing", loadBalancer(), "", "", ""},
		{"a pool", loadBalancer(annotated(v1alpha2.AnnotationPool, "eip")), "eip", "", ""},
		{"an address", loadBalancer(byAnnotation("10.0.0.1")), "", "10.0.0.1", ""},
		{"an address by field", loadBalancer(byField("10.0.0.1")), "", "10.0.0.1", ""},
		{"the annotation wins", loadBalancer(byAnnotation("10.0.0.100"), byField("10.0.0.50")), "", "10.0.0.100", ""},
		{"an empty annotation does not", loadBalancer(byAnnotation(""), byField("10.0.0.50")), "", "10.0.0.50", ""},
		{"IPv6, spelled at length", loadBalancer(byAnnotation("2001:0DB8:0::0:5")), "", "2001:db8::5", ""},
		{"the legacy protocol annotation", loadBalancer(annotated(v1alpha2.AnnotationProtocol, "layer2")), "", "", ""},

		{"one of each family", loadBalancer(byAnnotation("10.0.0.1, 2001:db8::1")), "", "10.0.0.1,2001:db8::1", ""},
		{"several pools", loadBalancer(annotated(v1alpha2.AnnotationPool, "a, b,,c")), "a,b,c", "", ""},
		{"as up to OpenELB v0.4.3", loadBalancer(annotated(v1alpha2.LegacyAnnotationPool, "old"), annotated(v1alpha2.LegacyAnnotationAddress, "10.0.0.4")), "old", "10.0.0.4", ""},
		{"OpenELB's before Porter's", loadBalancer(annotated(v1alpha2.AnnotationPool, "eip"), annotated(v1alpha2.LegacyAnnotationPool, "old")), "eip", "", ""},
		{"as for MetalLB", loadBalancer(annotated("metallb.io/address-pool", "eip"), annotated("metallb.io/loadBalancerIPs", "10.0.0.1,2001:db8::1")), "eip", "10.0.0.1,2001:db8::1", ""},
		{"as for an old MetalLB", loadBalancer(annotated("metallb.universe.tf/address-pool", "theirs"), annotated("metallb.universe.tf/loadBalancerIPs", "10.0.0.1")), "theirs", "10.0.0.1", ""},
		{"with an address of a MetalLB pool that is no Eip", loadBalancer(annotated("metallb.io/address-pool", "theirs"), showing), "", "", ""},
		{"with an address of a MetalLB pool that is an Eip", loadBalancer(annotated("metallb.io/address-pool", "eip"), showing), "eip", "", ""},
		{"with an address of another Eip than the MetalLB pool", loadBalancer(annotated("metallb.io/address-pool", "eip"), showing, func(svc *corev1.Service) {
			svc.Labels = map[string]string{v1alpha2.LabelPool: "other"}
		}), "", "", ""},

		{"junk", loadBalancer(byAnnotation("junk"), annotated(v1alpha2.AnnotationPool, "eip")), "eip", "", `annotation eip.openelb.kubesphere.io/v1alpha1 asks for "junk"`},
		{"junk by field", loadBalancer(byField("10.0.0")), "", "", `spec.loadBalancerIP asks for "10.0.0"`},
		{"junk wins over a good field", loadBalancer(byAnnotation("junk"), byField("10.0.0.1")), "", "", "junk"},
		{"two of one family", loadBalancer(byAnnotation("10.0.0.1,10.0.0.2")), "", "", "two IPv4 addresses"},
		{"a CIDR", loadBalancer(byAnnotation("10.0.0.1/32")), "", "", "prefix length"},
		{"a range", loadBalancer(byAnnotation("10.0.0.1-10.0.0.1")), "", "", "10.0.0.1-10.0.0.1"},
		{"a zone", loadBalancer(byAnnotation("fe80::1%eth0")), "", "", "%eth0"},
		{"IPv4 in IPv6", loadBalancer(byAnnotation("::ffff:10.0.0.1")), "", "", "::ffff"},
	} {
		t.Run(test.name, func(t *testing.T) {
			req, refusal := Of(test.svc, nil, func(name string) bool { return name == "eip" })
			var texts []string
			for _, addr := range req.Addresses {
				texts = append(texts, addr.String())
			}
			if pools, addresses := strings.Join(req.Pools, ","), strings.Join(texts, ","); pools != test.pool || addresses != test.address {
				t.Errorf("asks for pools %q, addresses %q", pools, addresses)
			}
			switch {
			case (refusal != nil) != (test.refused != ""):
				t.Errorf("refusal is %v", refusal)
			case refusal != nil && (refusal.Reason != ipam.InvalidRequest || !strings.Contains(refusal.Message, test.refused)):
				t.Errorf("refused with %s: %s", refusal.Reason, refusal)
			}
		})
	}
}

func TestOfFamiliesAndNamespace(t *testing.T) {
	svc := loadBalancer(func(svc *corev1.Service) {
		svc.Spec.IPFamilies = []corev1.IPFamily{corev1.IPv6Protocol, corev1.IPv4Protocol}
	})
	req, _ := Of(svc, map[string]string{"team": "x"}, func(string) bool { return false })
	if !reflect.DeepEqual(req.Families, []ipam.Family{ipam.IPv6, ipam.IPv4}) || req.NamespaceLabels["team"] != "x" || req.Service.String() != "ns/svc" {
		t.Errorf("the wish is %+v", req)
	}
}
