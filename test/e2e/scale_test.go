package e2e

import (
	"fmt"
	"slices"
	"testing"

	"k8s.io/client-go/kubernetes"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fairway-lb/fairway/api/v1alpha2"
	"github.com/fairway-lb/fairway/test/bench/measure"
)

// scale counts what the controller does for many Services.
type scale struct {
	*cluster
	clientset kubernetes.Interface
	creator   *measure.Creator
	journal   *measure.Journal
}

// TestScale: with hundreds of Services the controller writes each address
// once, and a change costs what it can affect. `make bench` does the same with
// thousands and measures.
func TestScale(t *testing.T) {
	const services = 300
	c := newCluster(t, 0)
	c.kubectl("create", "namespace", "dev")
	c.apply(eip("big", "10.80.0.1-10.80.3.254"))
	c.apply(eip("small", "10.81.0.1-10.81.0.10"))
	clientset, err := c.Clientset()
	if err != nil {
		t.Fatal(err)
	}
	journal, err := measure.Follow(t.Context(), clientset, "dev")
	if err != nil {
		t.Fatal(err)
	}
	s := &scale{cluster: c, clientset: clientset, creator: measure.NewCreator(clientset, "dev"), journal: journal}
	c.startController()
	s.addressed(1, s.create("first", "big", 1)...)

	c.run("each address is one write of the status", func(t *testing.T) {
		before := s.settledWrites()
		s.addressed(services, s.create("svc", "big", services)...)
		written := s.settledWrites().Since(before)
		for name, h := range s.journal.Histories() {
			if h.StatusWrites != 1 || h.ObjectWrites > 1 {
				t.Errorf("%s: %d writes of the status, want 1; %d of the object, want 1 at most", name, h.StatusWrites, h.ObjectWrites)
			}
		}
		if n := written.Done[measure.ServiceStatus]; n != services {
			t.Errorf("%d writes of Services' status for %d Services", n, services)
		}
		t.Logf("for %d Services: %v", services, written)
	})
	c.run("one edit is work for one Service", func(t *testing.T) {
		for what, edit := range map[string]string{
			"an annotation": `{"metadata":{"annotations":{"example.com/touched":"1"}}}`,
			"a port":        `{"spec":{"ports":[{"name":"http","port":80},{"name":"https","port":8443}]}}`,
		} {
			work, written := s.cost(func() { c.kubectl("patch", "svc", "-n", "dev", "svc-7", "--type=merge", "-p", edit) })
			t.Logf("%s: %d reconciles, %v", what, work.Reconciles, written)
			if work.Reconciles > 2 {
				t.Errorf("%s of one Service caused %d reconciles", what, work.Reconciles)
			}
			delete(written.Done, measure.Services) // kubectl's own
			if written.Total() > 0 {
				t.Errorf("%s of one Service caused writes: %v", what, written)
			}
		}
	})
	c.run("an edited pool in which nobody waits is work for no Service", func(t *testing.T) {
		for _, disable := range []bool{true, false} {
			work, written := s.cost(func() {
				c.kubectl("patch", "eip", "big", "--type=merge", "-p", fmt.Sprintf(`{"spec":{"disable":%t}}`, disable))
			})
			t.Logf("disable: %t: %d reconciles, %v", disable, work.Reconciles, written)
			if work.Reconciles > 5 {
				t.Errorf("disable: %t caused %d reconciles", disable, work.Reconciles)
			}
			if n := written.Done[measure.Services] + written.Done[measure.ServiceStatus]; n > 0 {
				t.Errorf("disable: %t caused writes to Services: %v", disable, written)
			}
		}
	})
	c.run("a freed address is work for those that it can help", func(t *testing.T) {
		const waiting = 100
		holders := s.create("holder", "small", 10)
		s.addressed(10, holders...)
		waiters := s.create("waiter", "small", waiting)
		s.settledWrites()
		work, written := s.cost(func() {
			c.kubectl("delete", "svc", "-n", "dev", holders[3], "--timeout=20s")
			s.addressed(1, waiters...)
		})
		t.Logf("one of %d that wait was served: %d reconciles, %v", waiting, work.Reconciles, written)
		// The deletion, the address given, and the pool's status, each seen
		// more than once.
		if work.Reconciles > 20 {
			t.Errorf("one freed address caused %d reconciles", work.Reconciles)
		}
		if changed := written.Done[measure.Services] + written.Done[measure.ServiceStatus]; changed > 4 {
			t.Errorf("one freed address caused %d writes to Services: %v", changed, written)
		}
	})
	c.run("a restart writes to no Service", func(t *testing.T) {
		before := s.settledWrites()
		s.journal.Reset()
		if err := c.controller.Stop(t.Context()); err != nil {
			t.Fatal(err)
		}
		probe := s.create("probe", "big", 1)
		c.startController()
		s.addressed(1, probe...)
		written := s.settledWrites().Since(before)
		t.Logf("a restart with %d Services: %v", len(s.journal.Histories()), written)
		if changed := s.journal.Changed(); !slices.Equal(changed, probe) {
			t.Errorf("a restart wrote to %d Services: %v", len(changed), changed)
		}
		if n := written.Done[measure.ServiceStatus]; n != 1 {
			t.Errorf("a restart wrote %d times to Services' status, want once, for the new one", n)
		}
	})
	c.run("the Eip lists all", func(t *testing.T) {
		c.eventually("status.used is complete", func() string {
			var pool v1alpha2.Eip
			if err := c.api.Get(t.Context(), client.ObjectKey{Name: "big"}, &pool); err != nil {
				return err.Error()
			}
			if n := services + 2; pool.Status.Usage != n || len(pool.Status.Used) != n {
				return fmt.Sprintf("usage %d, used %d, want %d", pool.Status.Usage, len(pool.Status.Used), n)
			}
			return ""
		})
	})
}

// create creates Services of a pool at once, and returns their names.
func (s *scale) create(prefix, pool string, n int) []string {
	s.t.Helper()
	names, err := s.creator.Services(s.t.Context(), prefix, pool, n)
	if err != nil {
		s.t.Fatal(err)
	}
	return names
}

// addressed waits until n of the named Services have an address.
func (s *scale) addressed(n int, names ...string) {
	s.t.Helper()
	ctx, cancel := contextWithTimeout(s.t)
	defer cancel()
	if err := s.journal.Await(ctx, n, names...); err != nil {
		s.t.Fatal(err)
	}
}

// cost counts what a change makes the controller do until it rests again. It
// must rest before.
func (s *scale) cost(change func()) (measure.Work, measure.Writes) {
	s.t.Helper()
	writes := s.writes()
	work := s.work()
	change()
	written := s.settledWrites().Since(writes)
	return s.work().Since(work), written
}

// settledWrites waits until the controller rests, its events too, and returns
// what it has written since the API server started.
func (s *scale) settledWrites() measure.Writes {
	s.t.Helper()
	ctx, cancel := contextWithTimeout(s.t)
	defer cancel()
	if _, err := measure.Settle(ctx, measure.Quiet, func() (int, error) { return s.work().Reconciles + s.writes().Done[measure.Events], nil }); err != nil {
		s.t.Fatal(err)
	}
	return s.writes()
}

func (s *scale) writes() measure.Writes {
	s.t.Helper()
	writes, err := measure.ReadWrites(s.t.Context(), s.clientset.CoreV1().RESTClient())
	if err != nil {
		s.t.Fatal(err)
	}
	return writes
}

func (s *scale) work() measure.Work {
	s.t.Helper()
	work, err := measure.ReadWork(s.t.Context(), s.ControlPlane())
	if err != nil {
		s.t.Fatal(err)
	}
	return work
}
