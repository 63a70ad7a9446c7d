package bgp

import (
	"fmt"
	"sync"
	"time"

	"github.com/go-logr/logr"
	gobgp "github.com/osrg/gobgp/v3/pkg/log"
	wire "github.com/osrg/gobgp/v3/pkg/packet/bgp"
)

// journal is the logger that GoBGP writes to. GoBGP's events do not say why a
// session was lost or does not come up, but its log does, so the journal keeps
// for each neighbor the last of what was said, in an operator's words. Almost
// nothing of it is passed on: a flapping neighbor must not fill a node's log.
//
// GoBGP calls it with locks held: it only notes and wakes.
type journal struct {
	log  logr.Logger
	wake func()

	mu      sync.Mutex
	entries map[string]*entry // by neighbor, as GoBGP writes it
	// connecting is how many of them are not established.
	connecting int
	// ending are the neighbors that are being deleted, with what is closed when
	// GoBGP has nothing to do with them any more.
	ending map[string]chan struct{}
}

// entry is what is known about the session with a neighbor.
type entry struct {
	state string
	admin string // UP, DOWN or PFX_CT
	// restarting is set while GoBGP will say in the OPEN that forwarding was
	// preserved, or waits for the neighbor's End-of-RIB.
	restarting bool
	since      time.Time // of being established, or of not being so any more
	flaps      uint64
	// uptime is how long the session was established that was lost last.
	uptime time.Duration
	// cause is what was said of the present session so far, lost why the last
	// one was lost, attempt why none has come up since.
	cause, lost, attempt string
}

func newJournal(log logr.Logger, wake func()) *journal {
	return &journal{log: log, wake: wake, entries: make(map[string]*entry), ending: make(map[string]chan struct{})}
}

// expectEnd returns what is closed when a neighbor that is about to be deleted
// is gone.
func (j *journal) expectEnd(neighbor string) <-chan struct{} {
	j.mu.Lock()
	defer j.mu.Unlock()
	ended := make(chan struct{})
	j.ending[neighbor] = ended
	return ended
}

// track begins to keep what is said about a neighbor that is about to be added,
// for the first time or anew.
func (j *journal) track(neighbor string, down, restarting bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	e := j.entries[neighbor]
	if e == nil {
		e = &entry{state: idle}
		j.entries[neighbor] = e
		j.connecting++
	}
	e.admin, e.restarting = adminUp, restarting
	if down {
		e.admin = adminDown
	}
}

// forget ends what track began.
func (j *journal) forget(neighbor string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if e := j.entries[neighbor]; e != nil {
		if e.state != established {
			j.connecting--
		}
		delete(j.entries, neighbor)
	}
}

// ended notes that this node has taken the session down, and why.
func (j *journal) ended(neighbor, reason string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	e := j.entries[neighbor]
	if e == nil {
		return
	}
	if e.state != established {
		e.state, e.cause, e.attempt = idle, "", reason
		return
	}
	e.cause = reason
	j.down(neighbor, e)
	e.state = idle
}

// of returns what is known about a neighbor.
func (j *journal) of(neighbor string) entry {
	j.mu.Lock()
	defer j.mu.Unlock()
	if e := j.entries[neighbor]; e != nil {
		return *e
	}
	return entry{state: idle, admin: adminUp}
}

// reason is why the session is not established: why it was lost, and why none has
// come up since.
func (e entry) reason() string {
	switch {
	case e.state == established || e.attempt == "":
		return e.lost
	case e.lost == "":
		return e.attempt
	}
	return e.lost + "; since then: " + e.attempt
}

// GetLevel tells GoBGP what to say. Why a connection fails is said at the debug
// level only, and so is something about every message; so it is asked for while
// there is a session that is not established, and not otherwise.
func (j *journal) GetLevel() gobgp.LogLevel {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.connecting > 0 {
		return gobgp.DebugLevel
	}
	return gobgp.InfoLevel
}

// SetLevel does nothing: GetLevel decides.
func (j *journal) SetLevel(gobgp.LogLevel) {}

// Panic is said about what cannot be. GoBGP goes on when it returns.
func (j *journal) Panic(msg string, fields gobgp.Fields) { j.Error(msg, fields) }

// Fatal is said about what GoBGP returns as an error too. It never ends the
// process.
func (j *journal) Fatal(msg string, fields gobgp.Fields) { j.Error(msg, fields) }

// Error passes on what GoBGP takes for an error.
func (j *journal) Error(msg string, fields gobgp.Fields) {
	j.log.Info("GoBGP: "+msg, "fields", fmt.Sprint(fields))
}

// Warn notes the messages that tell why a session ends.
func (j *journal) Warn(msg string, fields gobgp.Fields) {
	switch msg {
	case "received notification":
		j.note(fields, "the neighbor closed the session: "+notificationText(fields))
	case "sent notification":
		if err, ok := fields["Data"].(*wire.MessageError); ok {
			j.note(fields, messageErrorText(err))
		} else {
			j.note(fields, "this node closed the session: "+notificationText(fields))
		}
	case "hold timer expired":
		j.note(fields, "hold timer expired: nothing was heard from the neighbor")
	case "graceful restart timer expired":
		j.note(fields, "the neighbor did not come back within its restart time")
	case "Session will be reset due to malformed BGP Header",
		"Session will be reset due to malformed BGP message",
		"Session will be reset due to malformed BGP update message":
		err := fields["Error"]
		if err == nil {
			err = fields["error"]
		}
		j.note(fields, fmt.Sprintf("the neighbor sent a malformed message: %v", err))
	case "failed to set md5":
		j.note(fields, fmt.Sprintf("the password could not be set: %v", fields["Err"]))
	case "prefix limit reached":
		if _, warning := fields["Pct"]; !warning {
			j.note(fields, fmt.Sprintf("the neighbor announced more than %d routes, and none is used: "+
				"let the neighbor announce nothing to this node", maxPrefixes))
		}
	case "cannot change to the same state":
		j.wake() // a request for the administrative state is done with
	default:
		j.log.V(1).Info("GoBGP: "+msg, "fields", fmt.Sprint(fields))
	}
}

// Info notes the end of a session, and wakes who follows what happens next.
func (j *journal) Info(msg string, fields gobgp.Fields) {
	switch msg {
	case "Peer Down":
		reason := fmt.Sprint(fields["Reason"])
		if reason == "dying" {
			return // this node deleted the neighbor: see ended
		}
		j.update(fields, func(_ string, e *entry) {
			if e.cause == "" {
				e.cause = lossText(reason)
			}
		})
	case "sync finished":
		j.mu.Lock()
		for _, e := range j.entries {
			e.restarting = false
		}
		j.mu.Unlock()
		j.wake()
	case "Administrative start":
		j.setAdmin(fields, adminUp)
	case "Administrative shutdown":
		j.setAdmin(fields, adminDown)
	case "Administrative shutdown(Prefix limit reached)":
		j.setAdmin(fields, adminPrefixes)
	}
}

// Debug notes states, and why connections fail.
func (j *journal) Debug(msg string, fields gobgp.Fields) {
	switch msg {
	case "freed fsm.h":
		neighbor, _ := fields["Key"].(string)
		j.mu.Lock()
		if ended := j.ending[neighbor]; ended != nil {
			close(ended)
			delete(j.ending, neighbor)
		}
		j.mu.Unlock()
	case "failed to connect":
		news := false
		j.update(fields, func(neighbor string, e *entry) {
			attempt := connectText(fields["Error"])
			news = attempt != e.attempt
			e.attempt = attempt
		})
		if news {
			j.wake()
		}
	case "state changed":
		j.update(fields, func(neighbor string, e *entry) {
			j.stateChanged(neighbor, e, stateText(fields["old"]), stateText(fields["new"]), fmt.Sprint(fields["reason"]))
		})
		j.wake()
	}
}

func (j *journal) setAdmin(fields gobgp.Fields, state string) {
	j.update(fields, func(_ string, e *entry) { e.admin = state })
	j.wake()
}

// stateChanged enters a state of RFC 4271, 8.2.2.
func (j *journal) stateChanged(neighbor string, e *entry, from, to, reason string) {
	e.state = to
	switch {
	case to == established:
		j.connecting--
		e.since, e.attempt, e.cause = time.Now(), "", ""
		j.log.Info("BGP session established", "neighbor", neighbor)
	case from == established:
		e.state = from
		j.down(neighbor, e)
		e.state = to
	case to == idle && reason != "idle-hold-timer-expired":
		if e.cause == "" {
			e.cause = refusalText(from, reason)
		}
		if e.cause != "" {
			e.attempt = e.cause
		}
		e.cause = ""
	}
}

// down is called when an established session has ended.
func (j *journal) down(neighbor string, e *entry) {
	now := time.Now()
	j.connecting++
	e.flaps++
	e.uptime = now.Sub(e.since)
	e.since = now
	e.lost, e.cause, e.attempt = e.cause, "", ""
	j.log.Info("BGP session lost", "neighbor", neighbor, "reason", e.lost)
}

func (j *journal) note(fields gobgp.Fields, cause string) {
	j.update(fields, func(_ string, e *entry) {
		if e.cause == "" { // what comes first is the cause of the rest
			e.cause = cause
		}
	})
}

func (j *journal) update(fields gobgp.Fields, change func(neighbor string, e *entry)) {
	neighbor, _ := fields["Key"].(string)
	j.mu.Lock()
	defer j.mu.Unlock()
	if e := j.entries[neighbor]; e != nil {
		change(neighbor, e)
	}
}
