package e2e

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"unicode/utf8"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fairway-lb/fairway/api/v1alpha2"
)

// TestBadInput: whatever stands in a Service's annotations and fields, its
// owner is told what is wrong, and nobody else is harmed.
func TestBadInput(t *testing.T) {
	const seed = 7
	c := newCluster(t, 0)
	c.kubectl("create", "namespace", "dev")
	c.startController()
	c.apply(eip("pool", "10.1.0.1-10.1.0.9"))
	c.kubectl("annotate", "eip", "pool", v1alpha2.AnnotationDefaultEip+"=true")
	c.apply(loadBalancer("good", "x"))
	c.hasIP("dev", "good", "10.1.0.1")

	var texts []string
	c.read("api/v1alpha2/testdata/malformed_addresses.yaml", &texts)
	rnd := rand.New(rand.NewPCG(seed, 1))
	for range 200 {
		texts = append(texts, mangled(rnd))
	}
	annotations := []string{v1alpha2.AnnotationAddress, v1alpha2.AnnotationPool, v1alpha2.LegacyAnnotationAddress, v1alpha2.MetalLBPrefix + v1alpha2.MetalLBAddresses}
	asks := map[string]string{} // what each Service asks for
	for i, text := range texts {
		// Spaces around commas and nothing at all are no mistakes.
		if strings.Trim(text, ", \t\n") == "" {
			continue
		}
		svc := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "dev", Name: fmt.Sprintf("bad-%d", i), Annotations: map[string]string{
			v1alpha2.AnnotationLoadBalancer: v1alpha2.LoadBalancerValue,
		}}}
		svc.Spec.Type = corev1.ServiceTypeLoadBalancer
		svc.Spec.Ports = []corev1.ServicePort{{Port: 80}}
		if field := i % (len(annotations) + 1); field < len(annotations) {
			svc.Annotations[annotations[field]] = text
		} else {
			svc.Spec.LoadBalancerIP = text
		}
		if err := c.api.Create(t.Context(), svc); err != nil {
			t.Errorf("the API server refuses a Service that asks for %q: %v", text, err)
			continue
		}
		asks[svc.Name] = text
	}
	if len(asks) < 300 {
		t.Fatalf("%d Services, want more", len(asks))
	}
	c.eventually("all are told", func() string {
		var list corev1.ServiceList
		if err := c.api.List(t.Context(), &list, client.InNamespace("dev")); err != nil {
			return err.Error()
		}
		for i := range list.Items {
			svc := &list.Items[i]
			text, bad := asks[svc.Name]
			if !bad {
				continue
			}
			condition := meta.FindStatusCondition(svc.Status.Conditions, v1alpha2.ConditionAllocated)
			switch {
			case condition == nil:
				return fmt.Sprintf("%s, which asks for %q, has no condition", svc.Name, text)
			case condition.Status == metav1.ConditionTrue || externalIPs(svc) != "":
				t.Fatalf("%s, which asks for %q, has %q", svc.Name, text, externalIPs(svc))
			case len(condition.Message) < 40 || len(condition.Message) > 1024 || !utf8.ValidString(condition.Message):
				t.Fatalf("%s, which asks for %q, is told %q", svc.Name, text, condition.Message)
			}
		}
		return ""
	})
	c.hasIP("dev", "good", "10.1.0.1")
	c.apply(loadBalancer("good-too", "x"))
	c.hasIP("dev", "good-too", "10.1.0.2")
	if err := c.api.DeleteAllOf(t.Context(), &corev1.Service{}, client.InNamespace("dev")); err != nil {
		t.Fatal(err)
	}
	c.eventually("nothing is stuck", func() string {
		if n := len(c.versions()); n > 0 {
			return fmt.Sprintf("%d Services are left", n)
		}
		return ""
	})
}

// mangled is an address or a list of them with something wrong in it.
func mangled(rnd *rand.Rand) string {
	good := []string{"10.1.0.5", "2001:db8::5", "10.1.0.5,2001:db8::5", "10.1.0.0/24", "10.1.0.1-10.1.0.9"}
	bad := []string{"x", "..", ":::", "/", "-", "%eth0", "\u202e", "::ffff:", "999", ";", "'", "\"", "{{", "$(id)", "é", strings.Repeat("7", 300)}
	text := good[rnd.IntN(len(good))]
	for range 1 + rnd.IntN(3) {
		at := rnd.IntN(len(text) + 1)
		for at < len(text) && !utf8.RuneStart(text[at]) {
			at++
		}
		text = text[:at] + bad[rnd.IntN(len(bad))] + text[at:]
	}
	return text
}
