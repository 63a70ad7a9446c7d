package controller

import (
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/fairway-lb/fairway/api/v1alpha2"
	"github.com/fairway-lb/fairway/controller/ipam"
)

// pass does all that is queued, with an up-to-date cache, and what comes due
// while some time goes by. It returns how often it looked at something.
func (w *world) pass(d time.Duration) (looks int) {
	w.t.Helper()
	end := w.clock.Add(d)
	for range 5000 {
		w.collectDue()
		if len(w.queued) == 0 && !w.queueFirstDue(end) {
			w.clock = end
			return looks
		}
		req := w.queued[0]
		w.queued = w.queued[1:]
		w.catchUp()
		if len(w.events.Events) > cap(w.events.Events)/2 {
			w.eventsSoFar() // nobody reads them, and the recorder would wait
		}
		looks++
		if after := w.lookAt(req); after > 0 {
			w.later[req] = after
		}
	}
	w.t.Fatal("it does not come to rest")
	return looks
}

// collectDue notes when what was asked for after a while comes due, the
// earliest if it was asked for several times.
func (w *world) collectDue() {
	if w.due == nil {
		w.due = map[request]time.Time{}
	}
	for req, after := range w.later {
		if at, ok := w.due[req]; !ok || w.clock.Add(after).Before(at) {
			w.due[req] = w.clock.Add(after)
		}
	}
	clear(w.later)
}

// queueFirstDue moves the clock on to what comes due first, false if nothing
// does before the end.
func (w *world) queueFirstDue(end time.Time) bool {
	var first request
	var at time.Time
	for req, due := range w.due {
		if at.IsZero() || due.Before(at) {
			first, at = req, due
		}
	}
	if at.IsZero() || at.After(end) {
		return false
	}
	delete(w.due, first)
	if at.After(w.clock) {
		w.clock = at
	}
	w.queued = append(w.queued, first)
	return true
}

// create stores a Service that is opted in, and has it looked at.
func (w *world) create(name string, changes ...change) {
	w.t.Helper()
	w.store(loadBalancer(append([]change{named(name, types.UID(name)), optIn}, changes...)...))
	w.lookAtServices(name)
}

// remove deletes a Service.
func (w *world) remove(name string) {
	w.t.Helper()
	w.edit(name, deleted)
	w.lookAtServices(name)
	w.lookAtServices(name) // that it is gone
}

func (w *world) lookAtServices(names ...string) {
	w.t.Helper()
	for _, name := range names {
		w.queued = append(w.queued, requestForService(ipam.ServiceKey{Namespace: "ns", Name: name}))
	}
	w.pass(3 * time.Second)
}

func (w *world) lookAtEips(names ...string) {
	w.t.Helper()
	for _, name := range names {
		w.queued = append(w.queued, requestForEip(name))
	}
	w.pass(3 * time.Second)
}

func (w *world) editEip(name string, change func(*v1alpha2.Eip)) {
	w.t.Helper()
	change(w.eips[name])
	w.lookAtEips(name)
}

// told is what a Service's condition says.
func (w *world) told(name string) string {
	c := meta.FindStatusCondition(w.at(name).Status.Conditions, v1alpha2.ConditionAllocated)
	if c == nil {
		return "nothing"
	}
	return c.Reason + ": " + c.Message
}

func port(n int32) change {
	return func(s *corev1.Service) {
		s.Spec.Ports = []corev1.ServicePort{{Port: n, Protocol: corev1.ProtocolTCP}}
	}
}

func limits(m map[string]v1alpha2.AddressLimit) func(*v1alpha2.Eip) {
	return func(e *v1alpha2.Eip) { e.Spec.NamespaceLimits = m }
}

func eipDeleted(e *v1alpha2.Eip) { e.DeletionTimestamp = &metav1.Time{Time: time.Unix(1, 0)} }

func inNS(ns string) change { return func(s *corev1.Service) { s.Namespace = ns } }

func withShareKey(svc *corev1.Service) { annotated(v1alpha2.AnnotationShare, "k")(svc) }
