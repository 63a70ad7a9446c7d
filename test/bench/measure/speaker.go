package measure

import (
	"context"
	"fmt"
	"maps"
	"math"
	"slices"
	"time"

	dto "github.com/prometheus/client_model/go"
)

// speakerMetricsURL is where a speaker serves its metrics, on its own node.
const speakerMetricsURL = "http://127.0.0.1:50053/metrics"

// Speaker is what a speaker says about itself since it started.
type Speaker struct {
	// Up are the BgpPeers with an established session, Updates the UPDATEs that
	// were sent, by BgpPeer.
	Up      map[string]bool
	Updates map[string]int
	// Flaps and BFDDowns count established sessions that ended, and BFD
	// sessions that left the state Up.
	Flaps, BFDDowns int
	// CPU is in seconds.
	CPU float64
	// Convergence is from the API event until the routes were handed to BGP.
	Convergence Histogram
}

// ReadSpeaker asks the speaker on a host.
func ReadSpeaker(ctx context.Context, host Host) (Speaker, error) {
	text, err := host.Get(ctx, speakerMetricsURL)
	if err != nil {
		return Speaker{}, fmt.Errorf("reading the metrics of a speaker: %w", err)
	}
	return parseSpeaker(text)
}

func parseSpeaker(text string) (Speaker, error) {
	s := Speaker{Up: map[string]bool{}, Updates: map[string]int{}}
	for family, add := range map[string]func(sample){
		"fairway_bgp_session_up": func(m sample) {
			if m.value == 1 {
				s.Up[m.labels["peer"]] = true
			}
		},
		"fairway_bgp_messages_sent_total": func(m sample) {
			if m.labels["type"] == "update" {
				s.Updates[m.labels["peer"]] += int(m.value)
			}
		},
		"fairway_bgp_session_flaps_total": func(m sample) { s.Flaps += int(m.value) },
		"fairway_bfd_session_downs_total": func(m sample) { s.BFDDowns += int(m.value) },
		"process_cpu_seconds_total":       func(m sample) { s.CPU += m.value },
	} {
		samples, err := samplesOf(text, family)
		if err != nil {
			return Speaker{}, err
		}
		for _, m := range samples {
			add(m)
		}
	}
	metrics, err := metricsOf(text, "fairway_bgp_convergence_seconds")
	if err != nil {
		return Speaker{}, err
	}
	for _, m := range metrics {
		s.Convergence = histogramOf(m.GetHistogram())
	}
	return s, nil
}

// Histogram is how many durations were at most so long, by the bucket's bound.
type Histogram map[time.Duration]int

func histogramOf(h *dto.Histogram) Histogram {
	counts := Histogram{}
	before := 0
	for _, bucket := range h.GetBucket() { // each includes those before it
		bound := time.Duration(math.MaxInt64) // of the bucket for what is above the others
		if le := bucket.GetUpperBound(); !math.IsInf(le, 1) {
			bound = time.Duration(le * float64(time.Second))
		}
		n := int(bucket.GetCumulativeCount())
		counts[bound] = n - before
		before = n
	}
	return counts
}

// Since returns what was counted after an earlier reading.
func (h Histogram) Since(before Histogram) Histogram {
	more := Histogram{}
	for bound, n := range h {
		more[bound] = n - before[bound]
	}
	return more
}

// Plus returns both together.
func (h Histogram) Plus(other Histogram) Histogram {
	both := maps.Clone(other)
	for bound, n := range h {
		both[bound] += n
	}
	return both
}

// Percentile returns the bound of the bucket in which so many percent end, and
// how many there are in all.
func (h Histogram) Percentile(percent int) (bound time.Duration, of int) {
	for _, n := range h {
		of += n
	}
	seen := 0
	for _, bound := range slices.Sorted(maps.Keys(h)) {
		if seen += h[bound]; seen*100 >= of*percent {
			return bound, of
		}
	}
	return 0, of
}
