package speaker

import (
	"fmt"
	"net/netip"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/events"

	"github.com/fairway-lb/fairway/internal/note"
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

// reports writes an event for each change that an operator would ask about,
// once in the cluster and once for each cause: who announces an address, why
// no one does, why a node cannot announce a pool.
type reports struct {
	node      string
	recorder  events.EventRecorder
	announced map[announcement]string // -> link
	refusals  map[string]refusal      // by Eip
	unowned   map[subject]map[netip.Addr]cause
	pending   map[announcement]cause // of the unowned, those to be reported yet
}

// announcement is an address of a Service, one that this node answers for or
// one that nobody does.
type announcement struct {
	subject
	addr netip.Addr
}

// refusal is why this node cannot announce an Eip.
type refusal struct {
	uid  types.UID
	text string
}

// cause is why an address has no owner, and since when.
type cause struct {
	text  string
	since time.Time
}

func newReports(node string, recorder events.EventRecorder) reports {
	return reports{
		node:      node,
		recorder:  recorder,
		announced: map[announcement]string{},
		refusals:  map[string]refusal{},
		unowned:   map[subject]map[netip.Addr]cause{},
		pending:   map[announcement]cause{},
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
	unowned := map[netip.Addr]cause{}
	for _, d := range decisions {
		// Other protocols than layer 2 have no owner and need none.
		if d.Owner != "" || d.Reason == plan.ReasonNotLayer2 {
			continue
		}
		c, known := before[d.Addr]
		if text := d.Explain(); !known || c.text != text {
			c = cause{text: text, since: now}
			r.pending[announcement{svc, d.Addr}] = c
		}
		unowned[d.Addr] = c
	}
	for addr := range before {
		if _, still := unowned[addr]; !still {
			delete(r.pending, announcement{svc, addr})
		}
	}
	if len(unowned) == 0 {
		delete(r.unowned, svc)
	} else {
		r.unowned[svc] = unowned
	}
}

// write reports the addresses that have been without an owner for
// reportDelay, if it is for this node to do so. It returns after what time it
// wants to be called again, 0 for never.
func (r *reports) write(view plan.View, now time.Time) time.Duration {
	var next time.Duration
	for a, c := range r.pending {
		if wait := reportDelay - now.Sub(c.since); wait > 0 {
			if next == 0 || wait < next {
				next = wait
			}
			continue
		}
		delete(r.pending, a)
		if view.Reporter(a.addr) == r.node {
			r.event(a.reference(), corev1.EventTypeWarning, eventSetBalancer, "%s is not announced: %s", a.addr, c.text)
		}
	}
	return next
}

func (r *reports) event(object *corev1.ObjectReference, eventType, reason, format string, args ...any) {
	note.Write(r.recorder, object, eventType, reason, "Announce", fmt.Sprintf(format, args...))
}

func (s subject) reference() *corev1.ObjectReference {
	return &corev1.ObjectReference{APIVersion: "v1", Kind: "Service", Namespace: s.Namespace, Name: s.Name, UID: s.uid}
}
