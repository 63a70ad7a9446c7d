package speaker

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/events"

	"github.com/fairway-lb/fairway/api/v1alpha2"
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
	routes    map[netip.Addr]route
	conflicts map[string]bool    // sentences
	refusals  map[string]refusal // by Eip
	unreached map[netip.Addr][]unreached
	pending   map[announcement]cause // of the unreached, those to be reported yet
	scheduled bool                   // write is to be called
}

// announcement is an address of a Service, one that this node answers for or
// one at which the Service is not reached.
type announcement struct {
	subject
	addr netip.Addr
}

// route is for whom an address is announced by BGP. It is nearly always one
// Service, and there are as many routes as addresses.
type route []reached

// reached is a Service that is reached at an address, with the nodes that have
// its endpoints if its policy is Local.
type reached struct {
	subject
	endpoints string
}

// refusal is what this node cannot announce of an Eip, and why.
type refusal struct {
	uid      types.UID
	protocol string
	text     string
}

// cause is why a Service is not reached at an address, and since when.
type cause struct {
	text  string
	since time.Time
}

// unreached is a Service that is not reached at an address.
type unreached struct {
	subject
	cause
}

func newReports(node string, recorder events.EventRecorder) reports {
	return reports{
		node:      node,
		recorder:  recorder,
		announced: map[announcement]string{},
		routes:    map[netip.Addr]route{},
		conflicts: map[string]bool{},
		refusals:  map[string]refusal{},
		unreached: map[netip.Addr][]unreached{},
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
// announce addresses, and those that it can announce again. What keeps an Eip
// from being announced by BGP is the same on all nodes, and one says so.
func (r *reports) pools(view plan.View, pools *pools) {
	for _, p := range pools.sorted {
		if p.AnnouncedBy() != v1alpha2.ProtocolLayer2 && len(p.blocks) > 0 && view.Reporter(p.blocks[0].From()) != r.node {
			continue
		}
		old, now := r.refusals[p.Name], refusal{p.uid, p.AnnouncedBy(), p.refusal}
		eip := p.reference()
		switch {
		case p.refusal != "" && now != old:
			r.refusals[p.Name] = now
			r.event(eip, corev1.EventTypeWarning, eventConfigSpeakerFailed, "node %s cannot announce %s", r.node, p.refusal)
		case p.refusal == "" && old.text != "":
			delete(r.refusals, p.Name)
			if p.uid == old.uid && p.AnnouncedBy() == old.protocol { // else it is another Eip, or announced in another way
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

// routed reports that an address began to be announced by BGP for a Service, or
// under externalTrafficPolicy Local from other nodes than before. One node says
// so, if it is news and not what was found at the start. Nodes that come and go
// are no news for each Service.
func (r *reports) routed(view plan.View, addr netip.Addr, tenants []tenant, d plan.BGPDecision, news bool) {
	if len(d.Nodes) == 0 {
		delete(r.routes, addr)
		return
	}
	before, now := r.routes[addr], make(route, 0, len(tenants))
	text := "is announced by BGP from every node that can serve it"
	for _, t := range tenants {
		endpoints := ""
		if t.LocalPolicy {
			endpoints = strings.Join(t.Endpoints.Nodes(), ",")
			text = "is announced by BGP from " + listedNodes(d.Nodes)
		}
		if d.Reaches(t.Service) {
			now = append(now, reached{t.subject(), endpoints})
		}
	}
	r.routes[addr] = now
	if !news || view.Reporter(addr) != r.node {
		return
	}
	for _, svc := range now {
		if !slices.Contains(before, svc) {
			r.event(svc.reference(), corev1.EventTypeNormal, eventSetBalancer, "%s %s", addr, text)
		}
	}
}

// disagreements reports the Eips that announce a prefix together and not alike.
func (r *reports) disagreements(view plan.View, pools *pools, conflicts []plan.Conflict) {
	now := make(map[string]bool, len(conflicts))
	for _, c := range conflicts {
		text := c.String()
		now[text] = true
		if r.conflicts[text] || view.Reporter(c.Prefix.Addr()) != r.node {
			continue
		}
		for _, name := range c.Eips {
			if p := pools.get(name); p != nil {
				r.event(p.reference(), corev1.EventTypeWarning, eventConfigSpeaker, "%s", text)
			}
		}
	}
	r.conflicts = now
}

// unrouted notes that an address is not announced by BGP.
func (r *reports) unrouted(addr netip.Addr) { delete(r.routes, addr) }

// listedNodes names some nodes and how many there are besides.
func listedNodes(nodes []string) string {
	// An event has 1024 characters, the name of a node 253 at most.
	const most = 3
	what := "nodes "
	if len(nodes) == 1 {
		what = "node "
	}
	if len(nodes) > most {
		return fmt.Sprintf("%s%s and %d more", what, strings.Join(nodes[:most], ", "), len(nodes)-most)
	}
	return what + strings.Join(nodes, ", ")
}

// decided notes which Services are not reached at an address; explain says why.
func (r *reports) decided(addr netip.Addr, tenants []tenant, explain func(types.NamespacedName) string, at time.Time) {
	var now []unreached
	before := r.unreached[addr]
	find := func(in []unreached, svc subject) int {
		return slices.IndexFunc(in, func(u unreached) bool { return u.subject == svc })
	}
	for _, t := range tenants {
		text := explain(t.Service)
		if text == "" {
			continue
		}
		u := unreached{t.subject(), cause{text, at}}
		if i := find(before, u.subject); i >= 0 && before[i].text == text {
			u.cause = before[i].cause
		} else {
			r.pending[announcement{u.subject, addr}] = u.cause
		}
		now = append(now, u)
	}
	for _, u := range before {
		if find(now, u.subject) < 0 {
			delete(r.pending, announcement{u.subject, addr})
		}
	}
	if len(now) == 0 {
		delete(r.unreached, addr)
	} else {
		r.unreached[addr] = now
	}
}

// due tells, once, that there is something to write in reportDelay.
func (r *reports) due() bool {
	due := !r.scheduled && len(r.pending) > 0
	r.scheduled = r.scheduled || due
	return due
}

// write reports the Services that have not been reached at an address for
// reportDelay, if it is for this node to do so. It returns after what time it
// wants to be called again, 0 for never.
func (r *reports) write(view plan.View, now time.Time) (next time.Duration) {
	defer func() { r.scheduled = next > 0 }()
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

func (p *pool) reference() *corev1.ObjectReference {
	return &corev1.ObjectReference{APIVersion: "network.kubesphere.io/v1alpha2", Kind: "Eip", Name: p.Name, UID: p.uid}
}
