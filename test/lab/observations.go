package lab

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// clock is precise enough to compare lines of a log with frames.
const clock = "15:04:05.000000"

// Observation is one frame about an address, as a host's link saw it.
type Observation struct {
	Time time.Time // the kernel's, wall clock
	Kind Kind
	Addr netip.Addr
	MAC  net.HardwareAddr // who claims the address; for a request, who asks
	Host string           // the lab's host with that MAC, "" if it is none
}

// Who is the host's name, or the hardware address of a stranger.
func (o Observation) Who() string {
	if o.Host != "" {
		return o.Host
	}
	return o.MAC.String()
}

func (o Observation) String() string {
	return fmt.Sprintf("%s %s %s %s", o.Time.Format(clock), o.Kind, o.Addr, o.Who())
}

// Observations are frames in the order of the wire.
type Observations []Observation

// Replies are the answers among the observations.
func (obs Observations) Replies() Observations { return obs.ofKind(Reply) }

// Requests are the questions among the observations.
func (obs Observations) Requests() Observations { return obs.ofKind(Request) }

// Announcements are the claims that nobody asked for.
func (obs Observations) Announcements() Observations { return obs.ofKind(Announcement) }

func (obs Observations) ofKind(kind Kind) Observations {
	return slices.DeleteFunc(slices.Clone(obs), func(o Observation) bool { return o.Kind != kind })
}

// After are the observations later than a point in time.
func (obs Observations) After(t time.Time) Observations {
	return slices.DeleteFunc(slices.Clone(obs), func(o Observation) bool { return !o.Time.After(t) })
}

// About are the observations of one address.
func (obs Observations) About(addr netip.Addr) Observations {
	return slices.DeleteFunc(slices.Clone(obs), func(o Observation) bool { return o.Addr != addr })
}

// Owners are the hosts that replied or announced, in the order of appearance.
func (obs Observations) Owners() []string {
	var owners []string
	for _, o := range obs {
		if o.Kind != Request && !slices.Contains(owners, o.Who()) {
			owners = append(owners, o.Who())
		}
	}
	return owners
}

// Handover is a change of the host that answers.
type Handover struct {
	From, To string
	At       time.Time     // the first answer of the new host
	Gap      time.Duration // since the last answer of the old one
}

func (h Handover) String() string {
	return fmt.Sprintf("%s -> %s after %s", h.From, h.To, h.Gap.Round(10*time.Microsecond))
}

// Handovers are the changes between hosts that answered, for observations of one
// address. Every planned change is one handover. Two hosts that answer at the
// same time show up as many, because their replies alternate.
func (obs Observations) Handovers() []Handover {
	var handovers []Handover
	replies := obs.Replies()
	for i := 1; i < len(replies); i++ {
		last, this := replies[i-1], replies[i]
		if last.Who() != this.Who() {
			handovers = append(handovers, Handover{last.Who(), this.Who(), this.Time, this.Time.Sub(last.Time)})
		}
	}
	return handovers
}

// Conflict is a proof that two hosts held one address at the same time: Host
// answered, then Other, then Host again.
type Conflict struct {
	Host, Other   string
	First, Second time.Time // the two answers of Host around that of Other
}

func (c Conflict) String() string {
	return fmt.Sprintf("%s answered at %s and %s, %s in between", c.Host,
		c.First.Format(clock), c.Second.Format(clock), c.Other)
}

// Conflicts finds hosts that answered again within a time after they had lost
// the address to another. The time must be shorter than that between two planned
// changes of the owner. The wire's order is that of cause and effect: an old
// owner that falls silent before the new one may speak never answers after it.
func (obs Observations) Conflicts(within time.Duration) []Conflict {
	var conflicts []Conflict
	last := map[string]time.Time{} // each host's latest answer
	previous := ""
	for _, o := range obs.Replies() {
		who := o.Who()
		if before, ok := last[who]; ok && previous != who && o.Time.Sub(before) <= within {
			conflicts = append(conflicts, Conflict{Host: who, Other: previous, First: before, Second: o.Time})
		}
		last[who], previous = o.Time, who
	}
	return conflicts
}

// LongestSilence is the longest time without an answer while requests were sent,
// from the first request to the last, for observations of one address.
func (obs Observations) LongestSilence() time.Duration {
	requests := obs.Requests()
	if len(requests) == 0 {
		return 0
	}
	var longest time.Duration
	since := requests[0].Time
	for _, reply := range obs.Replies() {
		longest = max(longest, reply.Time.Sub(since))
		since = reply.Time
	}
	return max(longest, requests[len(requests)-1].Time.Sub(since))
}

// String lists who claimed the address and how often in a row, a line each; for
// the messages of failed tests.
func (obs Observations) String() string {
	claims := slices.DeleteFunc(slices.Clone(obs), func(o Observation) bool { return o.Kind == Request })
	lines := []string{fmt.Sprintf("%d requests", len(obs)-len(claims))}
	for len(claims) > 0 {
		first, n := claims[0], 1
		for n < len(claims) && claims[n].Kind == first.Kind && claims[n].Addr == first.Addr && claims[n].Who() == first.Who() {
			n++
		}
		lines = append(lines, fmt.Sprintf("%s, %d times until %s", first, n, claims[n-1].Time.Format(clock)))
		claims = claims[n:]
	}
	return strings.Join(lines, "\n")
}
