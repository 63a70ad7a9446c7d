package sessions

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"github.com/fairway-lb/fairway/api/v1alpha2"
	"github.com/fairway-lb/fairway/speaker/bfd"
	"github.com/fairway-lb/fairway/speaker/bgp"
)

var ( // never changed
	noon     = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	accepted = finding{true, "Accepted", "the node does all that the BgpPeer asks"}
)

func testPeer() *bgp.Peer {
	return &bgp.Peer{
		Name: "router", Address: netip.MustParseAddr("192.0.2.1"), AS: 50001, LocalAS: 50000, Description: "rack 1", Password: "secret",
		ConnectRetry: 5 * time.Second, HoldTime: 90 * time.Second, KeepaliveInterval: 30 * time.Second,
		RemovePrivateAS: "REPLACE", SendCommunity: 3,
	}
}

func testSession(state string, since time.Time, flaps uint64, reason string) *bgp.Session {
	return &bgp.Session{
		Name: "router", Neighbor: netip.MustParseAddr("192.0.2.1"), State: state, AdminState: "UP", LocalAS: 50000, PeerAS: 50001,
		RouterID: netip.MustParseAddr("10.0.0.9"), Since: since, Flaps: flaps, Reason: reason, Lost: reason, NegotiatedHoldTime: 30 * time.Second,
	}
}

// The entry of a BgpPeer, as `kubectl get -o yaml` shows it.
func TestPeerEntry(t *testing.T) {
	bfdDown := testSession("IDLE", noon, 1, "BFD: the neighbor is not heard any more")
	bfdDown.BFD = &bfd.Session{State: bfd.Down, Diagnostic: bfd.ControlDetectionTimeExpired, DetectionTime: 300 * time.Millisecond, Downs: 1}
	unnumbered := testPeer()
	unnumbered.Address, unnumbered.Interface, unnumbered.AS = netip.Addr{}, "eth1", 0
	found := testSession("ESTABLISHED", noon, 0, "")
	found.Neighbor = netip.MustParseAddr("fe80::1%eth1")
	tests := map[string]struct {
		sight sight
		have  *v1alpha2.NodePeerStatus
		want  string
	}{
		"established": {
			sight: sight{claim{testPeer(), accepted, false}, testSession("ESTABLISHED", noon.Add(-time.Hour).Add(300*time.Millisecond), 2, "hold timer expired")},
			want: `
conditions:
- {type: Accepted, status: "True", reason: Accepted, message: the node does all that the BgpPeer asks, lastTransitionTime: "2026-03-01T12:00:00Z"}
- {type: Established, status: "True", reason: SessionEstablished, message: the session is established, lastTransitionTime: "2026-03-01T11:00:00Z"}
peerState: {description: rack 1, localAs: 50000, neighborAddress: 192.0.2.1, peerAs: 50001, peerType: 1, removePrivateAs: 2,
  sendCommunity: 3, sessionState: ESTABLISHED, adminState: UP, flops: 2, routerId: 10.0.0.9}
timersState: {connectRetry: "5", holdTime: "90", keepaliveInterval: "30", negotiatedHoldTime: "30", uptime: "2026-03-01T11:00:00Z"}
`},
		"lost by BFD": {
			sight: sight{claim{testPeer(), accepted, false}, bfdDown},
			want: `
bfdState: {sessionState: Down, diagnostic: Control Detection Time Expired, detectionTime: 300, downs: 1}
conditions:
- {type: Accepted, status: "True", reason: Accepted, message: the node does all that the BgpPeer asks, lastTransitionTime: "2026-03-01T12:00:00Z"}
- {type: Established, status: "False", reason: SessionLost, message: 'BFD: the neighbor is not heard any more', lastTransitionTime: "2026-03-01T12:00:00Z"}
peerState: {description: rack 1, localAs: 50000, neighborAddress: 192.0.2.1, peerAs: 50001, peerType: 1, removePrivateAs: 2,
  sendCommunity: 3, sessionState: IDLE, adminState: UP, flops: 1}
timersState: {connectRetry: "5", holdTime: "90", keepaliveInterval: "30", downtime: "2026-03-01T12:00:00Z"}
`},
		"refused, as before": {
			sight: sight{claim: claim{accepted: finding{false, "TTLInvalid", "BgpPeer router: both are set"}}},
			have: &v1alpha2.NodePeerStatus{Conditions: []metav1.Condition{
				{Type: "Accepted", Status: metav1.ConditionFalse, Reason: "Other", LastTransitionTime: metav1.NewTime(noon.Add(-time.Minute))},
				{Type: "Established", Status: metav1.ConditionTrue, Reason: "SessionEstablished", LastTransitionTime: metav1.NewTime(noon.Add(-time.Hour))},
			}},
			want: `
conditions:
- {type: Accepted, status: "False", reason: TTLInvalid, message: 'BgpPeer router: both are set', lastTransitionTime: "2026-03-01T11:59:00Z"}
- {type: Established, status: "False", reason: NoSession, message: 'the node holds no session: see the condition Accepted', lastTransitionTime: "2026-03-01T12:00:00Z"}
`},
		"found on a link": {
			sight: sight{claim{unnumbered, accepted, false}, found},
			want: `
conditions:
- {type: Accepted, status: "True", reason: Accepted, message: the node does all that the BgpPeer asks, lastTransitionTime: "2026-03-01T12:00:00Z"}
- {type: Established, status: "True", reason: SessionEstablished, message: the session is established, lastTransitionTime: "2026-03-01T12:00:00Z"}
peerState: {description: rack 1, localAs: 50000, neighborAddress: fe80::1%eth1, peerAs: 50001, peerType: 1, removePrivateAs: 2,
  sendCommunity: 3, sessionState: ESTABLISHED, adminState: UP, routerId: 10.0.0.9}
timersState: {connectRetry: "5", holdTime: "90", keepaliveInterval: "30", negotiatedHoldTime: "30", uptime: "2026-03-01T12:00:00Z"}
`},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := yaml.Marshal(completePeer(peerDraft(test.sight), test.have, noon))
			if err != nil {
				t.Fatal(err)
			}
			if strings.Contains(string(got), "secret") {
				t.Errorf("the password is in the status")
			}
			var want v1alpha2.NodePeerStatus
			if err := yaml.UnmarshalStrict([]byte(test.want), &want); err != nil {
				t.Fatal(err)
			}
			wanted, err := yaml.Marshal(want)
			if err != nil {
				t.Fatal(err)
			}
			if string(got) != string(wanted) {
				t.Errorf("got:\n%s\nwant:\n%s", got, wanted)
			}
		})
	}
}

// Why a session is not established, as the condition says it.
func TestNotEstablished(t *testing.T) {
	passive := testPeer()
	passive.Passive = true
	with := func(admin string, s *bgp.Session) *bgp.Session { s.AdminState = admin; return s }
	for _, test := range []struct {
		peer         *bgp.Peer
		session      *bgp.Session
		reason, text string
	}{
		{testPeer(), nil, "NoSession", "the node holds no session: see nodesConfStatus in the status of BgpConf default"},
		{testPeer(), testSession("ACTIVE", time.Time{}, 0, ""), "NeverEstablished", "192.0.2.1 has not answered yet"},
		{testPeer(), testSession("ACTIVE", time.Time{}, 0, "connection refused"), "NeverEstablished", "connection refused"},
		{passive, testSession("ACTIVE", time.Time{}, 0, ""), "NeverEstablished", "192.0.2.1 has not connected yet, and spec.transport.passiveMode leaves that to it"},
		{testPeer(), testSession("IDLE", noon, 3, "hold timer expired"), "SessionLost", "hold timer expired"},
		{testPeer(), testSession("IDLE", noon, 3, ""), "SessionLost", unknownReason},
		{testPeer(), testSession("IDLE", noon, 3, "the neighbor said: \xff\x00rm\n"), "SessionLost", "the neighbor said: \uFFFD rm"},
		{testPeer(), with("DOWN", testSession("IDLE", noon, 3, "x")), "AdminDown", "spec.conf.adminDown keeps the session closed"},
		{testPeer(), with("PFX_CT", testSession("IDLE", noon, 3, "")), "TooManyPrefixes", "the neighbor sent too many prefixes"},
	} {
		c := establishedCondition(sight{claim{test.peer, accepted, false}, test.session})
		if c.Status != metav1.ConditionFalse || c.Reason != test.reason || c.Message != test.text {
			t.Errorf("%+v: condition is %s, %s: %q, want False, %s: %q", test.session, c.Status, c.Reason, c.Message, test.reason, test.text)
		}
	}
}

// What changes while a session tries to come up is no reason to write.
func TestSamePeer(t *testing.T) {
	entry := func(change func(*bgp.Session)) *v1alpha2.NodePeerStatus {
		s := testSession("ACTIVE", noon, 1, "no route to host")
		s.BFD = &bfd.Session{State: bfd.Down, Diagnostic: bfd.PathDown, DetectionTime: 3 * time.Second}
		change(s)
		return completePeer(peerDraft(sight{claim{testPeer(), accepted, false}, s}), nil, noon)
	}
	before := entry(func(*bgp.Session) {})
	for name, test := range map[string]struct {
		change func(*bgp.Session)
		same   bool
	}{
		"another attempt":       {func(s *bgp.Session) { s.State = "CONNECT" }, true},
		"the neighbor talks":    {func(s *bgp.Session) { s.State = "OPENCONFIRM"; s.RouterID = netip.Addr{}; s.NegotiatedHoldTime = 1 }, true},
		"messages are counted":  {func(s *bgp.Session) { s.Sent.Open++; s.BFD.Sent++ }, true},
		"BFD tries, too":        {func(s *bgp.Session) { s.BFD.State = bfd.Init; s.BFD.DetectionTime = time.Second }, true},
		"BFD is up":             {func(s *bgp.Session) { s.BFD.State = bfd.Up }, false},
		"BFD is shut":           {func(s *bgp.Session) { s.BFD.State = bfd.AdminDown }, false},
		"BFD is off":            {func(s *bgp.Session) { s.BFD = nil }, false},
		"another reason":        {func(s *bgp.Session) { s.Reason = "connection refused" }, false},
		"it is up":              {func(s *bgp.Session) { s.State = "ESTABLISHED" }, false},
		"it was up in between":  {func(s *bgp.Session) { s.Flaps++ }, false},
		"it was lost just then": {func(s *bgp.Session) { s.Since = noon.Add(time.Second) }, false},
		"it was closed":         {func(s *bgp.Session) { s.AdminState = "DOWN" }, false},
	} {
		if got := samePeer(before, entry(test.change)); got != test.same {
			t.Errorf("%s: same is %v", name, got)
		}
	}
	if samePeer(before, nil) || samePeer(nil, before) || !samePeer(nil, nil) {
		t.Error("no entry is the same as one, or not the same as none")
	}
}
