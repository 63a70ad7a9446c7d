package speaker

import (
	"fmt"
	"net/netip"
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

// reports writes an event for each change that an operator would ask about,
// once in the cluster and once for each cause: who announces an address, why
// no one does, why a node cannot announce a pool.
type reports struct {
	node      string
	recorder  events.EventRecorder
	announced map[netip.Addr]bool
	refusals  map[string]string // by Eip
	unowned   map[unowned]*cause
}

// unowned is an address of a Service that no node announces.
type unowned struct {
	service types.NamespacedName
	addr    netip.Addr
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
		announced: map[netip.Addr]bool{},
		refusals:  map[string]string{},
		unowned:   map[unowned]*cause{},
	}
}

// held reports the addresses that this node began to answer for.
func (r *reports) held(addresses map[netip.Addr]string, owned owned) {
	for addr := range r.announced {
		if _, ok := addresses[addr]; !ok {
			delete(r.announced, addr)
		}
	}
	for addr, link := range addresses {
		if r.announced[addr] {
			continue
		}
		for name := range owned[addr] {
			r.announced[addr] = true
			r.event(serviceReference(name), corev1.EventTypeNormal, eventSetBalancer,
				"node %s announces %s on %s", r.node, addr, link)
		}
	}
}

// pools reports the Eips that this node turned out to be unable to announce,
// and those that it can announce again.
func (r *reports) pools(pools map[string]pool) {
	for name, p := range pools {
		old := r.refusals[name]
		if p.refusal == old {
			continue
		}
		eip := &corev1.ObjectReference{APIVersion: "network.kubesphere.io/v1alpha2", Kind: "Eip", Name: name, UID: p.object.UID}
		if p.refusal == "" {
			delete(r.refusals, name)
			r.event(eip, corev1.EventTypeNormal, eventConfigSpeaker, "node %s can announce the Eip's addresses again", r.node)
			continue
		}
		r.refusals[name] = p.refusal
		r.event(eip, corev1.EventTypeWarning, eventConfigSpeakerFailed, "node %s cannot announce the Eip's addresses: %s", r.node, p.refusal)
	}
	for name := range r.refusals {
		if _, ok := pools[name]; !ok {
			delete(r.refusals, name)
		}
	}
}

// decided notes which addresses of a Service have no owner.
func (r *reports) decided(name types.NamespacedName, decisions []decided, now time.Time) {
	missing := map[netip.Addr]string{}
	for _, d := range decisions {
		// Other protocols than layer 2 have no owner and need none.
		if d.Owner == "" && d.Reason != plan.ReasonNotLayer2 {
			missing[d.Addr] = d.Explain()
		}
	}
	for key := range r.unowned {
		if key.service == name && missing[key.addr] == "" {
			delete(r.unowned, key)
		}
	}
	for addr, text := range missing {
		key := unowned{name, addr}
		if c := r.unowned[key]; c == nil || c.text != text {
			r.unowned[key] = &cause{text: text, since: now}
		}
	}
}

// write reports the addresses that have been without an owner for
// reportDelay, if it is for this node to do so. It returns after what time it
// wants to be called again, 0 for never.
func (r *reports) write(view plan.View, now time.Time) time.Duration {
	var next time.Duration
	for key, c := range r.unowned {
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
		if view.Reporter(key.addr) == r.node {
			r.event(serviceReference(key.service), corev1.EventTypeWarning, eventSetBalancer, "%s is not announced: %s", key.addr, c.text)
		}
	}
	return next
}

func (r *reports) event(object *corev1.ObjectReference, eventType, reason, format string, args ...any) {
	r.recorder.Eventf(object, nil, eventType, reason, "Announce", "%s", fmt.Sprintf(format, args...))
}

func serviceReference(name types.NamespacedName) *corev1.ObjectReference {
	return &corev1.ObjectReference{APIVersion: "v1", Kind: "Service", Namespace: name.Namespace, Name: name.Name}
}
