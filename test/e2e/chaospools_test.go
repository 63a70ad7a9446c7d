package e2e

import (
	"fmt"
	"slices"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fairway-lb/fairway/api/v1alpha2"
)

func (w *chaos) createPools() {
	for _, name := range chaosPools() {
		if err := w.api.Create(w.t.Context(), chaosPool(name)); err != nil {
			w.t.Fatalf("creating Eip %s: %v", name, err)
		}
	}
}

// chaosPool is a pool as it is at first. All its addresses, also those that
// are added later, are in the region that poolOf knows.
func chaosPool(name string) *v1alpha2.Eip {
	pool := &v1alpha2.Eip{ObjectMeta: metav1.ObjectMeta{Name: name}}
	spec := &pool.Spec
	switch name {
	case poolA:
		spec.Address = "10.1.0.1-10.1.0.12"
	case poolB:
		spec.Address = "10.2.0.1-10.2.0.12"
		spec.AllocationPolicy = v1alpha2.AllocationRotate
		pool.Annotations = map[string]string{v1alpha2.AnnotationDefaultEip: "true"}
	case poolC:
		spec.Address = "10.3.0.1-10.3.0.6"
		spec.Namespaces = []string{"prod"}
	case poolD:
		spec.Address = "10.4.0.1-10.4.0.8"
		spec.Addresses = []v1alpha2.PoolAddress{"2001:db8:4::1-2001:db8:4::8"}
		spec.Namespaces, spec.Priority = []string{"dev"}, 10
	case poolF:
		spec.Address = "10.5.0.1-10.5.0.6"
		spec.Quarantine = &metav1.Duration{Duration: 300 * time.Millisecond}
	}
	return pool
}

func (w *chaos) operatePool(name string) {
	w.t.Helper()
	spec := func(what string, value any) object { return object{"spec": object{what: value}} }
	switch w.rng.IntN(10) {
	case 0:
		w.grow(name, 2)
	case 1, 2, 3:
		w.patchPool(name, spec("disable", w.rng.IntN(3) == 0))
	case 4:
		namespaces := [][]string{{}, {"dev"}, {"prod"}, {"dev", "prod"}}
		w.patchPool(name, spec("namespaces", namespaces[w.rng.IntN(4)]))
	case 5:
		w.patchPool(name, spec("exclusive", w.rng.IntN(3) == 0))
	case 6:
		limits := []any{nil, object{"*": 4}, object{"dev": 2}}
		w.patchPool(name, spec("namespaceLimits", limits[w.rng.IntN(3)]))
	case 7:
		w.deletePool(poolF, w.rng.IntN(2) == 0)
	default:
		w.recreatePool(poolF)
	}
}

func (w *chaos) patchPool(name string, patch object) {
	w.t.Helper()
	err := w.api.Patch(w.t.Context(), &v1alpha2.Eip{ObjectMeta: metav1.ObjectMeta{Name: name}}, client.RawPatch(types.MergePatchType, []byte(text(patch))))
	w.did(err, "Eip %s is patched: %s", name, text(patch))
}

// grow adds addresses of each family that the pool has.
func (w *chaos) grow(name string, n int) {
	w.t.Helper()
	var pool v1alpha2.Eip
	if err := w.api.Get(w.t.Context(), client.ObjectKey{Name: name}, &pool); err != nil {
		w.did(err, "Eip %s grows", name)
		return
	}
	w.grown++
	number := 1 + slices.Index(chaosPools(), name)
	pool.Spec.Addresses = append(pool.Spec.Addresses, v1alpha2.PoolAddress(fmt.Sprintf("10.%d.%d.1-10.%d.%d.%d", number, w.grown, number, w.grown, n)))
	if name == poolD {
		pool.Spec.Addresses = append(pool.Spec.Addresses, v1alpha2.PoolAddress(fmt.Sprintf("2001:db8:4:%x::1-2001:db8:4:%x::%x", w.grown, w.grown, n)))
	}
	w.patchPool(name, object{"spec": object{"addresses": pool.Spec.Addresses}})
}

func (w *chaos) deletePool(name string, force bool) {
	w.t.Helper()
	if force {
		w.mu.Lock()
		w.forced[name] = true
		w.mu.Unlock()
		w.patchPool(name, object{"metadata": object{"annotations": object{v1alpha2.AnnotationForceDelete: "true"}}})
	}
	err := w.api.Delete(w.t.Context(), &v1alpha2.Eip{ObjectMeta: metav1.ObjectMeta{Name: name}})
	w.did(err, "Eip %s is deleted, by force: %t", name, force)
}

func (w *chaos) recreatePool(name string) {
	w.t.Helper()
	err := w.api.Create(w.t.Context(), chaosPool(name))
	w.did(err, "Eip %s is created again", name)
	if err == nil {
		w.mu.Lock()
		defer w.mu.Unlock()
		delete(w.forced, name) // the one before is gone, and nobody held its addresses
	}
}

func (w *chaos) isForced(pool string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.forced[pool]
}

// makeRoom ends all that can keep a Service waiting.
func (w *chaos) makeRoom() {
	w.t.Helper()
	w.recreatePool(poolF)
	for _, name := range chaosPools() {
		w.patchPool(name, object{"spec": object{"disable": false, "exclusive": false, "namespaceLimits": nil}})
		w.grow(name, 60)
	}
	w.patchPool(poolB, object{"metadata": object{"annotations": object{v1alpha2.AnnotationDefaultEip: "true"}}})
}

// deletePools deletes all and waits until they are gone.
func (w *chaos) deletePools() {
	w.t.Helper()
	for _, name := range chaosPools() {
		w.deletePool(name, false)
	}
	w.eventually("all Eips are gone", func() string {
		if left := w.pools(); len(left) > 0 {
			return fmt.Sprintf("%d are left: %s with finalizers %v, used %v", len(left), left[0].Name, left[0].Finalizers, left[0].Status.Used)
		}
		return ""
	})
}

func (w *chaos) pools() []v1alpha2.Eip {
	w.t.Helper()
	var list v1alpha2.EipList
	if err := w.api.List(w.t.Context(), &list); err != nil {
		w.t.Fatalf("listing Eips: %v", err)
	}
	return list.Items
}
