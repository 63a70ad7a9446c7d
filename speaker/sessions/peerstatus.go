package sessions

import (
	"cmp"
	"fmt"
	"math"
	"strconv"
	"time"

	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fairway-lb/fairway/api/v1alpha2"
	"github.com/fairway-lb/fairway/speaker/bfd"
	"github.com/fairway-lb/fairway/speaker/bgp"
)

// Reasons of the condition Established.
const (
	reasonEstablished      = "SessionEstablished"
	reasonLost             = "SessionLost"
	reasonNeverEstablished = "NeverEstablished"
	reasonAdminDown        = "AdminDown"
	reasonTooManyPrefixes  = "TooManyPrefixes"
	reasonNoSession        = "NoSession"
)

// Values of bgp.Session.AdminState.
const (
	adminDown      = "DOWN"
	adminPrefixCut = "PFX_CT"
)

// stateEstablished is the value of bgp.Session.State in which routes are
// exchanged.
const stateEstablished = "ESTABLISHED"

// peerDraft is the entry of a BgpPeer but for the times that completePeer knows.
func peerDraft(s sight) *v1alpha2.NodePeerStatus {
	entry := &v1alpha2.NodePeerStatus{
		Conditions: []metav1.Condition{condition(v1alpha2.ConditionAccepted, s.accepted), establishedCondition(s)},
	}
	if s.peer == nil {
		return entry
	}
	entry.PeerState = peerState(s.peer, s.session)
	entry.TimersState = &v1alpha2.TimersState{
		ConnectRetry:                 seconds(s.peer.ConnectRetry),
		HoldTime:                     seconds(s.peer.HoldTime),
		KeepaliveInterval:            seconds(s.peer.KeepaliveInterval),
		MinimumAdvertisementInterval: seconds(s.peer.MinimumAdvertisementInterval),
	}
	if s.session == nil {
		return entry
	}
	if s.session.Established() {
		entry.TimersState.NegotiatedHoldTime = seconds(s.session.NegotiatedHoldTime)
	}
	entry.BFDState = bfdState(s.session.BFD)
	return entry
}

func peerState(p *bgp.Peer, s *bgp.Session) *v1alpha2.PeerState {
	state := &v1alpha2.PeerState{
		Description:      p.Description,
		LocalAS:          v1alpha2.Uint32(p.LocalAS),
		PeerAS:           v1alpha2.Uint32(p.AS),
		RouteFlapDamping: p.RouteFlapDamping,
		SendCommunity:    v1alpha2.Uint32(p.SendCommunity),
	}
	if p.Address.IsValid() {
		state.NeighborAddress = p.Address.String()
	}
	switch p.RemovePrivateAS { // see v1alpha2.PeerState for the numbers, as for the peer type's
	case "ALL":
		state.RemovePrivateAs = 1
	case "REPLACE":
		state.RemovePrivateAs = 2
	}
	if s != nil {
		state.SessionState = s.State
		state.AdminState = s.AdminState
		state.Flops = v1alpha2.Uint32(min(s.Flaps, math.MaxUint32))
		if s.Neighbor.IsValid() {
			state.NeighborAddress = s.Neighbor.String()
		}
		// What the neighbor says is shown while it holds: each attempt learns it
		// anew.
		if s.Established() {
			state.LocalAS, state.PeerAS = v1alpha2.Uint32(s.LocalAS), v1alpha2.Uint32(s.PeerAS)
			if s.RouterID.IsValid() {
				state.RouterID = s.RouterID.String()
			}
		}
	}
	if state.PeerAS != state.LocalAS {
		state.PeerType = 1
	}
	return state
}

func bfdState(s *bfd.Session) *v1alpha2.BFDState {
	if s == nil {
		return nil
	}
	return &v1alpha2.BFDState{
		SessionState:     s.State.String(),
		Diagnostic:       diagnostic(s.Diagnostic),
		RemoteDiagnostic: diagnostic(s.RemoteDiagnostic),
		DetectionTime:    s.DetectionTime.Milliseconds(),
		Downs:            int64(min(s.Downs, math.MaxInt64)),
	}
}

func diagnostic(d bfd.Diagnostic) string {
	if d == bfd.NoDiagnostic {
		return ""
	}
	return d.String()
}

// seconds is a time as OpenELB writes it, "" for none.
func seconds(d time.Duration) string {
	if d <= 0 {
		return ""
	}
	return strconv.FormatInt(int64(d/time.Second), 10)
}

// establishedCondition is whether a session is established, and why it is not.
// It has its time where the session was established once.
func establishedCondition(s sight) metav1.Condition {
	c := metav1.Condition{Type: v1alpha2.ConditionEstablished, Status: metav1.ConditionFalse}
	if s.session == nil {
		c.Reason, c.Message = reasonNoSession, "the node holds no session: see the condition "+v1alpha2.ConditionAccepted
		if s.accepted.ok {
			c.Message = "the node holds no session: see nodesConfStatus in the status of BgpConf " + v1alpha2.BgpConfName
		}
		return c
	}
	c.LastTransitionTime = atSecond(s.session.Since)
	why := clean(s.session.Reason)
	switch {
	case s.session.Established():
		c.Status = metav1.ConditionTrue
		c.Reason, c.Message = reasonEstablished, "the session is established"
	case s.session.AdminState == adminDown:
		c.Reason, c.Message = reasonAdminDown, "spec.conf.adminDown keeps the session closed"
	case s.session.AdminState == adminPrefixCut:
		c.Reason, c.Message = reasonTooManyPrefixes, cmp.Or(why, "the neighbor sent too many prefixes")
	case !s.session.Since.IsZero():
		c.Reason, c.Message = reasonLost, cmp.Or(why, unknownReason)
	case s.peer.Passive:
		c.Reason, c.Message = reasonNeverEstablished, cmp.Or(why, fmt.Sprintf("%s has not connected yet, and spec.transport.passiveMode leaves that to it", neighbor(s)))
	default:
		c.Reason, c.Message = reasonNeverEstablished, cmp.Or(why, fmt.Sprintf("%s has not answered yet", neighbor(s)))
	}
	return c
}

// completePeer gives a draft what depends on the entry before it.
func completePeer(draft, have *v1alpha2.NodePeerStatus, now time.Time) *v1alpha2.NodePeerStatus {
	if draft == nil {
		return nil
	}
	entry := draft.DeepCopy()
	var before []metav1.Condition
	if have != nil {
		before = have.Conditions
	}
	setTimes(entry.Conditions, before, now)
	if c := meta.FindStatusCondition(entry.Conditions, v1alpha2.ConditionEstablished); c != nil && entry.TimersState != nil {
		since := c.LastTransitionTime.UTC().Format(time.RFC3339)
		if c.Status == metav1.ConditionTrue {
			entry.TimersState.Uptime = since
		} else {
			entry.TimersState.Downtime = since
		}
	}
	return entry
}

// samePeer tells whether an entry of a BgpPeer need not be replaced by another
// one: they differ at most in what changes while a session tries to come up.
func samePeer(a, b *v1alpha2.NodePeerStatus) bool {
	return equality.Semantic.DeepEqual(settled(a), settled(b))
}

// settled is an entry without what changes while a session tries to come up.
func settled(entry *v1alpha2.NodePeerStatus) *v1alpha2.NodePeerStatus {
	entry = entry.DeepCopy()
	if entry == nil {
		return nil
	}
	if p := entry.PeerState; p != nil && p.SessionState != stateEstablished {
		p.SessionState = ""
	}
	if b := entry.BFDState; b != nil && b.SessionState != bfd.Up.String() {
		b.DetectionTime = 0
		if b.SessionState == bfd.Init.String() {
			b.SessionState = bfd.Down.String()
		}
	}
	return entry
}
