package controller

import (
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fairway-lb/fairway/controller/wish"
)

// Somebody who takes our address out of a Service's status again and again is
// undone at once at first, then ever less often, and named in one Warning.
func TestDisputeSlowsDown(t *testing.T) {
	w := twoAddresses(t)
	w.eventsSoFar()
	w.writes = nil
	insist := func(svc *corev1.Service) {
		svc.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: "172.16.0.9"}}
		svc.ManagedFields = managedBy("other-lb", w.clock)
	}
	const hour = int(time.Hour / time.Second)
	for range hour { // every second
		w.clock = w.clock.Add(time.Second)
		w.edit("a", insist)
		w.catchUp()
		w.look("a")
	}
	if n := len(w.writes); n < disputeTries || n > 40 {
		t.Errorf("%d writes in an hour", n)
	}
	if after := w.later[requestForService(wish.KeyOf(w.at("a")))]; after <= 0 || after > maxDisputeDelay {
		t.Errorf("it looks again after %v", after)
	}
	events := w.eventsSoFar()
	if len(events) != 1 || !strings.Contains(events[0], "Warning Dispute") || !strings.Contains(events[0], `"other-lb"`) {
		t.Errorf("events: %q", events)
	}
	// When the other one stops, the address is back, and for good.
	w.clock = w.clock.Add(maxDisputeDelay)
	w.look("a")
	w.shows("a", "10.0.0.1")
	w.clock = w.clock.Add(disputeForgotten + time.Second)
	for range disputeTries {
		w.edit("a", insist)
		w.catchUp()
		w.look("a")
		w.shows("a", "10.0.0.1")
	}
}

func managedBy(manager string, at time.Time) []metav1.ManagedFieldsEntry {
	return []metav1.ManagedFieldsEntry{
		{Manager: fieldManager, Time: &metav1.Time{Time: at.Add(time.Minute)}},
		{Manager: "kubectl-create", Time: &metav1.Time{Time: at.Add(time.Minute)}, FieldsV1: &metav1.FieldsV1{Raw: []byte(`{"f:spec":{}}`)}},
		{Manager: manager, Time: &metav1.Time{Time: at}, FieldsV1: &metav1.FieldsV1{Raw: []byte(`{"f:status":{"f:loadBalancer":{}}}`)}},
	}
}
