package controller

import (
	"errors"
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/events"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fairway-lb/fairway/api/v1alpha2"
	"github.com/fairway-lb/fairway/controller/ipam"
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
)

// reporter writes events. A warning is written once, and again only after it
// was different or over, or for another object of the name.
type reporter struct {
	recorder events.EventRecorder
	warned   map[request]warning
}

type warning struct {
	uid  types.UID
	text string
}

func newReporter(recorder events.EventRecorder) *reporter {
	return &reporter{recorder: recorder, warned: map[request]warning{}}
}

func (e *reporter) assigned(svc *corev1.Service, held ipam.Allocation) {
	note := fmt.Sprintf("Assigned %s, which is in no Eip", held.Address)
	if held.Pool != "" {
		note = fmt.Sprintf("Assigned %s from Eip %q, %s", held.Address, held.Pool, held.Choice.Text())
	}
	e.note(svc, reasonAssignIP, "Assign", note)
}

func (e *reporter) released(svc *corev1.Service, gone []ipam.Allocation, why string) {
	var texts []string
	for _, allocation := range gone {
		text := allocation.Address.String()
		if allocation.Pool != "" {
			text += fmt.Sprintf(" of Eip %q", allocation.Pool)
		}
		texts = append(texts, text)
	}
	e.note(svc, reasonReleaseIP, "Release", fmt.Sprintf("Released %s: %s", strings.Join(texts, " and "), why))
}

// refused explains why a Service has no address, or not the one it asks for.
func (e *reporter) refused(svc *corev1.Service, held ipam.Allocation, refusal *ipam.Refusal) {
	note := "No address assigned: " + refusal.Message
	if held.Held() {
		note = fmt.Sprintf("The Service keeps %s: %s", held.Address, refusal.Message)
	}
	reason := reasonAssignIPFailed
	if refusal.Reason == ipam.InvalidRequest || refusal.Reason == ipam.NoEligiblePool {
		reason = reasonConstructRequest
	}
	e.warn(serviceRequest, svc, reason, string(refusal.Reason), note)
}

// conflict explains that two Services use one address.
func (e *reporter) conflict(svc *corev1.Service, held ipam.Allocation, owner ipam.ServiceKey) {
	e.warn(serviceRequest, svc, reasonAssignIPFailed, "AddressConflict", fmt.Sprintf(
		"Address %s also belongs to Service %s, which had it first. Nothing was changed, and traffic may reach either: ask for another address for one of them in annotation %s",
		held.Address, owner, v1alpha2.AnnotationAddress))
}

// assignFailed reports that the API server did not take what was assigned.
func (e *reporter) assignFailed(svc *corev1.Service, held ipam.Allocation, err error) {
	e.failed(serviceRequest, svc, reasonUpdateServiceStatus, fmt.Sprintf("Address %s is reserved for the Service, but cannot be written into it", held.Address), err)
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
func (e *reporter) invalidEip(eip *v1alpha2.Eip, err error) {
	e.warn(eipRequest, eip, reasonInvalidEip, "Parse", "The Eip is not used: "+err.Error())
}

// deletionWaits names the Services that keep an Eip from going.
func (e *reporter) deletionWaits(eip *v1alpha2.Eip, note string) {
	e.warn(eipRequest, eip, reasonDeletionWaits, "Delete", note)
}

// satisfied says that an object has no cause for a warning any more.
func (e *reporter) satisfied(svc *corev1.Service) {
	e.forget(requestForService(keyOf(svc)))
}

func (e *reporter) forget(req request) {
	delete(e.warned, req)
}

func (e *reporter) note(object client.Object, reason, action, text string) {
	note.Write(e.recorder, object, corev1.EventTypeNormal, reason, action, text)
}

func (e *reporter) warn(kind requestKind, object client.Object, reason, action, text string) {
	req := request{kind: kind, NamespacedName: client.ObjectKeyFromObject(object)}
	this := warning{uid: object.GetUID(), text: text}
	if e.warned[req] == this {
		return
	}
	e.warned[req] = this
	note.Write(e.recorder, object, corev1.EventTypeWarning, reason, action, text)
}
