package controller

import (
	"errors"
	"fmt"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/fairway-lb/fairway/api/v1alpha2"
	"github.com/fairway-lb/fairway/controller/ipam"
)

// A Service that is to move does, whatever was taken off it before, and
// whichever write the process dies in: the next one knows which pool the
// address is from that it finds.
func TestMoveGoesOnAfterACrash(t *testing.T) {
	const old, other = "10.0.0.1", "10.1.0.1"
	for name, strip := range map[string]change{
		"whole":          func(*corev1.Service) {},
		"no label":       func(svc *corev1.Service) { svc.Labels = nil },
		"no finalizer":   func(svc *corev1.Service) { svc.Finalizers = nil },
		"no mark":        func(svc *corev1.Service) { svc.Labels, svc.Finalizers = nil, nil },
		"no address":     func(svc *corev1.Service) { svc.Status.LoadBalancer.Ingress = nil },
		"no mark at all": func(svc *corev1.Service) { svc.Labels, svc.Finalizers, svc.Status = nil, nil, corev1.ServiceStatus{} },
	} {
		for dies := 1; dies <= 4; dies++ {
			for _, taken := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s, in write %d, taken: %t", name, dies, taken), func(t *testing.T) {
					w := newWorld(t, eipOf("a", old), eipOf("c", other), eipOf("f", "10.2.0.1"))
					w.create("s", annotated(v1alpha2.AnnotationPool, "a"))
					w.shows("s", old)
					w.edit("s", strip, annotated(v1alpha2.AnnotationPool, "c,f"))
					w.crash(requestForService(ipam.ServiceKey{Namespace: "ns", Name: "s"}), dies, taken)
					w.lead()
					w.lookAtServices("s")
					w.shows("s", other)
					if svc := w.at("s"); svc.Labels[v1alpha2.LabelPool] != "c" || len(svc.Finalizers) != 1 {
						t.Errorf("labels %v, finalizers %v", svc.Labels, svc.Finalizers)
					}
					w.create("t", annotated(v1alpha2.AnnotationPool, "a"))
					w.shows("t", old) // it was given back
				})
			}
		}
	}
}

// What Eips record may be older than a Service's label: the address that it
// had before is not said to be from the pool that it moved to.
func TestOldRecordIsNotOfTheNewPool(t *testing.T) {
	const old, other = "10.0.0.1", "10.1.0.1"
	for name, recorded := range map[string][]string{
		"the old pool's":  {"a"},
		"that of both":    {"a", "c"},
		"the new pool's":  {"c"},
		"that of neither": nil,
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, eipOf("a", old), eipOf("c", other+"-10.1.0.9"))
			w.create("s", annotated(v1alpha2.AnnotationPool, "c"))
			w.shows("s", other)
			w.edit("s", func(svc *corev1.Service) { svc.Status = corev1.ServiceStatus{} })
			for _, eip := range w.eips {
				eip.Status.Used = nil
			}
			for _, eip := range recorded {
				w.eips[eip].Status.Used = map[string]string{w.eips[eip].Spec.Address[:len(old)]: "ns/s"}
			}
			w.lead()
			w.lookAtServices("s")
			w.shows("s", other)
		})
	}
}

// crash has the controller look at something and die in one of its writes, if
// there are so many.
func (w *world) crash(req request, dies int, taken bool) {
	w.t.Helper()
	w.catchUp()
	w.crashAfter, w.crashTaken = dies, taken
	if _, err := w.r.Reconcile(w.t.Context(), req); err != nil && !errors.Is(err, errCrash) {
		w.t.Fatalf("looking at %s: %v", req.Name, err)
	}
	w.crashAfter = 0
}
