package conntrack

import (
	"testing"
	"time"

	"github.com/fairway-lb/fairway/dataplane/service"
)

// TestUnanswered makes changes to TCP ports and asks of connections that nobody
// has answered.
func TestUnanswered(t *testing.T) {
	web, app := name("web", service.TCP, service.IPv4), name("app", service.TCP, service.IPv4)
	for _, test := range []struct {
		name        string
		before, now []any
		local       [2]bool // the endpoints of the first change are those of policy Local, before and now
		searched    bool
		stale, kept []string
	}{
		{
			name:   "an endpoint goes",
			before: []any{web, "10.96.0.1:80 node:30080 > 10.0.0.1:80 10.0.0.2:80", app, "10.96.0.2:80 > 10.0.0.1:80"},
			now:    []any{web, "10.96.0.1:80 node:30080 > 10.0.0.2:80"}, searched: true,
			stale: []string{"10.96.0.1:80 > 10.0.0.1:80", "192.0.2.1:30080 > 10.0.0.1:80"},
			kept:  []string{"10.96.0.1:80 > 10.0.0.2:80", "192.0.2.7:30080", "10.96.0.2:80 > 10.0.0.1:80", "10.96.0.2:80 > 10.0.0.9:80"},
		},
		{
			name:   "the last endpoint goes",
			before: []any{web, "10.96.0.1:80 > 10.0.0.1:80"}, now: []any{web, "10.96.0.1:80"}, searched: true,
			stale: []string{"10.96.0.1:80 > 10.0.0.1:80"},
		},
		{
			name:   "the policy becomes Local",
			before: []any{web, "10.96.0.1:80 > 10.0.0.1:80 10.0.0.2:80"}, now: []any{web, "10.96.0.1:80 > 10.0.0.2:80"}, local: [2]bool{false, true}, searched: true,
			stale: []string{"10.96.0.1:80 > 10.0.0.1:80"}, kept: []string{"10.96.0.1:80 > 10.0.0.2:80"},
		},
		{
			name:   "an endpoint of policy Local goes",
			before: []any{web, "10.96.0.1:80 > 10.0.0.1:80 10.0.0.2:80"}, now: []any{web, "10.96.0.1:80 > 10.0.0.2:80"}, local: [2]bool{true, true}, searched: true,
			stale: []string{"10.96.0.1:80 > 10.0.0.1:80"}, kept: []string{"10.96.0.1:80 > 10.0.0.2:80"},
		},
		{
			name: "a Service comes",
			now:  []any{web, "10.96.0.1:80 > 10.0.0.1:80"}, searched: true,
			stale: []string{"10.96.0.1:80", "10.96.0.1:80 > 10.0.0.9:80"}, kept: []string{"10.96.0.1:80 > 10.0.0.1:80"},
		},
		{
			name:   "a frontend comes",
			before: []any{web, "10.96.0.1:80 > 10.0.0.1:80"}, now: []any{web, "10.96.0.1:80 203.0.113.1:80 > 10.0.0.1:80"}, searched: true,
			stale: []string{"203.0.113.1:80"},
		},
		{
			name:   "a Service goes",
			before: []any{web, "10.96.0.1:80 > 10.0.0.1:80"}, now: []any{web, ""},
			kept: []string{"10.96.0.1:80 > 10.0.0.1:80"},
		},
		{
			name:   "an endpoint comes",
			before: []any{web, "10.96.0.1:80 > 10.0.0.1:80"}, now: []any{web, "10.96.0.1:80 > 10.0.0.1:80 10.0.0.2:80"},
		},
		{
			name:   "the first endpoint comes: there was none to connect to",
			before: []any{web, "10.96.0.1:80"}, now: []any{web, "10.96.0.1:80 > 10.0.0.1:80"},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			w, x, now := world{}, newIndexes(service.TCP), time.Now()
			x.follow(w.set(test.before...))
			x.forget()
			changes := w.set(test.now...)
			for i, p := range []*service.Port{changes[0].Before, changes[0].After} {
				if test.local[i] {
					p.Cluster, p.Local = nil, p.Cluster
				}
			}
			x.follow(changes)
			searched, due := x[service.IPv4].next(now)
			if searched || !due.IsZero() != test.searched || test.searched && due.Sub(now) != answerTime {
				t.Errorf("searched: %v, or in %v, want %v in %v", searched, due.Sub(now), test.searched, answerTime)
			}
			for want, texts := range map[bool][]string{true: test.stale, false: test.kept} {
				for _, text := range texts {
					e := entry("SYN " + text)
					if x[service.IPv4].stale(&e, &own) != want {
						t.Errorf("%s is stale: %v, want %v", text, !want, want)
					}
				}
			}
		})
	}
}

// TestThen has something change while a search of connections waits: an entry
// that leads to where it did when that was decided on is given its time.
func TestThen(t *testing.T) {
	web, app := name("web", service.TCP, service.IPv4), name("app", service.TCP, service.IPv4)
	for _, test := range []struct {
		name                string
		before, then, later []any
		stale, kept         []string
	}{
		{
			name:   "an endpoint goes",
			before: []any{web, "10.96.0.1:80 > 10.0.0.1:80"}, then: []any{web, "10.96.0.1:80 > 10.0.0.2:80"}, later: []any{web, "10.96.0.1:80 > 10.0.0.3:80"},
			stale: []string{"10.96.0.1:80 > 10.0.0.1:80"}, kept: []string{"10.96.0.1:80 > 10.0.0.2:80", "10.96.0.1:80 > 10.0.0.3:80"},
		},
		{
			name:   "that of a node port beneath an address that has gone",
			before: []any{web, "node:30080 > 10.0.0.1:80", app, "192.0.2.1:30080 > 10.0.0.9:80"}, then: []any{app, ""}, later: []any{web, "node:30080 > 10.0.0.2:80"},
			stale: []string{"192.0.2.1:30080 > 10.0.0.9:80"}, kept: []string{"192.0.2.1:30080 > 10.0.0.1:80", "192.0.2.1:30080 > 10.0.0.2:80"},
		},
		{
			name:   "that of a node port at one of its addresses",
			before: []any{web, "node:30080 > 10.0.0.1:80"}, then: []any{web, "node:30080 > 10.0.0.2:80"}, later: []any{web, "node:30080 > 10.0.0.3:80"},
			stale: []string{"192.0.2.1:30080 > 10.0.0.1:80"}, kept: []string{"192.0.2.1:30080 > 10.0.0.2:80", "192.0.2.1:30080 > 10.0.0.3:80"},
		},
		{
			name:   "that of an address, of which the search is not",
			before: []any{web, "node:30080 > 10.0.0.1:80", app, "192.0.2.1:30080 > 10.0.0.8:80"}, then: []any{web, "node:30080 > 10.0.0.2:80"}, later: []any{app, "192.0.2.1:30080 > 10.0.0.9:80"},
			stale: []string{"127.0.0.1:30080 > 10.0.0.1:80"}, kept: []string{"192.0.2.1:30080 > 10.0.0.8:80"},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			w, x := world{}, newIndexes(service.TCP)
			x.follow(w.set(test.before...))
			x.forget()
			x.follow(w.set(test.then...))
			x.begin()
			x.follow(w.set(test.later...))
			x.begin()
			for want, texts := range map[bool][]string{true: test.stale, false: test.kept} {
				for _, text := range texts {
					if e := entry("SYN " + text); x[service.IPv4].stale(&e, &own) != want {
						t.Errorf("%s is stale: %v, want %v", text, !want, want)
					}
				}
			}
		})
	}
}
