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

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fairway-lb/fairway/api/v1alpha2"
	"github.com/fairway-lb/fairway/controller/ipam"
)

func TestPoolOf(t *testing.T) {
	pool, err := poolOf(eipOf("eip", "10.0.0.1-10.0.0.9", func(eip *v1alpha2.Eip) {
		eip.Spec.Disable, eip.Spec.Priority = true, 7
		eip.Spec.Namespaces, eip.Spec.NamespaceSelector = []string{"ns"}, map[string]string{"a": "b"}
		eip.DeletionTimestamp = &metav1.Time{Time: time.Unix(1, 0)}
	}))
	if err != nil {
		t.Fatal(err)
	}
	if pool.Name != "eip" || pool.Ranges[0].String() != "10.0.0.1-10.0.0.9" || !pool.Disabled || !pool.Deleting || pool.Default ||
		pool.Priority != 7 || !pool.Binds("ns", nil) || !pool.Binds("x", map[string]string{"a": "b"}) || pool.Binds("x", nil) {
		t.Errorf("the pool is %+v", pool)
	}
	for value, want := range map[string]bool{"true": true, "True": true, "TRUE": true, "false": false, "": false, "yes": false} {
		eip := eipOf("eip", "10.0.0.1")
		eip.Annotations = map[string]string{v1alpha2.AnnotationDefaultEip: value}
		if pool, _ := poolOf(eip); pool.Default != want {
			t.Errorf("marked default with %q: %t", value, pool.Default)
		}
	}
}

// An Eip that cannot be used says what to do, and can still be deleted.
func TestPoolOfInvalidEip(t *testing.T) {
	for _, eip := range []*v1alpha2.Eip{
		eipOf("eip", "10.0.0.9-10.0.0.1"), eipOf("eip", ""), eipOf("eip", " 10.0.0.1"), eipOf("eip", "10.0.0.1-2001:db8::1"),
		eipOf(strings.Repeat("x", 64), "10.0.0.1"),
	} {
		eip.DeletionTimestamp = &metav1.Time{Time: time.Unix(1, 0)}
		pool, err := poolOf(eip)
		if err == nil || !strings.Contains(err.Error(), "create it") {
			t.Errorf("%s %q: %v", eip.Name, eip.Spec.Address, err)
		}
		if !pool.Deleting || len(pool.Ranges) != 0 {
			t.Errorf("%s %q: %+v", eip.Name, eip.Spec.Address, pool)
		}
	}
}

// What a pool's status says of it.
func TestStatusOf(t *testing.T) {
	a := ipam.New()
	for _, eip := range []*v1alpha2.Eip{eipOf("eip", "10.0.0.0-10.0.0.1"), eipOf("six", "2001:db8::/64")} {
		pool, err := poolOf(eip)
		if err != nil {
			t.Fatal(err)
		}
		a.SetPool(pool)
	}
	status := func(name string) v1alpha2.EipStatus {
		usage, _ := a.Usage(name)
		return statusOf(usage, a.Holders(name))
	}
	want := v1alpha2.EipStatus{PoolSize: 2, FirstIP: "10.0.0.0", LastIP: "10.0.0.1", V4: true, Ready: true}
	if got := status("eip"); !reflect.DeepEqual(got, want) {
		t.Errorf("empty: %+v", got)
	}
	for _, name := range []string{"one", "two"} { // two Services with one address
		a.Adopt(ipam.Request{Service: ipam.ServiceKey{Namespace: "ns", Name: name}}, netip.MustParseAddr("10.0.0.0"), "eip")
	}
	want.Usage, want.Used = 1, map[string]string{"10.0.0.0": "ns/one;ns/two"}
	if got := status("eip"); !reflect.DeepEqual(got, want) {
		t.Errorf("in use: %+v", got)
	}
	if _, refusal := a.Assign(ipam.Request{Service: ipam.ServiceKey{Namespace: "ns", Name: "three"}, Pool: "eip"}); refusal != nil {
		t.Fatal(refusal)
	}
	want.Usage, want.Used["10.0.0.1"], want.Occupied = 2, "ns/three", true
	if got := status("eip"); !reflect.DeepEqual(got, want) {
		t.Errorf("full: %+v", got)
	}
	if got := status("six"); got.PoolSize != math.MaxInt || got.V4 || got.LastIP != "2001:db8::ffff:ffff:ffff:ffff" {
		t.Errorf("IPv6: %+v", got)
	}
}

// However many addresses are in use, the list of them stays within what an
// object may be, and the count is right.
func TestStatusOfHugePool(t *testing.T) {
	a := ipam.New()
	pool, err := poolOf(eipOf("eip", "2001:db8::/64"))
	if err != nil {
		t.Fatal(err)
	}
	a.SetPool(pool)
	const services = 20_000
	for i := range services {
		key := ipam.ServiceKey{Namespace: strings.Repeat("n", 63), Name: fmt.Sprintf("%s%05d", strings.Repeat("s", 58), i)}
		if _, refusal := a.Assign(ipam.Request{Service: key, Pool: "eip"}); refusal != nil {
			t.Fatal(refusal)
		}
	}
	usage, _ := a.Usage("eip")
	status := statusOf(usage, a.Holders("eip"))
	bytes := 0
	for addr, holder := range status.Used {
		bytes += len(addr) + len(holder)
	}
	if status.Usage != services || bytes > maxUsedBytes || bytes < maxUsedBytes/2 || status.Used["2001:db8::"] == "" {
		t.Errorf("usage %d, %d entries of %d bytes", status.Usage, len(status.Used), bytes)
	}
}

// The Warning of an Eip that waits names some Services and counts all.
func TestWaitsFor(t *testing.T) {
	holders := func(n int) []ipam.Holder {
		var all []ipam.Holder
		for i := range n {
			all = append(all, ipam.Holder{Services: []ipam.ServiceKey{{Namespace: "ns", Name: fmt.Sprint(i)}}})
		}
		return all
	}
	for n, parts := range map[int][]string{
		1: {"until Service ns/0 "},
		3: {"3 Services", "ns/0, ns/1, ns/2."},
		9: {"9 Services", "ns/0, ns/1, ns/2 and 6 more."},
	} {
		for _, part := range parts {
			if text := waitsFor(holders(n)); !strings.Contains(text, part) {
				t.Errorf("%d holders: %q does not contain %q", n, text, part)
			}
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
