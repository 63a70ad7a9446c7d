package controller

import (
	"errors"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/events"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fairway-lb/fairway/api/v1alpha2"
	"github.com/fairway-lb/fairway/controller/ipam"
	"github.com/fairway-lb/fairway/controller/wish"
	"github.com/fairway-lb/fairway/internal/note"
)

// Reasons of events. Those on Services are OpenELB's.
const (
	reasonAssignIP            = "AssignIP"
	reasonAssignIPFailed      = "AssignIPFailed"
	reasonConstructRequest    = "ConstructRequest" // the request itself is at fault
	reasonReleaseIP           = "ReleaseIP"
	reasonReleaseIPFailed     = "ReleaseIPFailed"
	reasonUpdateServiceStatus = "UpdateServiceStatus" // the address could not be written
	reasonUpdateEip           = "UpdateEip"           // the finalizer or status could not be written
	reasonInvalidEip          = "InvalidEip"
	reasonDeletionWaits       = "DeletionWaits"
	reasonDeprecatedSharing   = "DeprecatedSharing"
	reasonDispute             = "Dispute"
)

// reporter writes events. A warning is written once, and again only after it
// was different or over, or for another object of the name.
type reporter struct {
	recorder events.EventRecorder
	warned   map[request]warnings
}

// warnings are the texts that were written on an object, by their reason.
type warnings struct {
	uid   types.UID
	texts map[string]string
}

func newReporter(recorder events.EventRecorder) *reporter {
	return &reporter{recorder: recorder, warned: map[request]warnings{}}
}

func (e *reporter) assigned(svc *corev1.Service, gained []ipam.Allocation) {
	text := "Assigned " + originText(gained)
	if gained[0].Pool != "" {
		text += ", " + gained[0].Choice.Text()
	}
	e.note(svc, reasonAssignIP, "Assign", text)
}

func (e *reporter) released(svc *corev1.Service, gone []ipam.Allocation, why string) {
	e.note(svc, reasonReleaseIP, "Release", fmt.Sprintf("Released %s: %s", originText(gone), why))
}

// refused explains why a Service has no address, or not the one it asks for.
func (e *reporter) refused(svc *corev1.Service, outcome ipam.Outcome) {
	reason, other := reasonAssignIPFailed, reasonConstructRequest
	if why := outcome.Refusal.Reason; why == ipam.InvalidRequest || why == ipam.NoEligiblePool {
		reason, other = other, reason
	}
	delete(e.warned[requestForService(wish.KeyOf(svc))].texts, other) // it may come again
	e.warn(serviceRequest, svc, reason, string(outcome.Refusal.Reason), refusedText(outcome))
}

// implicitSharing tells the owner of a Service to say that it is to share.
func (e *reporter) implicitSharing(svc *corev1.Service, outcome ipam.Outcome) {
	e.warn(serviceRequest, svc, reasonDeprecatedSharing, "Share", fmt.Sprintf(
		"The Service shares %s with Service %s because both ask for it. That is deprecated: give both the same value of annotation %s",
		addressesText(outcome.Held), outcome.Implicit[0], v1alpha2.AnnotationShare))
}

// disputed tells that somebody else keeps changing what the controller wrote.
func (e *reporter) disputed(svc *corev1.Service, manager string) {
	by := ""
	if manager != "" {
		by = fmt.Sprintf(" (field manager %q wrote last)", manager)
	}
	e.warn(serviceRequest, svc, reasonDispute, "Write", fmt.Sprintf(
		"Somebody%s keeps changing the label, finalizer or status that Fairway writes. It is written less and less often now: have only one of the two serve this Service, for example by spec.loadBalancerClass", by))
}

// assignFailed reports that the API server did not take what was assigned.
func (e *reporter) assignFailed(svc *corev1.Service, held []ipam.Allocation, err error) {
	what := "Why the Service has no address cannot be written into it"
	if len(held) > 0 {
		what = fmt.Sprintf("Address %s is reserved for the Service, but cannot be written into it", addressesText(held))
	}
	e.failed(serviceRequest, svc, reasonUpdateServiceStatus, what, err)
}

// releaseFailed reports that the API server did not take a release.
func (e *reporter) releaseFailed(svc *corev1.Service, err error) {
	e.failed(serviceRequest, svc, reasonReleaseIPFailed, "The Service's address, label and finalizer cannot be removed from it", err)
}

// eipFailed reports that the API server did not take a finalizer or status.
func (e *reporter) eipFailed(eip *v1alpha2.Eip, err error) {
	e.failed(eipRequest, eip, reasonUpdateEip, "The Eip's finalizer or status cannot be written", err)
}

func (e *reporter) failed(kind requestKind, object client.Object, reason, what string, err error) {
	if !errors.Is(err, errBehind) {
		e.warn(kind, object, reason, "Write", fmt.Sprintf("%s. This is tried again until it succeeds. The last error was: %v", what, err))
	}
}

// invalidEip reports a pool that cannot be used.
func (e *reporter) invalidEip(eip *v1alpha2.Eip, text string) {
	e.warn(eipRequest, eip, reasonInvalidEip, "Parse", text)
}

// deletionWaits says which Services keep an Eip from going. It says so once:
// the Eip's condition keeps up with them.
func (e *reporter) deletionWaits(eip *v1alpha2.Eip, text string) {
	of := e.warned[requestForEip(eip.Name)]
	if _, said := of.texts[reasonDeletionWaits]; !said || of.uid != eip.UID {
		e.warn(eipRequest, eip, reasonDeletionWaits, "Delete", text)
	}
}

// satisfied says that a Service's request is met and written down.
func (e *reporter) satisfied(svc *corev1.Service) {
	for _, reason := range []string{reasonAssignIPFailed, reasonConstructRequest, reasonUpdateServiceStatus, reasonReleaseIPFailed} {
		delete(e.warned[requestForService(wish.KeyOf(svc))].texts, reason)
	}
}

func (e *reporter) forget(req request) {
	delete(e.warned, req)
}

func (e *reporter) note(object client.Object, reason, action, text string) {
	note.Write(e.recorder, object, corev1.EventTypeNormal, reason, action, text)
}

func (e *reporter) warn(kind requestKind, object client.Object, reason, action, text string) {
	req := request{kind: kind, NamespacedName: client.ObjectKeyFromObject(object)}
	if of, ok := e.warned[req]; !ok || of.uid != object.GetUID() {
		e.warned[req] = warnings{uid: object.GetUID(), texts: map[string]string{}}
	}
	if texts := e.warned[req].texts; texts[reason] != text {
		texts[reason] = text
		note.Write(e.recorder, object, corev1.EventTypeWarning, reason, action, text)
	}
}
