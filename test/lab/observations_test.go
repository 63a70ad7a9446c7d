package lab

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// story makes observations of words like "5A": after 5 ms since the last one, a
// reply of host A; "5?" is a request, "5!A" an announcement.
func story(t *testing.T, text string) Observations {
	t.Helper()
	var seen Observations
	at := time.Unix(0, 0)
	for _, word := range strings.Fields(text) {
		var ms int
		var what string
		if n, err := fmt.Sscanf(word, "%d%s", &ms, &what); n != 2 {
			t.Fatalf("word %q: %v", word, err)
		}
		at = at.Add(time.Duration(ms) * time.Millisecond)
		o := Observation{Time: at, Kind: Reply, Host: what}
		if what == "?" {
			o = Observation{Time: at, Kind: Request, Host: "client"}
		} else if host, ok := strings.CutPrefix(what, "!"); ok {
			o = Observation{Time: at, Kind: Announcement, Host: host}
		}
		seen = append(seen, o)
	}
	return seen
}

func TestWhatObservationsSay(t *testing.T) {
	for _, c := range []struct {
		name, story string
		handovers   string
		conflicts   int // within 100 ms
		silenceMS   int
		owners      string
	}{
		{name: "nothing", story: ""},
		{name: "nobody answers", story: "0? 10? 10? 10?", silenceMS: 30},
		{name: "one answers", story: "0? 1A 9? 1A 9? 1A", silenceMS: 10, owners: "A"},
		{name: "a late first answer", story: "0? 10? 10? 1A 9?", silenceMS: 21, owners: "A"},
		{name: "it falls silent", story: "0? 1A 9? 10? 10?", silenceMS: 29, owners: "A"},
		{name: "a failover", story: "0? 1A 9? 10? 10? 1B 9? 1B", handovers: "A -> B after 30ms", silenceMS: 30, owners: "A B"},
		{name: "and back, as planned", story: "0? 1A 199? 1B 199? 1A", handovers: "A -> B after 200ms, B -> A after 200ms", silenceMS: 200, owners: "A B"},
		{name: "the old one answers again", story: "0? 1A 9? 1B 9? 1A", handovers: "A -> B after 10ms, B -> A after 10ms", conflicts: 1, silenceMS: 10, owners: "A B"},
		{name: "both answer", story: "0? 1A 1B 8? 1A 1B", handovers: "A -> B after 1ms, B -> A after 9ms, A -> B after 1ms", conflicts: 2, silenceMS: 9, owners: "A B"},
		{name: "announcements are no answers", story: "0? 1A 1!B 8? 1B", handovers: "A -> B after 10ms", silenceMS: 10, owners: "A B"},
	} {
		t.Run(c.name, func(t *testing.T) {
			seen := story(t, c.story)
			var moves []string
			for _, h := range seen.Handovers() {
				moves = append(moves, h.String())
			}
			if got := strings.Join(moves, ", "); got != c.handovers {
				t.Errorf("handovers %q, want %q", got, c.handovers)
			}
			if got := seen.Conflicts(100 * time.Millisecond); len(got) != c.conflicts {
				t.Errorf("conflicts %v, want %d", got, c.conflicts)
			}
			if got, want := seen.LongestSilence(), time.Duration(c.silenceMS)*time.Millisecond; got != want {
				t.Errorf("longest silence %s, want %s", got, want)
			}
			if got := strings.Join(seen.Owners(), " "); got != c.owners {
				t.Errorf("owners %q, want %q", got, c.owners)
			}
		})
	}
}

func TestObservationsAfter(t *testing.T) {
	seen := story(t, "0? 1A 9? 1B")
	if got := seen.After(seen[1].Time); !slices.Equal(got.Owners(), []string{"B"}) || len(got) != 2 {
		t.Errorf("after the first reply: %v", got)
	}
}

func TestObservationsReadAsALog(t *testing.T) {
	text := story(t, "0? 1A 9? 1A 9? 1B").String()
	if n := strings.Count(text, "\n"); n != 2 || !strings.Contains(text, "3 requests") || !strings.Contains(text, "2 times") {
		t.Errorf("%q", text)
	}
}
