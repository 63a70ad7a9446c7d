package controller

import (
	"errors"
	"fmt"
	"math"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/fairway-lb/fairway/api/v1alpha2"
	"github.com/fairway-lb/fairway/controller/ipam"
)

func TestPoolOf(t *testing.T) {
	pool, _, err := poolOf(eipOf("eip", "10.0.0.1-10.0.0.9", func(eip *v1alpha2.Eip) {
		eip.Spec.Disable, eip.Spec.Priority = true, 7
		eip.Spec.Namespaces, eip.Spec.NamespaceSelector = []string{"ns"}, map[string]string{"a": "b"}
		eip.DeletionTimestamp = &metav1.Time{Time: time.Unix(1, 0)}
	}))
	if err != nil {
		t.Fatal(err)
	}
	if pool.Name != "eip" || pool.Space.String() != "10.0.0.1-10.0.0.9" || !pool.Disabled || !pool.Deleting || pool.Default ||
		pool.Priority != 7 || !pool.Binds("ns", nil) || !pool.Binds("x", map[string]string{"a": "b"}) || pool.Binds("x", nil) {
		t.Errorf("the pool is %+v", pool)
	}
	for value, want := range map[string]bool{"true": true, "True": true, "TRUE": true, "false": false, "": false, "yes": false} {
		eip := eipOf("eip", "10.0.0.1")
		eip.Annotations = map[string]string{v1alpha2.AnnotationDefaultEip: value}
		if pool, _, _ := poolOf(eip); pool.Default != want {
			t.Errorf("marked default with %q: %t", value, pool.Default)
		}
	}
}

// An Eip that cannot be used says what to do, and can still be deleted.
func TestPoolOfInvalidEip(t *testing.T) {
	for _, test := range []struct {
		eip  *v1alpha2.Eip
		says string
	}{
		{eipOf("eip", "10.0.0.9-10.0.0.1"), "spec.address"},
		{eipOf("eip", ""), "created anew"},
		{eipOf("eip", " 10.0.0.1"), "invalid eip address format"},
		{eipOf("eip", "10.0.0.1-2001:db8::1"), "invalid eip address format"},
		{eipOf("eip", "10.0.0.1", func(eip *v1alpha2.Eip) { eip.Spec.Addresses = []v1alpha2.PoolAddress{"10.0.0.2", "junk"} }), `spec.addresses[1] "junk"`},
		{eipOf("eip", "10.0.0.1", func(eip *v1alpha2.Eip) { eip.Spec.Exclude = []v1alpha2.PoolAddress{"10.0.0.0/33"} }), "spec.exclude[0]"},
		{eipOf("eip", "10.0.0.1", func(eip *v1alpha2.Eip) {
			eip.Spec.ServiceSelector = &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{{Key: "a", Operator: "Almost"}}}
		}), "spec.serviceSelector"},
		{eipOf("eip", "10.0.0.1", func(eip *v1alpha2.Eip) { eip.Spec.Quarantine = &metav1.Duration{Duration: -time.Second} }), "spec.quarantine"},
		{eipOf(strings.Repeat("x", 64), "10.0.0.1"), "shorter name"},
	} {
		test.eip.DeletionTimestamp = &metav1.Time{Time: time.Unix(1, 0)}
		pool, _, err := poolOf(test.eip)
		if err == nil || !strings.Contains(err.Error(), test.says) {
			t.Errorf("%s %+v: %v", test.eip.Name, test.eip.Spec, err)
		}
		if !pool.Deleting {
			t.Errorf("%s %+v: %+v", test.eip.Name, test.eip.Spec, pool)
		}
	}
}

// What a pool's status says of it.
func TestStatusOf(t *testing.T) {
	four, six := eipOf("eip", "10.0.0.0-10.0.0.1"), eipOf("six", "2001:db8::/64")
	w := newWorld(t, four, six)
	for _, eip := range []*v1alpha2.Eip{four, six} {
		pool, _, err := poolOf(eip)
		if err != nil {
			t.Fatal(err)
		}
		w.r.ipam.SetPool(pool)
	}
	status := func(eip *v1alpha2.Eip) v1alpha2.EipStatus {
		s := w.r.statusOf(eip, nil, "")
		s.Conditions = nil
		return s
	}
	want := v1alpha2.EipStatus{PoolSize: 2, Total: "2", Free: "2", FirstIP: "10.0.0.0", LastIP: "10.0.0.1", V4: true, Ready: true}
	if got := status(four); !reflect.DeepEqual(got, want) {
		t.Errorf("empty: %+v", got)
	}
	for _, name := range []string{"one", "two"} { // two Services with one address
		w.r.ipam.Adopt(ipam.Request{Service: ipam.ServiceKey{Namespace: "ns", Name: name}}, []netip.Addr{netip.MustParseAddr("10.0.0.0")}, "eip")
	}
	want.Usage, want.Free, want.Used = 1, "1", map[string]string{"10.0.0.0": "ns/one;ns/two"}
	if got := status(four); !reflect.DeepEqual(got, want) {
		t.Errorf("in use: %+v", got)
	}
	if outcome := w.r.ipam.Assign(ipam.Request{Service: ipam.ServiceKey{Namespace: "ns", Name: "three"}, Pools: []string{"eip"}}); outcome.Refusal != nil {
		t.Fatal(outcome.Refusal)
	}
	want.Usage, want.Free, want.Used["10.0.0.1"], want.Occupied = 2, "0", "ns/three", true
	if got := status(four); !reflect.DeepEqual(got, want) {
		t.Errorf("full: %+v", got)
	}
	if got := status(six); got.PoolSize != math.MaxInt || got.Total != "18446744073709551616" || got.V4 || got.LastIP != "2001:db8::ffff:ffff:ffff:ffff" {
		t.Errorf("IPv6: %+v", got)
	}
}

// What an Eip's conditions say, in a sequence of changes to it.
func TestEipConditions(t *testing.T) {
	eip := eipOf("eip", "10.0.0.1")
	w := newWorld(t, eip, eipOf("other", "10.0.1.0/24", func(eip *v1alpha2.Eip) {
		eip.Annotations = map[string]string{v1alpha2.AnnotationDefaultEip: "true"}
	}))
	req := requestForEip("eip")
	edit := func(change func(*v1alpha2.Eip)) {
		change(w.eips["eip"])
		w.clock = w.clock.Add(statusInterval)
		w.lookAt(req)
	}
	w.store(loadBalancer(named("a", "1"), optIn, inPool))
	w.settle("a")
	w.lookAt(requestForEip("other"))
	for _, step := range []struct {
		name   string
		change func(*v1alpha2.Eip)
		want   map[string]string // status and reason by type
		says   string            // a part of one of the messages
	}{
		{"full", func(*v1alpha2.Eip) {}, map[string]string{"Ready": "True Served", "Overlapping": "False NoOverlap", "Exhausted": "True Full"}, "spec.addresses"},
		{"grown", func(eip *v1alpha2.Eip) { eip.Spec.Addresses = []v1alpha2.PoolAddress{"10.0.1.7"} },
			map[string]string{"Ready": "True Served", "Overlapping": "True Overlap", "Exhausted": "False HasRoom"}, "eip address overlap with other"},
		{"the default", func(eip *v1alpha2.Eip) { eip.Annotations = map[string]string{v1alpha2.AnnotationDefaultEip: "True"} },
			map[string]string{"DefaultConflict": "True SeveralDefaults"}, "already exists a default EIP: other"},
		{"not the default", func(eip *v1alpha2.Eip) { eip.Annotations = nil }, map[string]string{"DefaultConflict": "False NoOther"}, ""},
		{"disabled", func(eip *v1alpha2.Eip) { eip.Spec.Disable = true }, map[string]string{"Ready": "False Disabled"}, "spec.disable"},
		{"spoiled", func(eip *v1alpha2.Eip) { eip.Spec.Disable, eip.Spec.Exclude = false, []v1alpha2.PoolAddress{"junk"} },
			map[string]string{"Ready": "False Invalid", "Exhausted": "False HasRoom"}, `The change of the Eip has no effect: spec.exclude[0] "junk"`},
		{"cut", func(eip *v1alpha2.Eip) { eip.Spec.Exclude = []v1alpha2.PoolAddress{"10.0.0.1"} },
			map[string]string{"Ready": "True Served", "OutOfPool": "True AddressesCut"}, "10.0.0.1 of Service ns/a"},
		{"mended", func(eip *v1alpha2.Eip) { eip.Spec.Exclude = nil }, map[string]string{"Ready": "True Served", "OutOfPool": "False AllInside"}, ""},
		{"deleted", func(eip *v1alpha2.Eip) { eip.DeletionTimestamp = &metav1.Time{Time: time.Unix(1, 0)} },
			map[string]string{"Ready": "False BeingDeleted", "DeletionWaits": "True Held"}, "ns/a"},
	} {
		edit(step.change)
		status := w.eips["eip"].Status
		said := false
		for _, c := range status.Conditions {
			if want, ok := step.want[c.Type]; ok && string(c.Status)+" "+c.Reason != want {
				t.Errorf("%s: %s is %s %s, want %s", step.name, c.Type, c.Status, c.Reason, want)
			}
			said = said || strings.Contains(c.Message, step.says)
		}
		for kind := range step.want {
			if meta.FindStatusCondition(status.Conditions, kind) == nil {
				t.Errorf("%s: no condition %s", step.name, kind)
			}
		}
		if !said {
			t.Errorf("%s: no condition says %q: %+v", step.name, step.says, status.Conditions)
		}
		w.shows("a", "10.0.0.1")
	}
}

// However many addresses are in use, the list of them stays within what an
// object may be, and the count is right.
func TestStatusOfHugePool(t *testing.T) {
	eip := eipOf("eip", "2001:db8::/64")
	w := newWorld(t, eip)
	pool, _, err := poolOf(eip)
	if err != nil {
		t.Fatal(err)
	}
	w.r.ipam.SetPool(pool)
	const services = 20_000
	for i := range services {
		key := ipam.ServiceKey{Namespace: strings.Repeat("n", 63), Name: fmt.Sprintf("%s%05d", strings.Repeat("s", 58), i)}
		if outcome := w.r.ipam.Assign(ipam.Request{Service: key, Pools: []string{"eip"}}); outcome.Refusal != nil {
			t.Fatal(outcome.Refusal)
		}
	}
	status := w.r.statusOf(eip, nil, "")
	bytes := 0
	for addr, holder := range status.Used {
		bytes += len(addr) + len(holder)
	}
	if status.Usage != services || bytes > maxUsedBytes || bytes < maxUsedBytes/2 || status.Used["2001:db8::"] == "" {
		t.Errorf("usage %d, %d entries of %d bytes", status.Usage, len(status.Used), bytes)
	}
}

// The condition of an Eip that waits names some Services and counts the rest.
func TestWaitsFor(t *testing.T) {
	holders := func(n int) []ipam.Holder {
		var all []ipam.Holder
		for i := range n {
			all = append(all, ipam.Holder{Services: []ipam.ServiceKey{{Namespace: "ns", Name: fmt.Sprint(i)}}})
		}
		return all
	}
	for n, part := range map[int]string{1: "by Service ns/0:", 3: "ns/0, ns/1, ns/2:", 9: "ns/0, ns/1, ns/2 and 6 more:"} {
		if text := waitsFor(holders(n)); !strings.Contains(text, part) {
			t.Errorf("%d holders: %q does not contain %q", n, text, part)
		}
	}
}

// An Eip that cannot be written serves all the same, and says so once for
// each time that this happens.
func TestEipThatCannotBeWritten(t *testing.T) {
	w := newWorld(t, eipOf("eip", "10.0.0.1"))
	req := requestForEip("eip")
	w.store(loadBalancer(named("a", "1"), optIn, inPool))
	w.settle("a")
	w.shows("a", "10.0.0.1")
	w.eventsSoFar()
	for range 2 {
		w.eips["eip"].Finalizers = nil
		w.refuses = errors.New("admission webhook denied the request")
		w.lookAt(req)
		w.lookAt(req)
		if events := w.eventsSoFar(); len(events) != 1 || !strings.Contains(events[0], "Warning UpdateEip") || !strings.Contains(events[0], "denied") {
			t.Errorf("events: %q", events)
		}
		w.refuses = nil
		w.lookAt(req)
		if eip := w.eips["eip"]; len(eip.Finalizers) != 1 || eip.Status.Used["10.0.0.1"] != "ns/a" {
			t.Errorf("finalizers %v, status %+v", eip.Finalizers, eip.Status)
		}
	}
}

// An Eip has its finalizer before the first of its addresses is given: without
// it, it could be deleted while a Service is about to show one.
func TestFinalizerComesFirst(t *testing.T) {
	w := newWorld(t, eipOf("eip", "10.0.0.1"))
	w.store(loadBalancer(named("a", "1"), optIn, inPool))
	w.settle("a")
	w.shows("a", "10.0.0.1")
	if w.writes[0] != "Eip eip" || len(w.eips["eip"].Finalizers) != 1 {
		t.Errorf("at the start, the writes are %v", w.writes)
	}
	w.eips["later"] = eipOf("later", "10.1.0.1")
	w.store(loadBalancer(named("b", "2"), optIn, annotated(v1alpha2.AnnotationPool, "later")))
	w.settle("b")
	w.writes = nil
	w.lookAt(requestForEip("later"))
	w.settle("b")
	w.shows("b", "10.1.0.1")
	if w.writes[0] != "Eip later" || len(w.eips["later"].Finalizers) != 1 {
		t.Errorf("for a new Eip, the writes are %v", w.writes)
	}
}

// However much happens to a pool, its status is written once a second, and the
// last change always.
func TestStatusIsWrittenOnceASecond(t *testing.T) {
	w := newWorld(t, eipOf("eip", "10.0.0.0/24"))
	w.lookAtEips("eip")
	w.writes = nil
	const services = 50
	for i := range services {
		w.store(loadBalancer(named(fmt.Sprint("s", i), types.UID(fmt.Sprint(i))), optIn, inPool))
		w.queued = append(w.queued, requestForService(ipam.ServiceKey{Namespace: "ns", Name: fmt.Sprint("s", i)}))
	}
	w.pass(10 * time.Second)
	n := 0
	for _, name := range w.writes {
		if name == "Eip eip" {
			n++
		}
	}
	if n == 0 || n > 2 {
		t.Errorf("the Eip is written %d times", n)
	}
	if got := w.eips["eip"].Status; got.Usage != services || len(got.Used) != services {
		t.Errorf("the status is %+v", got)
	}
}
