package sessions

import (
	"cmp"
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fairway-lb/fairway/api/v1alpha2"
	"github.com/fairway-lb/fairway/internal/note"
	"github.com/fairway-lb/fairway/speaker/bgp"
)

// Reasons of events.
const (
	eventSessionUp       = "SessionUp"
	eventSessionDown     = "SessionDown"
	eventPeerAccepted    = "PeerAccepted"
	eventPeerNotAccepted = "PeerNotAccepted"
	eventRouterReady     = "RouterReady"
	eventRouterNotReady  = "RouterNotReady"
)

// unknownReason is why a session was lost of which nobody said.
const unknownReason = "neither the neighbor nor the kernel gave a reason"

// occurrence is what an event tells.
type occurrence struct{ eventType, reason, text string }

// report writes events about what changed since the last look. At the first
// look at an object, its status shows what was said before this process.
func (w *Writer) report(ctx context.Context, wanted *wanted, seen map[string]sight) {
	if wanted.conf && !(w.readySeen && w.ready == wanted.ready) {
		w.reportConf(ctx, wanted.ready)
	}
	for name, now := range seen {
		if before, known := w.seen[name]; !known || before.accepted != now.accepted || len(sessionChanges(w.config.NodeName, before, now)) > 0 {
			w.reportPeer(ctx, name, before, known, now)
		}
	}
	for name, before := range w.seen {
		if _, still := seen[name]; !still && len(sessionChanges(w.config.NodeName, before, sight{})) > 0 {
			before.accepted = finding{ok: true} // not asked any more
			w.reportPeer(ctx, name, before, true, sight{claim: claim{accepted: before.accepted}})
		}
	}
}

func (w *Writer) reportConf(ctx context.Context, now finding) {
	var conf v1alpha2.BgpConf
	if !w.get(ctx, v1alpha2.BgpConfName, &conf) {
		return
	}
	before := w.ready
	if !w.readySeen {
		before = recorded(conf.Status.NodesConfStatus[w.config.NodeName].Conditions, v1alpha2.ConditionReady)
	}
	w.events("BgpConf", &conf, findingChanges(w.config.NodeName, "BgpConf", before, now, eventRouterReady, eventRouterNotReady))
}

func (w *Writer) reportPeer(ctx context.Context, name string, before sight, known bool, now sight) {
	var peer v1alpha2.BgpPeer
	if !w.get(ctx, name, &peer) {
		return
	}
	if !known {
		before.accepted = recorded(peer.Status.NodesPeerStatus[w.config.NodeName].Conditions, v1alpha2.ConditionAccepted)
	}
	w.events("BgpPeer", &peer, sessionChanges(w.config.NodeName, before, now))
	w.events("BgpPeer", &peer, findingChanges(w.config.NodeName, "BgpPeer", before.accepted, now.accepted, eventPeerAccepted, eventPeerNotAccepted))
}

// findingChanges is what to say of a finding after another one. That the CNI
// announces is as the object's owner wants it, and nothing to be told.
func findingChanges(node, kind string, before, now finding, good, bad string) []occurrence {
	const intended = string(bgp.ReasonAnnouncedByCNI)
	switch {
	case now.ok && !before.ok && before.reason != intended:
		return []occurrence{{corev1.EventTypeNormal, good, fmt.Sprintf("node %s does again what the %s asks", node, kind)}}
	case !now.ok && before != now && now.reason != intended:
		return []occurrence{{corev1.EventTypeWarning, bad, fmt.Sprintf("node %s: %s", node, now.message)}}
	}
	return nil
}

// sessionChanges is what to say of a session after an earlier look at it: that
// it came up or was lost, also if it did both in between.
func sessionChanges(node string, before, now sight) []occurrence {
	was, is := before.established(), now.established()
	if now.session == nil {
		if !was {
			return nil
		}
		return []occurrence{down(node, before, "the node ended it: "+whyEnded(now))}
	}
	flapped := was && is && !now.session.Since.Equal(before.session.Since)
	if before.session == nil {
		flapped = now.session.Flaps > 0
	} else if now.session.Flaps > before.session.Flaps {
		flapped = true
	}
	var changes []occurrence
	if flapped && !was {
		changes = append(changes, up(node, now))
	}
	if flapped || was && !is {
		changes = append(changes, down(node, now, whyLost(now.session)))
	}
	if is && (flapped || !was) {
		changes = append(changes, up(node, now))
	}
	return changes
}

func up(node string, s sight) occurrence {
	return occurrence{corev1.EventTypeNormal, eventSessionUp,
		fmt.Sprintf("node %s established the BGP session with %s", node, neighborAndAS(s))}
}

func down(node string, s sight, why string) occurrence {
	return occurrence{corev1.EventTypeWarning, eventSessionDown,
		fmt.Sprintf("node %s lost the BGP session with %s: %s", node, neighborAndAS(s), why)}
}

// whyEnded is why there is no session any more.
func whyEnded(now sight) string {
	if now.accepted.ok || now.accepted.message == "" {
		return "the BgpPeer asks for no session on this node any more"
	}
	return now.accepted.message
}

// whyLost is why a session was lost. One that was lost, but never since it was
// made, was made anew.
func whyLost(s *bgp.Session) string {
	if s.Flaps == 0 {
		return "the node made it anew, because its parameters changed"
	}
	return cmp.Or(clean(s.Lost), unknownReason)
}

// neighbor is whom a session is with.
func neighbor(s sight) string {
	switch {
	case s.session != nil && s.session.Neighbor.IsValid():
		return s.session.Neighbor.String()
	case s.peer.Address.IsValid():
		return s.peer.Address.String()
	}
	return "the neighbor on " + s.peer.Interface
}

func neighborAndAS(s sight) string {
	as := s.session.PeerAS
	if as == 0 {
		as = s.peer.AS
	}
	if as == 0 {
		return neighbor(s)
	}
	return fmt.Sprintf("%s, AS %d", neighbor(s), as)
}

// get reads an object. Of one that is not there, there is nothing to tell.
func (w *Writer) get(ctx context.Context, name string, object client.Object) bool {
	err := w.config.Client.Get(ctx, client.ObjectKey{Name: name}, object)
	if client.IgnoreNotFound(err) != nil {
		w.config.Log.Error(err, "Reading the object of an event", "name", name)
	}
	return err == nil
}

func (w *Writer) events(kind string, object client.Object, occurrences []occurrence) {
	for _, o := range occurrences {
		note.Write(w.config.Events, &corev1.ObjectReference{
			APIVersion: v1alpha2.GroupVersion.String(), Kind: kind, Name: object.GetName(), UID: object.GetUID(),
		}, o.eventType, o.reason, "Session", o.text)
	}
}
