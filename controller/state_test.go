package controller

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"k8s.io/client-go/tools/events"

	"github.com/fairway-lb/fairway/controller/ipam"
)

// A version older than the one written is passed over once.
func TestWritten(t *testing.T) {
	req := requestForEip("eip")
	w := written{}
	for i, step := range []struct {
		write, read string
		stale       bool
	}{
		{"", "5", false},
		{"10", "9", true},
		{"", "9", false}, // it does not come
		{"10", "10", false},
		{"10", "100", false},
		{"", "9", false},
		{"10", "garbage", false},
	} {
		if step.write != "" {
			w[req] = step.write
		}
		if got := w.stale(req, step.read); got != step.stale {
			t.Errorf("step %d: stale = %t", i, got)
		}
	}
	if len(w) != 0 {
		t.Errorf("left behind: %v", w)
	}
}

// A warning is written once, and again when it is another one or was over in
// the meantime.
func TestWarningsAreNotRepeated(t *testing.T) {
	recorder := events.NewFakeRecorder(100)
	e := newReporter(recorder)
	svc := loadBalancer()
	held := allocations("10.0.0.1")
	full := &ipam.Refusal{Reason: ipam.PoolExhausted, Message: "full"}
	missing := &ipam.Refusal{Reason: ipam.NoEligiblePool, Message: "none"}
	e.refused(svc, ipam.Outcome{Refusal: full})
	e.refused(svc, ipam.Outcome{Refusal: full})
	e.refused(svc, ipam.Outcome{Refusal: missing})
	e.refused(svc, ipam.Outcome{Refusal: missing})
	e.refused(svc, ipam.Outcome{Held: held, Refusal: full})
	e.satisfied(svc)
	e.refused(svc, ipam.Outcome{Held: held, Refusal: full})
	e.assignFailed(svc, held, errors.New("refused by the server"))
	e.assignFailed(svc, held, errors.New("refused by the server"))
	e.assignFailed(svc, held, fmt.Errorf("wrapped: %w", errBehind))
	anew := svc.DeepCopy()
	anew.UID = "another"
	e.assignFailed(anew, held, errors.New("refused by the server"))
	e.assigned(svc, held)
	close(recorder.Events)
	var got []string
	for event := range recorder.Events {
		got = append(got, event)
	}
	want := []string{
		"Warning AssignIPFailed No address assigned: full",
		"Warning ConstructRequest No address assigned: none",
		"Warning AssignIPFailed The Service keeps 10.0.0.1: full",
		"Warning AssignIPFailed The Service keeps 10.0.0.1: full",
		"Warning UpdateServiceStatus Address 10.0.0.1 is reserved for the Service, but cannot be written into it. This is tried again until it succeeds. The last error was: refused by the server",
		"Warning UpdateServiceStatus Address 10.0.0.1 is reserved for the Service, but cannot be written into it. This is tried again until it succeeds. The last error was: refused by the server",
		`Normal AssignIP Assigned 10.0.0.1 from Eip "eip", from which the Service had it before`,
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("events:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}
