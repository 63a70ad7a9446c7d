package conntrack

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/fairway-lb/fairway/dataplane/service"
)

// TestAnswerTime gives an endpoint that goes the time to answer what reached
// it, and searches no more often than that.
func TestAnswerTime(t *testing.T) {
	web, dns := name("web", service.TCP, service.IPv4), name("dns", service.UDP, service.IPv4)
	const one, two, three = "SYN 10.96.0.1:80 > 10.0.0.1:80", "SYN 10.96.0.1:80 > 10.0.0.2:80", "SYN 10.96.0.1:80 > 10.0.0.3:80"
	w, f := world{}, &fake{}
	c, begin := newCleaner(f), time.Now()
	for _, x := range c.indexes {
		indexes(*x).follow(w.set(web, "10.96.0.1:80 > 10.0.0.1:80", dns, "10.96.0.1:53 > 10.0.0.1:53"))
		indexes(*x).forget()
	}
	for _, step := range []struct {
		name    string
		at      time.Duration
		changes []any
		appears string
		broken  error // what a dump comes to
		dumps   int
		deleted []string
		again   time.Duration
	}{
		{name: "the endpoint is replaced", changes: []any{web, "10.96.0.1:80 > 10.0.0.2:80"}, appears: one, again: answerTime},
		{name: "asked too early", at: answerTime / 2, again: answerTime},
		{name: "and again, with UDP", at: answerTime - 1, appears: two, changes: []any{web, "10.96.0.1:80 > 10.0.0.3:80", dns, "10.96.0.1:53 > 10.0.0.2:53"}, dumps: 1, again: answerTime},
		{name: "the first search", at: answerTime, dumps: 1, deleted: []string{one}, again: 2 * answerTime},
		{name: "too early for the second", at: 2*answerTime - 1, appears: one, again: 2 * answerTime},
		{name: "it fails", at: 2 * answerTime, broken: errors.New("odd"), dumps: 1},
		{name: "and succeeds", at: 3 * answerTime, appears: three, dumps: 1, deleted: []string{one, two}},
		{name: "it is over", at: time.Hour},
	} {
		c.now = func() time.Time { return begin.Add(step.at) }
		f.dumps, f.deleted = 0, nil
		if step.appears != "" {
			f.entries = append(f.entries, step.appears)
		}
		if step.broken != nil {
			f.dumpErrs, f.entries = []error{step.broken}, nil
		}
		again, err := c.Clean(w.set(step.changes...))
		if step.broken != nil {
			f.entries = []string{one, two}
		}
		if (err != nil) != (step.broken != nil) || f.dumps != step.dumps || !slices.Equal(f.deleted, step.deleted) {
			t.Errorf("%s: %d dumps, deleted %q, error %v; want %d, %q", step.name, f.dumps, f.deleted, err, step.dumps, step.deleted)
		}
		if !again.IsZero() && again.Sub(begin) != step.again || again.IsZero() && step.again != 0 {
			t.Errorf("%s: again at %v, want %v", step.name, again.Sub(begin), step.again)
		}
	}
}

// TestSearchesRest has searches take long: the next one waits for that.
func TestSearchesRest(t *testing.T) {
	web, dns := name("web", service.TCP, service.IPv4), name("dns", service.UDP, service.IPv4)
	const took = time.Second
	w, f, now := world{}, &fake{}, time.Now()
	c := newCleaner(f)
	c.now = func() time.Time {
		if f.dumps > 0 { // asked again when a search has ended
			f.dumps = 0
			now = now.Add(took)
		}
		return now
	}
	if _, err := c.Clean(w.set(web, "10.96.0.1:80 > 10.0.0.1:80")); err != nil {
		t.Fatal(err)
	}
	now = now.Add(answerTime)
	if _, err := c.Clean(nil); err != nil {
		t.Fatal(err)
	}
	ended := now
	again, err := c.Clean(w.set(web, "10.96.0.1:80 > 10.0.0.2:80", dns, "10.96.0.1:53 > 10.0.0.1:53"))
	if err != nil || again.Sub(ended) != searchRest*took {
		t.Errorf("again after %v, error %v; want %v", again.Sub(ended), err, searchRest*took)
	}
	if now == ended {
		t.Error("UDP waits, too")
	}
	now = again
	odd := errors.New("odd")
	f.dumpErrs = []error{odd}
	if _, err := c.Clean(nil); !errors.Is(err, odd) {
		t.Fatal(err)
	}
	if again, err = c.Clean(nil); err != nil || again.Sub(now) != searchRest*took {
		t.Errorf("after a search that failed again in %v, error %v; want %v", again.Sub(now), err, searchRest*took)
	}
	now = again
	if _, err := c.Clean(nil); err != nil {
		t.Fatal(err)
	}
	now = now.Add(time.Hour)
	if again, err = c.Clean(w.set(web, "10.96.0.1:80 > 10.0.0.3:80")); err != nil || again.Sub(now) != answerTime {
		t.Errorf("after a rest again in %v, error %v; want %v", again.Sub(now), err, answerTime)
	}
}

// TestDeletedMeanwhile deletes the Service that a search was to be for: what
// changed since has its search.
func TestDeletedMeanwhile(t *testing.T) {
	for _, test := range []struct {
		protocol service.Protocol
		stale    string
		broken   error // what the first dump comes to
	}{
		{protocol: service.TCP, stale: "SYN 10.96.0.2:80 > 10.0.0.1:80"},
		{protocol: service.UDP, stale: "10.96.0.2:80 > 10.0.0.1:80", broken: errors.New("odd")},
	} {
		a, b := name("a", test.protocol, service.IPv4), name("b", test.protocol, service.IPv4)
		w, f, now := world{}, &fake{entries: []string{test.stale}}, time.Now()
		c := newCleaner(f)
		c.now = func() time.Time { return now }
		if test.broken != nil {
			f.dumpErrs = []error{test.broken}
		}
		if _, err := c.Clean(w.set(a, "10.96.0.1:80 > 10.0.0.1:80")); !errors.Is(err, test.broken) {
			t.Fatal(err)
		}
		again, err := c.Clean(w.set(a, "", b, "10.96.0.2:80 > 10.0.0.2:80"))
		if err == nil && !again.IsZero() {
			now = again
			_, err = c.Clean(nil)
		}
		if err != nil || !slices.Equal(f.deleted, []string{test.stale}) {
			t.Errorf("%s: deleted %q, error %v", test.protocol, f.deleted, err)
		}
	}
}

// TestEarliest has searches of both families wait, and fail.
func TestEarliest(t *testing.T) {
	web, web6 := name("web", service.TCP, service.IPv4), name("web", service.TCP, service.IPv6)
	const later = answerTime / 2
	for _, first := range []service.Family{service.IPv4, service.IPv6} {
		changes := [][]any{{web, "10.96.0.1:80 > 10.0.0.1:80"}, {web6, "[fd00::1]:80 > [fd01::1]:80"}}
		if first == service.IPv6 {
			slices.Reverse(changes)
		}
		w, f, begin := world{}, &fake{}, time.Now()
		c, now := newCleaner(f), begin
		c.now = func() time.Time { return now }
		for _, step := range []struct {
			at, again time.Duration
			changes   []any
			broken    error
		}{
			{again: answerTime, changes: changes[0]},
			{at: later, again: answerTime, changes: changes[1]},
			{at: answerTime, again: answerTime + later, broken: errors.New("odd")},
		} {
			now = begin.Add(step.at)
			if step.broken != nil {
				f.dumpErrs = []error{step.broken}
			}
			if again, err := c.Clean(w.set(step.changes...)); again.Sub(begin) != step.again || !errors.Is(err, step.broken) {
				t.Errorf("%s first, at %v: again at %v, error %v; want %v, %v", first, step.at, again.Sub(begin), err, step.again, step.broken)
			}
		}
	}
}

// TestSearchLimit has more connections that nobody answers than a search takes.
func TestSearchLimit(t *testing.T) {
	f, now := &fake{}, time.Now()
	for i := range searchLimit + 1 {
		f.entries = append(f.entries, fmt.Sprintf("SYN 10.96.0.1:80 > 10.%d.%d.1:80", i>>8, i&255))
	}
	c := newCleaner(f)
	c.now = func() time.Time {
		now = now.Add(time.Millisecond)
		return now
	}
	again, err := c.Clean(world{}.set(name("web", service.TCP, service.IPv4), "10.96.0.1:80 > 198.18.0.1:80"))
	for _, want := range []int{searchLimit, searchLimit + 1} {
		if err != nil || again.IsZero() {
			t.Fatalf("again %v, error %v", again, err)
		}
		now = again
		if again, err = c.Clean(nil); len(f.deleted) != want {
			t.Fatalf("deleted %d, want %d", len(f.deleted), want)
		}
	}
	if err != nil || !again.IsZero() {
		t.Errorf("again %v, error %v", again, err)
	}
}
