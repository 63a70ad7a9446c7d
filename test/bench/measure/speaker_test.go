package measure

import (
	"maps"
	"os"
	"testing"
	"time"
)

// speakerMetrics is what a speaker with two sessions serves, shortened.
const speakerMetrics = `
# TYPE fairway_bgp_session_up gauge
fairway_bgp_session_up{neighbor="192.0.2.1",peer="r1"} 1
fairway_bgp_session_up{neighbor="192.0.2.2",peer="r2"} 0
# TYPE fairway_bgp_session_flaps_total counter
fairway_bgp_session_flaps_total{neighbor="192.0.2.1",peer="r1"} 0
fairway_bgp_session_flaps_total{neighbor="192.0.2.2",peer="r2"} 3
# TYPE fairway_bgp_messages_sent_total counter
fairway_bgp_messages_sent_total{neighbor="192.0.2.1",peer="r1",type="update"} 7
fairway_bgp_messages_sent_total{neighbor="192.0.2.1",peer="r1",type="keepalive"} 90
fairway_bgp_messages_sent_total{neighbor="192.0.2.2",peer="r2",type="update"} 5
# TYPE fairway_bfd_session_downs_total counter
fairway_bfd_session_downs_total{local="",multihop="false",neighbor="192.0.2.1"} 1
# TYPE fairway_bgp_convergence_seconds histogram
fairway_bgp_convergence_seconds_bucket{le="0.001"} 90
fairway_bgp_convergence_seconds_bucket{le="0.002"} 96
fairway_bgp_convergence_seconds_bucket{le="0.004"} 100
fairway_bgp_convergence_seconds_bucket{le="+Inf"} 100
fairway_bgp_convergence_seconds_sum 0.05
fairway_bgp_convergence_seconds_count 100
# TYPE process_cpu_seconds_total counter
process_cpu_seconds_total 1.25
`

func TestSpeaker(t *testing.T) {
	s, err := parseSpeaker(speakerMetrics)
	if err != nil {
		t.Fatal(err)
	}
	if want := map[string]bool{"r1": true}; !maps.Equal(s.Up, want) {
		t.Errorf("sessions are up with %v, want %v", s.Up, want)
	}
	if want := map[string]int{"r1": 7, "r2": 5}; !maps.Equal(s.Updates, want) {
		t.Errorf("UPDATEs sent: %v, want %v", s.Updates, want)
	}
	if s.Flaps != 3 || s.BFDDowns != 1 {
		t.Errorf("%d flaps and %d losses of BFD, want 3 and 1", s.Flaps, s.BFDDowns)
	}
	for percent, want := range map[int]time.Duration{50: time.Millisecond, 95: 2 * time.Millisecond, 99: 4 * time.Millisecond} {
		if got, n := s.Convergence.Percentile(percent); got != want || n != 100 {
			t.Errorf("percentile %d is %v of %d, want %v of 100", percent, got, n, want)
		}
	}
}

func TestHistogramsAddAndSubtract(t *testing.T) {
	a := Histogram{time.Millisecond: 5, time.Second: 2}
	b := Histogram{time.Millisecond: 1}
	if got, want := a.Since(b), (Histogram{time.Millisecond: 4, time.Second: 2}); !maps.Equal(got, want) {
		t.Errorf("the difference is %v, want %v", got, want)
	}
	if got, want := a.Plus(b), (Histogram{time.Millisecond: 6, time.Second: 2}); !maps.Equal(got, want) {
		t.Errorf("the sum is %v, want %v", got, want)
	}
	if got, n := (Histogram{}).Percentile(50); got != 0 || n != 0 {
		t.Errorf("nothing has the percentile %v of %d, want 0 of 0", got, n)
	}
}

func TestCPUTimeGrowsWithWork(t *testing.T) {
	begin, err := CPUTime(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	deadline := time.Now().Add(time.Minute)
	for used := begin; used < begin+20*time.Millisecond; {
		if used, err = CPUTime(os.Getpid()); err != nil {
			t.Fatal(err)
		}
		if time.Now().After(deadline) {
			t.Fatalf("a process that works for a minute has used %v, and %v before", used, begin)
		}
	}
}
