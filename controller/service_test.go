package controller

import (
	"errors"
	"reflect"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/fairway-lb/fairway/api/v1alpha2"
)

func named(name string, uid types.UID) change {
	return func(svc *corev1.Service) { svc.Name, svc.UID = name, uid }
}

func optOut(svc *corev1.Service) { delete(svc.Annotations, v1alpha2.AnnotationLoadBalancer) }

var inPool = annotated(v1alpha2.AnnotationPool, "eip")

// twoAddresses is a world with one pool of two addresses, and Service a with
// the first.
func twoAddresses(t *testing.T) *world {
	w := newWorld(t, eipOf("eip", "10.0.0.1-10.0.0.2"))
	w.store(loadBalancer(named("a", "1"), optIn, inPool))
	w.settle("a")
	w.shows("a", "10.0.0.1")
	return w
}

// After a change of the leader the cache may be older than what was adopted.
// Nothing that it shows then frees an address that is in use.
func TestStaleCacheFreesNothing(t *testing.T) {
	for _, test := range []struct {
		name  string
		stale *corev1.Service // what the cache shows, nil for nothing
	}{
		{"not created yet", nil},
		{"not opted in yet", loadBalancer(named("a", "1"))},
		{"its predecessor of the same name", loadBalancer(named("a", "0"), optIn, inPool)},
		{"its predecessor, opted out", loadBalancer(named("a", "0"))},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := twoAddresses(t)
			w.store(loadBalancer(named("b", "2"), optIn, inPool))
			w.catchUp()
			key := types.NamespacedName{Namespace: "ns", Name: "a"}
			delete(w.cached, key)
			if test.stale != nil {
				test.stale.ResourceVersion = "0"
				w.cached[key] = test.stale
			}
			w.lead()
			if again := w.look("a"); again != behindDelay {
				t.Errorf("it looks again after %v, want %v", again, behindDelay)
			}
			w.look("b")
			w.settle("a", "b")
			w.shows("a", "10.0.0.1")
			w.shows("b", "10.0.0.2")
		})
	}
}

// A Service that was created anew under the name of a deleted one inherits
// nothing: not its address, and not the silence about what was said to it.
func TestCreatedAnewUnderTheSameName(t *testing.T) {
	w := newWorld(t, eipOf("default", "10.0.0.1", func(eip *v1alpha2.Eip) {
		eip.Annotations = map[string]string{v1alpha2.AnnotationDefaultEip: "true"}
	}), eipOf("special", "10.1.0.1"))
	w.store(loadBalancer(named("a", "1"), optIn, annotated(v1alpha2.AnnotationPool, "special")))
	w.settle("a")
	w.shows("a", "10.1.0.1")
	w.store(loadBalancer(named("a", "2"), optIn))
	w.settle("a")
	w.shows("a", "10.0.0.1")

	w.store(loadBalancer(named("a", "3"), optIn, annotated(v1alpha2.AnnotationPool, "missing")))
	w.settle("a")
	w.eventsSoFar()
	w.store(loadBalancer(named("a", "4"), optIn, annotated(v1alpha2.AnnotationPool, "missing")))
	w.settle("a")
	if events := w.eventsSoFar(); len(events) != 1 || !strings.Contains(events[0], `"missing"`) {
		t.Errorf("the new Service's events are %q", events)
	}

	w.store(loadBalancer(named("b", "5"), optIn))
	w.settle("b")
	w.shows("b", "10.0.0.1") // freed by the second a
	w.eventsSoFar()
	w.store(loadBalancer(named("b", "6"))) // asks for nothing
	w.settle("b")
	if events := w.eventsSoFar(); len(events) != 0 {
		t.Errorf("a Service that is none of ours has events %q", events)
	}
}

// Whoever writes another Service's address into a Service's status, it gets
// one of its own.
func TestAddressOfAnotherServiceIsNotAdopted(t *testing.T) {
	w := twoAddresses(t)
	w.store(loadBalancer(named("b", "2"), optIn, inPool, showing("10.0.0.1")))
	w.settle("b")
	w.shows("a", "10.0.0.1")
	w.shows("b", "10.0.0.2")
}

// What users and others take off a Service comes back, at the same address.
func TestRepair(t *testing.T) {
	w := twoAddresses(t)
	for name, change := range map[string]change{
		"label":     func(svc *corev1.Service) { svc.Labels = nil },
		"finalizer": func(svc *corev1.Service) { svc.Finalizers = nil },
		"status":    func(svc *corev1.Service) { svc.Status.LoadBalancer.Ingress = nil },
		"another":   func(svc *corev1.Service) { svc.Status.LoadBalancer.Ingress[0].IP = "10.0.0.2" },
		"all": func(svc *corev1.Service) {
			svc.Labels, svc.Finalizers, svc.Status.LoadBalancer.Ingress = nil, nil, nil
		},
	} {
		w.edit("a", change)
		w.settle("a")
		w.shows("a", "10.0.0.1")
		if svc := w.at("a"); svc.Labels[v1alpha2.LabelPool] != "eip" || len(svc.Finalizers) != 1 {
			t.Errorf("%s: labels %v, finalizers %v", name, svc.Labels, svc.Finalizers)
		}
	}
	version := w.version
	w.settle("a")
	if w.version != version {
		t.Error("it writes though nothing changed")
	}
}

// A Service that is not Fairway's but carries its marks keeps the address
// that another implementation gave it.
func TestMarkedByHand(t *testing.T) {
	w := twoAddresses(t)
	w.store(loadBalancer(named("b", "2"), labelled(v1alpha2.LabelPool, "eip"), finalized(v1alpha2.FinalizerService), showing("172.16.0.1")))
	w.settle("b")
	w.shows("b", "172.16.0.1")
	if svc := w.at("b"); marked(svc) {
		t.Errorf("labels %v, finalizers %v", svc.Labels, svc.Finalizers)
	}
}

// While the API server refuses the writes of a release, the address is given
// to nobody; then it is.
func TestRefusedRelease(t *testing.T) {
	w := twoAddresses(t)
	w.eventsSoFar()
	w.edit("a", optOut)
	w.store(loadBalancer(named("b", "2"), optIn, annotated(v1alpha2.AnnotationAddress, "10.0.0.1")))
	w.catchUp()
	w.refuses = errors.New("admission webhook denied the request")
	w.look("a", "a", "b")
	w.shows("a", "10.0.0.1")
	events := strings.Join(w.eventsSoFar(), "\n")
	if strings.Count(events, "ReleaseIPFailed") != 1 || !strings.Contains(events, "admission webhook denied the request") {
		t.Errorf("events:\n%s", events)
	}
	w.refuses = nil
	w.settle("a", "b")
	w.shows("a", "")
	w.shows("b", "10.0.0.1")
}

// While the Services cannot be listed, nothing is assigned, and they are
// listed once in a while, not once for each request.
func TestFailedAdoptionIsNotTriedByEachRequest(t *testing.T) {
	w := twoAddresses(t)
	w.lead()
	w.lists = 0
	w.refuses = errors.New("no answer")
	w.look("a")
	if again := w.look("a", "b", "c"); again != adoptionDelay || w.lists != 1 {
		t.Errorf("it looks again after %v, and listed %d times", again, w.lists)
	}
	w.refuses = nil
	w.clock = w.clock.Add(adoptionDelay)
	w.store(loadBalancer(named("b", "2"), optIn, inPool))
	w.settle("b")
	w.shows("b", "10.0.0.2")
}

// A freed address has only those looked at whom it may help.
func TestFreedAddressWakes(t *testing.T) {
	w := newWorld(t, eipOf("eip", "10.0.0.1"), eipOf("other", "10.1.0.1"))
	w.store(loadBalancer(named("a", "1"), optIn, inPool))
	w.store(loadBalancer(named("b", "2"), optIn, annotated(v1alpha2.AnnotationPool, "other")))
	w.settle("a", "b")
	w.store(loadBalancer(named("waits", "3"), optIn, inPool))
	w.store(loadBalancer(named("waits-for-other", "4"), optIn, annotated(v1alpha2.AnnotationPool, "other")))
	w.store(loadBalancer(named("waits-for-address", "5"), optIn, annotated(v1alpha2.AnnotationAddress, "10.0.0.1")))
	w.settle("waits", "waits-for-other", "waits-for-address")
	w.edit("a", optOut)
	w.queued = nil
	w.settle("a")
	woken := map[string]bool{}
	for _, req := range w.queued {
		if req.kind == serviceRequest {
			woken[req.Name] = true
		}
	}
	if want := map[string]bool{"waits": true, "waits-for-address": true}; !reflect.DeepEqual(woken, want) {
		t.Errorf("woken are %v, want %v", woken, want)
	}
}
