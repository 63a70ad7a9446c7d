package speaker

import (
	"fmt"
	"hash/fnv"
	"net/netip"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/events"

	"github.com/fairway-lb/fairway/speaker/plan"
)

// Reasons of the speaker's events, OpenELB's.
const (
	eventSetBalancer         = "SetBalancer"
	eventConfigSpeaker       = "ConfigSpeaker"
	eventConfigSpeakerFailed = "ConfigSpeakerFailed"
)

// reportDelay is how long an address has to be without an owner before an
// event says so: pods usually start a little after their Service, and links
// flap.
const reportDelay = 5 * time.Second

// maxNote is the API server's limit on the text of an event, in bytes.
const maxNote = 1024

// reports writes an event for each change that an operator would ask about,
// once in the cluster and once for each cause: who announces an address, why
// no one does, why a node cannot announce a pool.
type reports struct {
	node      string
	recorder  events.EventRecorder
	announced map[announcement]string // -> link
	refusals  map[string]refusal      // by Eip
	unowned   map[subject]map[netip.Addr]*cause
}

// announcement is an address of a Service that this node answers for.
type announcement struct {
	subject
	addr netip.Addr
}

// refusal is why this node cannot announce an Eip.
type refusal struct {
	uid  types.UID
	text string
}

// cause is why, since when, and whether that was reported.
type cause struct {
	text     string
	since    time.Time
	reported bool
}

func newReports(node string, recorder events.EventRecorder) reports {
	return reports{
		node:      node,
		recorder:  recorder,
		announced: map[announcement]string{},
		refusals:  map[string]refusal{},
		unowned:   map[subject]map[netip.Addr]*cause{},
	}
}

// held reports the addresses that this node began to answer for, to each
// Service that has them.
func (r *reports) held(addresses map[netip.Addr]string, owned owned) {
	for a := range r.announced {
		_, held := addresses[a.addr]
		if _, ours := owned[a.addr][a.subject]; !held || !ours {
			delete(r.announced, a)
		}
	}
	for addr, link := range addresses {
		for svc := range owned[addr] {
			if a := (announcement{svc, addr}); r.announced[a] != link {
				r.announced[a] = link
				r.event(svc.reference(), corev1.EventTypeNormal, eventSetBalancer,
					"node %s announces %s on %s", r.node, addr, link)
			}
		}
	}
}

// pools reports the Eips that this node turned out to be unable to announce,
// and those that it can announce again.
func (r *reports) pools(pools map[string]pool) {
	for name, p := range pools {
		old, now := r.refusals[name], refusal{p.uid, p.refusal}
		eip := &corev1.ObjectReference{APIVersion: "network.kubesphere.io/v1alpha2", Kind: "Eip", Name: name, UID: p.uid}
		switch {
		case p.refusal != "" && now != old:
			r.refusals[name] = now
			r.event(eip, corev1.EventTypeWarning, eventConfigSpeakerFailed, "node %s cannot announce the Eip's addresses: %s", r.node, p.refusal)
		case p.refusal == "" && old.text != "":
			delete(r.refusals, name)
			if p.link != "" && p.uid == old.uid { // else it is of another protocol now, or another Eip
				r.event(eip, corev1.EventTypeNormal, eventConfigSpeaker, "node %s can announce the Eip's addresses again", r.node)
			}
		}
	}
	for name := range r.refusals {
		if _, ok := pools[name]; !ok {
			delete(r.refusals, name)
		}
	}
}

// decided notes which addresses of a Service have no owner.
func (r *reports) decided(svc subject, decisions []decided, now time.Time) {
	before := r.unowned[svc]
	delete(r.unowned, svc)
	for _, d := range decisions {
		// Other protocols than layer 2 have no owner and need none.
		if d.Owner != "" || d.Reason == plan.ReasonNotLayer2 {
			continue
		}
		if r.unowned[svc] == nil {
			r.unowned[svc] = map[netip.Addr]*cause{}
		}
		c := before[d.Addr]
		if text := d.Explain(); c == nil || c.text != text {
			c = &cause{text: text, since: now}
		}
		r.unowned[svc][d.Addr] = c
	}
}

// write reports the addresses that have been without an owner for
// reportDelay, if it is for this node to do so. It returns after what time it
// wants to be called again, 0 for never.
func (r *reports) write(view plan.View, now time.Time) time.Duration {
	var next time.Duration
	for svc, causes := range r.unowned {
		for addr, c := range causes {
			if c.reported {
				continue
			}
			if wait := reportDelay - now.Sub(c.since); wait > 0 {
				if next == 0 || wait < next {
					next = wait
				}
				continue
			}
			c.reported = true
			if view.Reporter(addr) == r.node {
				r.event(svc.reference(), corev1.EventTypeWarning, eventSetBalancer, "%s is not announced: %s", addr, c.text)
			}
		}
	}
	return next
}

// event writes an event. For client-go, events on an object are repetitions of
// one, whose text it keeps, if their reason and action are the same, whatever
// they say. So the action stands for the text.
func (r *reports) event(object *corev1.ObjectReference, eventType, reason, format string, args ...any) {
	note := clip(fmt.Sprintf(format, args...))
	digest := fnv.New32a()
	_, _ = digest.Write([]byte(note)) // never fails
	r.recorder.Eventf(object, nil, eventType, reason, fmt.Sprintf("Announce-%08x", digest.Sum32()), "%s", note)
}

// clip shortens a text to what an event may carry.
func clip(note string) string {
	if len(note) <= maxNote {
		return note
	}
	const ellipsis = "..."
	return strings.ToValidUTF8(note[:maxNote-len(ellipsis)], "") + ellipsis
}

func (s subject) reference() *corev1.ObjectReference {
	return &corev1.ObjectReference{APIVersion: "v1", Kind: "Service", Namespace: s.Namespace, Name: s.Name, UID: s.uid}
}
