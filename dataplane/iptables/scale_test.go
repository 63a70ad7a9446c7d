package iptables

import (
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/fairway-lb/fairway/dataplane/dataplanetest"
	"github.com/fairway-lb/fairway/dataplane/service"
)

func start(t testing.TB, f Flavour) *Backend {
	return subjectOf(f).Start(t, dataplanetest.WithPods).(*tracked).Backend
}

// spent is the CPU time of this process and of the programs that it ran.
func spent(t testing.TB) time.Duration {
	t.Helper()
	var total int64
	for _, who := range []int{syscall.RUSAGE_SELF, syscall.RUSAGE_CHILDREN} {
		var u syscall.Rusage
		must(t, syscall.Getrusage(who, &u))
		total += u.Utime.Nano() + u.Stime.Nano()
	}
	return time.Duration(total)
}

// fed is how many lines the programs of a backend were given since the last
// time.
func fed(b *Backend) int {
	lines := 0
	for _, s := range b.sides {
		lines += s.tool.fed
		s.tool.fed = 0
	}
	return lines
}

// Programs are told of what changes, whatever else there is.
func TestSwapIsConstant(t *testing.T) {
	each(t, func(t *testing.T, f Flavour) {
		l := dataplanetest.NewLab(t)
		var first int
		for _, count := range []int{20, 300} {
			b := start(t, f)
			s := service.NewState(dataplanetest.ThisNode)
			dataplanetest.Load(s, l, count)
			dataplanetest.Sync(t, b, s)
			swapped := dataplanetest.Frontends{Number: count / 2}
			dataplanetest.SetEndpoints(s, swapped, dataplanetest.OnPod2(l), dataplanetest.OnRemote(l))
			dataplanetest.Sync(t, b, s)
			fed(b)
			// All three pods have their places among the hairpins by now.
			dataplanetest.SetEndpoints(s, swapped, dataplanetest.OnPod1(l), dataplanetest.OnPod2(l))
			begin, clock := spent(t), time.Now()
			dataplanetest.Sync(t, b, s)
			took := time.Since(clock)
			lines := fed(b)
			t.Logf("%d services: %d lines for one endpoint of four ports, %v of CPU, %v", count, lines, spent(t)-begin, took)
			if first == 0 {
				first = lines
			}
			if lines != first || lines < 8 || lines > 30 {
				t.Errorf("%d lines with %d services, %d with fewer", lines, count, first)
			}
			if count > 20 {
				return
			}
			must(t, b.Apply(nil))
			if lines := fed(b); lines != 0 {
				t.Errorf("%d lines to mend what is as it should be", lines)
			}
			must(t, Cleanup())
		}
	})
}

// The same among 2,000 Services, as text only: to load them takes long.
func TestSwapText(t *testing.T) {
	l := dataplanetest.NewLab(t)
	config := dataplanetest.WithPods
	must(t, config.Check())
	var first int
	for _, count := range []int{20, 2000} {
		side := newSide(service.IPv4, &config, &tool{}, false, false)
		s := service.NewState(dataplanetest.ThisNode)
		apply := func() (lines int) {
			side.replace(s.Changes().Ports)
			for i, c := range side.contents {
				lines += strings.Count(input(i, c.settle(side.known.hash), nil, nil), "\n")
			}
			return lines
		}
		dataplanetest.Load(s, l, count)
		dataplanetest.SetEndpoints(s, dataplanetest.Frontends{Number: 1}, dataplanetest.OnPod2(l))
		if lines := apply(); lines < 20*count {
			t.Fatalf("%d lines for everything", lines)
		}
		dataplanetest.SetEndpoints(s, dataplanetest.Frontends{Number: count / 2}, dataplanetest.OnPod2(l), dataplanetest.OnRemote(l))
		lines := apply()
		if first == 0 {
			first = lines
		}
		if lines != first || lines < 4 || lines > 15 {
			t.Errorf("%d lines with %d services, %d with fewer", lines, count, first)
		}
	}
}

// BenchmarkBackend has 10,000 ports: cold start, an endpoint of a Service
// swapped, and another process that takes over.
func BenchmarkBackend(b *testing.B) {
	for _, f := range flavours {
		b.Run(f.String(), func(b *testing.B) {
			l := dataplanetest.NewLab(b)
			s := service.NewState(dataplanetest.ThisNode)
			dataplanetest.Load(s, l, 2500)
			cold := s.Changes().Ports
			report := func(what string, do func() error) {
				begin, clock := spent(b), time.Now()
				must(b, do())
				b.ReportMetric((spent(b)-begin).Seconds()*1000, what+"-cpu-ms")
				b.ReportMetric(float64(time.Since(clock).Milliseconds()), what+"-ms")
			}
			for b.Loop() {
				backend := start(b, f)
				report("cold", func() error { return backend.Apply(cold) })
				for _, who := range []dataplanetest.Endpoint{dataplanetest.OnPod2(l), dataplanetest.OnPod1(l)} {
					dataplanetest.SetEndpoints(s, dataplanetest.Frontends{Number: 77}, who, dataplanetest.OnRemote(l))
					changes := s.Changes().Ports
					report("swap", func() error { return backend.Apply(changes) })
				}
				report("again", func() error { return start(b, f).Apply(cold) })
			}
		})
	}
}
