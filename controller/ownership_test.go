package controller

import (
	"net/netip"
	"reflect"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fairway-lb/fairway/api/v1alpha2"
	"github.com/fairway-lb/fairway/controller/ipam"
)

type change = func(*corev1.Service)

// loadBalancer is a Service that asks for nothing of ours.
func loadBalancer(changes ...change) *corev1.Service {
	svc := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "svc"}}
	svc.Spec.Type = corev1.ServiceTypeLoadBalancer
	for _, c := range changes {
		c(svc)
	}
	return svc
}

func annotated(key, value string) change {
	return func(svc *corev1.Service) { metav1.SetMetaDataAnnotation(&svc.ObjectMeta, key, value) }
}
func labelled(key, value string) change {
	return func(svc *corev1.Service) { metav1.SetMetaDataLabel(&svc.ObjectMeta, key, value) }
}
func finalized(name string) change {
	return func(svc *corev1.Service) { svc.Finalizers = append(svc.Finalizers, name) }
}
func ofClass(class string) change {
	return func(svc *corev1.Service) { svc.Spec.LoadBalancerClass = &class }
}
func ofType(t corev1.ServiceType) change {
	return func(svc *corev1.Service) { svc.Spec.Type = t }
}
func deleted(svc *corev1.Service) {
	svc.DeletionTimestamp = &metav1.Time{Time: time.Unix(1, 0)}
}
func showing(ips ...string) change {
	return func(svc *corev1.Service) {
		for _, ip := range ips {
			svc.Status.LoadBalancer.Ingress = append(svc.Status.LoadBalancer.Ingress, corev1.LoadBalancerIngress{IP: ip})
		}
	}
}

func optIn(svc *corev1.Service) {
	annotated(v1alpha2.AnnotationLoadBalancer, v1alpha2.LoadBalancerValue)(svc)
}

// Which Services are served, and which are looked at at all.
func TestWanted(t *testing.T) {
	for _, test := range []struct {
		name                       string
		svc                        *corev1.Service
		wanted, byDefault, concern bool
	}{
		{"plain", loadBalancer(), false, true, false},
		{"annotated", loadBalancer(optIn), true, true, true},
		{"another value", loadBalancer(annotated("lb.kubesphere.io/v1alpha1", "other")), false, true, false},
		{"as up to OpenELB v0.4.3", loadBalancer(annotated("lb.kubesphere.io/v1alpha1", "porter")), true, true, true},
		{"with nothing but our condition", loadBalancer(func(svc *corev1.Service) {
			svc.Status.Conditions = []metav1.Condition{{Type: v1alpha2.ConditionAllocated}}
		}), false, true, true},
		{"our class", loadBalancer(ofClass("network.kubesphere.io/eip")), true, true, true},
		{"annotated, our class", loadBalancer(optIn, ofClass("network.kubesphere.io/eip")), true, true, true},
		{"another class", loadBalancer(ofClass("example.com/lb")), false, false, false},
		{"annotated, another class", loadBalancer(optIn, ofClass("example.com/lb")), false, false, false},
		{"annotated, of type ClusterIP", loadBalancer(optIn, ofType(corev1.ServiceTypeClusterIP)), false, false, false},
		{"ClusterIP", loadBalancer(ofType(corev1.ServiceTypeClusterIP)), false, false, false},
		{"deleted", loadBalancer(optIn, deleted), false, false, false},
		{"deleted, marked", loadBalancer(optIn, deleted, finalized(v1alpha2.FinalizerService)), false, false, true},
		{"annotation removed, labelled", loadBalancer(labelled(v1alpha2.LabelPool, "eip")), false, true, true},
		{"only a pool named", loadBalancer(annotated(v1alpha2.AnnotationPool, "eip")), false, true, false},
		{"another finalizer", loadBalancer(finalized("service.kubernetes.io/load-balancer-cleanup")), false, true, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := wanted(test.svc, false); got != test.wanted {
				t.Errorf("wanted = %t", got)
			}
			if got := wanted(test.svc, true); got != test.byDefault {
				t.Errorf("wanted with --default-load-balancer = %t", got)
			}
			if got := (&reconciler{}).concerns(test.svc); got != test.concern {
				t.Errorf("concerns = %t", got)
			}
		})
	}
}

// Which address of a Service's status is taken for ours.
func TestAddressesIn(t *testing.T) {
	allocator := ipam.New(time.Now)
	for _, eip := range []*v1alpha2.Eip{eipOf("a", "10.0.0.0/24"), eipOf("b", "10.1.0.0/24")} {
		pool, _, err := poolOf(eip)
		if err != nil {
			t.Fatal(err)
		}
		allocator.SetPool(pool)
	}
	for _, test := range []struct {
		name string
		svc  *corev1.Service
		want string
	}{
		{"nothing", loadBalancer(optIn), ""},
		{"in the pool of the label", loadBalancer(labelled(v1alpha2.LabelPool, "b"), showing("172.16.0.1", "10.0.0.1", "10.1.0.1")), "10.1.0.1"},
		{"in another pool", loadBalancer(labelled(v1alpha2.LabelPool, "gone"), showing("172.16.0.1", "10.0.0.1")), "10.0.0.1"},
		{"in no pool", loadBalancer(labelled(v1alpha2.LabelPool, "gone"), showing("172.16.0.1")), "172.16.0.1"},
		{"finalizer only", loadBalancer(finalized(v1alpha2.FinalizerService), showing("172.16.0.1")), "172.16.0.1"},
		{"not marked, in a pool", loadBalancer(optIn, showing("172.16.0.1", "10.0.0.1")), "10.0.0.1"},
		{"not marked, in no pool", loadBalancer(optIn, showing("172.16.0.1")), ""},
		{"of another class", loadBalancer(ofClass("example.com/lb"), labelled(v1alpha2.LabelPool, "a"), showing("10.0.0.1")), ""},
		{"no address", loadBalancer(labelled(v1alpha2.LabelPool, "a"), showing("", "junk", "fe80::1%eth0")), ""},
		{"another spelling", loadBalancer(labelled(v1alpha2.LabelPool, "a"), showing("::ffff:10.0.0.1")), "10.0.0.1"},
		{"MetalLB's, in no pool", loadBalancer(optIn, annotated("metallb.io/ip-allocated-from-pool", "x"), showing("172.16.0.1")), "172.16.0.1"},
		{"MetalLB's, in the Eip of the pool's name", loadBalancer(optIn, annotated("metallb.universe.tf/ip-allocated-from-pool", "b"), showing("10.0.0.1", "10.1.0.1")), "10.1.0.1"},
	} {
		t.Run(test.name, func(t *testing.T) {
			text := ""
			if found := addressesIn(test.svc, allocator); len(found) > 0 {
				text = found[0].String()
			}
			if text != test.want {
				t.Errorf("addressesIn = %q, want %q", text, test.want)
			}
		})
	}
}

// What a Service's ingress becomes when it is given addresses.
func TestIngressWith(t *testing.T) {
	for _, test := range []struct {
		name    string
		before  []string
		held    []string
		leaving []string
		after   []string
	}{
		{"first", nil, []string{"10.0.0.1"}, nil, []string{"10.0.0.1"}},
		{"there already", []string{"10.0.0.1"}, []string{"10.0.0.1"}, nil, []string{"10.0.0.1"}},
		{"another spelling", []string{"2001:0db8::0:1"}, []string{"2001:db8::1"}, nil, []string{"2001:db8::1"}},
		{"beside another's", []string{"172.16.0.1", "10.0.0.1"}, []string{"10.0.0.1"}, nil, []string{"172.16.0.1", "10.0.0.1"}},
		{"instead of another's", []string{"172.16.0.1"}, []string{"10.0.0.1"}, nil, []string{"10.0.0.1"}},
		{"a move", []string{"10.0.0.1"}, []string{"10.0.0.2"}, []string{"10.0.0.1"}, []string{"10.0.0.2"}},
		{"a move beside another's", []string{"10.0.0.1", "172.16.0.1"}, []string{"10.0.0.2"}, []string{"10.0.0.1"}, []string{"10.0.0.2", "172.16.0.1"}},
		{"a move half way", []string{"10.0.0.1", "10.0.0.2"}, []string{"10.0.0.2"}, []string{"10.0.0.1"}, []string{"10.0.0.2"}},
		{"two moves at once", []string{"10.0.0.1", "10.0.0.2"}, []string{"10.0.0.3"}, []string{"10.0.0.2", "10.0.0.1"}, []string{"10.0.0.3"}},
		{"a move that is done", []string{"10.0.0.2"}, []string{"10.0.0.2"}, []string{"10.0.0.1"}, []string{"10.0.0.2"}},
		{"a second family", []string{"10.0.0.1"}, []string{"10.0.0.1", "2001:db8::1"}, nil, []string{"10.0.0.1", "2001:db8::1"}},
		{"a second family that is the first", []string{"10.0.0.1", "172.16.0.1"}, []string{"2001:db8::1", "10.0.0.1"}, nil, []string{"2001:db8::1", "10.0.0.1", "172.16.0.1"}},
		{"the other order", []string{"10.0.0.1", "2001:db8::1"}, []string{"2001:db8::1", "10.0.0.1"}, nil, []string{"2001:db8::1", "10.0.0.1"}},
		{"a family given up", []string{"10.0.0.1", "2001:db8::1"}, []string{"10.0.0.1"}, []string{"2001:db8::1"}, []string{"10.0.0.1"}},
		{"all given up", []string{"10.0.0.1", "172.16.0.1"}, nil, []string{"10.0.0.1"}, []string{"172.16.0.1"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			svc := loadBalancer(showing(test.before...))
			svc.Status.LoadBalancer.Ingress = ingressWith(svc.Status.LoadBalancer.Ingress, allocations(test.held...), allocations(test.leaving...))
			if got := shown(svc); !reflect.DeepEqual(got, test.after) {
				t.Errorf("the status shows %v, want %v", got, test.after)
			}
		})
	}
}

// Only what is ours is taken out of a Service's metadata.
func TestUnmark(t *testing.T) {
	svc := loadBalancer(labelled("app", "x"), finalized("example.com/other"))
	if unmark(svc) {
		t.Error("unmark changes a Service that is not marked")
	}
	labelled(v1alpha2.LabelPool, "eip")(svc)
	finalized(v1alpha2.FinalizerService)(svc)
	if !marked(svc) || !unmark(svc) || unmark(svc) || marked(svc) {
		t.Error("unmark does not tell what it changes")
	}
	if !reflect.DeepEqual(svc.Labels, map[string]string{"app": "x"}) || !reflect.DeepEqual(svc.Finalizers, []string{"example.com/other"}) {
		t.Errorf("left are %v, %v", svc.Labels, svc.Finalizers)
	}
}

// Of several that claim an address, a marked Service comes before one that is
// not, then the oldest, then by name.
func TestBySeniority(t *testing.T) {
	made := func(name string, age int64, changes ...change) *corev1.Service {
		svc := loadBalancer(changes...)
		svc.Name, svc.CreationTimestamp = name, metav1.Time{Time: time.Unix(age, 0)}
		return svc
	}
	isMarked := labelled(v1alpha2.LabelPool, "eip")
	order := []*corev1.Service{made("b", 5, isMarked), made("a", 7, isMarked), made("c", 7, isMarked), made("d", 1)}
	for i := range order {
		for j := range order {
			if got := bySeniority(order[i], order[j]); (got < 0) != (i < j) || (got == 0) != (i == j) {
				t.Errorf("bySeniority(%s, %s) = %d", order[i].Name, order[j].Name, got)
			}
		}
	}
}

func allocations(addrs ...string) []ipam.Allocation {
	var all []ipam.Allocation
	for _, addr := range addrs {
		all = append(all, ipam.Allocation{Address: netip.MustParseAddr(addr), Pool: "eip"})
	}
	return all
}

func shown(svc *corev1.Service) []string {
	var ips []string
	for _, entry := range svc.Status.LoadBalancer.Ingress {
		ips = append(ips, entry.IP)
	}
	return ips
}

func eipOf(name, address string, changes ...func(*v1alpha2.Eip)) *v1alpha2.Eip {
	eip := &v1alpha2.Eip{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: v1alpha2.EipSpec{Address: address}}
	for _, c := range changes {
		c(eip)
	}
	return eip
}

// The cache keeps of a Service all but what only grows it.
func TestTrimService(t *testing.T) {
	svc := loadBalancer(optIn, annotated(corev1.LastAppliedConfigAnnotation, "{}"), labelled("a", "b"))
	want := svc.DeepCopy()
	delete(want.Annotations, corev1.LastAppliedConfigAnnotation)
	svc.ManagedFields = []metav1.ManagedFieldsEntry{{Manager: "kubectl"}}
	if got, err := trimService(svc); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("it keeps %+v, %v", got, err)
	}
	if got, err := trimService("tombstone"); err != nil || got != "tombstone" {
		t.Errorf("what is no Service becomes %v, %v", got, err)
	}
}
