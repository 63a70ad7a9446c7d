package bgp

import (
	"fmt"
	"strings"
)

// Reason says in one word why a router is not ready or a BgpPeer not accepted.
// It is the reason of a Kubernetes condition.
type Reason string

// Reasons of Findings.Router.
const (
	ReasonReady              Reason = "Ready"
	ReasonBgpConfMissing     Reason = "BgpConfMissing"
	ReasonASMissing          Reason = "ASMissing"
	ReasonNodeAddressMissing Reason = "NodeAddressMissing"
	ReasonRouterIDInvalid    Reason = "RouterIDInvalid"
	ReasonListenInvalid      Reason = "ListenInvalid"
	ReasonPolicyInvalid      Reason = "PolicyInvalid"
)

// Reasons of Findings.Peers.
const (
	ReasonAccepted          Reason = "Accepted"
	ReasonRouterMissing     Reason = "RouterMissing"
	ReasonSelectorInvalid   Reason = "SelectorInvalid"
	ReasonNeighborInvalid   Reason = "NeighborInvalid"
	ReasonNeighborIsSelf    Reason = "NeighborIsSelf"
	ReasonNeighborTaken     Reason = "NeighborTaken"
	ReasonNotListening      Reason = "NotListening"
	ReasonTransportInvalid  Reason = "TransportInvalid"
	ReasonTTLInvalid        Reason = "TTLInvalid"
	ReasonTimerInvalid      Reason = "TimerInvalid"
	ReasonInternalPeer      Reason = "InternalPeer"
	ReasonPasswordMissing   Reason = "PasswordMissing"
	ReasonPasswordInvalid   Reason = "PasswordInvalid"
	ReasonFamilyUnsupported Reason = "FamilyUnsupported"
	ReasonNextHopMissing    Reason = "NextHopMissing"
	ReasonBFDInvalid        Reason = "BFDInvalid"
	ReasonUnsupported       Reason = "Unsupported"
)

// Reasons of both.
const (
	// ReasonAnnouncedByCNI is why an object with v1alpha2.LabelCNI is left alone.
	ReasonAnnouncedByCNI Reason = "AnnouncedByCNI"
	// ReasonSettingsWithoutEffect: all that matters is done, but a setting
	// changes nothing or counts as another value.
	ReasonSettingsWithoutEffect Reason = "SettingsWithoutEffect"
)

// Finding is whether a node does all that an object asks of it, and if not,
// why.
type Finding struct {
	OK     bool
	Reason Reason
	// Message names the object, the field and the remedy.
	Message string
}

// Findings are what Configure found about each object.
type Findings struct {
	// Router is about the BgpConf: the condition Ready.
	Router Finding
	// Peers is about each BgpPeer that selects the node, by name: the
	// condition Accepted. One that does not select it has no entry.
	Peers map[string]Finding
}

// maxMessage bounds a text in bytes: what users write into objects is part of
// it, and an Event's note takes 1024.
const maxMessage = 900

// cut shortens a text to maxMessage.
func cut(text string) string {
	if len(text) <= maxMessage {
		return text
	}
	return strings.ToValidUTF8(text[:maxMessage], "") + "…"
}

// problem is something that was asked for and is not done.
type problem struct {
	reason Reason
	text   string
}

func problemf(reason Reason, format string, args ...any) *problem {
	return &problem{reason, fmt.Sprintf(format, args...)}
}

// report collects what there is to say about one object.
type report struct {
	object   string // kind and name
	problems []*problem
	remarks  []string // about settings without effect
}

func (r *report) add(p *problem) {
	if p != nil {
		r.problems = append(r.problems, p)
	}
}

func (r *report) remarkf(format string, args ...any) {
	r.remarks = append(r.remarks, fmt.Sprintf(format, args...))
}

// finding has the first problem as its reason, and fine where there is none.
func (r *report) finding(fine Reason, message string) Finding {
	f := Finding{OK: len(r.problems) == 0, Reason: fine, Message: message}
	texts := make([]string, 0, len(r.problems)+len(r.remarks))
	for _, p := range r.problems {
		texts = append(texts, p.text)
	}
	texts = append(texts, r.remarks...)
	switch {
	case !f.OK:
		f.Reason = r.problems[0].reason
	case len(r.remarks) > 0:
		f.Reason = ReasonSettingsWithoutEffect
	default:
		return f
	}
	f.Message = cut(r.object + ": " + strings.Join(texts, "; "))
	return f
}
