package controller

import (
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/fairway-lb/fairway/api/v1alpha2"
	"github.com/fairway-lb/fairway/controller/ipam"
	"github.com/fairway-lb/fairway/controller/wish"
)

// A port of a shared address is free again: who waits under the key gets it.
func TestFreedPortHelpsWhoWaitsForTheKey(t *testing.T) {
	w := newWorld(t, eipOf("eip", "10.0.0.1"))
	w.lookAtEips("eip")
	w.create("t1", inPool, withShareKey, port(80))
	w.create("t2", inPool, withShareKey, port(81))
	w.create("w", inPool, withShareKey, port(80))
	w.remove("t1")
	w.pass(time.Hour)
	w.shows("w", "10.0.0.1")
	w.lookAtServices("w")
	w.shows("w", "10.0.0.1")
}

// A dual-stack Service that has an address of another pool than it asks for
// waits for room of that family, too.
func TestDualStackServiceThatKeepsAnotherPoolsAddressWaits(t *testing.T) {
	for _, policy := range []corev1.IPFamilyPolicy{corev1.IPFamilyPolicyPreferDualStack, corev1.IPFamilyPolicyRequireDualStack} {
		dual := func(svc *corev1.Service) {
			svc.Spec.IPFamilyPolicy = &policy
			svc.Spec.IPFamilies = []corev1.IPFamily{corev1.IPv4Protocol, corev1.IPv6Protocol}
		}
		w := newWorld(t, eipOf("other", "10.1.0.1"), eipOf("eip", "10.0.0.1"))
		w.lookAtEips("other", "eip")
		w.create("t1", inPool)
		w.create("w", annotated(v1alpha2.AnnotationPool, "other"))
		w.edit("w", dual, inPool)
		w.lookAtServices("w")
		w.shows("w", "10.1.0.1")
		w.remove("t1")
		w.pass(time.Hour)
		w.shows("w", "10.0.0.1")
	}
}

// A limit that is raised while there is no room is not forgotten when there is.
func TestQuotaRaisedWhileThePoolIsFull(t *testing.T) {
	w := newWorld(t, eipOf("eip", "10.0.0.1-10.0.0.2", limits(map[string]v1alpha2.AddressLimit{"ns": 1})))
	w.lookAtEips("eip")
	w.create("t1", inPool)
	other := loadBalancer(named("o", "o"), optIn, inPool, inNS("other"))
	w.store(other)
	w.queued = append(w.queued, requestForService(wish.KeyOf(other)))
	w.pass(time.Second)
	w.create("w", inPool)
	w.editEip("eip", limits(map[string]v1alpha2.AddressLimit{"ns": 2}))
	delete(w.live, types.NamespacedName{Namespace: "other", Name: "o"})
	w.queued = append(w.queued, requestForService(wish.KeyOf(other)))
	w.pass(time.Hour)
	w.shows("w", "10.0.0.2")
	w.lookAtServices("w")
	w.shows("w", "10.0.0.2")
}

// A namespace that holds less waits for room from then on, until the address has rested.
func TestQuotaFreedWithAQuarantine(t *testing.T) {
	w := newWorld(t, eipOf("eip", "10.0.0.1", limits(map[string]v1alpha2.AddressLimit{"ns": 1}), func(e *v1alpha2.Eip) { e.Spec.Quarantine = &metav1.Duration{Duration: time.Minute} }))
	w.lookAtEips("eip")
	w.create("t1", inPool)
	w.create("w", inPool)
	w.remove("t1")
	w.pass(time.Hour)
	w.shows("w", "10.0.0.1")
}

// Where pools overlap, a freed address helps who waits for either.
func TestFreedAddressOfOverlappingPools(t *testing.T) {
	w := newWorld(t, eipOf("a", "10.0.0.1"), eipOf("b", "10.0.0.1"))
	w.lookAtEips("a", "b")
	w.create("t1", annotated(v1alpha2.AnnotationPool, "a"))
	w.create("w", annotated(v1alpha2.AnnotationPool, "b"))
	w.remove("t1")
	w.pass(time.Hour)
	w.shows("w", "10.0.0.1")
	w.lookAtServices("w")
	w.shows("w", "10.0.0.1")
}

// An address may have rested before anybody looked at the Eip.
func TestQuarantineThatIsOverBeforeTheEipIsLookedAt(t *testing.T) {
	w := newWorld(t, eipOf("eip", "10.0.0.1", func(e *v1alpha2.Eip) { e.Spec.Quarantine = &metav1.Duration{Duration: 500 * time.Millisecond} }))
	w.lookAtEips("eip")
	w.create("t1", inPool)
	w.create("w", inPool)
	w.editEip("eip", func(e *v1alpha2.Eip) { e.Spec.Priority = 3 })
	w.r.statuses["eip"] = w.clock // written just now
	w.remove("t1")
	w.pass(time.Hour)
	w.shows("w", "10.0.0.1")
}

// An Eip whose last change cannot be read is deleted like any other.
func TestDeletionOfAnEipThatIsInvalid(t *testing.T) {
	w := newWorld(t, eipOf("eip", "10.0.0.1-10.0.0.9"))
	w.lookAtEips("eip")
	w.create("t1", inPool)
	w.editEip("eip", func(e *v1alpha2.Eip) {
		e.Spec.ServiceSelector = &metav1.LabelSelector{MatchLabels: map[string]string{"a": "not a value!"}}
	})
	w.editEip("eip", func(e *v1alpha2.Eip) {
		eipDeleted(e)
		e.Annotations = map[string]string{v1alpha2.AnnotationForceDelete: "true"}
	})
	w.create("t2", inPool)
	w.shows("t2", "")
	w.pass(time.Hour)
	w.shows("t1", "")
}

// A request that cannot be read does not keep a forced deletion waiting.
func TestForceDeleteWithAnUnreadableRequest(t *testing.T) {
	w := newWorld(t, eipOf("eip", "10.0.0.1-10.0.0.9"))
	w.lookAtEips("eip")
	w.create("t1", inPool)
	w.edit("t1", annotated(v1alpha2.AnnotationAddress, "junk"))
	w.lookAtServices("t1")
	w.editEip("eip", func(e *v1alpha2.Eip) {
		eipDeleted(e)
		e.Annotations = map[string]string{v1alpha2.AnnotationForceDelete: "true"}
	})
	w.pass(time.Hour)
	if f := w.eips["eip"].Finalizers; len(f) > 0 {
		t.Errorf("Eip stays: %v; t1 shows %v, %s", f, shown(w.at("t1")), w.told("t1"))
	}
}

// A request that cannot be read hides none of the Service's ports.
func TestPortsOfAnUnreadableRequest(t *testing.T) {
	w := newWorld(t, eipOf("eip", "10.0.0.1-10.0.0.9"))
	w.lookAtEips("eip")
	w.create("t1", inPool, withShareKey, port(80))
	w.edit("t1", annotated(v1alpha2.AnnotationAddress, "junk"), port(443))
	w.lookAtServices("t1")
	w.create("t2", inPool, withShareKey, port(443))
	if shown(w.at("t1"))[0] == shown(w.at("t2"))[0] {
		t.Errorf("both have port 443 of %v: %s / %s", shown(w.at("t1")), w.told("t1"), w.told("t2"))
	}
}

// A forced deletion also takes the addresses that were cut from the pool.
func TestForceDeleteTakesCutAddresses(t *testing.T) {
	w := newWorld(t, eipOf("eip", "10.0.0.1", func(e *v1alpha2.Eip) { e.Spec.Addresses = []v1alpha2.PoolAddress{"10.0.0.2"} }))
	w.lookAtEips("eip")
	w.create("t1", inPool)
	w.create("t2", inPool)
	w.editEip("eip", func(e *v1alpha2.Eip) { e.Spec.Addresses = nil })
	w.editEip("eip", func(e *v1alpha2.Eip) {
		eipDeleted(e)
		e.Annotations = map[string]string{v1alpha2.AnnotationForceDelete: "true"}
	})
	w.pass(time.Hour)
	if f := w.eips["eip"].Finalizers; len(f) > 0 {
		t.Errorf("Eip stays: %v; t2 shows %v, %s", f, shown(w.at("t2")), w.told("t2"))
	}
}

// A deletion ends when the last address is another Eip's.
func TestDeletionEndsWhenAnotherEipHasTheAddress(t *testing.T) {
	w := newWorld(t, eipOf("eip", "10.0.0.1", func(e *v1alpha2.Eip) { e.Spec.Addresses = []v1alpha2.PoolAddress{"10.0.0.2"} }))
	w.lookAtEips("eip")
	w.create("t1", annotated(v1alpha2.AnnotationAddress, "10.0.0.2"))
	w.shows("t1", "10.0.0.2")
	w.editEip("eip", func(e *v1alpha2.Eip) { e.Spec.Addresses = nil })
	w.editEip("eip", eipDeleted)
	w.pass(time.Hour)
	w.eips["p2"] = eipOf("p2", "10.0.0.2")
	w.lookAtEips("p2")
	w.pass(time.Hour)
	if f := w.eips["eip"].Finalizers; len(f) > 0 {
		t.Errorf("Eip stays: %v; t1: %s label %v", f, w.told("t1"), w.at("t1").Labels)
	}
	w.lookAtEips("eip")
}

// A Service that names a pool of MetalLB waits for an Eip of the name.
func TestMetalLBPoolThatComesLater(t *testing.T) {
	w := newWorld(t)
	w.create("w", annotated("metallb.io/address-pool", "prod"))
	w.eips["prod"] = eipOf("prod", "10.9.0.1")
	w.lookAtEips("prod")
	w.pass(time.Hour)
	w.shows("w", "10.9.0.1")
	w.lookAtServices("w")
	w.shows("w", "10.9.0.1")
}

// A Service that has an address does not move to an Eip that comes with the name of its MetalLB pool.
func TestMetalLBPoolOfTheNameByChance(t *testing.T) {
	w := newWorld(t, eipOf("default", "10.0.0.1", func(eip *v1alpha2.Eip) {
		eip.Annotations = map[string]string{v1alpha2.AnnotationDefaultEip: "true"}
	}))
	w.lookAtEips("default")
	w.create("w", annotated("metallb.io/address-pool", "prod"), showing("10.0.0.1"))
	w.shows("w", "10.0.0.1")
	w.eips["prod"] = eipOf("prod", "10.9.0.1")
	w.lookAtEips("prod")
	w.pass(time.Hour)
	w.shows("w", "10.0.0.1")
	w.lead()
	w.lookAtServices("w")
	w.shows("w", "10.0.0.1")
}

// Who puts our label back again and again is undone ever less often.
func TestDisputeOverARelease(t *testing.T) {
	w := newWorld(t, eipOf("eip", "10.0.0.1"))
	w.lookAtEips("eip")
	w.store(loadBalancer(named("a", "1"), ofType(corev1.ServiceTypeClusterIP)))
	before := w.version
	for range 100 {
		w.edit("a", labelled(v1alpha2.LabelPool, "eip"))
		w.lookAtServices("a")
	}
	if n := w.version - before - 100; n > 30 {
		t.Errorf("%d writes against 100", n)
	}
}

// What a Service was told of a pool is told anew when it is not true any more.
func TestConditionFollowsThePools(t *testing.T) {
	for _, reason := range []string{"disabled", "full-unbound", "full-removed", "disabled-unbound", "family"} {
		w := newWorld(t, eipOf("eip", "10.0.0.1", func(e *v1alpha2.Eip) { e.Spec.Namespaces = []string{"ns"}; e.Spec.Disable = reason[0] == 'd' }))
		w.lookAtEips("eip")
		if reason[:4] == "full" {
			w.create("t1")
		}
		if reason == "family" {
			w.create("w", func(s *corev1.Service) { s.Spec.IPFamilies = []corev1.IPFamily{"IPv6"} })
		} else {
			w.create("w")
		}
		before := w.told("w")
		switch reason {
		case "full-unbound", "disabled-unbound":
			w.editEip("eip", func(e *v1alpha2.Eip) { e.Spec.Namespaces = []string{"x"} })
		default:
			delete(w.eips, "eip")
			w.lookAtEips("eip")
		}
		w.pass(time.Hour)
		stale := w.told("w")
		w.lookAtServices("w")
		if now := w.told("w"); now != stale {
			t.Errorf("%s: before %q\n stale %q\n truth %q", reason, before, stale, now)
		}
	}
}

// A family that a pool has no more is not measured any more.
func TestMetricOfAFamilyThatIsNoMore(t *testing.T) {
	w := newWorld(t, eipOf("eip", "10.0.0.1", func(e *v1alpha2.Eip) { e.Spec.Addresses = []v1alpha2.PoolAddress{"2001:db8::1"} }))
	w.lookAtEips("eip")
	w.editEip("eip", func(e *v1alpha2.Eip) { e.Spec.Addresses = nil })
	ch := make(chan prometheus.Metric, 9)
	w.r.metrics.addresses.Collect(ch)
	if n := len(ch); n != 1 {
		t.Errorf("%d families", n)
	}
}

// A freed address of one family has nobody looked at who lacks one of the other.
func TestRoomOfOneFamilyDoesNotWakeWhoLacksTheOther(t *testing.T) {
	w := newWorld(t, eipOf("eip", "10.0.0.0/24", func(e *v1alpha2.Eip) { e.Spec.Addresses = []v1alpha2.PoolAddress{"2001:db8::1"} }))
	w.lookAtEips("eip")
	dual := func(s *corev1.Service) {
		p := corev1.IPFamilyPolicyPreferDualStack
		s.Spec.IPFamilyPolicy = &p
		s.Spec.IPFamilies = []corev1.IPFamily{"IPv4", "IPv6"}
	}
	for i := range 101 {
		w.create("d"+string(rune('a'+i/26))+string(rune('a'+i%26)), inPool, dual)
	}
	w.create("t", inPool, func(s *corev1.Service) { s.Spec.IPFamilies = []corev1.IPFamily{"IPv4"} })
	w.edit("t", deleted)
	w.queued = append(w.queued, requestForService(ipam.ServiceKey{Namespace: "ns", Name: "t"}))
	if n := w.pass(time.Hour); n > 10 {
		t.Errorf("%d looks for one freed address that helps nobody", n)
	}
}

// Of two addresses asked for, either helps when it is free.
func TestEitherOfTwoAddressesHelps(t *testing.T) {
	w := newWorld(t, eipOf("eip", "10.0.0.1", func(e *v1alpha2.Eip) {
		e.Spec.Addresses = []v1alpha2.PoolAddress{"2001:db8::1"}
		e.Spec.Quarantine = &metav1.Duration{Duration: 10 * time.Minute}
	}))
	w.lookAtEips("eip")
	fam := func(f ...corev1.IPFamily) change { return func(s *corev1.Service) { s.Spec.IPFamilies = f } }
	w.create("t4", inPool, fam("IPv4"))
	w.create("t6", inPool, fam("IPv6"))
	w.create("w", annotated(v1alpha2.AnnotationAddress, "10.0.0.1,2001:db8::1"), fam("IPv4", "IPv6"), func(s *corev1.Service) { p := corev1.IPFamilyPolicyPreferDualStack; s.Spec.IPFamilyPolicy = &p })
	w.remove("t6")
	w.pass(time.Hour)
	w.shows("w", "2001:db8::1")
	w.lookAtServices("w")
	w.shows("w", "2001:db8::1")
}

// A warning is written again after another one.
func TestWarningThatComesAgain(t *testing.T) {
	w := newWorld(t, eipOf("eip", "10.0.0.1", func(e *v1alpha2.Eip) { e.Spec.Namespaces = []string{"ns"} }))
	w.lookAtEips("eip")
	w.create("t1")
	w.create("w")
	w.eventsSoFar()
	w.editEip("eip", func(e *v1alpha2.Eip) { e.Spec.Namespaces = []string{"x"} })
	w.lookAtServices("w")
	w.eventsSoFar()
	w.editEip("eip", func(e *v1alpha2.Eip) { e.Spec.Namespaces = []string{"ns"} })
	w.lookAtServices("w")
	if e := w.eventsSoFar(); len(e) != 1 {
		t.Errorf("%v, %s", e, w.told("w"))
	}
}

// A quarantine may end between the start and the first look at the Eip.
func TestQuarantineThatEndsDuringTheStart(t *testing.T) {
	w := newWorld(t, eipOf("eip", "10.0.0.1", func(e *v1alpha2.Eip) { e.Spec.Quarantine = &metav1.Duration{Duration: 10 * time.Minute} }))
	w.lookAtEips("eip")
	w.create("t1", inPool)
	w.create("w", inPool)
	w.remove("t1")
	w.pass(9*time.Minute + 50*time.Second)
	w.lead()
	clear(w.later)
	clear(w.due)
	w.catchUp()
	w.queued = nil
	w.look("w")
	w.queued = nil
	w.clock = w.clock.Add(20 * time.Second) // 10,000 other Services
	w.lookAtEips("eip")
	w.pass(time.Hour)
	w.shows("w", "10.0.0.1")
}

// A restart knows which of two Eips an address was cut from.
func TestRestartWithACutAddressOfTwoPools(t *testing.T) {
	w := newWorld(t, eipOf("a4", "10.0.0.1"), eipOf("b6", "2001:db8::1", func(e *v1alpha2.Eip) { e.Spec.Addresses = []v1alpha2.PoolAddress{"2001:db8::2"} }))
	w.lookAtEips("a4", "b6")
	w.create("other", annotated(v1alpha2.AnnotationPool, "b6"), func(s *corev1.Service) { s.Spec.IPFamilies = []corev1.IPFamily{"IPv6"} })
	w.create("s", annotated(v1alpha2.AnnotationPool, "a4,b6"), func(s *corev1.Service) {
		p := corev1.IPFamilyPolicyRequireDualStack
		s.Spec.IPFamilyPolicy = &p
		s.Spec.IPFamilies = []corev1.IPFamily{"IPv4", "IPv6"}
	})
	w.editEip("b6", func(e *v1alpha2.Eip) { e.Spec.Addresses = nil })
	w.lookAtServices("s")
	before := w.told("s")
	cond := func(n string) string {
		c := meta.FindStatusCondition(w.eips[n].Status.Conditions, v1alpha2.ConditionOutOfPool)
		if c == nil {
			return "-"
		}
		return string(c.Status)
	}
	w.lead()
	w.lookAtServices("s")
	w.lookAtEips("a4", "b6")
	if after := w.told("s"); after != before || cond("a4") != "-" {
		t.Errorf("%s, %s %s", after, cond("a4"), cond("b6"))
	}
}

// A restart tells nobody who waits for a quarantine another time.
func TestRestartWritesNothingToWhoWaits(t *testing.T) {
	w := newWorld(t, eipOf("eip", "10.0.0.1-10.0.0.2", func(e *v1alpha2.Eip) {
		e.Spec.Quarantine = &metav1.Duration{Duration: 10*time.Minute + 500*time.Millisecond}
	}))
	w.clock = w.clock.Add(300 * time.Millisecond)
	w.lookAtEips("eip")
	w.create("t1", inPool)
	w.create("t2", inPool)
	w.remove("t1")
	w.create("w", inPool)
	w.pass(time.Minute)
	before, n := w.told("w"), w.version
	w.lead()
	w.lookAtEips("eip")
	w.lookAtServices("w")
	if w.told("w") != before || w.version != n {
		t.Errorf("%d writes\n%s\n%s", w.version-n, before, w.told("w"))
	}
}

// Who puts an address back that was taken by force is undone ever less often.
func TestDisputeOverAForcedDeletion(t *testing.T) {
	w := twoAddresses(t)
	w.lookAtEips("eip")
	w.lookAtServices("a")
	w.editEip("eip", func(e *v1alpha2.Eip) {
		eipDeleted(e)
		e.Annotations = map[string]string{v1alpha2.AnnotationForceDelete: "true"}
		e.Finalizers = append(e.Finalizers, "x/y")
	})
	w.shows("a", "")
	before := w.version
	for range 100 {
		w.edit("a", showing("10.0.0.1"))
		w.lookAtServices("a")
	}
	if n := w.version - before - 100; n > 30 {
		t.Errorf("%d writes against 100", n)
	}
}

// Where pools overlap, an address given from one is not free in the other.
func TestFreeAddressesOfOverlappingPools(t *testing.T) {
	w := newWorld(t, eipOf("a", "10.0.0.1-10.0.0.2"), eipOf("b", "10.0.0.1"))
	w.lookAtEips("a", "b")
	w.create("t1", annotated(v1alpha2.AnnotationPool, "a"))
	w.pass(time.Hour)
	before := w.eips["b"].Status.Free
	w.lookAtEips("b")
	if now := w.eips["b"].Status.Free; now != before {
		t.Errorf("free %s, truth %s", before, now)
	}
}

// A Service whose request cannot be read has not asked for the address that it
// keeps: nobody comes to share it by asking for it, too.
func TestUnreadableRequestIsNoConsent(t *testing.T) {
	w := newWorld(t, eipOf("eip", "10.0.0.1-10.0.0.9"))
	w.lookAtEips("eip")
	w.create("t1", inPool, port(80))
	w.edit("t1", annotated(v1alpha2.AnnotationAddress, "junk"))
	w.lookAtServices("t1")
	w.create("t2", annotated(v1alpha2.AnnotationAddress, "10.0.0.1"), port(443))
	w.shows("t1", "10.0.0.1")
	w.shows("t2", "")
	w.edit("t1", annotated(v1alpha2.AnnotationAddress, "10.0.0.1")) // now it asks
	w.lookAtServices("t1")
	w.pass(time.Hour)
	w.shows("t2", "10.0.0.1")
}
