package sessions

import (
	"testing"
	"time"
)

// An entry that changes all the time is written at once, then each second, and
// then each ten seconds; after a rest it is as at the beginning.
func TestPace(t *testing.T) {
	var p pace
	now := noon
	for round := range 2 {
		for i, want := range []time.Duration{0, time.Second, time.Second, time.Second, time.Second, 6 * time.Second, 10 * time.Second, 10 * time.Second} {
			if got := p.wait(now); got != want {
				t.Errorf("round %d: write %d waits for %v, want %v", round, i, got, want)
			}
			now = now.Add(want)
			p.spend(now)
		}
		now = now.Add(burst * refill)
	}
}

func TestFieldManager(t *testing.T) {
	if got := fieldManager("node1"); got != "fairway-speaker-node1" {
		t.Errorf("the field manager is %q", got)
	}
	long := make([]byte, 253)
	for i := range long {
		long[i] = 'n'
	}
	one := fieldManager(string(long))
	long[252] = 'm'
	other := fieldManager(string(long))
	if len(one) != 128 || len(other) != 128 || one == other {
		t.Errorf("field managers of long names are %q and %q", one, other)
	}
}
