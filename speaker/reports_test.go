package speaker

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"

	corev1 "k8s.io/api/core/v1"

	"github.com/fairway-lb/fairway/speaker/plan"
)

// recorder collects events as "Kind name: Type Reason note".
type recorder struct {
	events, actions []string
	uids            []types.UID
}

func (r *recorder) Eventf(object, _ runtime.Object, eventType, reason, action, note string, args ...any) {
	reference := object.(*corev1.ObjectReference)
	r.actions, r.uids = append(r.actions, action), append(r.uids, reference.UID)
	r.events = append(r.events, fmt.Sprintf("%s %s: %s %s %s", reference.Kind, reference.Name, eventType, reason, fmt.Sprintf(note, args...)))
}

// take returns the events since the last call.
func (r *recorder) take() []string {
	events := r.events
	r.events = nil
	return events
}

var (
	svc  = subject{types.NamespacedName{Namespace: "dev", Name: "svc-lb"}, "uid-1"}
	addr = netip.MustParseAddr("192.168.93.231")
	t0   = time.Unix(1_000_000, 0)
	self = plan.View{Members: []plan.Member{{Name: "n1"}}}
	// tenants is svc alone.
	tenants = []tenant{{Tenant: plan.Tenant{Service: svc.NamespacedName}, uid: svc.uid}}
)

func withoutOwner(reason plan.Reason) plan.Decision { return plan.Decision{Reason: reason} }

// without is an address that n2 announces, but not for svc.
func without(reason plan.Reason) plan.Decision {
	return plan.Decision{
		For:       types.NamespacedName{Namespace: "dev", Name: "other"},
		Unreached: []plan.Unreached{{Service: svc.NamespacedName, Reason: reason}},
	}
}

// An address without an owner is reported once for each cause, after
// reportDelay, and never if it finds an owner before.
func TestReportsAddressWithoutOwner(t *testing.T) {
	rec := &recorder{}
	r := newReports("n1", rec)
	for _, step := range []struct {
		name     string
		at       time.Duration
		decision plan.Decision
		again    time.Duration // until the next call
		event    string        // part of the only event, "" for none
	}{
		{"just lost its owner", 0, withoutOwner(plan.ReasonNoEndpoint), reportDelay, ""},
		{"still without", 3 * time.Second, withoutOwner(plan.ReasonNoEndpoint), 2 * time.Second, ""},
		{"for too long", 5 * time.Second, withoutOwner(plan.ReasonNoEndpoint), 0, "192.168.93.231 is not announced: the Service has no ready endpoint"},
		{"nothing new", time.Minute, withoutOwner(plan.ReasonNoEndpoint), 0, ""},
		{"another cause", time.Hour, withoutOwner(plan.ReasonNoCandidate), reportDelay, ""},
		{"found an owner in time", time.Hour + time.Second, plan.Decision{}, 0, ""},
		{"much later", 2 * time.Hour, plan.Decision{}, 0, ""},
		{"the first cause again", 3 * time.Hour, withoutOwner(plan.ReasonNoEndpoint), reportDelay, ""},
		{"for too long again", 4 * time.Hour, withoutOwner(plan.ReasonNoEndpoint), 0, "no ready endpoint"},
		{"shared, and not reached", 7 * time.Hour, without(plan.ReasonNotTogether), reportDelay, ""},
		{"for too long once more", 8 * time.Hour, without(plan.ReasonNotTogether), 0, "192.168.93.231 is announced for Service dev/other, but Service dev/svc-lb is not reached at it: externalTrafficPolicy is Local"},
	} {
		t.Run(step.name, func(t *testing.T) {
			r.decided(addr, tenants, step.decision.Explain, t0.Add(step.at))
			if again := r.write(self, t0.Add(step.at)); again != step.again {
				t.Errorf("wants to be called after %v, want %v", again, step.again)
			}
			expectEvent(t, rec, step.event)
		})
	}
	r.decided(addr, nil, plan.Decision{Reason: plan.ReasonPoolMissing}.Explain, t0.Add(9*time.Hour))
	if len(r.unreached)+len(r.pending) != 0 {
		t.Errorf("remembers %v and %v of a Service that is gone", r.unreached, r.pending)
	}
}

func TestOneNodeOfManyReports(t *testing.T) {
	view := plan.View{Members: []plan.Member{{Name: "n1"}, {Name: "n2"}, {Name: "n3"}}}
	var all []string
	for _, member := range view.Members {
		rec := &recorder{}
		r := newReports(member.Name, rec)
		r.decided(addr, tenants, withoutOwner(plan.ReasonNoEndpoint).Explain, t0)
		r.write(view, t0.Add(reportDelay))
		all = append(all, rec.take()...)
	}
	if len(all) != 1 {
		t.Errorf("%d events from 3 nodes: %q", len(all), all)
	}
}

func TestReportsHeldAddresses(t *testing.T) {
	rec := &recorder{}
	r := newReports("n1", rec)
	recreated, other := svc, svc
	recreated.uid, other.Name = "uid-2", "other"
	on := func(link string) map[netip.Addr]string { return map[netip.Addr]string{addr: link} }
	for _, step := range []struct {
		name  string
		held  map[netip.Addr]string
		plan  owned
		event string
	}{
		{"none yet", nil, owned{addr: {svc: "eth33"}}, ""},
		{"granted", on("eth33"), owned{addr: {svc: "eth33"}}, "Service svc-lb: Normal SetBalancer node n1 announces 192.168.93.231 on eth33"},
		{"the same", on("eth33"), owned{addr: {svc: "eth33"}}, ""},
		{"lost", nil, owned{addr: {svc: "eth33"}}, ""},
		{"granted again", on("eth33"), owned{addr: {svc: "eth33"}}, "announces 192.168.93.231"},
		{"shared with another Service", on("eth33"), owned{addr: {svc: "eth33", other: "eth33"}}, "Service other: Normal SetBalancer node n1 announces"},
		{"to be moved to another link", on("eth33"), owned{addr: {svc: "eth1"}}, ""},
		{"moved", on("eth1"), owned{addr: {svc: "eth1"}}, "Service svc-lb: Normal SetBalancer node n1 announces 192.168.93.231 on eth1"},
		{"the Service was deleted and made again", on("eth1"), owned{addr: {recreated: "eth1"}}, "Service svc-lb"},
		{"it has no address any more", on("eth1"), nil, ""},
	} {
		t.Run(step.name, func(t *testing.T) {
			r.held(step.held, step.plan)
			expectEvent(t, rec, step.event)
		})
	}
	if len(r.announced) != 0 {
		t.Errorf("remembers %v", r.announced)
	}
}

func TestReportsPools(t *testing.T) {
	rec := &recorder{}
	r := newReports("n1", rec)
	only := func(p *pool) *pools {
		p.Name = "eip-pool"
		return &pools{named: map[string]*pool{p.Name: p}, sorted: []*pool{p}}
	}
	with := func(uid types.UID, refusal string) *pools {
		p := &pool{Pool: plan.Pool{Protocol: "layer2"}, uid: uid}
		if refusal == "" {
			p.link.Name = "eth33"
		} else {
			p.refusal = "the Eip's addresses: " + refusal
		}
		return only(p)
	}
	bgp := only(&pool{uid: "3", space: &space{}})
	for _, step := range []struct {
		name  string
		pools *pools
		event string
	}{
		{"can serve", with("1", ""), ""},
		{"cannot", with("1", "eth33 is down"), "Eip eip-pool: Warning ConfigSpeakerFailed node n1 cannot announce the Eip's addresses: eth33 is down"},
		{"the same", with("1", "eth33 is down"), ""},
		{"for another reason", with("1", "no link eth33"), "no link eth33"},
		{"can again", with("1", ""), "Normal ConfigSpeaker node n1 can announce"},
		{"cannot", with("1", "eth33 is down"), "eth33 is down"},
		{"the Eip is gone", &pools{}, ""},
		{"an Eip of that name again", with("2", ""), ""},
		{"cannot", with("2", "eth33 is down"), "eth33 is down"},
		{"deleted and made again, seen as one change", with("3", "eth33 is down"), "eth33 is down"},
		{"of a protocol without a link", bgp, ""},
	} {
		t.Run(step.name, func(t *testing.T) {
			r.pools(self, step.pools)
			expectEvent(t, rec, step.event)
		})
	}
}

// kubectl describe finds the events of an object by its UID, and client-go
// drops the text of an event that has another's object, reason and action.
func TestEventsAreShown(t *testing.T) {
	rec := &recorder{}
	r := newReports("n1", rec)
	second := netip.MustParseAddr("fd93::231")
	r.held(map[netip.Addr]string{addr: "eth33", second: "eth33"}, owned{addr: {svc: "eth33"}, second: {svc: "eth33"}})
	if len(rec.uids) != 2 || rec.uids[0] != svc.uid || rec.uids[1] != svc.uid {
		t.Errorf("the events' objects have the UIDs %q, want twice %q", rec.uids, svc.uid)
	}
	if len(rec.actions) != 2 || rec.actions[0] == rec.actions[1] {
		t.Errorf("actions %q, want two different ones", rec.actions)
	}
}

// expectEvent fails the test unless the events since the last call are the
// one that contains the text, or none for "".
func expectEvent(t *testing.T, rec *recorder, text string) {
	t.Helper()
	events := rec.take()
	switch {
	case text == "" && len(events) > 0:
		t.Errorf("unexpected events %q", events)
	case text != "" && (len(events) != 1 || !slices.ContainsFunc(events, func(e string) bool { return strings.Contains(e, text) })):
		t.Errorf("events %q, want one with %q", events, text)
	}
}
