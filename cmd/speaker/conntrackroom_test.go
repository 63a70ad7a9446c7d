package main

import (
	"errors"
	"strings"
	"testing"

	"github.com/go-logr/logr/testr"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/tools/events"

	"github.com/fairway-lb/fairway/dataplane/conntrack"
)

func TestConntrackRoom(t *testing.T) {
	recorder := events.NewFakeRecorder(10)
	c := &conntrackRoom{node: &corev1.Node{}, recorder: recorder, log: testr.New(t)}
	for _, step := range []struct {
		what string
		room conntrack.Room
		err  error
		told bool
	}{
		{"the kernel does not say at first", conntrack.Room{}, errors.New("not permitted"), false},
		{"room, and drops from before", conntrack.Room{Entries: 10, Max: 100, Dropped: 3}, nil, false},
		{"full", conntrack.Room{Entries: 100, Max: 100, Dropped: 6}, nil, true},
		{"still full", conntrack.Room{Entries: 100, Max: 100, Dropped: 7}, nil, false},
		{"nobody asks", conntrack.Room{Entries: 100, Max: 100, Dropped: 7}, nil, false},
		{"the kernel does not say", conntrack.Room{}, errors.New("not permitted"), false},
		{"full again", conntrack.Room{Entries: 100, Max: 100, Dropped: 9}, nil, true},
	} {
		c.look(step.room, step.err)
		told := ""
		select {
		case told = <-recorder.Events:
		default:
		}
		if step.told != strings.Contains(told, "Warning ConntrackFull") {
			t.Errorf("%s: told %q", step.what, told)
		}
	}
}
