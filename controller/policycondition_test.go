package controller

import (
	"fmt"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"

	"github.com/fairway-lb/fairway/api/v1alpha2"
	"github.com/fairway-lb/fairway/controller/ipam"
)

func local(svc *corev1.Service) {
	svc.Spec.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyLocal
}

func everywhere(svc *corev1.Service) {
	svc.Spec.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyCluster
}

func selecting(app string) change {
	return func(svc *corev1.Service) { svc.Spec.Selector = map[string]string{"app": app} }
}

// conflict is what a Service's condition says of traffic policies, "" without.
func (w *world) conflict(name string) string {
	c := meta.FindStatusCondition(w.at(name).Status.Conditions, v1alpha2.ConditionTrafficPolicyConflict)
	if c == nil {
		return ""
	}
	return fmt.Sprintf("%s %s: %s", c.Status, c.Reason, c.Message)
}

// Services that share an address and disagree on the nodes that announce it
// say so, both, and as long as it lasts. Each change is one write to each, and
// a new leader writes nothing.
func TestTrafficPolicyConflict(t *testing.T) {
	w := newWorld(t, eipOf("eip", "10.0.0.1-10.0.0.9"))
	w.lookAtEips("eip")
	writes := map[string]int{}
	w.stored = func(svc *corev1.Service) { writes[svc.Name]++ }
	none := map[string]string{"a": "", "b": ""}
	policies := map[string]string{"a": "True PoliciesDiffer: The Service shares 10.0.0.1 with Service ns/b, whose externalTrafficPolicy is Cluster: ", "b": "10.0.0.1 with Service ns/a, whose externalTrafficPolicy is Local: the stricter policy holds, and the address is announced only from nodes that have ready endpoints of the Services whose policy is Local"}
	selectors := map[string]string{"a": "True SelectorsDiffer: The Service shares 10.0.0.1 with Service ns/b, whose externalTrafficPolicy is Local, too", "b": "with Service ns/a"}
	for _, step := range []struct {
		what   string
		do     func()
		want   map[string]string // part of what each says
		writes string            // to each, the users' own among them
	}{
		{"a alone", func() { w.create("a", inPool, withShareKey, port(80), selecting("web"), local) }, map[string]string{"a": ""}, "map[a:3]"},
		{"b joins, and does not agree", func() { w.create("b", inPool, withShareKey, port(81), selecting("web"), everywhere) }, policies, "map[a:1 b:3]"},
		{"another look", func() { w.lookAtServices("a", "b") }, policies, "map[]"},
		{"a new leader", func() { w.lead(); w.lookAtServices("b", "a") }, policies, "map[]"},
		{"b agrees", func() { w.edit("b", local); w.lookAtServices("b") }, none, "map[a:1 b:2]"},
		{"another selector", func() { w.edit("b", selecting("other")); w.lookAtServices("b") }, selectors, "map[a:1 b:2]"},
		{"and another policy", func() { w.edit("b", everywhere); w.lookAtServices("b") }, policies, "map[a:1 b:2]"},
		{"nobody is local", func() { w.edit("a", everywhere); w.lookAtServices("a") }, none, "map[a:2 b:1]"},
		{"a is local again", func() { w.edit("a", local); w.lookAtServices("a") }, policies, "map[a:2 b:1]"},
		{"b moves away", func() {
			w.edit("b", annotated(v1alpha2.AnnotationAddress, "10.0.0.5"))
			w.lookAtServices("b")
		}, none, "map[a:1 b:2]"},
		{"b comes back", func() {
			w.edit("b", annotated(v1alpha2.AnnotationAddress, "10.0.0.1"), selecting("web"))
			w.lookAtServices("b")
		}, policies, "map[a:1 b:2]"},
		{"b is no load balancer", func() { w.edit("b", ofType(corev1.ServiceTypeClusterIP)); w.lookAtServices("b") }, none, "map[a:1 b:3]"},
		{"b is one again", func() { w.edit("b", ofType(corev1.ServiceTypeLoadBalancer)); w.lookAtServices("b") }, policies, "map[a:1 b:3]"},
		{"b goes", func() { w.remove("b") }, map[string]string{"a": ""}, "map[a:1 b:3]"},
	} {
		clear(writes)
		step.do()
		for name, want := range step.want {
			if got := w.conflict(name); !strings.Contains(got, want) || (want == "") != (got == "") {
				t.Errorf("%s: %s says %q, want %q", step.what, name, got, want)
			}
		}
		if got := fmt.Sprint(writes); got != step.writes {
			t.Errorf("%s: written are %s, want %s", step.what, got, step.writes)
		}
	}
}

// Services that agree cost each other nothing.
func TestAgreeingServicesAreNotLookedAt(t *testing.T) {
	w := newWorld(t, eipOf("eip", "10.0.0.1-10.0.0.9"))
	w.lookAtEips("eip")
	for i := range int32(5) {
		w.create(fmt.Sprint("s", i), inPool, withShareKey, port(80+i), selecting("web"), local)
	}
	w.store(loadBalancer(named("joins", "joins"), optIn, inPool, withShareKey, port(90), selecting("web"), local))
	w.queued = append(w.queued, requestForService(ipam.ServiceKey{Namespace: "ns", Name: "joins"}))
	if looks := w.pass(3 * time.Second); looks > 2 { // it, and the Eip
		t.Errorf("one that joins five others has %d looked at", looks)
	}
	w.shows("joins", "10.0.0.1")
}

// Whatever another manager has put beside it, the condition goes when it is over.
func TestConditionOfAnotherManager(t *testing.T) {
	w := newWorld(t, eipOf("eip", "10.0.0.1-10.0.0.9"))
	w.lookAtEips("eip")
	w.create("a", inPool)
	w.edit("a", func(svc *corev1.Service) {
		for _, kind := range []string{v1alpha2.ConditionTrafficPolicyConflict, "example.com/Theirs"} {
			setCondition(&svc.Status.Conditions, policyConflictCondition(svc, ipam.PolicyConflict{}), w.clock)
			svc.Status.Conditions[len(svc.Status.Conditions)-1].Type = kind
		}
	})
	w.lookAtServices("a")
	if w.conflict("a") != "" || meta.FindStatusCondition(w.at("a").Status.Conditions, "example.com/Theirs") == nil || w.told("a") == "nothing" {
		t.Errorf("it carries %+v", w.at("a").Status.Conditions)
	}
	w.edit("a", optOut)
	w.lookAtServices("a")
	if n := len(w.at("a").Status.Conditions); n != 1 {
		t.Errorf("opted out, it carries %+v", w.at("a").Status.Conditions)
	}
}
