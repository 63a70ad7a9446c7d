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

// reportDelay is how long a Service has to be unreached at its address before
// an event says so: pods usually start a little after their Service, and links
// flap.
const reportDelay = 5 * time.Second

// reports writes an event for each change that an operator would ask about,
// once in the cluster and once for each cause: who announces an address, why
// no one does, or not for a Service that shares it, which addresses a node
// cannot announce.
type reports struct {
	node      string
	recorder  events.EventRecorder
	announced map[announcement]string // -> link
	refusals  map[string]refusal      // by Eip
	unreached map[netip.Addr]map[subject]cause
	pending   map[announcement]cause // of the unreached, those to be reported yet
}

// announcement is an address of a Service, one that this node answers for or
// one at which the Service is not reached.
type announcement struct {
	subject
	addr netip.Addr
}

// refusal is what this node cannot announce of an Eip, and why.
type refusal struct {
	uid  types.UID
	text string
}

// cause is why a Service is not reached at an address, and since when.
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
		unreached: map[netip.Addr]map[subject]cause{},
		pending:   map[announcement]cause{},
	}
}

// held reports the addresses that this node began to answer for, to each
// Service that is reached there.
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

// pools reports the Eips of which this node turned out to be unable to
// announce addresses, and those that it can announce again.
func (r *reports) pools(pools *pools) {
	for _, p := range pools.sorted {
		old, now := r.refusals[p.Name], refusal{p.uid, p.refusal}
		eip := &corev1.ObjectReference{APIVersion: "network.kubesphere.io/v1alpha2", Kind: "Eip", Name: p.Name, UID: p.uid}
		switch {
		case p.refusal != "" && now != old:
			r.refusals[p.Name] = now
			r.event(eip, corev1.EventTypeWarning, eventConfigSpeakerFailed, "node %s cannot announce %s", r.node, p.refusal)
		case p.refusal == "" && old.text != "":
			delete(r.refusals, p.Name)
			if p.link.Name != "" && p.uid == old.uid { // else it is of another protocol now, or another Eip
				r.event(eip, corev1.EventTypeNormal, eventConfigSpeaker, "node %s can announce the Eip's addresses again", r.node)
			}
		}
	}
	for name := range r.refusals {
		if pools.get(name) == nil {
			delete(r.refusals, name)
		}
	}
}

// decided notes which Services are not reached at an address.
func (r *reports) decided(addr netip.Addr, tenants []tenant, d plan.Decision, now time.Time) {
	before := r.unreached[addr]
	if len(before) == 0 && d.Owner != "" && len(d.Unreached) == 0 {
		return
	}
	unreached := map[subject]cause{}
	for _, t := range tenants {
		// Other protocols than layer 2 have no owner and need none.
		text := d.Explain(t.Service)
		if text == "" || d.Reason == plan.ReasonNotLayer2 {
			continue
		}
		c, known := before[t.subject()]
		if !known || c.text != text {
			c = cause{text: text, since: now}
			r.pending[announcement{t.subject(), addr}] = c
		}
		unreached[t.subject()] = c
	}
	for svc := range before {
		if _, still := unreached[svc]; !still {
			delete(r.pending, announcement{svc, addr})
		}
	}
	if len(unreached) == 0 {
		delete(r.unreached, addr)
	} else {
		r.unreached[addr] = unreached
	}
}

// write reports the Services that have not been reached at an address for
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
			r.event(a.reference(), corev1.EventTypeWarning, eventSetBalancer, "%s %s", a.addr, c.text)
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
