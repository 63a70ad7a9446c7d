package sessions

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/fairway-lb/fairway/speaker/bgp"
)

// One session from look to look: what is told.
func TestSessionChanges(t *testing.T) {
	at := func(s *bgp.Session) sight { return sight{claim{testPeer(), accepted, false}, s} }
	const (
		up   = "node n1 established the BGP session with 192.0.2.1, AS 50001"
		down = "node n1 lost the BGP session with 192.0.2.1, AS 50001: "
	)
	var before sight
	for _, step := range []struct {
		name string
		now  sight
		want []string
	}{
		{"it is made", at(testSession("ACTIVE", time.Time{}, 0, "")), nil},
		{"another attempt", at(testSession("CONNECT", time.Time{}, 0, "refused")), nil},
		{"it comes up", at(testSession("ESTABLISHED", noon, 0, "")), []string{up}},
		{"nothing happens", at(testSession("ESTABLISHED", noon, 0, "")), nil},
		{"it is lost", at(testSession("IDLE", noon.Add(1), 1, "hold timer expired")), []string{down + "hold timer expired"}},
		{"another attempt", at(testSession("ACTIVE", noon.Add(1), 1, "hold timer expired")), nil},
		{"a flap between looks while down", at(testSession("ACTIVE", noon.Add(2), 2, "")), []string{up, down + unknownReason}},
		{"up again", at(testSession("ESTABLISHED", noon.Add(3), 2, "")), []string{up}},
		{"flaps between looks while up", at(testSession("ESTABLISHED", noon.Add(4), 5, "Cease")), []string{down + "Cease", up}},
		{"made anew", at(testSession("IDLE", time.Time{}, 0, "")), []string{down + "the node made it anew, because its parameters changed"}},
		{"up", at(testSession("ESTABLISHED", noon.Add(5), 0, "")), []string{up}},
		{"made anew and up between looks", at(testSession("ESTABLISHED", noon.Add(6), 0, "")), []string{down + "the node made it anew, because its parameters changed", up}},
		{"not for this node any more", sight{claim: claim{accepted: finding{ok: true}}}, []string{down + "the node ended it: the BgpPeer asks for no session on this node any more"}},
		{"seen late", at(testSession("IDLE", noon, 1, "Cease")), []string{up, down + "Cease"}},
		{"up", at(testSession("ESTABLISHED", noon.Add(7), 1, "")), []string{up}},
		{"refused now", sight{claim: claim{accepted: finding{false, "TTLInvalid", "both are set"}}}, []string{down + "the node ended it: both are set"}},
	} {
		var got []string
		for _, o := range sessionChanges("n1", before, step.now) {
			got = append(got, o.text)
			if wantUp := o.text == up; wantUp != (o.reason == "SessionUp") || wantUp != (o.eventType == "Normal") {
				t.Errorf("%s: %q is %s %s", step.name, o.text, o.eventType, o.reason)
			}
		}
		if !slices.Equal(got, step.want) {
			t.Errorf("%s: told %q, want %q", step.name, got, step.want)
		}
		before = step.now
	}
}

func TestFindingChanges(t *testing.T) {
	bad := finding{false, "TTLInvalid", "both are set"}
	worse := finding{false, "TTLInvalid", "both are set, and no password"}
	byCNI := finding{false, string(bgp.ReasonAnnouncedByCNI), "left alone"}
	for _, test := range []struct {
		before, now finding
		want        string
	}{
		{accepted, accepted, ""},
		{accepted, bad, "Warning Bad node n1: both are set"},
		{bad, bad, ""},
		{bad, worse, "Warning Bad node n1: both are set, and no password"},
		{worse, accepted, "Normal Good node n1 does again what the BgpPeer asks"},
		{accepted, byCNI, ""},
		{byCNI, accepted, ""},
	} {
		var got []string
		for _, o := range findingChanges("n1", "BgpPeer", test.before, test.now, "Good", "Bad") {
			got = append(got, fmt.Sprintf("%s %s %s", o.eventType, o.reason, o.text))
		}
		if strings.Join(got, "") != test.want {
			t.Errorf("%+v, then %+v: told %q, want %q", test.before, test.now, got, test.want)
		}
	}
}

// The error of Configure reaches the objects that it is about.
func TestWantedFailures(t *testing.T) {
	listen := errors.New("listening on port 179: address already in use")
	w := newWanted(bgp.Config{Peers: []bgp.Peer{{Name: "a"}, {Name: "b"}}}, bgp.Findings{
		Router: bgp.Finding{OK: true, Reason: bgp.ReasonReady},
		Peers: map[string]bgp.Finding{
			"a": {OK: true, Reason: bgp.ReasonAccepted, Message: "fine"},
			"b": {Reason: bgp.ReasonUnsupported, Message: "BgpPeer b: vrf"},
			"c": {Reason: bgp.ReasonTTLInvalid, Message: "BgpPeer c: ttl"},
		},
	}, fmt.Errorf("configuring: %w", errors.Join(errors.Join(listen, &bgp.PeerError{Name: "b", Err: errors.Join(errors.New("no memory"), errors.New("no route"))}))))
	if want := (finding{false, "ConfigureFailed", listen.Error()}); w.ready != want {
		t.Errorf("router: %+v, want %+v", w.ready, want)
	}
	for name, want := range map[string]finding{
		"a": {true, "Accepted", "fine"},
		"b": {false, "ConfigureFailed", "BgpPeer b: vrf; no memory no route"},
		"c": {false, "TTLInvalid", "BgpPeer c: ttl"},
	} {
		if got := w.peers[name].accepted; got != want {
			t.Errorf("%s: %+v, want %+v", name, got, want)
		}
	}
	if w.peers["a"].peer == nil || w.peers["b"].peer == nil || w.peers["c"].peer != nil {
		t.Error("the sessions that are to be are not those of the Config")
	}
	// The router does not run: what was established is not any more.
	before := map[string]sight{"a": {w.peers["a"], testSession("ESTABLISHED", noon, 0, "")}}
	if s := w.sight(nil, before)["a"]; s.session != nil {
		t.Errorf("without a router, a session is %s", s.session.State)
	}
	// Sessions end a moment before it is published that they do.
	w = newWanted(bgp.Config{Peers: []bgp.Peer{{Name: "a"}}}, bgp.Findings{Peers: map[string]bgp.Finding{"a": {OK: true}}}, nil)
	if s := w.sight(nil, before)["a"]; s.session != before["a"].session {
		t.Error("a session that is being replaced counts as lost")
	}
}
