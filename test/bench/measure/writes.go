package measure

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"k8s.io/client-go/rest"
)

// Target is what a write is for: an object's own part, or its status.
type Target struct {
	Resource    string // services
	Subresource string // status, or empty
}

func (t Target) String() string {
	if t.Subresource == "" {
		return t.Resource
	}
	return t.Resource + "/" + t.Subresource
}

// What the controller writes to.
var (
	Services      = Target{"services", ""}
	ServiceStatus = Target{"services", "status"}
	Eips          = Target{"eips", ""}
	EipStatus     = Target{"eips", "status"}
	Events        = Target{"events", ""}
)

// Writes counts what the controller wrote, by target.
type Writes struct {
	Done    map[Target]int
	Refused map[Target]int // conflicts, most likely
}

// ReadWrites asks the API server what was written since it started. Only the
// verbs count that the controller uses: patches, and events that are created.
// Whoever measures must use others for its own changes.
func ReadWrites(ctx context.Context, apiServer rest.Interface) (Writes, error) {
	text, err := apiServer.Get().AbsPath("/metrics").DoRaw(ctx)
	if err != nil {
		return Writes{}, fmt.Errorf("reading the metrics of the API server: %w", err)
	}
	return parseWrites(string(text))
}

func parseWrites(text string) (Writes, error) {
	samples, err := samplesOf(text, "apiserver_request_total")
	if err != nil {
		return Writes{}, err
	}
	w := Writes{Done: map[Target]int{}, Refused: map[Target]int{}}
	for _, s := range samples {
		target := Target{s.labels["resource"], s.labels["subresource"]}
		if !controllerWrites(s.labels["verb"], target) {
			continue
		}
		into := w.Refused
		if strings.HasPrefix(s.labels["code"], "2") {
			into = w.Done
		}
		into[target] += int(s.value)
	}
	return w, nil
}

func controllerWrites(verb string, target Target) bool {
	switch target {
	case Services, ServiceStatus, Eips, EipStatus:
		return verb == "PATCH" || verb == "APPLY"
	case Events:
		return verb == "PATCH" || verb == "APPLY" || verb == "POST"
	}
	return false
}

// Since returns what was written after an earlier reading.
func (w Writes) Since(before Writes) Writes {
	return Writes{Done: difference(w.Done, before.Done), Refused: difference(w.Refused, before.Refused)}
}

func difference(now, before map[Target]int) map[Target]int {
	more := map[Target]int{}
	for target, n := range now {
		if n -= before[target]; n > 0 {
			more[target] = n
		}
	}
	return more
}

// Total is the number of writes that were done.
func (w Writes) Total() int { return sum(w.Done) }

// TotalRefused is the number of writes that the API server refused.
func (w Writes) TotalRefused() int { return sum(w.Refused) }

func sum(counts map[Target]int) int {
	total := 0
	for _, n := range counts {
		total += n
	}
	return total
}

// String lists the writes by target.
func (w Writes) String() string {
	var parts []string
	add := func(counts map[Target]int, suffix string) {
		byName := func(a, b Target) int { return strings.Compare(a.String(), b.String()) }
		for _, target := range slices.SortedFunc(maps.Keys(counts), byName) {
			parts = append(parts, fmt.Sprintf("%d %s%s", counts[target], target, suffix))
		}
	}
	add(w.Done, "")
	add(w.Refused, " refused")
	if parts == nil {
		return "none"
	}
	return strings.Join(parts, ", ")
}
