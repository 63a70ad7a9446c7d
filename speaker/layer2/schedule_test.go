package layer2

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// A story over time: what happens at a moment, and what is announced until the next.
func TestSchedule(t *testing.T) {
	type event struct {
		at    time.Duration
		start string
	}
	for _, tc := range []struct {
		name   string
		events []event
		want   string
	}{
		{"nothing", nil, ""},
		{"one", []event{{0, "a"}}, "a@1s a@3s"},
		{"spread by the rate limit", []event{{0, "a"}, {0, "b"}, {0, "c"}},
			"a@1s b@1.002s c@1.004s a@3s b@3.002s c@3.004s"},
		{"both repeats meet", []event{{0, "a"}, {2 * time.Second, "b"}}, "a@1s b@3s a@3.002s b@5s"},
		{"starts again: begins anew", []event{{0, "a"}, {2 * time.Second, "a"}}, "a@1s a@3s a@5s"},
		{"starts again before the first", []event{{0, "a"}, {0, "b"}, {500 * time.Millisecond, "a"}},
			"b@1s a@1.5s b@3s a@3.5s"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := newSchedule[string]()
			epoch := time.Unix(1e9, 0)
			var log []string
			run := func(from, to time.Duration) {
				for now := from; ; {
					key, due, wait := s.next(epoch.Add(now))
					if due {
						log = append(log, fmt.Sprint(key, "@", now))
						continue
					}
					if wait < 0 || now+wait >= to {
						return
					}
					now += wait
				}
			}
			now := time.Duration(0)
			for _, e := range tc.events {
				run(now, e.at)
				now = e.at
				s.start(e.start, epoch.Add(now))
			}
			run(now, time.Hour)
			if got := strings.Join(log, " "); got != tc.want {
				t.Errorf("got  %s\nwant %s", got, tc.want)
			}
			if len(s.started)+len(s.first)+len(s.second) != 0 {
				t.Error("the schedule keeps something for ever")
			}
		})
	}
}

// Ten thousand addresses go out one by one, each twice, at the bounded rate.
func TestScheduleRate(t *testing.T) {
	s := newSchedule[int]()
	now := time.Unix(1e9, 0)
	const n = 10_000
	for i := range n {
		s.start(i, now)
	}
	var sent []time.Time
	for {
		_, due, wait := s.next(now)
		if due {
			sent = append(sent, now)
		} else if wait < 0 {
			break
		}
		now = now.Add(max(wait, 0))
	}
	if len(sent) != 2*n {
		t.Fatalf("%d repeats, want %d", len(sent), 2*n)
	}
	for i := 1; i < len(sent); i++ {
		if gap := sent[i].Sub(sent[i-1]); gap < repeatGap {
			t.Fatalf("repeat %d after %v", i, gap)
		}
	}
}
