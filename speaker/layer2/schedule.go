package layer2

import "time"

const (
	// The first announcement can be lost, as by a switch port that has just come
	// up or a queue that is full of the fault that moved the address. It is
	// repeated soon, and once more after the second in which Linux, having just
	// accepted a reply from somebody else, takes no other (arp locktime). Three
	// in all are what RFC 4861 (10, MAX_NEIGHBOR_ADVERTISEMENT) allows.
	firstRepeat  = 1 * time.Second
	secondRepeat = 3 * time.Second

	// repeatGap spreads the repeats of many addresses: 500 addresses a second
	// are at most 1,000 broadcast frames of 60 bytes, half a Mbit/s, which
	// every host on the link has to look at.
	repeatGap = 2 * time.Millisecond
)

// A schedule says which key is to be announced again, and when. A key that is
// started again begins anew.
type schedule[K comparable] struct {
	// One queue for each repeat. All keys wait equally long in it, so it is
	// sorted by time as it is filled.
	first, second []repeat[K]
	started       map[K]uint64 // key -> its latest start
	starts        uint64
	notBefore     time.Time // the rate limit
}

type repeat[K comparable] struct {
	key   K
	start uint64
	due   time.Time
}

func newSchedule[K comparable]() *schedule[K] {
	return &schedule[K]{started: map[K]uint64{}}
}

// start plans the repeats of a key whose first announcement is made now.
func (s *schedule[K]) start(key K, now time.Time) {
	s.starts++
	s.started[key] = s.starts
	s.first = append(s.first, repeat[K]{key, s.starts, now.Add(firstRepeat)})
	s.second = append(s.second, repeat[K]{key, s.starts, now.Add(secondRepeat)})
}

// next takes out a key that is due. If there is none, it says how long to wait
// for one, or that nothing is planned (wait < 0).
func (s *schedule[K]) next(now time.Time) (key K, due bool, wait time.Duration) {
	s.first = s.dropOutdated(s.first)
	s.second = s.dropOutdated(s.second)
	queue := &s.first
	if len(s.first) == 0 || len(s.second) > 0 && s.second[0].due.Before(s.first[0].due) {
		queue = &s.second
	}
	if len(*queue) == 0 {
		return key, false, -1
	}
	head := (*queue)[0]
	at := head.due
	if at.Before(s.notBefore) {
		at = s.notBefore
	}
	if now.Before(at) {
		return key, false, at.Sub(now)
	}
	*queue = (*queue)[1:]
	if queue == &s.second {
		delete(s.started, head.key)
	}
	s.notBefore = now.Add(repeatGap)
	return head.key, true, 0
}

func (s *schedule[K]) dropOutdated(queue []repeat[K]) []repeat[K] {
	for len(queue) > 0 && s.started[queue[0].key] != queue[0].start {
		queue = queue[1:]
	}
	return queue
}
